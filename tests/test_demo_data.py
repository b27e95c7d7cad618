import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from normbank.data import demo
from normbank.data.demo import KINDS, LEAST_CHANGE, SIZE, TEST_ROWS, TEXTURES, make_demo
from normbank.errors import DataError, UserError

pytest.importorskip("skimage", reason="scikit-image brings the photographs")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo") / "data", seed=3)


@pytest.fixture
def small(monkeypatch):
    """Fewer crops of one texture, where it is not the images that matter."""
    monkeypatch.setattr(demo, "TRAIN_CROPS", 6)
    monkeypatch.setattr(demo, "GOOD_CROPS", 3)
    monkeypatch.setattr(demo, "CROPS_A_KIND", 1)
    monkeypatch.setattr(demo, "TEXTURES", ("brick",))


def pixels(path):
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def found_at(crop, photograph):
    """Row of the photograph at which the crop lies, as it is or mirrored; None where it is not in it."""
    windows = np.lib.stride_tricks.sliding_window_view(photograph, SIZE, axis=1)  # [rows, x, SIZE]
    for seen in (crop, crop[:, ::-1]):
        for row, x in zip(*np.nonzero((windows == seen[0]).all(axis=2)), strict=True):
            if np.array_equal(photograph[row : row + SIZE, x : x + SIZE], seen):
                return row
    return None


@pytest.mark.parametrize("texture", TEXTURES)
def test_layout_and_counts(data, texture):
    folder = data / texture
    assert {path.name for path in folder.iterdir()} == {"train", "test", "ground_truth"}
    assert len(list((folder / "train" / "good").glob("*.png"))) == 80
    assert len(list((folder / "test" / "good").glob("*.png"))) == 30
    assert {path.name for path in (folder / "test").iterdir()} == {"good", *KINDS}
    for kind in KINDS:
        images = {path.stem for path in (folder / "test" / kind).glob("*.png")}
        masks = {path.stem for path in (folder / "ground_truth" / kind).glob("*.png")}
        assert len(images) == 8
        assert masks == {f"{stem}_mask" for stem in images}
    assert {pixels(path).shape for path in folder.rglob("*.png")} == {(SIZE, SIZE)}


def test_crops_are_cut_from_their_own_part_of_the_photograph(data):
    photograph = demo._photograph("gravel")
    for number in (0, 1, 2, 3):
        row = found_at(pixels(data / "gravel" / "train" / "good" / f"{number:03d}.png"), photograph)
        assert row + SIZE <= TEST_ROWS[0] or row >= TEST_ROWS[1]
        row = found_at(pixels(data / "gravel" / "test" / "good" / f"{number:03d}.png"), photograph)
        assert TEST_ROWS[0] <= row <= TEST_ROWS[1] - SIZE


def test_training_and_test_share_no_pixel(tmp_path, monkeypatch):
    """Photographs whose held-out rows hold even values and all others odd ones tell every pixel's origin."""

    def marked(texture):
        noise = np.random.default_rng(0).integers(20, 110, (512, 512)) * 2
        noise[: TEST_ROWS[0]] += 1
        noise[TEST_ROWS[1] :] += 1
        return noise.astype(np.uint8)

    monkeypatch.setattr(demo, "_photograph", marked)
    monkeypatch.setattr(demo, "TEXTURES", ("grass",))
    folder = make_demo(tmp_path / "data") / "grass"
    for path in (folder / "train").rglob("*.png"):
        assert (pixels(path) % 2 == 1).all()
    for path in (folder / "test" / "good").glob("*.png"):
        assert (pixels(path) % 2 == 0).all()
    for kind in KINDS:
        for path in (folder / "test" / kind).glob("*.png"):
            mask = pixels(folder / "ground_truth" / kind / f"{path.stem}_mask.png") > 0
            assert (pixels(path)[~mask] % 2 == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [None, 0, 2, 128, 253, 255])
def test_a_mask_is_exactly_the_changed_pixels(kind, level):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        crop = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        if level is not None:
            crop[:] = level
        spoilt, mask = demo._spoil(crop, KINDS[kind], rng)
        change = np.abs(spoilt.astype(int) - crop)
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(mask == 255, change > 0)
        assert change[mask == 255].min() >= LEAST_CHANGE


