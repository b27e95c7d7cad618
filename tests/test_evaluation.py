"""Judging a detector: the figures against scikit-learn on its raw outputs, and what is told where there are none."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from tiny import defective, make_tiny, save, weave

import normbank
from normbank import decoding, evaluation, images
from normbank.bundle import Bundle, read_bundle
from normbank.data.cache import Cache
from normbank.data.open import open_dataset
from normbank.data.samples import Sample
from normbank.detector import BATCH, Detector, Prediction
from normbank.errors import BundleError, DataError, ImageError
from normbank.evaluation import IMAGE_METRICS, METRICS, PIXEL_METRICS, evaluate, to_test
from normbank.images import ImageSpec
from normbank.judging import examine, judge
from normbank.settings import Data

SETTINGS = Data(size=32)


@pytest.fixture(scope="module")
def detector(tiny_model):
    return normbank.load(tiny_model)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """A test set of images of twice the model's size, so that a pixel of a mask at that size is a mean of four."""
    return make_tiny(tmp_path_factory.mktemp("unseen"), train=1, side=64)


@pytest.fixture(scope="module")
def found(detector, unseen):
    return evaluate(detector, open_dataset(unseen, SETTINGS))


@pytest.fixture
def data(tmp_path):
    """A data set to spoil: nothing of it was seen in training."""
    return make_tiny(tmp_path / "data", train=1, test=4, each_kind=3, side=64)


def judged(detector, root, **more):
    return evaluate(detector, open_dataset(root, SETTINGS), **more)


# ---------------------------------------------------------------- the figures, by other means


def by_hand(detector, files):
    """Scores [N], labels [N], maps and masks [N, 32, 32] and mean brightness [N] of files of a tiny data set."""
    scores, labels, maps, masks, bright = [], [], [], [], []
    for path in files:
        verdict = detector.predict(path)
        kind = path.parent.name
        scores.append(verdict.score)
        labels.append(int(kind != "good"))
        maps.append(verdict.anomaly_map)
        truth = path.parents[2] / "ground_truth" / kind / f"{path.stem}_mask.png"
        whole = np.asarray(Image.open(truth)) > 0 if kind != "good" else np.zeros((64, 64), bool)
        masks.append(whole.reshape(32, 2, 32, 2).mean(axis=(1, 3)) >= 0.5)
        bright.append(images.load(path, detector.spec).mean())
    return np.array(scores), np.array(labels), np.stack(maps), np.stack(masks), np.array(bright)


