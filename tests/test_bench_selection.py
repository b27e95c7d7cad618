"""The selection set, and the change of light: what cells are judged on beside the test set."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tiny import weave

from normbank.bundle import read_bundle
from normbank.data.open import open_dataset
from normbank.data.splits import contents_of
from normbank.defects import KINDS, VISIBLE
from normbank.detector import Outputs, load
from normbank.errors import DataError

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import measures, one, paper, runs, selection  # noqa: E402
from bench.text import percent  # noqa: E402


def good(count, side=32):
    return np.stack([weave(seed, side) for seed in range(count)])


def by_pairs(scores, labels):
    """The share of pairs of a bad and a good image that are in order, a tie counting one half."""
    bad, fine = ([s for s, label in zip(scores, labels, strict=True) if label == wanted] for wanted in (1, 0))
    return np.mean([(b > f) + (b == f) / 2 for b in bad for f in fine])


class Knowing:
    """A detector that knows the good images by heart: its map is what differs from the nearest."""

    def __init__(self, pixels, sees=True):
        self.known, self.sees = pixels.astype(np.int64), sees

    def run(self, pixels):
        maps = np.stack([self._map(image.astype(np.int64)) for image in pixels]).astype(np.float32) * self.sees
        return Outputs(maps.max(axis=(1, 2)), maps, pixels)

    def _map(self, image):
        apart = np.abs(self.known - image).max(axis=-1)
        nearest = apart[apart.mean(axis=(1, 2)).argmin()]
        return nearest * (nearest > int(VISIBLE * 255))


@pytest.mark.parametrize(("images", "versions"), [(1, 60), (7, 9), (20, 3), (25, 3)])
def test_three_versions_of_each_image_and_sixty_at_least(images, versions):
    pixels = good(images, side=16)
    made = selection.make(pixels)
    assert len(made) == images * versions
    assert len(made) >= 60
    whole = np.array([one.pixels for one in made])
    assert len(np.unique(whole, axis=0)) == len(made)
    differ = np.abs(whole.astype(int) - np.repeat(pixels, versions, axis=0)).max(axis=-1) > int(VISIBLE * 255)
    assert (differ == [one.mask for one in made]).all()


def test_the_set_is_the_same_each_time():
    pixels = good(3)
    for first, second in zip(selection.make(pixels), selection.make(pixels.copy()), strict=True):
        assert first.kind == second.kind
        assert (first.pixels == second.pixels).all()


def test_a_detector_that_knows_and_one_that_sees_nothing():
    pixels = good(5)
    found = selection.measured(Knowing(pixels), pixels)
    assert [found[name] for name in selection.METRICS] == [1, 1, 1]
    assert (found["good"], found["defective"], found["seed"]) == (5, 60, 10_007)
    assert sum(kind["count"] for kind in found["kinds"].values()) == 60
    assert list(found["kinds"]) == [kind for kind in KINDS if kind in found["kinds"]]
    assert all(kind["image_AUROC"] == 1 for kind in found["kinds"].values())
    blind = selection.measured(Knowing(pixels, sees=False), pixels)
    assert (blind["image_AUROC"], blind["pixel_AUROC"]) == (0.5, 0.5)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.fixture(scope="module")
def detector(tiny_model):
    return load(tiny_model, threads=1)


def test_a_trained_detector_is_judged_on_what_it_held_out(detector, tiny_data):
    dataset = open_dataset(tiny_data)
    pixels = selection.held_out(detector, dataset)
    names = detector.manifest["data"]["held_out"]
    held = [detector.predict(str(tiny_data / name)).score for name in names]
    assert [float(detector.run(image[None]).scores[0]) for image in pixels] == pytest.approx(held)
    made = selection.make(pixels)
    bad = [detector.predict(one.pixels).score for one in made]
    found = selection.select(detector, dataset)
    labels = [0] * len(held) + [1] * len(bad)
    assert found["image_AUROC"] == pytest.approx(by_pairs(held + bad, labels))
    (kind, values), *_ = found["kinds"].items()
    of_kind = [score for score, one in zip(bad, made, strict=True) if one.kind == kind]
    assert values["count"] == len(of_kind)
    assert values["image_AUROC"] == pytest.approx(by_pairs(held + of_kind, [0] * len(held) + [1] * len(of_kind)))
    maps = np.concatenate([detector.run(pixels).anomaly_maps, detector.run(np.array([m.pixels for m in made]))[1]])
    masks = np.concatenate([np.zeros(pixels.shape[:3], bool), [m.mask for m in made]])
    assert found["pixel_AUROC"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-6)


def test_without_held_out_images_there_is_no_selection():
    manifest = {"data": {"held_out": []}}
    assert selection.select(SimpleNamespace(manifest=manifest), None) is None


def test_held_out_images_that_are_gone_or_others_are_told(detector, tiny_data, tmp_path):
    name = detector.manifest["data"]["held_out"][0]
    root = shutil.copytree(tiny_data, tmp_path / "copy")
    train = sorted((root / "train" / "good").iterdir())
    assert len(selection.held_out(detector, open_dataset(root))) == len(detector.manifest["data"]["held_out"])
    shutil.copy(root / "test" / "spot" / "000.png", root / name)
    told = rf"copy': expected the image that was held out \(.*{Path(name).name}\), got one of other content\. Give the"
    with pytest.raises(DataError, match=told):
        selection.held_out(detector, open_dataset(root))
    (root / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=Path(name).name):
        selection.held_out(detector, open_dataset(root))
    (root / name).unlink()
    assert len(train) == 24
    with pytest.raises(DataError, match="got no such good image"):
        selection.held_out(detector, open_dataset(root))


def test_the_command_judges_with_the_score_that_is_asked_for(detector, tiny_model, tiny_data, monkeypatch, capsys):
    from normbank import rescoring

    assert selection.main([str(tiny_model), str(tiny_data)]) == 0
    first, header, whole, *kinds = capsys.readouterr().out.splitlines()
    found = selection.select(detector, open_dataset(tiny_data))
    assert first == f"{found['good']} held-out good images, {found['defective']} made defects on them (seed 10007)"
    assert header.split() == ["count", *selection.METRICS]
    assert whole.split() == ["all", str(found["defective"]), *(percent(found[name]) for name in selection.METRICS)]
    assert [line.split()[0] for line in kinds] == list(found["kinds"])
    asked = []
    monkeypatch.setattr(rescoring, "rescore", lambda bundle, score: asked.append(score) or bundle)
    assert selection.main([str(tiny_model), str(tiny_data), "--set", "score.smooth=7", "score.pool=max"]) == 0
    assert asked == [{"score.smooth": "7", "score.pool": "max"}]


def test_mistakes_of_the_command_end_with_2(tiny_model, tmp_path, monkeypatch, capsys):
    assert selection.main([str(tmp_path / "gone.nbk"), str(tmp_path)]) == 2
    assert "bench.selection: " in capsys.readouterr().err
    monkeypatch.setattr(selection, "select", lambda *given: None)
    monkeypatch.setattr(selection, "open_dataset", lambda *given: None)
    assert selection.main([str(tiny_model), str(tmp_path)]) == 2
    assert "expected held-out good images, got none. Train with data.held_out above 0." in capsys.readouterr().err


def test_under_a_change_of_light_by_hand(detector, tiny_data):
    dataset = open_dataset(tiny_data)
    pixels = np.stack([measures.images.load(sample.path, detector.spec) for sample in dataset.test])
    draws = np.random.default_rng(0).uniform(-0.05, 0.05, len(pixels)) * 255
    moved = [np.clip(np.rint(image + draw), 0, 255).astype(np.uint8) for image, draw in zip(pixels, draws, strict=True)]
    labels = [sample.label for sample in dataset.test]
    found = measures.under_shift(detector, dataset, ("image_AUROC", "pixel_AUROC"))
    scores = [detector.predict(image).score for image in moved]
    assert found["image_AUROC_shifted"] == pytest.approx(by_pairs(scores, labels))
    maps = np.stack([detector.predict(image).anomaly_map for image in moved])
    masks = np.stack([measures.mask_of(sample, detector.spec) for sample in dataset.test])
    assert found["pixel_AUROC_shifted"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-6)
    assert list(found) == ["image_AUROC_shifted", "pixel_AUROC_shifted"]


def test_images_seen_in_training_are_left_out(tiny_data):
    loaded = measures.load_all(open_dataset(tiny_data).test, measures.ImageSpec(16, 3, 8), measures.open_cache())
    kept = measures.without(loaded, [digest[:16] for digest in loaded.digests[:3]])
    assert kept.samples == loaded.samples[3:]
    assert (kept.pixels == loaded.pixels[3:]).all()
    assert measures.without(loaded, []).samples == loaded.samples
    contents = [content[:16] for content in contents_of(loaded.pixels[:3])]
    assert measures.without(loaded, contents).samples == kept.samples


def test_a_stored_cell_holds_both(tiny_model, tiny_data, tmp_path):
    (cell,) = [cell for cell in paper.cells("ablation", ["bottle"], [0]) if cell.row == paper.ablation.ROW_OF_THE_PAPER]
    own = runs.identity(cell, "tiny")
    path = tmp_path / f"{own.slug}.json"
    cost = {"peak_memory_bytes": None, "model_bytes": 1}
    one.store(path, own, read_bundle(tiny_model), cost, open_dataset(tiny_data))
    (stored,) = runs.read_cells(tmp_path).values()
    chosen = stored.values["selection"]
    assert chosen["good"] == len(read_bundle(tiny_model).manifest["data"]["held_out"])
    assert stored.metrics["selection_AUPRO"] == chosen["AUPRO"] is not None
    assert 0 <= stored.metrics["image_AUROC_shifted"] <= 1
    assert 0 <= stored.metrics["pixel_AUROC_shifted"] <= 1
    assert '\n "selection": {' in path.read_text(encoding="utf-8")