@pytest.mark.parametrize("texture", TEXTURES)
def test_defects_are_neither_specks_nor_most_of_the_image(data, texture):
    for kind in KINDS:
        for path in (data / texture / "ground_truth" / kind).glob("*.png"):
            assert 0.003 < (pixels(path) > 0).mean() < 0.25, path


def test_the_same_seed_gives_the_same_bytes(data, tmp_path):
    assert everything(make_demo(tmp_path / "again", seed=3)) == everything(data)


def test_another_seed_replaces_an_earlier_demo(tmp_path, small):
    folder = make_demo(tmp_path / "data", seed=4)
    before = everything(folder)
    make_demo(folder, seed=3)
    assert everything(folder) != before
    assert everything(folder) == everything(make_demo(tmp_path / "other", seed=3))


def test_a_complete_demo_is_left_alone(data, monkeypatch):
    monkeypatch.setattr(demo, "_write_all", lambda *_: pytest.fail("written again"))
    assert make_demo(data, seed=3) == data


def test_a_demo_with_a_file_lost_is_done_again(tmp_path, small):
    folder = make_demo(tmp_path / "data")
    before = everything(folder)
    next(folder.rglob("*_mask.png")).unlink()
    make_demo(folder)
    assert everything(folder) == before


def test_an_interrupted_demo_is_done_again(tmp_path, small, monkeypatch):
    save, saved = demo._save, []

    def interrupted(path, image):
        if len(saved) == 8:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, image)

    with monkeypatch.context() as patched:
        patched.setattr(demo, "_save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_demo(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert everything(make_demo(tmp_path / "data")) == everything(make_demo(tmp_path / "other"))
    assert {path.name for path in tmp_path.iterdir()} == {"data", "other"}


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "data" / "brick").mkdir(parents=True)
    with pytest.raises(DataError, match=r"data: expected a new or empty folder.*got 1 other things \(brick\)"):
        make_demo(tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"a file.*Choose another folder"):
        make_demo(tmp_path / "file")


def test_things_laid_beside_an_earlier_demo_are_not_lost(tmp_path, data):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "demo.json").write_text(json.dumps({"seed": 9}))
    (folder / "model.nbk").touch()
    with pytest.raises(DataError, match=r"model\.nbk"):
        make_demo(folder)
    assert (folder / "model.nbk").exists()


def test_things_laid_into_an_earlier_demo_are_not_lost(tmp_path, small):
    folder = make_demo(tmp_path / "data")
    for name in ("brick/test/good/mine.png", "brick/notes.txt"):
        (folder / name).write_bytes(b"mine")
        before = everything(tmp_path)
        with pytest.raises(DataError, match=rf"got 1 other things \({name}\).*nothing was changed"):
            make_demo(folder, seed=4)
        assert everything(tmp_path) == before
        (folder / name).unlink()


def test_what_systems_leave_in_every_folder_is_no_one_s_own(tmp_path, small):
    folder = make_demo(tmp_path / "data")
    for name in (".DS_Store", "Thumbs.db", "train/good/000.png"):
        (folder / "brick" / name).unlink(missing_ok=True)
        if "good" not in name:
            (folder / "brick" / name).touch()
    assert (make_demo(folder) / "brick" / "train" / "good" / "000.png").exists()


def test_what_a_kill_left_goes(tmp_path, small, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as where no one is left to tidy up
        patch.setattr(demo, "_marker", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_demo(tmp_path / "data")
    assert len(list(tmp_path.iterdir())) == 1
    assert [path.name for path in make_demo(tmp_path / "data").parent.iterdir()] == ["data"]


def test_a_folder_of_someone_else_beside_it_is_left_alone(tmp_path, small):
    (tmp_path / "data.part").mkdir()
    (tmp_path / "data.part" / "mine.txt").write_text("mine")
    make_demo(tmp_path / "data")
    assert {path.name for path in tmp_path.iterdir()} == {"data", "data.part"}
    assert (tmp_path / "data.part" / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_used(tmp_path, small):
    (tmp_path / "data").mkdir()
    assert (make_demo(tmp_path / "data") / "brick" / "train").is_dir()


def test_no_place_to_write(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"expected a place to write 6 MB"):
        make_demo(tmp_path / "file" / "data")


def test_without_scikit_image(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UserError, match=r"pip install '\.\[demo\]'"):
        make_demo(tmp_path / "data")
    assert not (tmp_path / "data").exists()