def best_f1(scores, labels):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def per_region_overlap(maps, masks, limit=0.3):
    """The area under mean coverage of the regions over the false-positive rate, up to `limit`, as a share of it."""
    regions = [
        maps[n][numbered == region]
        for n, numbered in ((n, ndimage.label(mask, np.ones((3, 3)))[0]) for n, mask in enumerate(masks))
        for region in range(1, numbered.max() + 1)
    ]
    normal, rates, overlaps = maps[~masks], [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        rates.append((normal >= threshold).mean())
        overlaps.append(np.mean([(region >= threshold).mean() for region in regions]))
    rates, overlaps = np.array(rates), np.array(overlaps)
    inside = rates <= limit
    x = np.append(rates[inside], limit)
    y = np.append(overlaps[inside], np.interp(limit, rates, overlaps))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


def figures(scores, labels, maps, masks, bright):
    flat, truth = maps.ravel(), masks.ravel()
    return {
        "image_AUROC": roc_auc_score(labels, scores),
        "image_AP": average_precision_score(labels, scores),
        "image_F1Max": best_f1(scores, labels),
        "pixel_AUROC": roc_auc_score(truth, flat),
        "pixel_AP": average_precision_score(truth, flat),
        "AUPRO": per_region_overlap(maps, masks),
        "brightness_AUROC": roc_auc_score(labels, bright),
    }


def test_all_figures_equal_those_by_other_means(detector, unseen, found):
    files = sorted((unseen / "test").rglob("*.png"))
    assert found.metrics == pytest.approx(figures(*by_hand(detector, files)), abs=1e-6)
    assert list(found.metrics) == list(METRICS)
    assert found.reasons == {}


@pytest.mark.parametrize("kind", ["scratch", "spot"])
def test_each_kind_stands_against_all_good_images(detector, unseen, found, kind):
    files = sorted((unseen / "test" / "good").iterdir()) + sorted((unseen / "test" / kind).iterdir())
    expected = figures(*by_hand(detector, files))
    assert found.kinds[kind] == pytest.approx({"count": 4, **expected}, abs=1e-6)
    assert list(found.kinds) == ["scratch", "spot"]


def test_scores_are_raw_and_in_order(detector, unseen, found):
    assert [one.sample for one in found.scored] == list(open_dataset(unseen, SETTINGS).test)
    for one in found.scored:
        verdict = detector.predict(one.sample.path)
        assert one.score == pytest.approx(verdict.score, rel=1e-6)
        assert (one.p_value, one.is_anomalous) == (verdict.p_value, verdict.is_anomalous)
    assert found.threshold == detector.calibration.threshold


def test_counts_and_curve(found):
    assert found.counts == {"good": 6, "anomalous": 8, "with_mask": 8, "left_out": 0}
    rates, hits = found.curves["roc"]
    area = sum((b - a) * (p + q) / 2 for a, b, p, q in zip(rates, rates[1:], hits, hits[1:], strict=False))
    assert area == pytest.approx(found.metrics["image_AUROC"])


def test_brightness_is_a_control(detector, found):
    for one in found.scored:
        assert one.brightness == pytest.approx(images.load(one.sample.path, detector.spec).mean() / 255)
    assert found.kinds["spot"]["brightness_AUROC"] == 1  # a bright square
    assert found.kinds["scratch"]["brightness_AUROC"] == 0  # a dark line


def test_batches_and_cache_do_not_matter(detector, tmp_path):
    root = make_tiny(tmp_path / "many", train=1, test=BATCH + 3, each_kind=2, side=64)
    cache = Cache(tmp_path / "cache")
    first, second = (judged(detector, root, cache=cache) for _ in range(2))
    assert first.metrics == second.metrics
    assert len(first.scored) == BATCH + 3 + 4
    assert first.metrics == pytest.approx(figures(*by_hand(detector, sorted((root / "test").rglob("*.png")))), abs=1e-6)


# ---------------------------------------------------------------- which images


def test_images_seen_in_training_are_left_out_whatever_their_name(detector, tiny_data, data):
    for number in range(3):
        shutil.copy(tiny_data / "train" / "good" / f"{number:03d}.png", data / "test" / "good" / f"new_{number}.png")
    found = judged(detector, data)
    assert found.counts == {"good": 4, "anomalous": 6, "with_mask": 6, "left_out": 3}
    assert not [one for one in found.scored if "new_" in one.sample.path]


def test_a_picture_saved_anew_is_seen_all_the_same(detector, tiny_data, data):
    told = PngInfo()
    told.add_text("Comment", "saved again")
    for number in range(3):
        with Image.open(tiny_data / "train" / "good" / f"{number:03d}.png") as image:
            image.save(data / "test" / "good" / f"new_{number}.png", pnginfo=told)
    assert judged(detector, data).counts == {"good": 4, "anomalous": 6, "with_mask": 6, "left_out": 3}


def test_labels_that_contradict_each_other_or_training_are_told(detector, tiny_data, data):
    learnt, twin = data / "test" / "spot" / "learnt.png", data / "test" / "spot" / "twin.png"
    assert learnt.parent.is_dir()
    shutil.copy(tiny_data / "train" / "good" / "000.png", learnt)
    shutil.copy(sorted((data / "test" / "good").iterdir())[0], twin)
    found = judged(detector, data)
    assert found.counts["left_out"] == 1
    told = dict(found.skipped)
    assert told[str(learnt)] == "is labelled anomalous, and was learnt as good (left out)"
    assert told[str(twin)].startswith("is the same image as '")
    assert told[str(twin)].endswith("', which has the other label (both are scored)")
    assert len(told) == 2


def test_of_contradicting_labels_neither_is_said_to_be_scored_where_training_saw_it(detector, tiny_data, data):
    for folder in ("good", "spot"):
        shutil.copy(tiny_data / "train" / "good" / "000.png", data / "test" / folder / "learnt.png")
    found = judged(detector, data)
    assert found.counts["left_out"] == 2
    told = [reason for path, reason in found.skipped if path == str(data / "test" / "spot" / "learnt.png")]
    assert told[0].endswith("', which has the other label")
    assert told[1:] == ["is labelled anomalous, and was learnt as good (left out)"]


def test_a_folder_of_good_images_alone_is_tested_but_for_those_seen(detector, tiny_data, tmp_path):
    shutil.copytree(tiny_data / "train" / "good", tmp_path / "mixed")
    for number in range(3):
        save(tmp_path / "mixed" / f"later_{number}.png", weave(500 + number))
    found = judged(detector, tmp_path / "mixed")
    assert [Path(one.sample.path).name for one in found.scored] == [f"later_{n}.png" for n in range(3)]
    assert found.counts == {"good": 3, "anomalous": 0, "with_mask": 0, "left_out": 24}


def test_where_the_split_is_ours_every_good_image_is_tested(detector, tmp_path):
    for number in range(10):
        save(tmp_path / "good" / f"{number}.png", weave(600 + number))
    save(tmp_path / "defect" / "spot" / "0.png", defective(1, "spot")[0])
    dataset = open_dataset(tmp_path, SETTINGS)
    assert dataset.split_is_ours
    assert len(dataset.train) == 8
    assert {sample.name for sample in to_test(dataset)} == {str(path) for path in tmp_path.rglob("*.png")}
    assert evaluate(detector, dataset).counts["good"] == 10
    for left in range(1, 10):
        (tmp_path / "good" / f"{left}.png").unlink()
    assert evaluate(detector, open_dataset(tmp_path, SETTINGS)).counts["good"] == 1


def test_nothing_left_to_test(detector, tiny_data):
    expected = r"tiny/train/good': no image left to test: 0 are broken or not images, 24 were used in training\. Give"
    with pytest.raises(DataError, match=expected):
        judged(detector, tiny_data / "train" / "good")


def test_what_is_broken_is_named_where_nothing_is_left_to_test(detector, tmp_path):
    (tmp_path / "good").mkdir()
    for number in range(5):
        (tmp_path / "good" / f"{number}.png").write_text("not an image")
    with pytest.raises(
        DataError, match=r"5 are broken or not images \('.*good/0.png': .*; \.\.\.\), 0 were used"
    ) as caught:
        judged(detector, tmp_path)
    assert str(caught.value).count(".png") == 3


# ---------------------------------------------------------------- where there is nothing to measure


def test_without_masks_pixel_figures_are_null_with_a_reason(detector, data):
    shutil.rmtree(data / "ground_truth")
    found = judged(detector, data)
    for name in PIXEL_METRICS:
        assert found.metrics[name] is None
        assert found.reasons[name] == "no test image has a ground-truth mask with a marked pixel"
        assert found.kinds["spot"][name] is None
    assert all(found.metrics[name] is not None for name in IMAGE_METRICS)
    assert found.counts["with_mask"] == 0


def test_maps_are_kept_only_for_pixel_figures(detector, data, monkeypatch):
    kept = []
    monkeypatch.setattr(evaluation, "_measure", lambda *arguments: kept.append(arguments[2].pixels))
    judged(detector, data)
    shutil.rmtree(data / "ground_truth" / "spot")
    judged(detector, data)
    shutil.rmtree(data / "ground_truth")
    judged(detector, data)
    assert [sum(one is not None for one in pixels) for pixels in kept] == [10, 7, 0]


def test_a_kind_without_masks_leaves_the_others_theirs(detector, data):
    whole = judged(detector, data)
    shutil.rmtree(data / "ground_truth" / "spot")
    found = judged(detector, data)
    assert found.kinds["spot"]["pixel_AUROC"] is None
    assert found.kinds["scratch"] == whole.kinds["scratch"]
    assert found.metrics["pixel_AUROC"] == found.kinds["scratch"]["pixel_AUROC"]
    assert found.counts["with_mask"] == 3


@pytest.mark.parametrize(("gone", "counts"), [("good", "0 good and 6 anomalous"), ("spot scratch", "4 good and 0")])
def test_one_class_alone_gives_null_with_a_reason(detector, data, gone, counts):
    for kind in gone.split():
        shutil.rmtree(data / "test" / kind)
        shutil.rmtree(data / "ground_truth" / kind, ignore_errors=True)
    found = judged(detector, data)
    for name in (*IMAGE_METRICS, "brightness_AUROC"):
        assert found.metrics[name] is None
        assert counts in found.reasons[name]
    assert found.curves == {}
    assert (found.metrics["pixel_AUROC"] is None) == (gone != "good")  # a defective image has good pixels, too
    assert json.loads(json.dumps(found.to_dict(str(data)), allow_nan=False))["metrics"]["image_AUROC"] is None


# ---------------------------------------------------------------- trouble


def test_an_empty_mask_is_told_and_its_pixels_do_not_count(detector, data):
    save(data / "ground_truth" / "spot" / "000_mask.png", np.zeros((64, 64), np.uint8))
    speck = np.zeros((64, 64), np.uint8)
    speck[20, 20] = 255  # less than half a pixel at the model's size
    save(data / "ground_truth" / "spot" / "001_mask.png", speck)
    found = judged(detector, data)
    reason = "marks no pixel at 32 x 32 (the image is scored, its pixels are not)"
    assert {Path(path).name: why for path, why in found.skipped} == {"000_mask.png": reason, "001_mask.png": reason}
    assert found.counts == {"good": 4, "anomalous": 6, "with_mask": 4, "left_out": 0}
    others = [path for path in sorted((data / "test").rglob("*.png")) if path.parts[-2:] not in {
        ("spot", "000.png"), ("spot", "001.png")
    }]  # fmt: skip
    assert found.metrics["pixel_AUROC"] == pytest.approx(figures(*by_hand(detector, others))["pixel_AUROC"], abs=1e-6)


def test_a_mask_of_another_shape_is_told_and_its_pixels_do_not_count(detector, data):
    path = data / "ground_truth" / "spot" / "001_mask.png"
    save(path, decoding.read(path)[:40, :, 0])
    found = judged(detector, data)
    said = "is 64 x 40 pixels, its image 64 x 64: expected the same shape, drawn on the image as it is shown"
    assert found.skipped == ((str(path), f"{said} (the image is scored, its pixels are not)"),)
    assert found.counts["with_mask"] == 5
    with pytest.raises(ImageError, match=r"001_mask\.png': is 64 x 40 pixels"):
        judged(detector, data, strict=True)


def test_names_in_the_json_are_relative_to_the_folder_of_a_table(detector, data):
    table = data / "all.csv"
    rows = [f"{path.relative_to(data).as_posix()},{int('good' not in path.parts)},test" for path in
            sorted((data / "test").rglob("*.png"))]  # fmt: skip
    table.write_text("\n".join(["image_path,label_index,split", *rows]))
    (data / "test" / "good" / "000.png").write_bytes(b"")
    values = judged(detector, table).to_dict(str(table))
    assert {one["name"] for one in values["scored"]} < {row.partition(",")[0] for row in rows}
    assert [name for name, _ in values["skipped"]] == ["test/good/000.png"]


def test_a_mask_of_a_good_image_marks_nothing_or_is_told(detector, data):
    spot, black = "ground_truth/spot/000_mask.png", "black.png"
    save(data / black, np.zeros((64, 64), np.uint8))
    rows = ["test/good/000.png,0,test,", f"test/good/001.png,0,test,{black}", f"test/spot/000.png,1,test,{spot}"]
    (data / "all.csv").write_text("\n".join(["image_path,label_index,split,mask_path", *rows]))
    whole = judged(detector, data / "all.csv")
    assert whole.skipped == ()
    (data / "all.csv").write_text("\n".join(["image_path,label_index,split,mask_path", rows[0] + spot, *rows[1:]]))
    found = judged(detector, data / "all.csv")
    ((path, reason),) = found.skipped
    assert Path(path).relative_to(data).as_posix() == spot
    assert reason == f"marks pixels of '{data}/test/good/000.png', which is labelled good (the mask is passed over)"
    elsewhere = "marks pixels of 'test/good/000.png', which is labelled good (the mask is passed over)"
    assert found.to_dict(str(data / "all.csv"))["skipped"] == found.to_dict(str(data))["skipped"] == [[spot, elsewhere]]
    assert found.metrics == whole.metrics
    drawn = {one.sample.kind: examine(detector, one.sample).mask for one in found.scored if one.sample.mask}
    assert drawn.keys() == {"good", "defect"}
    assert drawn["good"] is None  # no outline of a true defect
    assert drawn["defect"].any()
    (data / black).write_text("no picture")
    (data / "all.csv").write_text("\n".join(["image_path,label_index,split,mask_path", *rows]))
    broken = judged(detector, data / "all.csv")
    assert broken.metrics == whole.metrics
    ((_, reason),) = broken.skipped
    assert reason.endswith("whatever its name says (the image is good without one)")


def test_a_broken_mask_is_told_and_strict_stops_at_it(detector, data):
    (data / "ground_truth" / "spot" / "001_mask.png").write_text("no picture")
    found = judged(detector, data)
    ((path, reason),) = found.skipped
    assert path.endswith("spot/001_mask.png")
    assert reason.endswith("whatever its name says (the image is scored, its pixels are not)")
    assert found.counts == {"good": 4, "anomalous": 6, "with_mask": 5, "left_out": 0}
    with pytest.raises(ImageError, match=r"001_mask.png': is not an image"):
        judged(detector, data, strict=True)


def test_broken_images_are_told_and_strict_stops_at_the_first(detector, data):
    (data / "test" / "good" / "000.png").write_bytes(b"")
    np.save(data / "test" / "good" / "five.npy", np.zeros((8, 8, 5), np.uint8))
    (data / "test" / "spot" / "folder.png").mkdir()
    found = judged(detector, data)
    told = {Path(path).name: reason for path, reason in found.skipped}
    assert set(told) == {"000.png", "five.npy", "folder.png"}
    assert told["000.png"] == "is empty (0 bytes)"
    assert found.counts["good"] == 3
    with pytest.raises(ImageError, match=r"good/000.png': is empty"):
        judged(detector, data, strict=True)
    (data / "test" / "good" / "000.png").unlink()
    with pytest.raises(ImageError, match=r"good/five.npy': expected 3 channels"):  # the file, not the array in it
        judged(detector, data, strict=True)


def test_progress_counts_every_sample(detector, tiny_data):
    seen = []
    evaluate(detector, open_dataset(tiny_data, SETTINGS), progress=seen.append)
    assert seen == list(range(1, 15))


# ---------------------------------------------------------------- what is written


def strings(value):
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in (*strings(k), *strings(v))]
    if isinstance(value, (list, tuple)):
        return [s for v in value for s in strings(v)]
    return [value] if isinstance(value, str) else []


