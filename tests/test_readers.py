"""The data readers: each layout, each way it can be wrong, and the real images' counts."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import re
import struct
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from normbank.data import idx, mnist
from normbank.data.files import DRAWN, ensure_no_loss, list_images
from normbank.data.open import READERS, Reader, open_dataset
from normbank.data.samples import Dataset, Sample
from normbank.data.splits import fingerprint, hold_out, portion
from normbank.errors import DataError, UserError
from normbank.settings import Data


def make(root: Path, *names: str) -> Path:
    """Files (of no content: no reader opens an image) at these names below `root`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def below(root: Path, samples: tuple[Sample, ...]) -> list[str]:
    return [Path(sample.path).relative_to(root).as_posix() for sample in samples]


def refused(root: Path | str, settings: Data | None = None) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(root, settings or Data())
    return str(caught.value)


def masks(root: Path, dataset: Dataset) -> dict[str, str | None]:
    def short(path: str) -> str:
        return Path(path).relative_to(root).as_posix()

    return {short(s.path): s.mask and short(s.mask) for s in dataset.test if s.label}


# --- open_dataset ---


def test_a_folder_beside_good_that_is_not_used_is_told(tmp_path):
    for name in ("good/1.png", "good/2.png", "bad/3.png", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = open_dataset(tmp_path)
    assert [sample.label for sample in found.train] == [0, 0]
    assert [(Path(path).name, reason.split(",")[0]) for path, reason in found.skipped] == [("bad", "1 images")]
    named = open_dataset(tmp_path, Data(abnormal_dir="bad"))
    assert not named.skipped
    assert sum(sample.label for sample in named.test) == 1


def test_every_format_of_the_settings_has_a_reader() -> None:
    formats = set(get_args(Data.model_fields["format"].annotation)) - {"auto"}
    assert formats == set(READERS)


def test_auto_finds_each_format(tmp_path: Path) -> None:
    make(tmp_path, "mv/train/good/0.png", "oc/train/NORMAL/0.jpeg", "fo/good/0.png", "flat/0.png")
    write_mnist(tmp_path / "mn")
    write_table(tmp_path / "t.csv", "flat/0.png,0,train")
    found = {name: open_dataset(tmp_path / name).format for name in ("mv", "oc", "fo", "flat", "mn", "t.csv")}
    assert found == {"mv": "mvtec", "oc": "oct", "fo": "folder", "flat": "folder", "mn": "mnist", "t.csv": "csv"}


def test_a_missing_path_names_the_nearest_sibling(tmp_path: Path) -> None:
    make(tmp_path, "bottle/a.png", "screw/a.png")
    message = refused(tmp_path / "botle")
    assert str(tmp_path / "botle") in message
    assert f"Did you mean {str(tmp_path / 'bottle')!r}?" in message


def test_a_missing_path_with_missing_parents_names_what_is_there(tmp_path: Path) -> None:
    assert f"The part that is there: {str(tmp_path)!r}" in refused(tmp_path / "no" / "such" / "folder")


def test_a_missing_table_names_the_nearest_table(tmp_path: Path) -> None:
    make(tmp_path, "labels.csv")
    assert f"Did you mean {str(tmp_path / 'labels.csv')!r}?" in refused(tmp_path / "label.csv")


def test_a_path_with_a_zero_byte_or_too_long_is_refused_in_words(tmp_path: Path) -> None:
    assert "expected a folder or a CSV file" in refused(f"{tmp_path}/a\0b")
    assert "expected a folder or a CSV file" in refused(tmp_path / ("x" * 300))


@pytest.mark.parametrize("name", ["auto", "mvtec", "folder", "mnist", "oct"])
def test_a_file_where_a_folder_is_expected(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a.png")
    message = refused(tmp_path / "a.png", Data.model_validate({"format": name}))
    assert "expected a folder" in message
    assert "got a file" in message
    assert repr(str(tmp_path)) in message


def test_a_folder_where_a_table_is_expected(tmp_path: Path) -> None:
    assert "expected a CSV file, got a folder" in refused(tmp_path, Data(format="csv"))


def test_an_empty_folder(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert str(tmp_path) in message
    assert "expected good images, got no image" in message


def test_the_folder_of_all_categories_names_them(tmp_path: Path) -> None:
    make(tmp_path, "bottle/train/good/0.png", "screw/train/good/0.png", "license.txt")
    for settings in (Data(), Data(format="mvtec")):
        message = refused(tmp_path, settings)
        assert "bottle, screw" in message
        assert repr(str(tmp_path / "bottle")) in message


def test_a_folder_beside_its_table_is_not_taken_for_good_images(tmp_path: Path) -> None:
    make(tmp_path, "images/0.png")
    write_table(tmp_path / "labels.csv", "images/0.png,0,train")
    assert f"Name the table, {str(tmp_path / 'labels.csv')!r}" in refused(tmp_path)
    assert len(open_dataset(tmp_path, Data(format="folder")).train) == 1


def test_a_relative_root_gives_relative_paths_and_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "parts/0.png")
    monkeypatch.chdir(tmp_path / "parts")
    dataset = open_dataset(".")
    assert (dataset.name, dataset.train[0].path) == ("parts", "0.png")


# --- files ---


def test_only_image_files_that_are_not_hidden_are_listed(tmp_path: Path) -> None:
    good = ("a.png", "B.PNG", "c.jpg", "d.jpeg", "e.bmp", "f.tif", "g.tiff", "h.webp", "i.npy", "a b.png", "ü\n本.png")
    make(tmp_path, *good, ".hidden.png", ".cache/x.png", "notes.txt", "png", "z.gif")
    assert set(list_images(tmp_path).names) == set(good)
    assert list_images(tmp_path).skipped == ()
    assert list(list_images(tmp_path).names) == sorted(good)


def test_names_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        make(tmp_path, name, "b.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    train, held = hold_out(open_dataset(tmp_path).train, 0.5, 0, 0)
    assert sorted(os.path.basename(s.path) for s in (*train, *held)) == ["b.png", name]


def test_what_can_never_be_an_image_is_skipped_with_the_reason(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "x.png/inside.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    os.mkfifo(tmp_path / "pipe.png")
    dataset = open_dataset(tmp_path)
    assert below(tmp_path, dataset.train) == ["a.png"]
    reasons = {Path(path).name: reason for path, reason in dataset.skipped}
    assert set(reasons) == {"x.png", "gone.png", "self.png", "pipe.png"}
    assert reasons["x.png"] == "a folder, though named like an image"
    assert reasons["gone.png"].startswith("a broken link")
    assert reasons["self.png"].startswith("a broken link")
    assert reasons["pipe.png"] == "not a plain file"


def test_a_folder_with_nothing_but_broken_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    message = refused(tmp_path)
    assert "1 skipped" in message
    assert "gone.png" in message
    assert "a broken link" in message


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/b.png", "data/sub/a.png")
    data = tmp_path / "data"
    (data / "sub" / "up").symlink_to(data)
    (data / "sub" / "itself").symlink_to(data / "sub")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "round").symlink_to(data / "round")
    (data / "c.png").symlink_to(data / "sub" / "a.png")
    assert below(data, open_dataset(data).train) == ["c.png", "linked/b.png", "sub/a.png"]


def test_a_link_upwards_does_not_bring_test_images_into_training(tmp_path: Path) -> None:
    make(tmp_path, "train/good/0.png", "test/cut/0.png")
    (tmp_path / "train/good/up").symlink_to(tmp_path)
    assert below(tmp_path, open_dataset(tmp_path).train) == ["train/good/0.png"]


# --- mvtec ---


def test_mvtec_by_hand(tmp_path: Path) -> None:
    make(tmp_path, "train/good/001.png", "train/good/000.png", "test/good/000.png", "test/cut/000.png")
    make(tmp_path, "test/cut/001.png", "test/bent/000.PNG", "ground_truth/cut/000_mask.png")
    make(tmp_path, "ground_truth/bent/000.png", "ground_truth/good/000_mask.png", "readme.txt", "license.txt")
    dataset = open_dataset(tmp_path)
    root = str(tmp_path)
    assert dataset == Dataset(
        name=tmp_path.name,
        format="mvtec",
        root=root,
        train=(Sample(f"{root}/train/good/000.png", 0, "good"), Sample(f"{root}/train/good/001.png", 0, "good")),
        test=(
            Sample(f"{root}/test/bent/000.PNG", 1, "bent", f"{root}/ground_truth/bent/000.png"),
            Sample(f"{root}/test/cut/000.png", 1, "cut", f"{root}/ground_truth/cut/000_mask.png"),
            Sample(f"{root}/test/cut/001.png", 1, "cut"),
            Sample(f"{root}/test/good/000.png", 0, "good"),
        ),
    )


def test_mvtec_without_test_images_is_a_data_set(tmp_path: Path) -> None:
    assert open_dataset(make(tmp_path, "train/good/0.png")).test == ()


def test_masks_are_paired_by_name_not_by_position(tmp_path: Path) -> None:
    make(tmp_path, "train/good/0.png", *(f"test/cut/{n}.png" for n in (1, 2, 10)))
    make(tmp_path, "ground_truth/cut/2_mask.png", "ground_truth/cut/10_mask.bmp")
    assert masks(tmp_path, open_dataset(tmp_path)) == {
        "test/cut/1.png": None,
        "test/cut/10.png": "ground_truth/cut/10_mask.bmp",
        "test/cut/2.png": "ground_truth/cut/2_mask.png",
    }


@pytest.mark.parametrize("second", ["0.png", "0_mask.bmp"])
def test_two_masks_for_one_image(tmp_path: Path, second: str) -> None:
    make(tmp_path, "train/good/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png", f"ground_truth/cut/{second}")
    message = refused(tmp_path)
    assert "expected one mask at most" in message
    assert second in message
    assert "0_mask.png" in message


@pytest.mark.parametrize("second", ["0.jpg", "0_mask.png"])
def test_two_images_for_one_mask(tmp_path: Path, second: str) -> None:
    make(tmp_path, "train/good/0.png", "test/cut/0.png", f"test/cut/{second}", "ground_truth/cut/0_mask.png")
    message = refused(tmp_path)
    assert "expected one image of its name" in message
    assert second in message


def test_folders_that_are_no_part_of_the_layout_are_told(tmp_path: Path) -> None:
    make(tmp_path, "train/good/0.png", "train/bad/1.png", "train/bad/2.png", "test/cut/0.png", "validation/good/3.png")
    make(tmp_path, "docs/readme.txt")
    dataset = open_dataset(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (1, 1)
    assert {Path(path).relative_to(tmp_path).as_posix(): reason for path, reason in dataset.skipped} == {
        "validation": "1 images, not used: train/good is for training, test for testing",
        "train/bad": "2 images, not used: train/good is for training, test for testing",
    }


def test_masks_without_an_image_are_reported(tmp_path: Path) -> None:
    make(tmp_path, "train/good/0.png", "test/cut/0.png", "ground_truth/cut/0_mask.png")
    make(tmp_path, "ground_truth/cut/7_mask.png", "ground_truth/bent/0_mask.png", "test/loose.png")
    skipped = {Path(path).relative_to(tmp_path).as_posix(): reason for path, reason in open_dataset(tmp_path).skipped}
    assert set(skipped) == {"ground_truth/cut/7_mask.png", "ground_truth/bent/0_mask.png", "test/loose.png"}
    assert skipped["ground_truth/cut/7_mask.png"].startswith("a mask without an image: none of its name in")
    assert skipped["ground_truth/bent/0_mask.png"] == "a mask without an image: there is no folder test/bent"
    assert "test/<kind>" in skipped["test/loose.png"]


def test_masks_that_fit_no_image_at_all_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, "train/good/0.png", "test/cut/0.png", "ground_truth/cut/0_gt.png")
    message = refused(tmp_path)
    assert "1 masks and no image of their names" in message
    assert "'_mask'" in message


def test_mvtec_by_name_where_it_is_not(tmp_path: Path) -> None:
    make(tmp_path, "pictures/0.png")
    message = refused(tmp_path, Data(format="mvtec"))
    assert "expected a folder train/good, got the folders: pictures" in message


def test_mvtec_with_an_empty_train_good(tmp_path: Path) -> None:
    (tmp_path / "train" / "good").mkdir(parents=True)
    assert "expected good images, got no image" in refused(tmp_path)


# --- folder ---


def test_good_images_alone_flat_and_nested(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "a.png", "monday/c.png", "monday/late/d.jpg")
    dataset = open_dataset(tmp_path)
    assert below(tmp_path, dataset.train) == ["a.png", "b.png", "monday/c.png", "monday/late/d.jpg"]
    assert (dataset.test, dataset.split_is_ours, dataset.skipped) == ((), False, ())


def test_images_beside_a_folder_of_defects(tmp_path: Path) -> None:
    make(tmp_path, *(f"{n}.png" for n in range(10)), "defect/x.png", "mask/x.png")
    dataset = open_dataset(tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.split_is_ours) == (8, 3, True)
    assert masks(tmp_path, dataset) == {"defect/x.png": "mask/x.png"}
    assert [sample.kind for sample in dataset.test] == ["good", "good", "defect"]


def test_the_whole_layout(tmp_path: Path) -> None:
    make(tmp_path, *(f"good/{n}.jpg" for n in range(11)), "defect/cut/0.jpg", "defect/bent/0.jpg", "mask/cut/0.png")
    dataset = open_dataset(tmp_path)
    assert dataset.split_is_ours
    assert (len(dataset.train), Counter(s.kind for s in dataset.test)) == (8, {"good": 3, "cut": 1, "bent": 1})
    assert not set(dataset.train) & set(dataset.test)
    assert {s.path for s in (*dataset.train, *dataset.test) if not s.label} == set(list_images(tmp_path / "good").paths)
    assert masks(tmp_path, dataset) == {"defect/bent/0.jpg": None, "defect/cut/0.jpg": "mask/cut/0.png"}


def test_without_defects_nothing_is_split_off(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, *(f"good/{n}.jpg" for n in range(11))))
    assert (len(dataset.train), dataset.test, dataset.split_is_ours) == (11, (), False)


def test_given_good_test_images_nothing_is_split_off(tmp_path: Path) -> None:
    make(tmp_path, *(f"good/{n}.jpg" for n in range(11)), "good/check/20.jpg", "defect/0.jpg")
    dataset = open_dataset(tmp_path, Data(normal_test_dir="good/check"))
    assert (len(dataset.train), dataset.split_is_ours) == (11, False)
    assert below(tmp_path, dataset.test) == ["good/check/20.jpg", "defect/0.jpg"]


@pytest.mark.parametrize(("share", "split_off"), [(0.0, 0), (0.2, 2), (0.21, 3), (0.9, 9)])
def test_the_share_split_off(tmp_path: Path, share: float, split_off: int) -> None:
    make(tmp_path, *(f"good/{n}.jpg" for n in range(10)), "defect/0.jpg")
    dataset = open_dataset(tmp_path, Data(test_share=share))
    assert (len(dataset.train), len(dataset.test) - 1) == (10 - split_off, split_off)
    assert dataset.split_is_ours  # so that other good images than those trained on are tested


def test_one_good_image_stays_for_training(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path, "good/0.png", "defect/0.jpg"))
    assert (len(dataset.train), len(dataset.test), dataset.split_is_ours) == (1, 1, True)


def test_the_split_depends_on_seed_and_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"good/{n}.png" for n in range(40)]
    make(tmp_path / "here", *names, "defect/0.png")
    make(tmp_path / "there" / "deeper", *reversed(names), "defect/0.png")
    here = below(tmp_path / "here", open_dataset(tmp_path / "here").test)
    assert here == below(tmp_path / "there/deeper", open_dataset(tmp_path / "there" / "deeper").test)
    assert here != below(tmp_path / "here", open_dataset(tmp_path / "here", Data(split_seed=1)).test)

    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: random.sample(listdir(path), len(listdir(path))))
    assert here == below(tmp_path / "here", open_dataset(tmp_path / "here").test)
    monkeypatch.chdir(tmp_path / "here")
    assert here == [Path(sample.path).as_posix() for sample in open_dataset(".").test]


