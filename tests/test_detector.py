"""Using a trained detector: what it takes, what it gives, and what it does without."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from reference import similarity
from tiny import defective, save, tiny_config, weave, without_parts

import normbank
from normbank import images
from normbank.bundle import Bundle, read_bundle, write_bundle
from normbank.calibration import Calibration
from normbank.detector import Detector, Prediction
from normbank.errors import BundleError, ConfigError, ImageError
from normbank.export import DetectorGraph, to_onnx
from normbank.model.network import build

HEAVY = {"torch", "lightning", "onnx", "safetensors", "pydantic", "scipy", "matplotlib", "jinja2", "typer", "rich"}


@pytest.fixture(scope="module")
def detector(tiny_model):
    return normbank.load(tiny_model)


@pytest.fixture(scope="module")
def parts(tiny_model):
    return read_bundle(tiny_model)


@pytest.fixture(scope="module")
def woven():
    """Eight images as the model takes them, the last two defective."""
    arrays = [weave(n) for n in range(6)] + [defective(7, "spot")[0], defective(8, "scratch")[0]]
    return [images.load(array, images.ImageSpec(32, 3, 8)) for array in arrays]


def same(one: Prediction, other: Prediction) -> bool:
    plain = dataclasses.astuple(one)[:4] == dataclasses.astuple(other)[:4]
    return plain and np.array_equal(one.anomaly_map, other.anomaly_map)


# ---------------------------------------------------------------- what it does without

USE = """
import sys, time
start = time.perf_counter()
import normbank
from normbank.detector import load
took = time.perf_counter() - start
found = normbank.load(sys.argv[1]).predict(sys.argv[2])
import json
print(json.dumps([took, found.score, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_scoring_needs_numpy_pillow_and_onnx_runtime_only(tiny_model, tiny_data, detector):
    image = tiny_data / "test" / "spot" / "000.png"
    run = subprocess.run([sys.executable, "-c", USE, tiny_model, image], capture_output=True, text=True, check=True)
    took, score, modules = json.loads(run.stdout)
    assert run.stderr == ""
    assert HEAVY.isdisjoint(modules), HEAVY & set(modules)
    assert took < 1
    assert score == pytest.approx(detector.predict(image).score, rel=1e-6)


def test_the_package_itself_is_imported_in_a_moment():
    code = "import sys, normbank; print(sorted({'numpy', 'PIL', 'onnxruntime'} & {*sys.modules}), normbank.__version__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"[] {normbank.__version__}\n"
    assert normbank.Detector is Detector
    with pytest.raises(AttributeError, match="module 'normbank' has no attribute 'train'"):
        normbank.train  # noqa: B018


# ---------------------------------------------------------------- what it takes


def test_a_path_as_text_a_path_an_array_and_a_list_are_the_same(detector, tmp_path):
    path = save(tmp_path / "a.png", weave(70))
    found = [detector.predict(str(path)), detector.predict(path), detector.predict(weave(70))]
    found += detector.predict([str(path), path, weave(70)])
    assert len(found) == 6
    assert all(same(one, found[0]) for one in found)
    assert detector.predict([]) == []


@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 1), (48, 48, 3), (1, 1, 3), (200, 31, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_colour_deep_and_odd_sizes(detector, shape, dtype):
    image = np.resize(weave(71), shape).astype(dtype) * (257 if dtype is np.uint16 else 1)
    found = detector.predict(image)
    assert found.anomaly_map.shape == (32, 32)
    assert same(found, detector.predict(images.load(image, detector.spec)))


def test_grey_is_the_same_as_grey_in_three_channels(detector):
    grey = weave(72)[..., 0]
    assert same(detector.predict(grey), detector.predict(np.dstack([grey] * 3)))
    fits = grey[:32, :32]  # resizing rounds 8 and 16 bits differently
    assert same(detector.predict(fits), detector.predict(fits.astype(np.uint16) * 257))


def test_the_callers_array_is_left_alone(detector):
    image = weave(73)
    before = image.copy()
    detector.predict(image)
    assert np.array_equal(image, before)


BAD = {
    "float": (np.zeros((8, 8, 3), np.float32), r"'array': expected uint8 or uint16 values, got float32"),
    "channels": (np.zeros((8, 8, 4), np.uint8), r"'array': expected 3 channels, as the model was made for, got 4"),
    "axes": (np.zeros((2, 8, 8, 3), np.uint8), r"'array': expected an image H x W or H x W x C, got shape"),
    "empty": (np.zeros((0, 8, 3), np.uint8), r"'array': expected an image"),
    "gone": ("gone.png", r"'gone.png': cannot be read: No such file or directory"),
    "nul": ("a\0.png", r"cannot be read: embedded null byte"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(detector, name):
    source, message = BAD[name]
    with pytest.raises(ImageError, match=message):
        detector.predict(source)


def test_the_first_of_a_list_that_cannot_be_used_is_named(detector):
    with pytest.raises(ImageError, match=r"'array 1': expected uint8"):
        detector.predict([weave(1), weave(2) / 255, "gone.png"])
    with pytest.raises(ImageError, match=r"'gone.png': cannot be read"):
        detector.predict([weave(1), "gone.png", weave(2) / 255])


def test_something_else_altogether_is_named_by_its_type(detector):
    with pytest.raises(ImageError, match=r"'Image': expected a path or an array H x W x C"):
        detector.predict([Image.fromarray(weave(1))])
    (found,) = detector.stream([None])
    assert isinstance(found, ImageError)
    assert found.path == "NoneType"


# ---------------------------------------------------------------- what it gives


def test_a_generator_is_for_stream_and_a_pillow_image_no_array(detector):
    for source, kind in ((iter([weave(1)]), "list_iterator"), (Image.fromarray(weave(1)), "Image")):
        with pytest.raises(ImageError, match=rf"'{kind}': expected a path or an array"):
            detector.predict(source)


@pytest.mark.parametrize(
    ("spoil", "came"),
    [
        (lambda batch: batch[0], r"shape \(32, 32, 3\) of uint8"),
        (lambda batch: batch[:0], r"shape \(0, 32, 32, 3\) of uint8"),
        (lambda batch: batch[:, :16], r"shape \(8, 16, 32, 3\) of uint8"),
        (lambda batch: batch[..., :1], r"shape \(8, 32, 32, 1\) of uint8"),
        (lambda batch: batch / 255, r"shape \(8, 32, 32, 3\) of float64"),
    ],
)
@pytest.mark.parametrize("use", ["judge", "run", "parts"])
def test_what_is_no_batch_of_the_models_is_named(detector, woven, use, spoil, came):
    told = rf"^'array': expected a batch of one or more, N, 32, 32, 3, of uint8, got {came}; `images\.load` makes"
    with pytest.raises(ImageError, match=told):
        getattr(detector, use)(spoil(np.stack(woven)))


def test_one_map_that_is_kept_keeps_no_batch(detector):
    found = detector.predict([weave(1), weave(2)])
    assert all(one.anomaly_map.base is None for one in found)


def test_errors_cross_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(ImageError("a.png", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.png", "is empty", "'a.png': is empty")


def test_a_detector_crosses_from_one_process_to_another(tiny_model, woven):
    lenient = normbank.load(tiny_model, 1, false_alarm_rate=0.5)
    other = pickle.loads(pickle.dumps(lenient))
    assert other.calibration == lenient.calibration
    assert other.manifest == lenient.manifest
    assert all(map(same, other.predict(woven), lenient.predict(woven)))


def test_predictions_can_be_compared_and_kept_in_sets(detector):
    one, other = detector.predict([weave(1), weave(1)])
    assert one in [other, one]
    assert len({one, other}) == 2


def test_a_prediction_holds_raw_numbers(detector):
    found = detector.predict(defective(5, "spot")[0])
    assert [field.name for field in dataclasses.fields(found)] == [
        "score", "threshold", "p_value", "is_anomalous", "anomaly_map"
    ]  # fmt: skip
    assert type(found.score) is float
    assert found.anomaly_map.dtype == np.float32
    assert found.anomaly_map.shape == (32, 32)
    assert (found.anomaly_map >= 0).all()
    assert found.score == pytest.approx(float(found.anomaly_map.sum(dtype=np.float64)), rel=1e-5)  # section III-C
    assert found.score > 1  # no sigmoid, no clamp
    assert found.is_anomalous is True
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.score = 0.0  # type: ignore[misc]


def test_the_graph_gives_score_map_and_reconstruction(detector, woven):
    outputs = detector.run(np.stack(woven))
    assert outputs.scores.shape == (8,)
    assert outputs.anomaly_maps.shape == (8, 32, 32)
    assert outputs.reconstructions.shape == (8, 32, 32, 3)
    errors = np.abs(np.stack(woven) / 255 - outputs.reconstructions).mean(axis=3)  # Eq. 1
    for number, error in enumerate(errors):
        half = np.sort(error.ravel())[: 32 * 32 // 2]  # delta_h = 0.5
        corrected = np.where(error > half.mean(), error - half.mean(), 0)  # Eq. 6
        assert np.allclose(outputs.anomaly_maps[number], corrected, rtol=0, atol=1e-5)
        assert outputs.scores[number] == pytest.approx(corrected.sum(), rel=1e-4)


def test_verdicts_are_those_of_the_calibration(detector, parts, woven):
    known = Calibration.from_dict(parts.manifest["calibration"])
    assert len(known.scores) == 12
    for found in detector.predict(woven):
        at_least = sum(score >= found.score for score in known.scores)
        assert found.p_value == (1 + at_least) / 13
        assert found.threshold == known.threshold == max(known.scores)
        assert found.is_anomalous == (found.score > max(known.scores))
        assert found.is_anomalous == (found.p_value <= known.promised_rate)


def test_held_out_images_score_what_the_calibration_holds(detector, parts, tiny_data):
    names = parts.manifest["data"]["held_out"]
    found = sorted(detector.predict(tiny_data / name).score for name in names)
    assert found == pytest.approx(parts.manifest["calibration"]["scores"], rel=1e-6)


def test_without_held_out_images_there_is_no_verdict(parts):
    bare = Calibration((), 0.01).to_dict()
    found = Detector(Bundle({**parts.manifest, "calibration": bare}, b"", parts.graph)).predict(weave(1))
    assert (found.threshold, found.p_value, found.is_anomalous) == (None, None, None)
    assert found.score > 0


def test_another_false_alarm_rate_needs_no_training(tiny_model, detector, parts, woven):
    scores = sorted(parts.manifest["calibration"]["scores"])
    lenient = normbank.load(tiny_model, false_alarm_rate=0.5)
    assert lenient.calibration.threshold == scores[-6]  # of 13, the new image among them, 6 are at most half
    assert lenient.calibration.promised_rate == 6 / 13
    assert lenient.manifest["calibration"] == lenient.calibration.to_dict()
    assert {**lenient.manifest, "calibration": None} == {**detector.manifest, "calibration": None}
    for one, other in zip(lenient.predict(woven), detector.predict(woven), strict=True):
        assert (one.score, one.p_value) == (other.score, other.p_value)
        assert one.threshold == scores[-6]
        assert one.is_anomalous == (one.score > scores[-6]) == (one.p_value <= 6 / 13)
    assert normbank.load(tiny_model).calibration == detector.calibration


def test_another_false_alarm_rate_needs_held_out_images(parts, tmp_path):
    bare = {**parts.manifest, "calibration": Calibration((), 0.01).to_dict()}
    write_bundle(tmp_path / "bare.nbk", Bundle(bare, parts.weights, parts.graph))
    told = r"bare\.nbk': false_alarm_rate: expected held-out good images, got none\. Train it again with data\.held_out"
    with pytest.raises(BundleError, match=told):
        normbank.load(tmp_path / "bare.nbk", false_alarm_rate=0.5)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("image", None, "image in its manifest: expected dict, got None"),
        ("calibration", None, "calibration in its manifest: expected dict, got None"),
        ("settings", None, "settings in its manifest: expected dict, got None. The file was changed, or made"),
        ("versions", "oops", "versions in its manifest: expected dict, got 'oops'"),
        ("map_scale", None, "map_scale in its manifest: expected int or float, got None"),
        ("data.seen", None, "data.seen in its manifest: expected list, got None"),
        ("created", None, "created in its manifest: expected str, got None"),
        ("commit", 7, "commit in its manifest: expected str or NoneType, got 7"),
        ("training_seconds", "x", "training_seconds in its manifest: expected int or float, got 'x'"),
        ("data.fingerprint", None, "data.fingerprint in its manifest: expected str, got None"),
        ("settings.preset", 1, "settings.preset in its manifest: expected str or NoneType, got 1"),
        ("image.bits", 12, r"image.bits in its manifest: expected one of \(8, 16\), got 12"),
        ("image.fit", "blah", "image.fit in its manifest: expected one of .*, got 'blah'"),
        ("image.size", 64, r"its graph takes tensor\(uint8\) .* not what its manifest says of images: .*size=64"),
        ("image.bits", 16, "its graph takes .* which is not what its manifest says of images"),
        ("image.channels", 1, "its graph takes .* which is not what its manifest says of images"),
        ("calibration.scores", "x", "calibration: expected a list of numbers"),
        ("calibration.false_alarm_rate", 7.0, "false_alarm_rate: expected a rate between 0 and 1, got 7.0"),
    ],
)
def test_a_manifest_that_is_not_ours_is_named_with_its_file(parts, tmp_path, name, value, told):
    manifest = json.loads(json.dumps(parts.manifest))
    *groups, last = name.split(".")
    holder = manifest[groups[0]] if groups else manifest
    holder[last] = value
    write_bundle(tmp_path / "odd.nbk", Bundle(manifest, parts.weights, parts.graph))
    with pytest.raises(BundleError, match=rf"odd\.nbk': {told}"):
        normbank.load(tmp_path / "odd.nbk")


# ---------------------------------------------------------------- what its map is made of

HEADED = {
    "score__parts": ("head", "absolute", "gradient"),
    "score__weights": (0.5, 2.0, 3.0),
    "score__delta_h": 0.0,
    "score__smooth": 1,
    "model__head_width": 2,
    "train__corrupt": 0.5,
}


def untrained(**changes):
    """A network with a head and its graph in PyTorch; the same weights each time."""
    config, spec = tiny_config(**{**HEADED, **changes}), images.ImageSpec(32, 3, 8)
    torch.manual_seed(3)
    network = build(config, 3).eval()
    return config, network, DetectorGraph(network, config, spec).eval(), spec


@pytest.fixture(scope="module")
def threefold():
    config, _, graph, spec = untrained()
    manifest = {
        "settings": config.model_dump(mode="json"),
        "image": {"size": 32, "channels": 3, "bits": 8, "fit": "stretch"},
        "calibration": Calibration((), 0.01).to_dict(),
    }
    return Detector(Bundle(manifest, b"", to_onnx(graph, spec)))


def test_the_parts_add_up_to_the_map(threefold, woven):
    pixels = np.stack(woven)
    parts = threefold.parts(pixels)
    assert list(parts) == ["head", "absolute", "gradient"]  # as the settings name them
    assert all(one.dtype == np.float32 and one.shape == (8, 32, 32) and (one >= 0).all() for one in parts.values())
    outputs = threefold.run(pixels)
    assert np.allclose(sum(parts.values()), outputs.anomaly_maps, rtol=0, atol=1e-5)
    assert all(one.max() > 0.01 for one in parts.values())


def test_each_part_is_its_map_times_its_weight(threefold, woven):
    """The errors against slow versions; the head against the network's own."""
    pixels = np.stack(woven[5:7])
    parts = threefold.parts(pixels)
    made = threefold.run(pixels).reconstructions
    assert np.allclose(parts["absolute"], 2 * np.abs(pixels / 255 - made).mean(axis=3), rtol=0, atol=1e-5)
    planes = (np.moveaxis(one, -1, 0).tolist() for one in (pixels[1] / 255, made[1]))
    slow = np.array(similarity.gradient_error(*planes, 3))
    assert np.allclose(parts["gradient"][1], 3 * slow, rtol=0, atol=1e-4)
    seen, drawn = (torch.from_numpy(np.moveaxis(one, -1, 1).astype(np.float32)) for one in (pixels / 255, made))
    with torch.no_grad():
        logits = untrained()[1].head(seen, drawn)[:, 0].double().numpy()
    assert np.allclose(parts["head"], 0.5 / (1 + np.exp(-logits)), rtol=0, atol=1e-5)


def test_parts_are_from_before_smoothing_and_the_histogram_step(threefold, woven):
    pixels = np.stack(woven)
    with torch.no_grad():
        _, maps, _, parts = untrained(score__delta_h=0.5, score__smooth=5)[2](torch.from_numpy(pixels))
    for place, found in enumerate(threefold.parts(pixels).values()):
        assert np.allclose(found, parts[:, place].numpy(), rtol=0, atol=1e-5)
    assert not np.allclose(maps[:, 0].numpy(), parts.sum(dim=1).numpy(), rtol=0, atol=1e-2)


def test_the_papers_map_has_one_part(detector, woven):
    pixels = np.stack(woven)
    assert detector.has_parts
    (name,), (maps,) = zip(*detector.parts(pixels).items(), strict=True)
    errors = np.abs(pixels / 255 - detector.run(pixels).reconstructions).mean(axis=3)  # Eq. 1
    assert name == "absolute"
    assert np.allclose(maps, errors, rtol=0, atol=1e-5)


def test_a_file_from_before_there_were_parts(detector, parts, woven):
    old = Detector(without_parts(parts))
    pixels = np.stack(woven)
    outputs = [one.name for one in onnx.load_model_from_string(old.graph).graph.output]
    assert outputs == ["pred_score", "anomaly_map", "reconstruction"]
    assert not old.has_parts
    for found, wanted in zip(old.run(pixels), detector.run(pixels), strict=True):
        assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(BundleError, match=r"expected a graph that gives 'parts', got one made before .* Train or exp"):
        old.parts(pixels)


# ---------------------------------------------------------------- neighbours, batches, threads


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8, 100])
def test_batches_do_not_matter(detector, woven, batch_size):
    alone = [detector.predict(image) for image in woven]
    together = list(detector.stream(woven, batch_size))
    for one, other in zip(alone, together, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-6)
        assert np.allclose(one.anomaly_map, other.anomaly_map, rtol=0, atol=1e-6)


def test_a_graph_is_given_few_large_images_at_once(detector, woven, monkeypatch):
    size = detector.spec.size
    images = np.stack([normbank.images.load(image, detector.spec) for image in woven * 2])
    whole, parts = detector.run(images), detector.parts(images)
    given, session = [], detector._session
    fake = SimpleNamespace(
        run=lambda names, inputs: given.append(len(inputs["image"])) or session.run(names, inputs),
        get_outputs=session.get_outputs,
    )
    monkeypatch.setattr(detector, "_session", fake)
    for room, most in ((3 * size**2, 3), (size**2 - 1, 1)):
        monkeypatch.setattr("normbank.detector.ROOM", room)
        given.clear()
        found = detector.run(images)
        assert (sum(given), max(given)) == (len(images), most)
        for one, other in zip(found, whole, strict=True):
            assert np.allclose(one, other, rtol=1e-6, atol=1e-6)
        for name, maps in detector.parts(images).items():
            assert np.allclose(maps, parts[name], atol=1e-6)


def test_neighbours_do_not_matter(detector, woven):
    extremes = [np.zeros_like(woven[0]), np.full_like(woven[0], 255)]
    first = next(iter(detector.stream([woven[0], *woven[1:]])))
    other = next(iter(detector.stream([woven[0], *extremes * 3])))
    last = list(detector.stream([*extremes * 3, woven[0]]))[-1]
    for found in (other, last):
        assert found.score == pytest.approx(first.score, rel=1e-6)
        assert np.allclose(found.anomaly_map, first.anomaly_map, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "kept_to", "there", "wanted"),
    [(0, 4, 4, 0), (0, 2, 4, 2), (3, 2, 4, 3), (99999, 2, 4, 4), (0, 1, None, 0)],
)
def test_a_process_kept_to_some_processors_has_as_many_threads(tiny_model, monkeypatch, asked, kept_to, there, wanted):
    import onnxruntime

    made, session = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda graph, options, **more: made.append(options) or session(graph, options)
    )
    monkeypatch.setattr("normbank.machine.cpu_count", lambda: kept_to)
    monkeypatch.setattr("os.cpu_count", lambda: there)
    normbank.load(tiny_model, asked)
    assert [one.intra_op_num_threads for one in made] == [wanted]


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_threads_do_not_matter(tiny_model, detector, woven, threads):
    for one, other in zip(normbank.load(tiny_model, threads).predict(woven), detector.predict(woven), strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-6)


def test_numbers_that_make_no_sense_are_named(tiny_model, detector):
    with pytest.raises(ConfigError, match="threads: expected 0 or more, got -1"):
        normbank.load(tiny_model, -1)
    for rate in (0, 1, -0.1, 5, float("nan")):
        with pytest.raises(ConfigError, match=f"^false_alarm_rate: expected a rate between 0 and 1, got {rate}"):
            normbank.load(tiny_model, false_alarm_rate=rate)
    for threads in (1.5, "2", None):
        with pytest.raises(ConfigError, match=f"threads: expected 0 or more, got {threads}"):
            normbank.load(tiny_model, threads)
    for size in (0, 1.5):
        with pytest.raises(ConfigError, match=f"batch_size: expected 1 or more, got {size}"):
            next(detector.stream([weave(1)], size))


@pytest.mark.parametrize("source", ["a.png", Path("a.png"), b"a.png"])
def test_a_stream_of_one_name_is_no_stream_of_its_letters(detector, source):
    with pytest.raises(
        ConfigError, match=r"sources: expected several images, got .*a.png.* For one there is `predict`"
    ):
        next(detector.stream(source))


def test_a_stream_of_one_image_is_no_stream_of_its_rows(detector):
    for image in (weave(1), weave(1)[..., 0]):
        with pytest.raises(ConfigError, match=r"sources: expected several images, got an array of shape \(48, 48"):
            next(detector.stream(image))
    assert len([*detector.stream(np.stack([weave(1), weave(2)]))]) == 2


@pytest.mark.parametrize("batch", ["a.png", None, [weave(1)]])
def test_what_is_no_array_is_no_batch(detector, batch):
    for use in (detector.run, detector.judge, detector.parts):
        with pytest.raises(ImageError, match=r"expected an array, a batch as `images\.load` makes each image of"):
            use(batch)


# ---------------------------------------------------------------- streams


def test_a_stream_reports_in_place_and_goes_on(detector, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    sources = [weave(1), tmp_path / "gone.png", weave(2), str(tmp_path / "text.png"), weave(3)[..., :2]]
    for batch_size in (1, 2, 16):
        found = list(detector.stream(sources, batch_size))
        assert [type(one) for one in found] == [Prediction, ImageError, Prediction, ImageError, ImageError]
        assert found[1].path == str(tmp_path / "gone.png")
        assert found[3].reason.startswith("is not an image of a known format")
        assert same(found[2], detector.predict(weave(2)))


def test_a_stream_takes_no_more_than_a_batch_ahead(detector):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield weave(len(taken) % 3)

    stream = detector.stream(endless(), batch_size=4)
    for number in range(1, 10):
        assert isinstance(next(stream), Prediction)
        assert len(taken) == 4 * -(-number // 4)


def test_a_stream_of_nothing_or_of_broken_files_alone(detector):
    assert list(detector.stream([])) == []
    assert [type(found) for found in detector.stream(["a", "b", "c"], 2)] == [ImageError] * 3


# ---------------------------------------------------------------- detectors that are none


def test_a_graph_that_cannot_be_run(parts, tmp_path):
    write_bundle(tmp_path / "model.nbk", Bundle(parts.manifest, parts.weights, b"no graph"))
    with pytest.raises(BundleError, match=r"model.nbk': its graph cannot be run by ONNX Runtime \d.*try a newer"):
        normbank.load(tmp_path / "model.nbk")


def test_a_name_that_no_model_can_have():
    with pytest.raises(BundleError, match="cannot be read: embedded null byte"):
        normbank.load("a\0b")


def test_a_missing_model(tmp_path):
    with pytest.raises(BundleError, match=r"gone.nbk' cannot be read: No such file"):
        normbank.load(str(tmp_path / "gone.nbk"))