def test_it_is_json_with_relative_paths(detector, data):
    (data / "test" / "good" / "003.png").write_bytes(b"")
    found = judged(detector, data)
    values = json.loads(json.dumps(found.to_dict(str(data)), allow_nan=False))
    assert not [text for text in strings(values) if str(data.parent) in text]
    assert values["scored"][0] == {
        "name": "test/good/000.png",
        "label": 0,
        "kind": "good",
        "score": found.scored[0].score,
        "p_value": found.scored[0].p_value,
        "is_anomalous": found.scored[0].is_anomalous,
        "brightness": round(found.scored[0].brightness, 6),
    }
    assert values["skipped"] == [["test/good/003.png", "is empty (0 bytes)"]]
    assert values["metrics"] == found.metrics
    assert Counter(one["kind"] for one in values["scored"]) == {"good": 3, "scratch": 3, "spot": 3}
    for name in ("preset", "machine", "versions", "training_seconds", "data_name", "turned"):
        assert name in values["context"]
    assert [values["context"][name] for name in ("trained_images", "held_out", "seed")] == [12, 12, 0]


def test_judge_writes_and_tells(detector, unseen, tmp_path, found):
    dataset = open_dataset(unseen, SETTINGS)
    lines = [*judge(detector, dataset, json_file=tmp_path / "new" / "e.json", report=tmp_path / "report", quiet=True)]
    values = json.loads((tmp_path / "new" / "e.json").read_text())
    assert values["metrics"] == pytest.approx(found.metrics)
    assert values["context"]["model_name"] == "model"
    assert lines[0] == "6 good, 8 anomalous (8 with a mask), 0 files to look at, 0 left out as seen in training"
    assert lines[1].split() == ["count", *METRICS]
    rows = {"all": {"count": 8, **found.metrics}, **found.kinds}
    for line, (kind, row) in zip(lines[2:5], rows.items(), strict=True):
        assert line.split() == [kind, str(row["count"]), *(f"{row[name]:.4f}" for name in METRICS)]
    assert "The 12 good images held out can promise no less than 7.69 % false alarms" in lines[5]
    caught = sum(one.is_anomalous for one in found.scored if one.sample.label)
    assert f"0 of 6 good raise a false alarm, {caught} of 8 anomalous are found" in lines[6]
    assert lines[-1] == f"report: {tmp_path / 'report' / 'index.html'}"
    assert (tmp_path / "report" / "index.html").read_text().startswith("<!doctype html>")


