"""`python -m bench run --refill`: another bank around a network that is kept."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tiny import tiny_config

from normbank import fitting, remembering
from normbank.bundle import read_bundle, write_bundle
from normbank.data.open import open_dataset
from normbank.errors import BundleError
from normbank.identity import OtherRunError

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import one, paper, runs  # noqa: E402
from bench.refilling import refill  # noqa: E402


def as_of_another_time_and_machine(model: Path) -> None:
    """As if a version had made it whose bank had another tensor, on seven threads."""
    bundle = read_bundle(model)
    bundle.manifest["threads"] = 7
    weights = safetensors.torch.load(bundle.weights)
    weights["bank.places.weight"] = torch.ones(3)
    write_bundle(model, replace(bundle, weights=safetensors.torch.save(weights)))


@pytest.mark.slow
def test_a_bank_is_filled_again_without_training(tiny_data, tmp_path):
    (tmp_path / "data" / "mvtec_ad").mkdir(parents=True)
    (tmp_path / "data" / "mvtec_ad" / "bottle").symlink_to(tiny_data)
    places = [tmp_path / name for name in ("data", "work", "results")]
    (cell,) = [c for c in paper.cells("own", ["bottle"], [0]) if c.row == "fast"]
    job = {"training": runs.identity(cell, "tiny").to_dict(), "scores": [{}], "device": "cpu"}

    def run_it(**more):
        one.run({**job, **more}, *places)
        (model,) = places[1].rglob("model.nbk")
        (stored,) = runs.read_cells(places[2]).values()
        return model, read_bundle(model), stored.values

    model, first, values = run_it()
    assert "network_commit" not in values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "optimise", lambda *a, **k: pytest.fail("trained again"))
        as_of_another_time_and_machine(model)
        with pytest.MonkeyPatch.context() as other_rules:
            other_rules.setattr(remembering, "LEAST", 100.0)
            _, other, weaker = run_it(refill=True)
        _, again, same = run_it(refill=True)
    assert other.graph != first.graph
    assert max(weaker["scores"]["spot"]) < 0.1 * max(values["scores"]["spot"])
    assert (again.graph, again.weights) == (first.graph, first.weights)
    assert same["scores"] == values["scores"]
    assert (values["threads"] != 7, same["threads"]) == (True, 7)
    assert same["network_commit"] == values["context"]["commit"]
    assert same["seconds_per_training_step"] == values["seconds_per_training_step"]


@pytest.fixture
def trained_before(tiny_model, tmp_path):
    """A folder of a finished training, and what it took."""
    shutil.copytree(tiny_model.parent, tmp_path / "work")
    (tmp_path / "work" / "cost.json").write_text(json.dumps({"peak_memory_bytes": 1, "network_commit": "old"}))
    return tmp_path / "work"


def noted(out: Path) -> dict[str, object] | None:
    return json.loads((out / "cost.json").read_bytes()) if (out / "cost.json").exists() else None


def test_what_a_replaced_model_took_is_not_told_of_the_one_that_replaces_it(trained_before, tiny_data, monkeypatch):
    def fit(config, dataset, out, resume):
        assert resume
        shutil.copy(finished, out / "run.json")

    config = tiny_config()
    finished = trained_before.parent / "run.json"
    (trained_before / "run.json").rename(finished)
    (trained_before / "run.json").write_bytes(fitting.UNFINISHED)  # it ended before its first checkpoint
    monkeypatch.setattr(fitting, "fit", fit)
    _, cost = one.train(config, open_dataset(tiny_data, config.data), trained_before, again=True)
    assert "network_commit" not in cost
    assert cost["peak_memory_bytes"] > 2**20
    assert one.train(config, open_dataset(tiny_data, config.data), trained_before)[1] == cost


def test_what_a_model_took_is_forgotten_before_it_is_replaced(trained_before, tiny_data, monkeypatch):
    def fit(config, dataset, out, *, resume=False, overwrite=False):
        if overwrite:
            assert noted(out) is None
            raise KeyboardInterrupt
        assert noted(out) is not None
        raise OtherRunError("other images")

    config = tiny_config()
    monkeypatch.setattr(fitting, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        one.train(config, open_dataset(tiny_data, config.data), trained_before)


def test_the_commit_of_a_network_is_noted_before_its_bank_is_filled_again(trained_before, tiny_data, monkeypatch):
    def refill(config, dataset, out):
        assert noted(out)["network_commit"] == read_bundle(out / "model.nbk").manifest["commit"]
        raise KeyboardInterrupt

    config = tiny_config(**{"model.bank": 100, "score.parts": ["bank"]})
    (trained_before / "cost.json").unlink()
    monkeypatch.setattr(fitting, "fit", lambda *a, **k: None)
    monkeypatch.setattr(one, "refill", refill)
    with pytest.raises(KeyboardInterrupt):
        one.train(config, open_dataset(tiny_data, config.data), trained_before, again=True)


@pytest.mark.parametrize("laid", ["turned", "moved"])
def test_a_network_that_saw_its_images_laid_otherwise_is_not_refilled(laid, tiny_data, tiny_model, tmp_path):
    bundle = read_bundle(tiny_model)
    bundle.manifest[laid] = True
    write_bundle(tmp_path / "model.nbk", bundle)
    (tmp_path / "run.json").write_bytes((tiny_model.parent / "run.json").read_bytes())
    config = tiny_config()
    with pytest.raises(BundleError, match=rf"saw these images {laid} otherwise\. Train it again"):
        refill(config, open_dataset(tiny_data, config.data), tmp_path)
