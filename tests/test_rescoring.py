"""The same weights with another score: against computations on what the first detector answers, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from reference import maps as slow
from tiny import defective, weave

from normbank import rescoring
from normbank.bundle import Bundle, read_bundle, write_bundle
from normbank.config import from_dict
from normbank.decoding import Pixels
from normbank.detector import Detector, load
from normbank.errors import BundleError, ConfigError
from normbank.export import weights_of
from normbank.images import ImageSpec
from normbank.model.network import build
from normbank.rescoring import rescore

OTHER = {"score.parts": ("squared", "colour", "memory"), "score.weights": (4.0, 1.0, 0.1), "score.delta_h": 0.3,
         "score.smooth": 3, "score.pool": "top", "score.top_share": 0.02}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_model: Path) -> Bundle:
    return read_bundle(tiny_model)


@pytest.fixture(scope="module")
def plain(trained: Bundle) -> Bundle:
    """Without the histogram step."""
    return rescore(trained, {"score.delta_h": 0})


@pytest.fixture(scope="module")
def other(trained: Bundle) -> Bundle:
    return rescore(trained, OTHER)


@pytest.fixture(scope="module")
def names(trained: Bundle) -> list[str]:
    """What the weights are called."""
    return [*build(from_dict(trained.manifest["settings"]), 3).state_dict()]


def pixels() -> Pixels:
    """Woven images and a defective one, as the model takes them."""
    return np.stack([weave(70, 32), weave(71, 32), defective(72, "spot", 48)[0][:32, :32]])


def test_the_weights_are_the_same_and_the_reconstructions_too(
    trained: Bundle, names: list[str], plain: Bundle, other: Bundle
) -> None:
    before = weights_of(trained, names)
    wanted = Detector(trained, threads=1).run(pixels()).reconstructions
    for bundle in (plain, other):
        after = weights_of(bundle, names)
        assert before.keys() == after.keys()
        assert all(before[name].equal(after[name]) for name in before)
        np.testing.assert_allclose(Detector(bundle, threads=1).run(pixels()).reconstructions, wanted, atol=1e-5)


def test_without_the_histogram_step_the_score_is_the_sum_of_the_errors(trained: Bundle, plain: Bundle) -> None:
    before, found = (Detector(bundle, threads=1).run(pixels()) for bundle in (trained, plain))
    errors = np.abs(pixels() / 255 - before.reconstructions).mean(axis=-1)
    np.testing.assert_allclose(found.anomaly_maps, errors, atol=1e-5)
    np.testing.assert_allclose(found.scores, errors.sum(axis=(1, 2)), rtol=1e-4)
    assert (found.scores > before.scores).all()  # there mu was subtracted


def test_another_map_and_pooling_equal_the_loops(trained: Bundle, other: Bundle) -> None:
    before, found = (Detector(bundle, threads=1).run(pixels()) for bundle in (trained, other))
    import torch

    from normbank.model.parts import View, memory_distance

    network = build(from_dict(trained.manifest["settings"]), 3).eval()
    network.load_state_dict(weights_of(trained, network.state_dict()))
    with torch.no_grad():
        x = torch.from_numpy(pixels()).permute(0, 3, 1, 2) / 255
        distances = memory_distance(View(x, x, network(x), network, x))
    for image in range(3):
        pair = (pixels()[image] / 255, before.reconstructions[image])
        seen, answer = (torch.from_numpy(np.moveaxis(one, -1, 0)) for one in pair)
        maps = 4 * np.array(slow.squared(seen, answer)) + np.array(slow.colour(seen, answer))
        maps += 0.1 * distances[image, 0].numpy()
        expected, score = slow.finished(maps.tolist(), from_dict(other.manifest["settings"]).score)
        np.testing.assert_allclose(found.anomaly_maps[image], expected, atol=1e-4)
        assert found.scores[image] == pytest.approx(score, rel=1e-3)


def test_the_manifest_tells_the_new_score_and_no_threshold(trained: Bundle, other: Bundle, tmp_path: Path) -> None:
    before, after = from_dict(trained.manifest["settings"]), from_dict(other.manifest["settings"])
    assert after == before.model_copy(update={"score": after.score})
    assert (after.score.parts, after.score.weights) == (OTHER["score.parts"], OTHER["score.weights"])
    assert other.manifest["calibration"]["scores"] == []
    assert other.manifest["calibration"]["threshold"] is None
    kept = {name: value for name, value in trained.manifest.items() if name not in ("settings", "calibration")}
    assert {name: other.manifest[name] for name in kept} == kept
    assert trained.manifest["calibration"]["threshold"] is not None  # the one it was made from stays as it is
    assert from_dict(trained.manifest["settings"]) == before
    write_bundle(tmp_path / "other.nbk", other)
    verdict = load(tmp_path / "other.nbk", threads=1).predict(weave(3))
    assert (verdict.threshold, verdict.is_anomalous, verdict.p_value) == (None, None, None)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"train.steps": 5}, r"train\.steps: expected a setting of the score, since nothing is trained again\. Leave it"),
    ({"score.delta_h": 0, "model.memory": "none"}, r"model\.memory: expected a setting of the score"),
    ({"data.size": 64}, r"data\.size: expected a setting of the score"),
    ({"delta_h": 0}, r"delta_h: expected a setting of the score"),
    ({"score.delta": 0}, r"unknown setting 'score\.delta': the nearest there is is 'score\.delta_h'"),
    ({"score.delta_h": 1}, r"score\.delta_h: Input should be less than 1, got 1"),
    ({"score.parts": ("squared", "ssim")}, r"score\.weights: expected 2 numbers of 0 or more \(score\.parts\), got"),
    ({"score.parts": ("head",)}, r"score\.parts: expected model\.head_width above 0 for the part 'head', got 0"),
    ({"score.parts": ("latent",)}, r"score\.parts: expected model\.critic_width above 0 for the part 'latent', got 0"),
    ({"score.smooth": 33}, r"score\.smooth: expected at most data\.size \(32\), got 33"),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_no_score_of_this_model_is_refused_by_name(
    trained: Bundle, overrides: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescoring, "make_bundle", None)  # before any work is done
    with pytest.raises(ConfigError, match=words):
        rescore(trained, overrides)


def test_weights_of_another_version_are_told_as_such(trained: Bundle, names: list[str]) -> None:
    older = {name.removeprefix("autoencoder."): v for name, v in weights_of(trained, names).items()}
    bundle = Bundle(trained.manifest, safetensors.torch.save(older), trained.graph)
    with pytest.raises(BundleError, match=r"made by another version of normbank\. Train it again"):
        rescore(bundle, {"score.delta_h": 0})


@pytest.mark.parametrize(("size", "channels", "bits"), [(32, 3, 8), (20, 1, 16), (8, 5, 8)])
def test_the_probe_is_of_the_model_s_shape_and_full_range(size: int, channels: int, bits: Any) -> None:
    spec = ImageSpec(size, channels, bits, "stretch")
    probe = rescoring._probe(spec)
    assert probe.shape == (16, size, size, channels)
    assert probe.dtype == spec.dtype
    assert np.ptp(probe) > 0.9 * np.iinfo(spec.dtype).max
    assert np.array_equal(probe, rescoring._probe(spec))


def test_the_false_alarm_rate_is_the_one_asked_for(trained: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescoring, "make_bundle", lambda *parts: Bundle(parts[3], b"", b""))  # no graph is looked at
    made = rescore(trained, {"score.false_alarm_rate": 0.2})
    assert made.manifest["calibration"]["false_alarm_rate"] == 0.2
