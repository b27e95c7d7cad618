"""From a folder of good images to a detector file: what is refused, held out, recorded, gone on with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny import SETTINGS, save, tiny_config, weave

from normbank import demo, fitting, machine, preparing, timing, training
from normbank import detector as detectors
from normbank.bundle import Bundle, read_bundle, write_bundle
from normbank.calibration import Calibration
from normbank.config import Config
from normbank.data.open import open_dataset
from normbank.data.samples import Dataset, Sample
from normbank.data.splits import contents_of
from normbank.errors import BundleError, DataError, ParityError, TrainingError, UserError
from normbank.export import weights_of
from normbank.fitting import CHECKPOINT_FILE, MODEL_FILE, RUN_FILE, fit
from normbank.identity import OtherRunError, images_record
from normbank.model.network import build
from normbank.preparing import Prepared, prepare
from normbank.presets import preset

NO_MEMORY = {"model__memory_levels": 0, "model__partitions": (), "model__items": ()}
Cheap = Callable[..., Path]


def good(folder: Path, count: int, start: int = 0, side: int = 32) -> Dataset:
    """A data set of `count` different good images, written to `folder`."""
    paths = [save(folder / f"{number:03d}.png", weave(start + number, side)) for number in range(count)]
    return of(folder, paths)


def of(folder: Path, paths: list[Path]) -> Dataset:
    return Dataset("parts", "folder", str(folder), tuple(Sample(str(path), 0, "good") for path in paths), ())


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Cheap:
    """`fit` that takes the graph of `tiny_model` instead of exporting: what is not about the graph is quick."""
    graph = read_bundle(tiny_model).graph

    def bundle(network: torch.nn.Module, _: object, __: object, manifest: dict[str, object], ___: object) -> Bundle:
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        return Bundle(manifest, safetensors.torch.save(weights), graph)

    monkeypatch.setattr(fitting, "make_bundle", bundle)

    def run(dataset: Dataset, out: Path, config: Config | None = None, *, quiet: bool = True, **more: bool) -> Path:
        return fit(config or tiny_config(train__steps=6, train__checkpoint_every=2), dataset, out, quiet=quiet, **more)

    return run


def test_two_trainings_do_not_write_into_one_folder(tmp_path: Path, cheap: Cheap) -> None:
    data, out = good(tmp_path / "d", 12), tmp_path / "out"
    with machine.alone_in(tmp_path) as elsewhere:
        assert elsewhere
        cheap(data, out)
    with machine.alone_in(out) as free:
        assert free
        with pytest.raises(TrainingError, match=r"expected it free, got another training at work in it\. Wait"):
            cheap(data, out, overwrite=True)
    cheap(data, out, overwrite=True)


def stop_at(patch: pytest.MonkeyPatch, call: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Training is interrupted in the middle of step number `call`."""
    real, calls = training.objective, iter(range(1, 1000))

    def stopping(*arguments: object, **more: object) -> torch.Tensor:
        if next(calls) == call:
            raise error
        return real(*arguments, **more)  # type: ignore[arg-type]

    patch.setattr(training, "objective", stopping)


def no_training(patch: pytest.MonkeyPatch) -> None:
    def optimise(*_: object, **__: object) -> None:
        raise AssertionError("nothing was to be trained")

    patch.setattr(fitting, "optimise", optimise)


# what is held out


@pytest.mark.parametrize(
    ("count", "kept"), [(10, 5), (11, 5), (20, 10), (39, 19), (40, 20), (100, 20), (200, 20), (201, 21)]
)
def test_a_tenth_at_least_20_at_most_half_are_held_out(tmp_path: Path, count: int, kept: int) -> None:
    prepared = prepare(tiny_config(), good(tmp_path, count, side=16))
    assert (len(prepared.train.samples), len(prepared.held_out.samples)) == (count - kept, kept)
    names = {sample.path for part in (prepared.train, prepared.held_out) for sample in part.samples}
    assert len(names) == count
    for part in (prepared.train, prepared.held_out):
        assert part.pixels.shape == (len(part.samples), 32, 32, 3)
        assert len(part.digests) == len(part.samples)


def test_pixels_stay_with_their_samples(tmp_path: Path) -> None:
    prepared = prepare(tiny_config(), good(tmp_path, 14))
    for part in (prepared.train, prepared.held_out):
        for sample, pixels in zip(part.samples, part.pixels, strict=True):
            assert np.array_equal(pixels, np.asarray(Image.open(sample.path)))


def test_the_choice_depends_on_the_seed_and_not_on_the_folder(tmp_path: Path) -> None:
    def names(folder: str, seed: int) -> list[str]:
        held_out = prepare(tiny_config(train__seed=seed), good(tmp_path / folder, 20)).held_out
        return [Path(sample.path).name for sample in held_out.samples]

    assert names("here", 0) == names("far/away", 0)
    assert names("here", 0) != names("here", 1)


def test_the_paper_s_presets_hold_out_none_and_promise_nothing(tmp_path: Path, cheap: Cheap) -> None:
    settings = {name: value for name, value in SETTINGS.items() if "held_out" not in name}
    config = preset("paper-mvtec-object", settings)
    dataset = good(tmp_path / "data", 12)
    found = detectors.load(cheap(dataset, tmp_path / "run", config))
    assert found.manifest["data"]["held_out"] == []
    assert found.manifest["data"]["trained_on"] == 12
    prediction = found.predict(dataset.train[0].path)
    assert (prediction.threshold, prediction.p_value, prediction.is_anomalous) == (None, None, None)
    assert prediction.score > 0
    assert found.manifest["map_scale"] > 0  # heat maps have their scale from training images then


def test_a_bank_that_knows_all_images_by_heart_gives_heat_maps_no_scale(tmp_path: Path, cheap: Cheap) -> None:
    """Their distance is next to nothing: the scale is what the parts can reach at most, which are below 1 each."""
    own = {**SETTINGS, "model.bank": 10_000, "model.head_width": 0, "score.parts": ["bank"], "score.weights": [2.0]}
    config = preset("small", {**own, "data.held_out": 0, "data.held_out_min": 0, "train.corrupt": 0.0})
    model = cheap(good(tmp_path / "data", 12), tmp_path / "run", config)
    assert detectors.load(model).manifest["map_scale"] == 2