def test_folders_may_be_anywhere(tmp_path: Path) -> None:
    make(tmp_path, "data/ok/0.png", "data/ok/1.png", "bad/cut/0.png", "truth/cut/0_mask.tif", "more/0.png")
    settings = Data(
        normal_dir="ok", abnormal_dir="../bad", mask_dir=str(tmp_path / "truth"), normal_test_dir=str(tmp_path / "more")
    )
    dataset = open_dataset(tmp_path / "data", settings)
    assert below(tmp_path, dataset.train) == ["data/ok/0.png", "data/ok/1.png"]
    good, defect = dataset.test
    assert (good.path, good.label) == (str(tmp_path / "more/0.png"), 0)
    assert (os.path.normpath(defect.path), defect.kind) == (str(tmp_path / "bad/cut/0.png"), "cut")
    assert defect.mask == str(tmp_path / "truth/cut/0_mask.tif")


def test_kinds_beside_the_good_images(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png", "good/1.png", "cut/0.png", "bent/0.png", "mask/cut/0.png")
    dataset = open_dataset(tmp_path, Data(abnormal_dir="."))
    assert masks(tmp_path, dataset) == {"bent/0.png": None, "cut/0.png": "mask/cut/0.png"}
    assert len(dataset.train) == 1


def test_masks_of_loose_defects_may_lie_in_the_folder_of_their_kind(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png", "defect/x.png", "defect/y.png", "mask/defect/x.png", "mask/y.png")
    assert masks(tmp_path, open_dataset(tmp_path)) == {
        "defect/x.png": "mask/defect/x.png",
        "defect/y.png": "mask/y.png",
    }


def test_masks_of_no_kind_are_reported(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png", "defect/cut/0.png", "mask/cut/0.png", "mask/bent/0.png", "mask/cut/1.png")
    reasons = {Path(path).relative_to(tmp_path).as_posix(): why for path, why in open_dataset(tmp_path).skipped}
    assert set(reasons) == {"mask/bent/0.png", "mask/cut/1.png"}
    assert all(why.startswith("a mask without an image") for why in reasons.values())


def test_duplicated_masks_in_the_folder_layout(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png", "defect/cut/0.jpg", "mask/cut/0.png", "mask/cut/0.bmp")
    message = refused(tmp_path)
    assert "expected one mask at most" in message
    assert "0.bmp" in message


@pytest.mark.parametrize("name", ["normal_dir", "abnormal_dir", "normal_test_dir", "mask_dir"])
def test_a_named_folder_that_is_missing(tmp_path: Path, name: str) -> None:
    make(tmp_path, "good/0.png", "pieces/0.png")
    message = refused(tmp_path, Data.model_validate({name: "peices"}))
    assert message.startswith(f"data.{name} ({str(tmp_path / 'peices')!r})")
    assert "expected a folder, got nothing there" in message
    assert repr(str(tmp_path / "pieces")) in message


def test_a_named_folder_that_is_a_file_or_far_away(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png", "notes")
    assert "expected a folder, got a file" in refused(tmp_path, Data(normal_dir="notes"))
    assert repr(str(tmp_path / "good")) in refused(tmp_path, Data(normal_dir="godo/sub/sub"))


def test_two_settings_for_one_folder(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png")
    message = refused(tmp_path, Data(abnormal_dir="good"))
    assert message.startswith("data.normal_dir and data.abnormal_dir: expected two folders")


def test_a_kind_of_defect_called_good(tmp_path: Path) -> None:
    message = refused(make(tmp_path, "good/0.png", "defect/good/0.png"))
    assert "expected kinds of defects" in message
    assert "data.normal_test_dir" in message


@pytest.mark.parametrize("name", ["Good", "OK", "ok 2", "Normal"])
def test_a_kind_of_defect_that_says_it_is_none(tmp_path: Path, name: str) -> None:
    assert f"got the folder '{tmp_path}/a/defect/{name}'" in refused(
        make(tmp_path / "a", "good/0.png", f"defect/{name}/0.png", "defect/nok/0.png")
    )
    message = refused(make(tmp_path / "b", "train/good/0.png", f"test/{name}/0.png", "test/nok/0.png"))
    assert (
        f"expected good, and kinds of defects, got the folder '{tmp_path}/b/test/{name}'. Call it good, or" in message
    )


def test_defects_below_the_good_images_are_not_learnt_unasked(tmp_path: Path) -> None:
    make(tmp_path, "good/monday/0.png", "good/monday/reject/1.png")
    message = refused(tmp_path)
    assert message.startswith(
        f"'{tmp_path}/good': expected a folder of good images, got the sub-folder 'monday/reject'"
    )
    assert message.endswith("Move it out of there; data.normal_dir=./good takes every image for good.")
    assert len(open_dataset(tmp_path, Data(normal_dir="./good")).train) == 2


@pytest.mark.parametrize(
    ("name", "setting"), [("masks", "mask_dir"), ("Ground_Truth", "mask_dir"), ("bad", "abnormal_dir")]
)
def test_an_unused_folder_is_told_with_the_setting_for_it(tmp_path: Path, name: str, setting: str) -> None:
    ((path, reason),) = open_dataset(make(tmp_path, "good/0.png", f"{name}/0.png")).skipped
    assert path == str(tmp_path / name)
    assert reason.startswith(f"1 images, not used; data.{setting} ")


@pytest.mark.parametrize(
    ("good", "defects"), [("good", "defect/spot"), ("good/monday", "defect"), ("train/good", "test/spot")]
)
def test_masks_beside_their_images_are_neither_learnt_nor_defects(tmp_path: Path, good: str, defects: str) -> None:
    make(tmp_path, f"{good}/0.png", f"{good}/0_mask.png", f"{good}/1.png", f"{good}/a_mask.png")
    make(tmp_path, f"{defects}/2.png", f"{defects}/2_mask.jpg", f"{defects}/2.bmp")
    dataset = open_dataset(tmp_path, Data(test_share=0))
    assert below(tmp_path, dataset.train) == [f"{good}/{name}.png" for name in ("0", "1", "a_mask")]
    assert sorted(below(tmp_path, dataset.test)) == [f"{defects}/2.bmp", f"{defects}/2.png"]
    reason = "looks like the mask of an image beside it: masks lie in a folder of their own (data.mask_dir)"
    told = {Path(path).relative_to(tmp_path).as_posix(): why for path, why in dataset.skipped}
    assert told == {f"{good}/0_mask.png": reason, f"{defects}/2_mask.jpg": reason}


@pytest.mark.parametrize(("good", "settings"), [("more", {"normal_test_dir": "more"}), ("test/good", {})])
def test_masks_beside_good_test_images_are_not_tested(tmp_path: Path, good: str, settings: dict[str, str]) -> None:
    make(tmp_path, "good/0.png" if settings else "train/good/0.png", f"{good}/1.png", f"{good}/1_mask.png")
    dataset = open_dataset(tmp_path, Data.model_validate(settings))
    assert below(tmp_path, dataset.test) == [f"{good}/1.png"]
    assert [path for path, _ in dataset.skipped] == [str(tmp_path / good / "1_mask.png")]


def test_an_empty_folder_of_good_test_images(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png", "more/notes.txt")
    assert "leave data.normal_test_dir out" in refused(tmp_path, Data(normal_test_dir="more"))


@pytest.mark.parametrize(
    "doubtful", ["Test", "ground_truth", "bad", "NOK", "not ok 2", "n.i.o.", "reject", "tile/defect"]
)
def test_a_tree_with_defects_is_not_taken_for_good_images(tmp_path: Path, doubtful: str) -> None:
    make(tmp_path, "ok/0.png", f"{doubtful}/sub/0.png")
    assert f"the sub-folder {doubtful!r}" in refused(tmp_path)
    assert len(open_dataset(tmp_path, Data(normal_dir=".")).train) == 2


@pytest.mark.parametrize(
    ("settings", "pooled"), [({}, True), ({"normal_dir": "."}, False), ({"normal_dir": "ok"}, False)]
)
def test_whether_anyone_said_where_the_good_images_are(tmp_path: Path, settings: dict[str, str], pooled: bool) -> None:
    make(tmp_path, "ok/0.png", "other/1.png")
    assert open_dataset(tmp_path, Data(**settings)).pooled == pooled
    make(tmp_path, "good/2.png")
    assert not open_dataset(tmp_path, Data(**settings)).pooled


# --- csv ---


def write_table(path: Path, *lines: str, header: str = "image_path,label_index,split") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join((header, *lines, "")).encode())
    return path


FULL = "image_path,label_index,split,mask_path"


def test_table_by_hand(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "sub/c.png", "m/c.png")
    lines = ("b.png,0,train,", "", "a.png,0,test,m/c.png", "sub/c.png,1,test,m/c.png")
    dataset = open_dataset(write_table(tmp_path / "parts.csv", *lines, header=FULL))
    root = str(tmp_path)
    assert (dataset.name, dataset.format, dataset.split_is_ours) == ("parts", "csv", False)
    assert dataset.train == (Sample(f"{root}/b.png", 0, "good"),)
    assert dataset.test == (
        Sample(f"{root}/a.png", 0, "good", f"{root}/m/c.png"),
        Sample(f"{root}/sub/c.png", 1, "defect", f"{root}/m/c.png"),
    )


def test_table_with_kinds_other_columns_and_absolute_paths(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png")
    header = "label_index,note,kind,split,image_path"
    lines = (f"1,x,cut, test ,{tmp_path / 'a.png'}", "0,,good,train,b.png")
    dataset = open_dataset(write_table(tmp_path / "t.csv", *lines, header=header))
    assert dataset.test == (Sample(str(tmp_path / "a.png"), 1, "cut"),)
    assert dataset.train == (Sample(str(tmp_path / "b.png"), 0, "good"),)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_table_with_mark_line_ends_and_a_line_break_in_a_name(tmp_path: Path, mark: str, end: str) -> None:
    make(tmp_path, "ü\nb.png", 'say "a", b.png')
    lines = ["image_path,label_index,split", '"ü\nb.png",0,train', '"say ""a"", b.png",1,test', ""]
    (tmp_path / "t.csv").write_bytes((mark + end.join(lines)).encode())
    dataset = open_dataset(tmp_path / "t.csv")
    assert below(tmp_path, (*dataset.train, *dataset.test)) == ["ü\nb.png", 'say "a", b.png']


def test_a_table_for_testing_alone(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    assert open_dataset(write_table(tmp_path / "t.csv", "a.png,0,test")).train == ()


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("a.png,2,test", "label_index", "expected 0 (good) or 1 (anomalous), got '2'"),
        ("a.png,,test", "label_index", "got ''"),
        ("a.png,0,val", "split", "expected train or test, got 'val'"),
        ("a.png,0", "split", "expected train or test, got ''"),
        ("a.png,1,train", "label_index", "set split to test, or remove the line"),
        (",0,train", "image_path", "expected the path of an image, got nothing"),
        ("no.png,0,train", "image_path", "expected a file, got 'no.png', which is none. Paths are relative to"),
        ("folder.png,0,train", "image_path", "expected a file"),
        ("a.gif,0,train", "image_path", ".webp"),
        ("a\0.png,0,train", None, ""),
        ("ok.png,0,train", "image_path", "expected a new image, got that of line 2"),
        ("./ok.png,0,test", "image_path", "expected a new image"),
        ("a.png,1,test,no.png", "mask_path", "expected a file"),
        ("a.png,1,test,,good", "kind", "not 'good', as label_index is 1"),
        ("a.png,0,test,,cut", "kind", "'good' or nothing, as label_index is 0"),
    ],
)
def test_errors_of_a_table_name_file_line_and_column(tmp_path: Path, line: str, column: str | None, words: str) -> None:
    make(tmp_path, "ok.png", "a.png", "a.gif", "folder.png/x")
    path = write_table(tmp_path / "t.csv", "ok.png,0,train,,", line, header=FULL + ",kind")
    message = refused(path)
    assert f"{str(path)!r}, line 3" in message
    assert words in message
    if column:
        assert f"line 3, column {column}: " in message


def test_the_line_number_counts_line_breaks_in_names_and_empty_lines(tmp_path: Path) -> None:
    make(tmp_path, "a\nb\n.png")
    path = write_table(tmp_path / "t.csv", '"a\nb\n.png",0,train', "", '"c\n.png",0,train')
    assert "line 6, column image_path" in refused(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected the header image_path,label_index,split"),
        (b"\n\n", "expected the header image_path,label_index,split"),
        (b"image_path,label_index,split\n", "expected lines below the header, got none"),
        (b"image_path;label_index;split\n", "with commas between"),
        (b"image_path,split\n", "line 1: expected the columns image_path, label_index, split, got no label_index"),
        (b"image_path,label_index,split,split\n", "expected each column once, got split 2 times"),
        (b"image_path,label_index,split\na.png,0,train,x\n", "line 2: expected 3 cells, got 4"),
        (b'image_path,label_index,split\n\n"a.png,0,train\n', "line 3: expected CSV, got"),
        (b"image_path,label_index,split\ncaf\xe9.png,0,train\n", "line 2: expected UTF-8 text, got the byte 0xe9"),
    ],
)
def test_a_table_that_is_no_table(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    message = refused(path)
    assert words in message
    assert str(path) in message


def test_blanks_in_a_table_are_nothing(tmp_path: Path) -> None:
    make(tmp_path, "a.png", " b.png", "c.png", "m.png")
    rows = ("a.png ,0,train, ", " b.png,0,train,", " , , , ", "c.png,1,test, m.png ", ",,,")
    dataset = open_dataset(write_table(tmp_path / "t.csv", *rows, header=FULL))
    assert below(tmp_path, dataset.train) == ["a.png", " b.png"]
    (sample,) = dataset.test
    assert (Path(sample.path).name, Path(sample.mask or "").name) == ("c.png", "m.png")


# --- mnist ---


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX form of a uint8 array, written by the format's description: 0, 0, 8, axes; lengths; values."""
    lengths = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + lengths + array.astype(np.uint8).tobytes()


TRAIN_DIGITS, TEST_DIGITS = [5, 0, 4, 0], [0, 7, 0, 5, 9]


def mnist_arrays() -> dict[str, np.ndarray]:
    values = np.random.default_rng(3).integers(0, 256, (9, 28, 28), np.uint8)
    return {
        mnist.TRAIN_IMAGES: values[:4],
        mnist.TRAIN_LABELS: np.array(TRAIN_DIGITS),
        mnist.TEST_IMAGES: values[4:],
        mnist.TEST_LABELS: np.array(TEST_DIGITS),
    }


def write_mnist(root: Path, packed: bool = True) -> Path:
    root.mkdir(exist_ok=True)
    for name, array in mnist_arrays().items():
        content = idx_bytes(array)
        (root / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    return root


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_by_hand(tmp_path: Path, packed: bool) -> None:
    dataset = open_dataset(write_mnist(tmp_path, packed))
    end = ".gz" if packed else ""
    train, test = (str(tmp_path / f"{name}{end}") for name in (mnist.TRAIN_IMAGES, mnist.TEST_IMAGES))
    assert dataset.train == (Sample(train, 0, "good", frame=1), Sample(train, 0, "good", frame=3))
    assert [(s.path, s.frame, s.label, s.kind) for s in dataset.test] == [
        (test, 0, 0, "good"),
        (test, 1, 1, "digit_7"),
        (test, 2, 0, "good"),
        (test, 3, 1, "digit_5"),
        (test, 4, 1, "digit_9"),
    ]
    frame = idx.read_frame(test, 3)
    assert (frame.shape, frame.dtype, frame.flags.writeable) == ((28, 28, 1), np.uint8, True)
    np.testing.assert_array_equal(frame[:, :, 0], mnist_arrays()[mnist.TEST_IMAGES][3])


def test_another_digit_is_normal(tmp_path: Path) -> None:
    dataset = open_dataset(write_mnist(tmp_path), Data(normal_class=5))
    assert [s.frame for s in dataset.train] == [0]
    assert [s.label for s in dataset.test] == [1, 1, 1, 0, 1]
    assert "images of the digit 8" in refused(tmp_path, Data(normal_class=8))


def test_a_frame_is_a_copy_and_a_new_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(np.full((2, 3, 4), 7)))
    idx.read_frame(path, 0)[:] = 0
    assert idx.read_frame(path, 0).tolist() == np.full((3, 4, 1), 7).tolist()
    path.write_bytes(idx_bytes(np.full((3, 3, 4), 9)))
    assert idx.read_frame(path, 2).tolist() == np.full((3, 4, 1), 9).tolist()


@pytest.mark.parametrize("frame", [-1, 2])
def test_a_frame_that_is_not_there(tmp_path: Path, frame: int) -> None:
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(np.zeros((2, 3, 4))))
    with pytest.raises(DataError, match=f"expected 0 to 1, got {frame}. The file holds 2 images"):
        idx.read_frame(path, frame)


IMAGES = idx_bytes(np.zeros((2, 3, 4)))
PACKED = gzip.compress(IMAGES, mtime=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected an IDX header of 16 bytes, got 0 bytes"),
        (IMAGES[:15], "expected an IDX header of 16 bytes, got 15 bytes"),
        (idx_bytes(np.zeros(20)), "expected the IDX magic number 2051, got 2049. Magic 2051 is an images file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "expected the IDX magic number 2051"),
        (IMAGES[:-1], "expected 24 bytes after the header, got 23"),
        (IMAGES + b"x", "expected 24 bytes after the header, got more"),
        (struct.pack(">4I", 2051, 0, 28, 28), "got the lengths 0 x 28 x 28"),
        (struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 28), "got the lengths 4294967295 x 4294967295 x 28"),
        (PACKED[:-9], "expected a gzip file"),
        (PACKED[:10] + b"\xff" * 30, "expected a gzip file"),
        (PACKED[:-8] + bytes(8), "expected a gzip file"),
        (gzip.compress(IMAGES[:-1], mtime=0), "expected 24 bytes after the header, got 23"),
    ],
)
def test_a_damaged_idx_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        idx.read_idx(path, idx.IMAGES_AXES)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_idx_file_that_is_not_there(tmp_path: Path) -> None:
    for read in (idx.images_of, lambda path: idx.read_idx(path, 1)):
        with pytest.raises(DataError, match="cannot be read: No such file"):
            read(tmp_path / "images")


def test_mnist_files_that_are_missing_or_disagree(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = tmp_path / f"{mnist.TEST_LABELS}.gz"
    labels.write_bytes(gzip.compress(idx_bytes(np.array([1, 2, 3]))))
    assert "expected a label for each image, got 3 labels for 5 images" in refused(tmp_path)
    labels.write_bytes(gzip.compress(idx_bytes(np.array([1, 2, 3, 11, 4]))))
    assert "expected labels 0 to 9, got 11 at index 3" in refused(tmp_path)
    labels.unlink()
    assert f"expected the file {mnist.TEST_LABELS} or {mnist.TEST_LABELS}.gz, got neither" in refused(tmp_path)


@pytest.mark.parametrize("tree", ["{}/good/0.png {}/spot/1.png", "good/0.png defect/spot/1.png"])
def test_what_was_drawn_is_no_kind_of_defect(tmp_path: Path, tree: str) -> None:
    make(tmp_path, "train/good/0.png", *tree.format("test", "test").split())
    before = open_dataset(tmp_path, Data(normal_dir="train/good"))
    make(tmp_path, *(f"{folder}/heat/{name}" for folder in ("test", "defect") for name in ("1.png.png", DRAWN)))
    assert open_dataset(tmp_path, Data(normal_dir="train/good")).test == before.test


# --- oct ---


def test_oct_by_hand(tmp_path: Path) -> None:
    make(tmp_path, "Train/normal/b.jpeg", "Train/normal/a.jpeg", "Train/CNV/x.jpeg", "val/NORMAL/v.jpeg")
    make(tmp_path, "test/NORMAL/0.jpeg", "test/DRUSEN/1.jpeg", "test/CNV/2.jpeg")
    dataset = open_dataset(tmp_path)
    assert dataset.format == "oct"
    assert below(tmp_path, dataset.train) == ["Train/normal/a.jpeg", "Train/normal/b.jpeg"]
    assert [(s.label, s.kind) for s in dataset.test] == [(1, "CNV"), (1, "DRUSEN"), (0, "good")]
    assert all(sample.mask is None for sample in dataset.test)
    told = "1 images, not used: train is for training, test for testing"
    assert dataset.skipped == ((str(tmp_path / "val"), told),)


def test_a_tree_with_masks_is_not_taken_for_oct(tmp_path: Path) -> None:
    """Which has none: they would be passed over without a word."""
    make(tmp_path, "train/normal/0.png", "test/normal/1.png", "test/spot/2.png", "ground_truth/spot/2.png")
    assert "the sub-folder 'ground_truth'" in refused(tmp_path)
    assert open_dataset(tmp_path, Data(format="oct")).format == "oct"


def test_oct_with_a_class_called_good(tmp_path: Path) -> None:
    make(tmp_path, "train/NORMAL/0.png", "test/good/1.png")
    assert "expected a class of defects, got the name 'good'. Rename it" in refused(tmp_path)


def test_oct_where_it_is_not(tmp_path: Path) -> None:
    make(tmp_path, "OCT2017/train/NORMAL/0.jpeg", "bare/train/CNV/0.jpeg")
    assert "expected one data set, got a folder that holds some: OCT2017" in refused(tmp_path)
    assert "expected a folder train/NORMAL, got folders: CNV" in refused(tmp_path / "bare", Data(format="oct"))
    make(tmp_path, "OCT2017/test/loose.jpeg")
    (skipped,) = open_dataset(tmp_path / "OCT2017").skipped
    assert skipped == (str(tmp_path / "OCT2017/test/loose.jpeg"), "not in the folder of a class, test/<class>")
    (tmp_path / "OCT2017/train/normal").mkdir()
    if len(os.listdir(tmp_path / "OCT2017/train")) == 2:  # not where the file system ignores case
        assert "'NORMAL' and 'normal'" in refused(tmp_path / "OCT2017")


def test_a_reader_of_ones_own_is_looked_for_in_a_folder_of_sets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a look one folder too high learns its defects as good images."""
    make(tmp_path, "one/ok_0.png", "one/nok_1.png")
    monkeypatch.setitem(READERS, "flat", Reader(lambda root: (root / "ok_0.png").exists(), READERS["folder"].read))
    assert "expected one data set, got a folder that holds some: one" in refused(tmp_path)


def test_oct_without_normal_images(tmp_path: Path) -> None:
    (tmp_path / "train" / "NORMAL").mkdir(parents=True)
    assert "expected normal images, got no image" in refused(tmp_path)


# --- splits ---


def good(count: int, folder: str = "/data/good") -> list[Sample]:
    return [Sample(f"{folder}/{n:03}.png", 0, "good") for n in range(count)]


@pytest.mark.parametrize(
    ("count", "share", "minimum", "held"),
    [
        (100, 0.1, 20, 20),
        (300, 0.1, 20, 30),
        (301, 0.1, 20, 31),
        (30, 0.1, 0, 3),
        (100, 0.07, 0, 7),  # 0.07 * 100 is 7.000000000000001 in binary
        (30, 0.1, 20, 15),
        (1, 0.5, 20, 0),
        (0, 0.1, 20, 0),
        (50, 0.0, 0, 0),
        (50, 0.0, 5, 5),
        (9, 0.5, 0, 4),
    ],
)
def test_how_many_are_held_out(count: int, share: float, minimum: int, held: int) -> None:
    train, held_out = hold_out(good(count), share, minimum, seed=0)
    assert (len(train), len(held_out)) == (count - held, held)
    assert sorted(s.path for s in (*train, *held_out)) == [s.path for s in good(count)]


def test_portion_rounds_up_what_is_written() -> None:
    assert [portion(0.1, n) for n in (0, 1, 9, 10, 11, 30, 1000)] == [0, 1, 1, 1, 2, 3, 100]
    assert portion(np.float64(0.07), 100) == 7


def test_hold_out_follows_its_rule_worked_apart() -> None:
    """The held-out are those whose SHA-256 of seed, zero byte and relative name come first."""
    names = [f"{n:03}.png" for n in range(12)]
    first = sorted(names, key=lambda name: hashlib.sha256(b"5\0" + name.encode()).hexdigest())[:3]
    _, held = hold_out(good(12), 0.25, 0, seed=5)
    assert [os.path.basename(s.path) for s in held] == sorted(first)


def test_hold_out_does_not_depend_on_order_or_place() -> None:
    samples = good(60)
    shuffled = random.Random(1).sample(samples, 60)
    assert hold_out(samples, 0.2, 0, 7) == hold_out(shuffled, 0.2, 0, 7)
    assert hold_out(samples, 0.2, 0, 7) != hold_out(samples, 0.2, 0, 8)
    here, there = (hold_out(good(60, folder), 0.2, 0, 7)[1] for folder in ("/data/good", "relative/path"))
    assert [os.path.basename(s.path) for s in here] == [os.path.basename(s.path) for s in there]


def test_one_image_more_moves_at_most_one_other() -> None:
    before = set(hold_out(good(60), 0.2, 12, 7)[1])
    after = set(hold_out([*good(60), Sample("/data/good/new.png", 0, "good")], 0.0, 12, 7)[1])
    assert len(before - after) <= 1


def test_hold_out_of_frames_of_one_file() -> None:
    samples = [Sample("/data/images", 0, "good", frame=n) for n in range(20)]
    train, held = hold_out(samples, 0.25, 0, 0)
    assert len(held) == 5
    assert [s.frame for s in train] == sorted(s.frame or 0 for s in train)
    assert {s.frame for s in (*train, *held)} == set(range(20))


def test_fingerprint_by_hand_and_what_it_depends_on() -> None:
    samples = [Sample("b.png", 1, "cut"), Sample("a.png", 0, "good"), Sample("i", 0, "good", frame=4)]
    digests = {"a.png": "aa", "b.png": "bb", "i#4": "cc"}
    value = fingerprint(samples, digests)
    assert value == hashlib.sha256(b"aa 0 None\nbb 1 None\ncc 0 4").hexdigest()
    assert value == fingerprint(reversed(samples), digests)
    moved = [Sample("/x/2.png", 1, "hole"), Sample("/x/1.png", 0, "good"), Sample("/x/i", 0, "good", frame=4)]
    assert value == fingerprint(moved, {"/x/1.png": "aa", "/x/2.png": "bb", "/x/i#4": "cc"})
    assert value != fingerprint(samples, digests | {"a.png": "ab"})
    assert value != fingerprint([Sample("b.png", 0, "good"), *samples[1:]], digests)
    assert value != fingerprint([*samples, samples[0]], digests)


# --- the real images ---


@pytest.mark.data
@pytest.mark.parametrize(
    ("category", "train", "good_test", "defective", "kinds"),
    [("bottle", 209, 20, 63, 3), ("transistor", 213, 60, 40, 4)],
)
def test_mvtec_counts(real_data: Path, category: str, train: int, good_test: int, defective: int, kinds: int) -> None:
    dataset = open_dataset(real_data / "mvtec_ad" / category)
    labels = Counter(sample.label for sample in dataset.test)
    assert (dataset.format, len(dataset.train), labels) == ("mvtec", train, {0: good_test, 1: defective})
    assert len({sample.kind for sample in dataset.test if sample.label}) == kinds
    assert sum(sample.mask is not None for sample in dataset.test) == defective
    assert dataset.skipped == ()


@pytest.mark.data
def test_magnetic_tile_counts(real_data: Path) -> None:
    dataset = open_dataset(real_data / "magnetic_tile")
    labels = Counter(sample.label for sample in dataset.test)
    assert (dataset.format, dataset.split_is_ours) == ("folder", True)
    assert (len(dataset.train), labels) == (952 - 191, {0: 191, 1: 392})
    assert len({sample.kind for sample in dataset.test if sample.label}) == 5
    assert sum(sample.mask is not None for sample in dataset.test) == 392
    assert dataset.skipped == ()


@pytest.mark.data
def test_mnist_counts(real_data: Path) -> None:
    sizes = []
    for digit in range(10):
        dataset = open_dataset(real_data / "mnist", Data(normal_class=digit))
        assert (dataset.format, len(dataset.test)) == ("mnist", 10_000)
        sizes.append((len(dataset.train), sum(sample.label == 0 for sample in dataset.test)))
    assert sizes == [
        (5923, 980), (6742, 1135), (5958, 1032), (6131, 1010), (5842, 982),
        (5421, 892), (5918, 958), (6265, 1028), (5851, 974), (5949, 1009),
    ]  # fmt: skip
    assert idx.read_frame(dataset.test[0].path, 0).mean() > 1


@pytest.mark.data
def test_the_folder_above_the_categories(real_data: Path) -> None:
    assert "bottle, transistor" in refused(real_data / "mvtec_ad")


# --- what is in one folder and belongs to another ---


def test_good_images_to_test_on_that_hold_those_to_train_on(tmp_path):
    make(tmp_path, "good/0.png", "good/1.png", "good/train/2.png")
    found = open_dataset(tmp_path, Data(format="folder", normal_dir="good/train", normal_test_dir="good"))
    assert below(tmp_path, found.train) == ["good/train/2.png"]
    assert below(tmp_path, found.test) == ["good/0.png", "good/1.png"]


def test_masks_in_a_folder_of_defects_are_no_defects(tmp_path):
    make(tmp_path, "good/0.png", "defect/cut/1.png", "defect/cut/truth/cut/1.png")
    found = open_dataset(tmp_path, Data(mask_dir="defect/cut/truth"))
    assert below(tmp_path, tuple(sample for sample in found.test if sample.label)) == ["defect/cut/1.png"]


def test_a_folder_that_holds_one_in_use_is_not_told_as_unused(tmp_path):
    make(tmp_path, "good/0.png", "bad/cut/1.png")
    assert open_dataset(tmp_path, Data(abnormal_dir="bad/cut")).skipped == ()


def test_good_and_bad_in_one_folder_through_a_link(tmp_path):
    make(tmp_path, "good/0.png")
    (tmp_path / "bad").symlink_to(tmp_path / "good")
    assert "expected two folders" in refused(tmp_path, Data(abnormal_dir="bad"))


def test_masks_of_other_names_in_a_plain_folder(tmp_path):
    make(tmp_path, "good/0.png", "defect/cut/0.png", "mask/cut/0_gt.png")
    assert "1 masks and no image of their names" in refused(tmp_path)


def test_what_is_skipped_among_masks_and_test_images_is_told(tmp_path):
    make(tmp_path, "a/train/good/0.png", "a/test/cut/0.png", "a/test/cut/1.png", "a/ground_truth/cut/1_mask.png")
    (tmp_path / "a/ground_truth/cut/0_mask.png").symlink_to(tmp_path / "gone")
    assert [Path(name).name for name, _ in open_dataset(tmp_path / "a").skipped] == ["0_mask.png"]
    make(tmp_path, "b/good/0.png", "b/check/1.png", "b/check/x.png/inside.txt")
    found = open_dataset(tmp_path / "b", Data(normal_test_dir="check"))
    assert [Path(name).name for name, _ in found.skipped] == ["x.png"]


@pytest.mark.parametrize("start", [b"start", b"", re.compile(b"start")])
def test_an_empty_file_holds_nothing_to_lose(tmp_path, start):
    (tmp_path / "x").touch()
    ensure_no_loss(tmp_path / "x", start)
    (tmp_path / "x").write_bytes(b"another")
    with pytest.raises(UserError, match="It would have been replaced"):
        ensure_no_loss(tmp_path / "x", start)