def test_judge_says_before_the_work_that_it_cannot_write(detector, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("normbank.judging.evaluate", lambda *_, **__: pytest.fail("the work was begun"))
    (tmp_path / "file").write_text("")
    dataset = open_dataset(tiny_data, SETTINGS)
    for target in ({"json_file": tmp_path / "file" / "x.json"}, {"json_file": tmp_path}, {"report": tmp_path / "file"}):
        with pytest.raises(BundleError, match="cannot be written"):
            list(judge(detector, dataset, quiet=True, **target))


def test_odd_names_of_kinds_stay_on_their_line(detector, data, tmp_path):
    for old, new in (("spot", "two\nlines"), ("scratch", "all")):
        (data / "test" / old).rename(data / "test" / new)
        (data / "ground_truth" / old).rename(data / "ground_truth" / new)
    lines = list(judge(detector, open_dataset(data, SETTINGS), json_file=tmp_path / "e.json", quiet=True))
    assert [line.split("  ")[0].strip() for line in lines[2:5]] == ["all", "all", r"'two\nlines'"]
    assert set(json.loads((tmp_path / "e.json").read_text())["kinds"]) == {"two\nlines", "all"}
    assert not [line for line in lines if "\n" in line]


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_masks_are_laid_as_their_images_are(tiny_model, tmp_path, monkeypatch, fit):
    made = read_bundle(tiny_model)
    image = {**made.manifest["image"], "fit": fit}
    detector = Detector(Bundle({**made.manifest, "image": image}, b"", made.graph))
    mask = np.zeros((16, 64), np.uint8)
    mask[:, 24:40] = 255  # the middle square of four
    save(tmp_path / "train" / "good" / "0.png", np.resize(weave(4), (16, 64, 3)))
    save(tmp_path / "test" / "spot" / "0.png", np.resize(weave(3), (16, 64, 3)))
    save(tmp_path / "ground_truth" / "spot" / "0_mask.png", mask)
    kept = []
    monkeypatch.setattr(evaluation, "_measure", lambda *arguments: kept.extend(arguments[2].pixels))
    dataset = open_dataset(tmp_path, SETTINGS)
    evaluate(detector, dataset)
    expected = np.ones((32, 32), bool)
    if fit == "pad":  # a quarter of the square each way
        expected[:] = False
        expected[12:20, 12:20] = True
    np.testing.assert_array_equal(kept[0][1], expected)
    np.testing.assert_array_equal(examine(detector, dataset.test[0]).mask, expected)


def test_detectors_of_before_know_their_images_by_their_files(tiny_model, tiny_data, data):
    made = read_bundle(tiny_model)
    known = {name: value for name, value in made.manifest["data"].items() if name != "seen_pixels"}
    before = Detector(Bundle({**made.manifest, "data": known}, b"", made.graph))
    shutil.copy(tiny_data / "train" / "good" / "000.png", data / "test" / "good" / "new.png")
    assert judged(before, data).counts["left_out"] == 1


def test_masks_that_cover_everything_leave_the_pixel_figures_out(detector, tmp_path):
    save(tmp_path / "train" / "good" / "0.png", weave(1))
    save(tmp_path / "test" / "spot" / "0.png", defective(1, "spot")[0])
    save(tmp_path / "ground_truth" / "spot" / "0_mask.png", np.full((48, 48), 255, np.uint8))
    found = judged(detector, tmp_path)
    assert found.metrics["AUPRO"] is None
    assert "1024 defective of 1024" in found.reasons["AUPRO"]


@pytest.mark.parametrize("inverted", [1, 6])
def test_masks_that_show_what_is_good_are_asked_about(detector, data, inverted):
    assert judged(detector, data).context["mask_note"] is None
    paths = sorted((data / "ground_truth").rglob("*.png"))[:inverted]
    for path in paths:
        with Image.open(path) as mask:
            other = 255 - np.asarray(mask)
        save(path, other)
    told = judged(detector, data).context["mask_note"]
    assert told == (
        f"{inverted} of 6 masks mark more than 80% of their images (first {str(paths[0].relative_to(data))!r}): what "
        "is not black counts as defective. Where they show what is good instead, the pixel metrics mean nothing: "
        "invert those"
    )
    assert told in list(judge(detector, open_dataset(data, SETTINGS), quiet=True))


def test_brightness_is_a_share_of_white_at_16_bits_too():
    image = np.full((4, 4, 1), 32768, np.uint16)
    verdict = Prediction(1.0, None, None, None, np.zeros((4, 4), np.float32))
    fake, found = SimpleNamespace(judge=lambda _: [verdict], spec=ImageSpec(4, 1, 16)), evaluation._Gathered(False)
    evaluation._score(fake, [(Sample("a", 0, "good"), image)], found, False)
    assert found.scored[0].brightness == pytest.approx(0.5, abs=1e-4)