@pytest.mark.parametrize(
    ("parts", "weights", "peak", "scale"),
    [
        (["bank"], [1.0], 0.4, 0.8),  # twice the peak of good images
        (["bank"], [1.0], 0.9, 1.0),  # a map that ends at 1 has no use for colours beyond
        (["head", "bank"], [1.0, 2.0], 1.9, 3.0),
        (["gradient", "bank"], [1.0, 2.0], 1.9, 3.8),
    ],
)
def test_no_colour_is_kept_for_what_a_map_cannot_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[str], weights: list[float], peak: float, scale: float
) -> None:
    config = preset("small", {**SETTINGS, "score.parts": parts, "score.weights": weights})
    prepared = prepare(config, good(tmp_path, 30))
    monkeypatch.setattr(fitting, "_judge", lambda *_: ([0.5], [peak]))
    assert fitting._calibrate(None, config, prepared) == ([0.5], pytest.approx(scale))  # type: ignore[arg-type]


def test_the_threshold_comes_from_the_held_out_images(tiny_data: Path, tiny_model: Path) -> None:
    found = detectors.load(tiny_model)
    names = found.manifest["data"]["held_out"]
    assert len(names) == 12  # half of 24
    assert all(name.startswith(os.path.join("train", "good")) for name in names)
    scores = [prediction.score for prediction in found.predict([tiny_data / name for name in names])]
    kept = found.manifest["calibration"]
    assert kept["scores"] == pytest.approx(sorted(scores), rel=1e-6)
    assert kept["threshold"] == max(kept["scores"])
    assert found.calibration == Calibration(tuple(kept["scores"]), 0.01)
    assert found.calibration.note is not None  # 12 cannot promise 1 %
    assert found.manifest["data"]["held_out_scores"] == pytest.approx(scores, rel=1e-6)


# what is refused


@pytest.mark.parametrize("count", [0, 1, 9])
def test_fewer_than_ten_images_are_refused(tmp_path: Path, cheap: Cheap, count: int) -> None:
    with pytest.raises(TrainingError, match=f"at least 10 different good images to learn from, got {count}") as caught:
        cheap(good(tmp_path / "data", count), tmp_path / "run")
    assert str(tmp_path / "data") in str(caught.value)
    assert "Add good images" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_too_few_says_how_many_our_own_split_took(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / "parts" / "good" / f"{number}.png", weave(number))
    save(tmp_path / "parts" / "defect" / "0.png", weave(50))
    config = tiny_config()
    expected = r"got 9; 3 more are left for testing \(data\.test_share\)\. Add good images"
    with pytest.raises(TrainingError, match=expected):
        prepare(config, open_dataset(tmp_path / "parts", config.data))


def test_what_is_kept_from_training_is_told_where_it_would_be_enough(tmp_path: Path) -> None:
    for number in range(60):
        save(tmp_path / "parts" / "good" / f"{number}.png", weave(number))
    save(tmp_path / "parts" / "defect" / "0.png", weave(100))
    config = tiny_config(data__held_out_min=20)
    told = (
        "28 images are left to train on: 20 are held out for the threshold (data.held_out_min), 12 left for testing "
        "(data.test_share)"
    )
    assert told in prepare(config, open_dataset(tmp_path / "parts", config.data)).remarks


def test_channels_that_stand_first_are_asked_about(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 255, (12, 5, 40, 40)).astype(np.uint8)
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
        (tmp_path / "last").mkdir(exist_ok=True)
        np.save(tmp_path / "last" / f"{number}.npy", array.transpose(1, 2, 0))
    expected = (
        "images of 40 x 5 with 40 channels: if the channels stand first, transpose the arrays to height x width x"
    )
    first, last = (
        prepare(tiny_config(), of(tmp_path, sorted(folder.glob("*.npy")))) for folder in (tmp_path, tmp_path / "last")
    )
    assert any(remark.startswith(expected) for remark in first.remarks)
    assert not any("channels stand first" in remark for remark in last.remarks)


def test_what_could_not_be_used_is_told_where_too_few_are_left(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 8)
    for number in range(4):
        (tmp_path / "data" / f"broken{number}.png").write_text("not an image")
    everything = of(tmp_path / "data", sorted((tmp_path / "data").rglob("*.png")))
    assert len(everything.train) == len(dataset.train) + 4
    with pytest.raises(TrainingError, match="got 8; 4 more could not be used \\(") as caught:
        cheap(everything, tmp_path / "run")
    told = str(caught.value)
    assert [f"broken{number}.png" in told for number in range(4)] == [True, True, True, False]
    assert "; ...). Add good images" in told


def test_ten_are_enough(tmp_path: Path, cheap: Cheap) -> None:
    manifest = detectors.load(cheap(good(tmp_path / "data", 10), tmp_path / "run")).manifest
    assert manifest["data"]["trained_on"] == 5
    assert any("only 5 images are left to train on" in remark for remark in manifest["remarks"])


def test_a_table_of_test_images_alone_is_refused(tmp_path: Path, cheap: Cheap) -> None:
    save(tmp_path / "a.png", weave(0))
    table = tmp_path / "parts.csv"
    table.write_text("image_path,label_index,split,mask_path\na.png,0,test,\n", encoding="utf-8")
    config = tiny_config()
    with pytest.raises((DataError, TrainingError), match="good images") as caught:
        cheap(open_dataset(table, config.data), tmp_path / "run", config)
    assert "parts.csv" in str(caught.value)


def test_images_that_cannot_be_opened_at_all_are_refused(tmp_path: Path, cheap: Cheap) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for path in paths:
        path.write_text("not an image")
    with pytest.raises(DataError, match="none of the 12 training images can be opened") as caught:
        cheap(of(tmp_path, paths), tmp_path / "run")
    assert "0.png" in str(caught.value)


def test_identical_images_are_refused(tmp_path: Path, cheap: Cheap) -> None:
    paths = [save(tmp_path / f"{number}.png", weave(0)) for number in range(12)]
    with pytest.raises(TrainingError, match="all 12 good images are identical"):
        cheap(of(tmp_path, paths), tmp_path / "run")


def test_identical_pixels_in_different_files_are_refused(tmp_path: Path, cheap: Cheap) -> None:
    for number in range(12):
        Image.fromarray(weave(0)).save(tmp_path / f"{number}.png", pnginfo=_comment(str(number)))
    paths = sorted(tmp_path.glob("*.png"))
    assert len({path.read_bytes() for path in paths}) == 12
    with pytest.raises(TrainingError, match="all 12 good images are identical"):
        cheap(of(tmp_path, paths), tmp_path / "run")


def _comment(text: str) -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("comment", text)
    return info


def test_copies_do_not_count_as_images(tmp_path: Path) -> None:
    dataset = good(tmp_path, 9)
    copies = [shutil.copy(sample.path, tmp_path / f"copy{index}.png") for index, sample in enumerate(dataset.train)]
    with pytest.raises(TrainingError, match="at least 10 different good images to learn from, got 9"):
        prepare(tiny_config(), of(tmp_path, [*tmp_path.glob("0*.png"), *map(Path, copies)]))


# what is told


def test_a_channel_without_information_is_told(tmp_path: Path) -> None:
    for number in range(12):
        pixels = weave(number)
        pixels[..., 1] = 7
        save(tmp_path / f"{number}.png", pixels)
    prepared = prepare(tiny_config(), of(tmp_path, sorted(tmp_path.glob("*.png"))))
    (remark,) = [remark for remark in prepared.remarks if "channel" in remark]
    assert remark.startswith("channel 1 has the same value in every pixel of every good image")


def test_ordinary_images_cause_no_remark(tmp_path: Path) -> None:
    assert prepare(tiny_config(), good(tmp_path, 70)).remarks == ()


def test_advice_from_the_files_is_told_and_recorded(
    tmp_path: Path, cheap: Cheap, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        save(tmp_path / "data" / f"{number}.png", weave(number, 256)[:140])
    model = cheap(of(tmp_path / "data", sorted((tmp_path / "data").glob("*.png"))), tmp_path / "run", quiet=False)
    remarks = json.loads(model.with_name(RUN_FILE).read_text(encoding="utf-8"))["remarks"]
    told = capsys.readouterr().err
    for start in (
        "only 6 images to train on; 50 are a start",
        "images of 256 x 140 are reduced to 32 x 32: a defect smaller than about 16 pixels of the original",
        "images of 256 x 140 are stretched to a square: one side shows 1.8 times less detail",
    ):
        (remark,) = [remark for remark in remarks if remark.startswith(start)]
        assert remark in told


def test_only_some_files_are_asked_how_they_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(preparing, "stored_as", lambda path, _: asked.append(path))  # knows of none
    monkeypatch.setattr(preparing, "LOOKED_UP", 20)
    dataset = good(tmp_path, 80)
    prepared = prepare(tiny_config(), dataset)
    assert (prepared.remarks, prepared.stored) == ((), None)
    assert len(set(asked)) == len(asked) == 20
    paths = [sample.path for sample in dataset.train]
    assert (asked[0], asked[-1]) == (paths[0], paths[-1])


def test_odd_images_among_the_good_ones_are_named(tmp_path: Path) -> None:
    dataset = good(tmp_path, 40)
    paths = [Path(sample.path) for sample in dataset.train]

    def told() -> list[str]:
        return [remark for remark in prepare(tiny_config(), dataset).remarks if "stored otherwise" in remark]

    assert told() == []
    save(paths[3], weave(90, 32)[..., 0])
    assert told() == [
        "1 of 40 good images is stored otherwise than the others (first '003.png': 32 x 32, grey, 8 bits): what is no "
        "picture of a good part as the others are does not belong here"
    ]
    save(paths[5], np.resize(weave(91, 32), (16, 32, 3)))
    save(paths[7], weave(92, 15))
    assert told()[0].startswith("3 of 40 good images are stored otherwise than the others (first '003.png': ")
    for number in (9, 11):  # so many are a kind of their own
        save(paths[number], weave(93 + number, 32)[..., 0])
    assert told() == []


def test_a_folder_that_is_called_as_defects_are_is_asked_about(tmp_path: Path) -> None:
    for name, said in (("Reject", True), ("parts", False)):
        good(tmp_path / name, 12)
        found = prepare(tiny_config(), open_dataset(tmp_path / name, tiny_config().data)).remarks
        assert ("all images are taken for good, though their folder is called 'Reject'" in found) == said


def test_copies_are_told_and_never_on_both_sides(tmp_path: Path) -> None:
    dataset = good(tmp_path, 20)
    for index, sample in enumerate(dataset.train):
        shutil.copy(sample.path, tmp_path / f"copy{index:03d}.png")
    prepared = prepare(tiny_config(), of(tmp_path, sorted(tmp_path.glob("*.png"))))
    (remark,) = [remark for remark in prepared.remarks if "copies" in remark]
    assert remark.startswith("20 of the 40 good images are exact copies of others")
    assert not set(prepared.train.digests) & set(prepared.held_out.digests)
    assert len(prepared.held_out.digests) == len(set(prepared.held_out.digests)) == 10
    assert len(prepared.train.digests) == 20  # ten images and their copies


def test_a_colour_term_of_grey_images_is_refused(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", weave(number, 32)[..., 0]) for number in range(20)]
    config = tiny_config(score__parts=("absolute", "colour"), score__weights=(1.0, 1.0))
    with pytest.raises(TrainingError, match=r"score.parts: colour: expected two channels or more, got one in "):
        prepare(config, of(tmp_path, paths))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        # four partitions, a million items of 256 and of 64 numbers each, four bytes a number
        ({"model__items": (1_000_000, 1_000_000), "model__widths": (256, 64, 8)}, "5.13 GB"),
        (
            {"model__trunk": "bergmann", **NO_MEMORY, "data__size": 4096, "model__latent": 500},
            "8.39 GB",
        ),  # twice 256 x 256 x 32 x 500
    ],
)
def test_a_detector_that_no_file_holds_is_refused_before_training(
    tmp_path: Path, settings: dict[str, Any], size: str
) -> None:
    with pytest.raises(
        TrainingError, match=rf"^model: expected a detector of 2 GB at most, .* one of {size}\. Lower .* head_width, "
    ):
        prepare(tiny_config(**settings), good(tmp_path, 12))


@pytest.mark.parametrize("name", [MODEL_FILE, RUN_FILE, CHECKPOINT_FILE])
def test_a_folder_in_a_files_place_is_told_before_training(tmp_path: Path, cheap: Cheap, name: str) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(BundleError, match=f"{name}' cannot be written: it is a folder"):
        cheap(good(tmp_path / "data", 12), tmp_path / "run", overwrite=True)


def test_one_picture_in_two_files_is_a_copy_too(tmp_path: Path) -> None:
    """Saved again with a date of its own: other bytes, the same pixels."""
    dataset = good(tmp_path, 20)
    for index, sample in enumerate(dataset.train):
        dated = PngInfo()
        dated.add_text("date", str(index))
        with Image.open(sample.path) as image:
            image.save(tmp_path / f"copy{index:03d}.png", pnginfo=dated)
    prepared = prepare(tiny_config(), of(tmp_path, sorted(tmp_path.glob("*.png"))))
    assert len(set(prepared.train.digests) | set(prepared.held_out.digests)) == 30
    assert any(remark.startswith("20 of the 40 good images are exact copies") for remark in prepared.remarks)
    assert not set(contents_of(prepared.train.pixels)) & set(contents_of(prepared.held_out.pixels))
    assert (len(prepared.train.pixels), len(prepared.held_out.pixels)) == (20, 10)
    assert len(prepared.copies) == 10
    seen = images_record(prepared.train, prepared.held_out, prepared.copies)["seen"]
    assert len(seen) == len(set(seen)) == 40  # none of them is news to a test


def test_broken_files_are_skipped_told_and_recorded(
    tmp_path: Path, cheap: Cheap, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = good(tmp_path / "data", 12)
    broken = tmp_path / "data" / "broken.png"
    broken.write_bytes(Path(dataset.train[0].path).read_bytes()[:300])
    empty = tmp_path / "data" / "empty.png"
    empty.touch()
    both = of(tmp_path / "data", [broken, *(Path(sample.path) for sample in dataset.train), empty])
    model = cheap(both, tmp_path / "run", quiet=False)
    manifest = detectors.load(model).manifest
    assert [Path(name).name for name, _ in manifest["data"]["skipped"]] == ["broken.png", "empty.png"]
    assert all(reason for _, reason in manifest["data"]["skipped"])
    assert manifest["data"]["trained_on"] + len(manifest["data"]["held_out"]) == 12
    told = capsys.readouterr().err
    assert f"skipped {str(broken)!r}" in told
    assert f"skipped {str(empty)!r}" in told


def test_strict_stops_at_the_first_broken_file(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    broken = tmp_path / "data" / "005.png"
    broken.write_bytes(b"")
    with pytest.raises(TrainingError, match=r"005\.png.*train without --strict to skip such files"):
        cheap(dataset, tmp_path / "run", strict=True)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What was measured, as (channels, bits); a step takes a second."""
    calls: list[tuple[int, int]] = []

    def seconds_per_step(_: Config, channels: int, bits: int) -> float:
        calls.append((channels, bits))
        return 1.0

    monkeypatch.setattr(timing, "seconds_per_step", seconds_per_step)
    return calls


def test_a_long_training_is_measured_and_told(
    tmp_path: Path,
    cheap: Cheap,
    measured: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop_at(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        cheap(good(tmp_path / "data", 20), tmp_path / "run", tiny_config(train__steps=300), quiet=False)
    assert measured == [(3, 8)]
    assert capsys.readouterr().err.splitlines()[-8:] == [
        "images  10 to train on, 10 held out for the threshold; 32 x 32, 3 channels, 8 bits",
        "steps   300 of 4 images; preset paper-small",
        "memory  pmb at levels 1, 2, hard shrinkage, renormalised",
        "score   absolute, less the estimate of delta_H 0.5, sum",
        f"device  {machine.cpu_name()}, 1 thread, precision 32-true",
        "time    about 5 minutes for 300 steps of 1 s (measured); the file comes on top",
        f"writes  model.nbk and run.json into {tmp_path / 'run'}",
        "Ctrl-C  loses at most 50 steps; --resume goes on from there",
    ]


def test_a_resumed_training_tells_what_is_left(
    tmp_path: Path, cheap: Cheap, measured: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, config = good(tmp_path / "data", 12), tiny_config(train__steps=53, train__checkpoint_every=2)
    for stopped, told in ((4, "for 53 steps of 1 s"), (1, "for 51 steps of 1 s"), (3, "for 51 steps of 1 s")):
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, stopped)
            with pytest.raises(KeyboardInterrupt):
                cheap(dataset, tmp_path / "run", config, quiet=False, resume=True)
        err = capsys.readouterr().err
        assert told in err
        assert ("of which 2 are done" in err) == ("51" in told)
    assert len(measured) == 3
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            cheap(dataset, tmp_path / "run", config, quiet=False, resume=True)
    assert "of which 4 are done" in (err := capsys.readouterr().err)
    assert "not measured for 49 steps" in err
    assert len(measured) == 3


def test_short_and_quiet_trainings_are_not_measured(
    tmp_path: Path, cheap: Cheap, measured: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = good(tmp_path / "data", 12)
    stop_at(monkeypatch, 1)
    for steps, quiet in ((50, False), (50, True), (5000, True)):
        with pytest.raises(KeyboardInterrupt):
            cheap(dataset, tmp_path / "run", tiny_config(train__steps=steps), quiet=quiet, overwrite=True)
        stop_at(monkeypatch, 1)
    assert measured == []


@pytest.mark.slow
def test_what_was_measured_leaves_the_result_as_it_was(tmp_path: Path, cheap: Cheap) -> None:
    config = tiny_config(train__steps=51, train__corrupt=0.5)
    dataset = good(tmp_path / "data", 12)
    quiet, told = (cheap(dataset, tmp_path / str(one), config, quiet=one) for one in (True, False))
    assert read_bundle(quiet).weights == read_bundle(told).weights


def test_quiet_says_nothing(tmp_path: Path, cheap: Cheap, capfd: pytest.CaptureFixture[str]) -> None:
    cheap(good(tmp_path / "data", 12), tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_nothing_else_is_left_in_the_folder(tmp_path: Path, cheap: Cheap) -> None:
    model = cheap(good(tmp_path / "data", 12), tmp_path / "run")
    assert model == tmp_path / "run" / MODEL_FILE
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {MODEL_FILE, RUN_FILE}


# what is recorded


def test_the_record(tiny_model: Path, tiny_data: Path) -> None:
    run = json.loads((tiny_model.parent / RUN_FILE).read_text(encoding="utf-8"))
    manifest = detectors.load(tiny_model).manifest
    assert {name: value for name, value in manifest.items() if name != "format_version"}.items() <= run.items()
    assert run["settings"] == tiny_config().model_dump(mode="json")
    assert run["settings"]["train"]["seed"] == 0
    assert run["image"] == {"size": 32, "channels": 3, "bits": 8, "fit": "stretch"}
    assert run["device"] == machine.cpu_name()
    assert (run["precision"], run["threads"]) == ("32-true", 1)
    assert run["training_seconds"] > 0
    assert run["commit"] == machine.commit()
    assert {"python", "normbank", "torch", "lightning", "onnxruntime", "numpy"} <= run["versions"].keys()
    assert run["machine"]["processors"] == machine.cpu_count()
    assert run["model_bytes"] == tiny_model.stat().st_size
    assert run["curve"][-1][0] == 3
    assert 0 < run["curve"][-1][1] < 2
    weights = weights_of(read_bundle(tiny_model), build(tiny_config(), 3).state_dict())
    learnt = [v.numel() for k, v in weights.items() if "running" not in k and "num_batches" not in k]
    assert run["parameters"] == sum(learnt)
    data = run["data"]
    assert (data["name"], data["format"], data["skipped"]) == (tiny_data.name, "mvtec", [])
    assert data["trained_on"] + len(data["held_out"]) == len(data["seen"]) == 24


def test_the_record_is_plain_json(tiny_model: Path) -> None:
    text = (tiny_model.parent / RUN_FILE).read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_names_in_a_table_are_relative_to_its_folder(tmp_path: Path, cheap: Cheap) -> None:
    good(tmp_path / "images", 12)
    rows = [f"images/{number:03d}.png,0,train," for number in range(12)]
    table = tmp_path / "parts.csv"
    table.write_text("image_path,label_index,split,mask_path\n" + "\n".join(rows) + "\n", encoding="utf-8")
    config = tiny_config()
    manifest = detectors.load(cheap(open_dataset(table, config.data), tmp_path / "run", config)).manifest
    assert all(name.startswith(os.path.join("images", "0")) for name in manifest["data"]["held_out"])


def test_odd_file_names_are_recorded(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    names = ["a\nb.png", "ü 日本.png", os.fsdecode(b"\xff\xfe.png")]
    paths = [Path(shutil.move(s.path, tmp_path / "data" / n)) for s, n in zip(dataset.train, names, strict=False)]
    rest = [Path(sample.path) for sample in dataset.train[3:]]
    settings = tiny_config(data__held_out=0.5)
    manifest = detectors.load(cheap(of(tmp_path / "data", [*paths, *rest]), tmp_path / "run", settings)).manifest
    assert len(manifest["data"]["held_out"]) == 6


# going on


def curve(model: Path) -> list[list[float]]:
    found: list[list[float]] = json.loads(model.with_name(RUN_FILE).read_text(encoding="utf-8"))["curve"]
    return found


@pytest.mark.parametrize("step", [1, 2, 3, 6])
def test_interrupted_and_resumed_it_gives_the_same_model(tmp_path: Path, cheap: Cheap, step: int) -> None:
    dataset = good(tmp_path / "data", 12)
    whole = cheap(dataset, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            cheap(dataset, tmp_path / "run")
    assert not (tmp_path / "run" / MODEL_FILE).exists()
    assert (tmp_path / "run" / CHECKPOINT_FILE).exists() == (step > 2)
    resumed = cheap(dataset, tmp_path / "run", resume=True)
    assert read_bundle(resumed).weights == read_bundle(whole).weights
    assert curve(resumed) == curve(whole)
    assert not (tmp_path / "run" / CHECKPOINT_FILE).exists()


def interrupted(cheap: Cheap, dataset: Dataset, out: Path, *config: Config) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            cheap(dataset, out, *config)


def test_a_checkpoint_of_other_settings_or_images_is_refused(
    tmp_path: Path, cheap: Cheap, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = good(tmp_path / "data", 12)
    interrupted(cheap, dataset, tmp_path / "run")
    other = tiny_config(train__steps=8, train__checkpoint_every=2, score__delta_h=0.25)
    with pytest.raises(OtherRunError, match=r"\(train.steps was 6 and is 8\)\. Go on"):
        cheap(dataset, tmp_path / "run", other, resume=True, quiet=False)
    assert "Ctrl-C" not in capsys.readouterr().err  # no plan of what is then refused
    with pytest.raises(OtherRunError, match=r"fingerprint of the images was [0-9a-f]{12} and is [0-9a-f]{12}"):
        cheap(good(tmp_path / "others", 12, start=50), tmp_path / "run", resume=True)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, path in enumerate(sorted((tmp_path / "data").glob("*.png"))):
        shutil.copy(path, renamed / f"{99 - number}.png")  # batches would be drawn from another order
    without = tiny_config(train__steps=6, train__checkpoint_every=2, data__held_out=0, data__held_out_min=0)
    interrupted(cheap, dataset, tmp_path / "all", without)
    with pytest.raises(OtherRunError, match=r"\(order of the images, by their names was [0-9a-f]{12} and is"):
        cheap(of(renamed, sorted(renamed.glob("*.png"))), tmp_path / "all", without, resume=True)
    moved = shutil.copytree(tmp_path / "data", tmp_path / "moved")
    assert cheap(of(moved, sorted(moved.glob("*.png"))), tmp_path / "run", resume=True).exists()


def test_an_unfinished_run_may_end_with_another_score(tmp_path: Path, cheap: Cheap) -> None:
    """Nothing is trained for it; so what one score's export refuses is not lost."""
    dataset = good(tmp_path / "data", 12)
    whole = cheap(dataset, tmp_path / "whole")
    interrupted(cheap, dataset, tmp_path / "run")
    other = tiny_config(train__steps=6, train__checkpoint_every=2, score__delta_h=0.25, score__pool="max")
    resumed = cheap(dataset, tmp_path / "run", other, resume=True)
    assert read_bundle(resumed).weights == read_bundle(whole).weights
    assert read_bundle(resumed).manifest["settings"] == other.model_dump(mode="json")
    assert curve(resumed) == curve(whole)
    with pytest.raises(OtherRunError, match=r"is finished, and was made with other settings .*score.delta_h was 0.25"):
        cheap(dataset, tmp_path / "run", resume=True)


def test_where_the_export_refuses_the_checkpoint_is_kept_and_told(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Bundle:
        raise ParityError("The graph differs.")

    dataset = good(tmp_path / "data", 12)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "make_bundle", refuse)
        with pytest.raises(ParityError, match=r"^The graph differs\. The checkpoint is kept: .* another score"):
            cheap(dataset, tmp_path / "run")
    assert (tmp_path / "run" / CHECKPOINT_FILE).exists()
    assert cheap(dataset, tmp_path / "run", resume=True).exists()


def test_an_unfinished_run_is_not_started_again_unasked(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    interrupted(cheap, dataset, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"unfinished run\. Go on with --resume, or start again with --overwrite"):
        cheap(dataset, tmp_path / "run")
    other = tiny_config(train__steps=1)
    assert json.loads(cheap(dataset, tmp_path / "run", other, overwrite=True).with_name(RUN_FILE).read_text())


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    interrupted(cheap, dataset, tmp_path / "run")
    checkpoint = tmp_path / "run" / CHECKPOINT_FILE
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(TrainingError, match=r"checkpoint .* cannot be read"):
        cheap(dataset, tmp_path / "run", resume=True)


def test_a_finished_run_resumed_is_the_same_model_without_training(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = good(tmp_path / "data", 12)
    model = cheap(dataset, tmp_path / "run")
    before = model.read_bytes(), model.with_name(RUN_FILE).read_bytes()
    no_training(monkeypatch)
    assert cheap(dataset, tmp_path / "run", resume=True, quiet=False) == model
    assert "is finished, with these settings and images: nothing is left to do" in capsys.readouterr().err
    assert before == (model.read_bytes(), model.with_name(RUN_FILE).read_bytes())
    often = tiny_config(train__steps=6, train__checkpoint_every=1)  # decides nothing about the result
    assert cheap(dataset, tmp_path / "run", often, resume=True) == model


def test_a_finished_run_of_other_settings_or_images_is_refused(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = good(tmp_path / "data", 12)
    model = cheap(dataset, tmp_path / "run")
    no_training(monkeypatch)
    with pytest.raises(OtherRunError, match=r"is finished, and was made with other .*\(train.seed was 0 and is 1;"):
        cheap(dataset, tmp_path / "run", tiny_config(train__steps=6, train__seed=1), resume=True)
    with pytest.raises(OtherRunError, match="fingerprint of the images was"):
        cheap(good(tmp_path / "others", 12, start=50), tmp_path / "run", resume=True)
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(BundleError, match="damaged"):
        cheap(dataset, tmp_path / "run", resume=True)


def test_another_rate_of_false_alarms_asks_for_no_training(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    rate, known = {"score__false_alarm_rate": 0.05}, {"train__steps": 6, "train__checkpoint_every": 2}
    cheap(dataset, tmp_path / "run")
    with pytest.raises(
        OtherRunError, match=r"rate was 0\.01 and is 0\.05\)\. Nothing need be trained .* take --false-a"
    ):
        cheap(dataset, tmp_path / "run", tiny_config(**rate, **known), resume=True)
    with pytest.raises(OtherRunError, match=r"Name another --out, or start again with --overwrite\.$"):
        cheap(dataset, tmp_path / "run", tiny_config(**rate, **known, train__seed=1), resume=True)
    none = {**known, "data__held_out": 0, "data__held_out_min": 0}  # and so no other rate, either
    cheap(dataset, tmp_path / "none", tiny_config(**none))
    with pytest.raises(OtherRunError, match=r"Name another --out, or start again with --overwrite\.$"):
        cheap(dataset, tmp_path / "none", tiny_config(**rate, **none), resume=True)


def test_a_finished_run_of_a_version_with_fewer_settings_stays_finished(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = good(tmp_path / "data", 12)
    model = cheap(dataset, tmp_path / "run")
    older = read_bundle(model)
    for group, name in (("model", "gate"), ("train", "exposure"), ("score", "parts")):
        del older.manifest["settings"][group][name]
    write_bundle(model, older)
    no_training(monkeypatch)
    assert cheap(dataset, tmp_path / "run", resume=True) == model
    with pytest.raises(OtherRunError, match=r"\(model.gate was False and is True\)"):
        cheap(dataset, tmp_path / "run", tiny_config(train__steps=6, model__gate=True), resume=True)


def test_resume_with_nothing_there_says_so_and_trains(
    tmp_path: Path, cheap: Cheap, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cheap(good(tmp_path / "data", 12), tmp_path / "run", resume=True, quiet=False).exists()
    assert "no checkpoint in" in capsys.readouterr().err


def test_a_finished_model_is_replaced_only_when_asked(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    model = cheap(dataset, tmp_path / "run")
    before = read_bundle(model).weights
    other = tiny_config(train__steps=6, train__seed=1)
    with pytest.raises(TrainingError, match="holds a finished model, which is not replaced unasked"):
        cheap(dataset, tmp_path / "run", other)
    assert read_bundle(model).weights == before
    assert read_bundle(cheap(dataset, tmp_path / "run", other, overwrite=True)).weights != before


def test_a_run_json_of_someone_else_is_replaced_only_when_asked(tmp_path: Path, cheap: Cheap) -> None:
    dataset, run = good(tmp_path / "data", 12), tmp_path / "run" / RUN_FILE
    run.parent.mkdir()
    run.write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r"run\.json': expected a new file, or earlier results of this kind"):
        cheap(dataset, run.parent)
    assert run.read_text() == '{"mine": 1}'
    cheap(dataset, run.parent, overwrite=True)
    (run.parent / MODEL_FILE).unlink()  # what is left is a record of ours
    assert cheap(dataset, run.parent).is_file()


def test_all_folders_that_are_taken_for_good_are_named(tmp_path: Path) -> None:
    for number in range(70):
        save(tmp_path / "parts" / ("ok" if number % 7 else "scratched") / f"{number}.png", weave(number))
    config = tiny_config()
    (remark,) = prepare(config, open_dataset(tmp_path / "parts", config.data)).remarks
    assert remark.startswith(
        "all images below are taken for good, whatever folder they are in: ok (60), scratched (10)."
    )
    named = open_dataset(tmp_path / "parts", config.data.model_copy(update={"normal_dir": "ok"}))
    assert not any("taken for good" in remark for remark in prepare(config, named).remarks)


def test_replacing_that_was_interrupted_before_a_checkpoint_is_not_finished(
    tmp_path: Path, cheap: Cheap, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = good(tmp_path / "data", 12)
    model = cheap(dataset, tmp_path / "run")
    before = model.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            cheap(dataset, tmp_path / "run", overwrite=True)
    assert model.read_bytes() == before  # until there is another
    cheap(dataset, tmp_path / "run", resume=True, quiet=False)
    assert "training starts from the beginning" in capsys.readouterr().err
    assert "curve" in json.loads(model.with_name(RUN_FILE).read_text(encoding="utf-8"))


def test_replacing_that_was_interrupted_is_not_gone_on_with_as_what_it_was_to_replace(
    tmp_path: Path, cheap: Cheap, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, run = good(tmp_path / "data", 12), tmp_path / "run"
    cheap(dataset, run)
    shutil.copy(run / MODEL_FILE, run / "checkpoint.ckpt")  # as one of a run before: it could not even be read
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            cheap(dataset, run, overwrite=True)
    assert not (run / "checkpoint.ckpt").exists()
    cheap(dataset, run, resume=True, quiet=False)
    assert "training starts from the beginning" in capsys.readouterr().err


def test_replacing_that_is_refused_leaves_what_is_there(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = good(tmp_path / "data", 12)
    model = cheap(dataset, tmp_path / "run")
    before = model.read_bytes(), model.with_name(RUN_FILE).read_bytes()
    monkeypatch.setattr(machine, "cpu_count", lambda: 1)
    with pytest.raises(TrainingError, match=r"train\.threads: expected at most 8"):
        cheap(dataset, tmp_path / "run", tiny_config(train__threads=9), overwrite=True, quiet=False)
    assert before == (model.read_bytes(), model.with_name(RUN_FILE).read_bytes())


def test_what_another_finished_meanwhile_is_not_replaced(tmp_path: Path, cheap: Cheap) -> None:
    dataset, real = good(tmp_path / "data", 12), fitting.prepare

    def slow(*arguments: Any, **more: Any) -> Prepared:
        prepared = real(*arguments, **more)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / MODEL_FILE).write_text("another's")
        return prepared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "prepare", slow)
        with pytest.raises(TrainingError, match="not replaced unasked"):
            cheap(dataset, tmp_path / "run")
    assert (tmp_path / "run" / MODEL_FILE).read_text() == "another's"


def test_a_demonstration_replaces_no_training_that_is_none_of_its_own(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = cheap(good(tmp_path / "bricks", 12), tmp_path / "runs" / "brick")
    before = model.read_bytes()

    def made(out: Path) -> Path:
        good(out / "brick" / "train" / "good", 12, start=100)
        save(out / "brick" / "test" / "good" / "a.png", weave(1))
        return out

    monkeypatch.setattr(demo, "make_demo", made)
    with pytest.raises(OtherRunError, match="was made with other settings or images"):
        demo.run_demo(tmp_path / "runs", quick=True, say=lambda line: None)
    assert model.read_bytes() == before
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<html>my own")
    with pytest.raises(UserError, match=r"index\.html': expected a new file, or earlier results"):
        demo.run_demo(tmp_path / "web", quick=True, say=lambda line: None)
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["index.html"]


def test_resume_and_overwrite_contradict_each_other(tmp_path: Path, cheap: Cheap) -> None:
    with pytest.raises(TrainingError, match="--resume and --overwrite: expected one of them, got both"):
        cheap(good(tmp_path / "data", 12), tmp_path / "run", resume=True, overwrite=True)


def test_a_kill_between_the_model_and_its_record_is_mended(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = good(tmp_path / "data", 12)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            cheap(dataset, tmp_path / "run")
    before = read_bundle(tmp_path / "run" / MODEL_FILE).weights
    model = cheap(dataset, tmp_path / "run", resume=True)
    assert read_bundle(model).weights == before
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {MODEL_FILE, RUN_FILE}


def test_a_graph_that_differs_writes_no_model_and_keeps_the_checkpoint(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ParityError("the exported graph differs")

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "make_bundle", refused)
        with pytest.raises(ParityError):
            cheap(good(tmp_path / "data", 12), tmp_path / "run")
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {CHECKPOINT_FILE}


# where it is written


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"file': expected a folder, got a file"):
        cheap(dataset, tmp_path / "file")
    with pytest.raises(BundleError, match=r"file.run.model\.nbk' cannot be written: Not a directory"):
        cheap(dataset, tmp_path / "file" / "run")


def test_a_folder_without_room_is_told_before_training(
    tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    no_training(monkeypatch)
    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(BundleError, match=r"model\.nbk' cannot be written: No space left on device\."):
        cheap(good(tmp_path / "data", 12), tmp_path / "run")


def test_a_loss_that_is_no_number_reaches_the_user_in_words(tmp_path: Path, cheap: Cheap) -> None:
    with pytest.raises(TrainingError, match="the loss became nan"):
        cheap(good(tmp_path / "data", 12), tmp_path / "run", tiny_config(train__steps=9, train__learning_rate=1e30))
    assert not (tmp_path / "run" / MODEL_FILE).exists()


def test_a_device_that_is_not_there_is_told(tmp_path: Path, cheap: Cheap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="expected auto or one this machine has"):
        cheap(good(tmp_path / "data", 12), tmp_path / "run", tiny_config(train__device="cuda"))


# end to end


def deep(folder: Path, count: int) -> Dataset:
    """16-bit images that differ from a constant in their low 8 bits alone."""
    rows = np.arange(32)
    for number in range(count):
        low = 128 + 100 * np.sin(rows[:, None] / 3 + number) * np.cos(rows[None] / 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((40960 + low).astype(np.uint16)).save(folder / f"{number:03d}.png")
    return of(folder, sorted(folder.glob("*.png")))


@pytest.mark.slow
def test_16_bits_are_kept_from_the_file_to_the_score(tmp_path: Path) -> None:
    dataset = deep(tmp_path / "data", 12)
    found = detectors.load(fit(tiny_config(), dataset, tmp_path / "run", quiet=True))
    assert found.manifest["image"] == {"size": 32, "channels": 1, "bits": 16, "fit": "stretch"}
    pixels = np.asarray(Image.open(dataset.train[0].path)).astype(np.uint16)
    flat = np.full_like(pixels, 40960)
    assert np.array_equal(pixels >> 8, flat >> 8)  # equal to 8 bits
    by_path, by_array, other = found.predict([dataset.train[0].path, pixels, flat])
    assert by_path.score == by_array.score
    assert abs(other.score / by_path.score - 1) > 1e-6
    assert not np.array_equal(other.anomaly_map, by_path.anomaly_map)


@pytest.mark.slow
def test_five_channels_from_npy_end_to_end(tmp_path: Path) -> None:
    for number in range(12):
        np.save(tmp_path / f"{number:02d}.npy", weave(number, 32)[..., [0, 1, 2, 0, 1]])
    dataset = of(tmp_path, sorted(tmp_path.glob("*.npy")))
    found = detectors.load(fit(tiny_config(), dataset, tmp_path / "run", quiet=True))
    assert found.spec.channels == 5
    assert found.predict(dataset.train[3].path).score > 0


@pytest.mark.slow
def test_a_network_that_sees_half_and_a_bank_that_sees_all_end_to_end(tmp_path: Path) -> None:
    """A scratch of fine stripes, grey at half the size: the bank alone can see it, and the maps are of the whole."""
    dataset = good(tmp_path, 24, side=64)
    small = {"data__size": 64, "model__network_size": 32}
    config = tiny_config(**small, model__bank=64 * 24, score__parts=("bank",), score__pool="max", score__delta_h=0)
    found = detectors.load(fit(config, dataset, tmp_path / "run", quiet=True))
    pixels = weave(3, 64)
    striped = pixels.copy()
    striped[16:32, 16:48:2] -= 40
    striped[16:32, 17:48:2] += 40
    plain, marked = found.predict([pixels, striped])
    assert marked.anomaly_map.shape == (64, 64)
    assert found.run(pixels[None]).reconstructions.shape == (1, 64, 64, 3)
    assert marked.score > 1.5 * plain.score
    assert marked.anomaly_map[16:32, 16:48].mean() > 2 * marked.anomaly_map[48:].mean()


def test_the_same_seed_gives_the_same_file_but_for_its_dates(tmp_path: Path, cheap: Cheap) -> None:
    dataset = good(tmp_path / "data", 12)
    first, second = (cheap(dataset, tmp_path / name) for name in "ab")
    a, b = read_bundle(first), read_bundle(second)
    assert (a.weights, a.graph) == (b.weights, b.graph)
    varying = {"created", "training_seconds"}
    assert {k: v for k, v in a.manifest.items() if k not in varying} == {
        k: v for k, v in b.manifest.items() if k not in varying
    }


@pytest.mark.slow
def test_the_demo_s_bricks(tmp_path: Path) -> None:
    from normbank.data.demo import make_demo

    data = make_demo(tmp_path / "data") / "brick"
    config = preset("paper-small", {"train.steps": 15, "train.checkpoint_every": 5, "train.device": "cpu"})
    dataset = open_dataset(data, config.data)
    model = fit(config, dataset, tmp_path / "run", quiet=True)
    losses = [loss for _, loss in curve(model)]
    assert losses[2] < losses[1] < losses[0]
    found = detectors.load(model)
    assert (found.spec.size, found.spec.channels, len(found.calibration.scores)) == (128, 1, 20)
    verdicts = found.predict([sample.path for sample in dataset.test])
    assert all(np.isfinite(verdict.score) and verdict.anomaly_map.shape == (128, 128) for verdict in verdicts)
    assert all(0 < (verdict.p_value or 0) <= 1 for verdict in verdicts)
