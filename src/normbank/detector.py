"""Using a trained detector: numpy, Pillow and ONNX Runtime only.

Evaluation, prediction, calibration and any service run the exported graph through `Detector.run`: the one numeric path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints, overload

import numpy as np
from numpy.typing import NDArray

from . import images, machine
from .bundle import Bundle, read_bundle
from .calibration import Calibration
from .decoding import Pixels
from .errors import BundleError, ConfigError, ImageError, UserError, problem
from .images import ImageSpec
from .likeness import Likeness

Source = str | Path | Pixels
BATCH = 16
ROOM = BATCH * 256**2  # pixels given to a graph at once: what it makes of one on the way takes a kilobyte or two
MOST = 256  # images at once: of small ones each is compared with all that a place of the bank holds
# What a manifest holds, of what type, and where there is a choice which.
_MEMBERS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("settings", "settings.data", "settings.model", "settings.score", "settings.train"), (dict,)),
    **dict.fromkeys(("image", "calibration", "data", "versions"), (dict,)),
    **dict.fromkeys(("image.size", "image.channels", "image.bits"), (int,)),
    **dict.fromkeys(("data.seen", "data.held_out"), (list,)),
    **dict.fromkeys(("data.name", "data.fingerprint", "created", "device", "precision"), (str,)),
    **dict.fromkeys(("data.trained_on", "parameters", "settings.train.seed", "settings.train.steps"), (int,)),
    **dict.fromkeys(("commit", "settings.preset"), (str, NoneType)),
    **dict.fromkeys(("settings.model.widths", "settings.score.parts"), (list,)),
    "training_seconds": (int, float),
    "image.fit": (str,),
    "map_scale": (int, float),
}
_CHOICES = {f"image.{name}": get_args(kind) for name, kind in get_type_hints(ImageSpec).items() if get_args(kind)}
# What the graph gives, by name: the fields of `Outputs` in order, then what they are made of.
OUTPUTS, PARTS_OUTPUT = ["pred_score", "anomaly_map", "reconstruction"], "parts"


class Outputs(NamedTuple):
    """What the graph gives for a batch of N images of side S, raw."""

    scores: NDArray[np.float32]  # [N]
    anomaly_maps: NDArray[np.float32]  # [N, S, S]
    reconstructions: NDArray[np.float32]  # [N, S, S, C] in [0, 1]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The verdict on one image; raw numbers, nothing clamped or rescaled.

    `score` grows with the distance from normal. `threshold`, `p_value` in (0, 1] and `is_anomalous` (`score` is above
    it, by more than rounding) are None where no normal images were held out. `anomaly_map` is float32 [S, S] at the
    model's size, >= 0.
    """

    score: float
    threshold: float | None
    p_value: float | None
    is_anomalous: bool | None
    anomaly_map: NDArray[np.float32]


class Detector:
    """A trained detector. `normbank.load(path)` makes one."""

    def __init__(self, bundle: Bundle, threads: int = 0, false_alarm_rate: float | None = None) -> None:
        self.manifest = bundle.manifest
        self.weights, self.graph = bundle.weights, bundle.graph
        self.spec = ImageSpec(**self.manifest["image"])
        self.calibration, self._threads = Calibration.from_dict(self.manifest["calibration"]), threads
        if false_alarm_rate is not None:
            self._judge_by(false_alarm_rate)
        self._session = open_session(bundle.graph, threads)
        self._check_input()

    def __reduce__(self) -> tuple[Any, ...]:
        """For `pickle` and other processes: made anew from its file's parts."""
        return Detector, (Bundle(self.manifest, self.weights, self.graph), self._threads)

    def _judge_by(self, rate: float) -> None:
        if not self.calibration.scores:
            do = "Train it again with data.held_out above 0."
            raise ConfigError(problem("false_alarm_rate", expected="held-out good images", came="none", do=do))
        self.calibration = replace(self.calibration, false_alarm_rate=rate)
        self.manifest = {**self.manifest, "calibration": self.calibration.to_dict()}

    def _check_input(self) -> None:
        taken, spec = self._session.get_inputs()[0], self.spec
        if list(taken.shape[1:]) != [spec.size, spec.size, spec.channels] or f"uint{spec.bits}" not in taken.type:
            came = f"{taken.type} {taken.shape}"
            raise RuntimeError(f"its graph takes {came}, which is not what its manifest says of images: {spec}")

    @overload
    def predict(self, source: str | Path | Pixels) -> Prediction: ...
    @overload
    def predict(self, source: list[Source]) -> list[Prediction]: ...
    def predict(self, source: Source | list[Source]) -> Prediction | list[Prediction]:
        """The verdict on an image: a path, an array H x W or H x W x C (uint8, uint16), or a list of them.

        ImageError names the first image that cannot be used; `stream` goes on past such images.
        """
        if not isinstance(source, (list, tuple)):
            return self.predict([source])[0]
        return [_usable(result, place, len(source)) for place, result in enumerate(self.stream(source))]

    def stream(
        self, sources: Iterable[Source | ImageError], batch_size: int = BATCH
    ) -> Iterator[Prediction | ImageError]:
        """One verdict, or the reason why there is none, for each source in order; memory stays bounded.

        A reason among the sources comes back as it is. Of `sources`, no more than `batch_size` (1 or more) are taken
        ahead of what has been judged.
        """
        _expect_count("batch_size", batch_size, 1, "16 is a good number; 1 answers each image at once.")
        is_array = isinstance(sources, np.ndarray) and (sources.ndim < 3 or sources.shape[2:] == (self.spec.channels,))
        if is_array or isinstance(sources, (str, bytes, Path)):
            came = f"an array of shape {sources.shape}" if isinstance(sources, np.ndarray) else f"{sources!r:.80}"
            do = "For one there is `predict`."
            raise ConfigError(problem("sources", expected="several images", came=came, do=do))
        waiting: list[Pixels | ImageError] = []
        for source in sources:
            waiting.append(source if isinstance(source, ImageError) else self._load(source))
            if len(waiting) == batch_size:
                yield from self._judge_all(waiting)
                waiting = []
        yield from self._judge_all(waiting)

    def run(self, pixels: Pixels) -> Outputs:
        """The graph on a batch [N, S, S, C] as `images.load` makes them; of large images a few at a time.

        ImageError where it is no such batch.
        """
        found = [self._session.run(OUTPUTS, {"image": some}) for some in self._portions(pixels)]
        scores, maps, reconstructions = (np.concatenate(each) for each in zip(*found, strict=True))
        return Outputs(scores, maps[:, 0], reconstructions)

    @property
    def threshold_note(self) -> str | None:
        """Which held-out image alone sets the threshold, where its score stands apart from the others; else None.

        It may be no good one. Files of earlier versions do not tell which it is.
        """
        known, data = self.calibration, self.manifest["data"]
        if known.lone is None or known.threshold not in data.get("held_out_scores", ()):
            return None
        following, median = known.lone
        name = data["held_out"][data["held_out_scores"].index(known.threshold)]
        return (
            f"The threshold is the score of {name!r}, which stands apart: {known.threshold:.3g}, where the "
            f"next of the {len(known.scores)} held-out images has {following:.3g} and their median {median:.3g}. Look "
            "at it: defects that score less are not found. If it is no good image, train again without it."
        )

    def likeness(self) -> Likeness:
        """What looks at files to be scored, and tells which are stored otherwise than the good images were."""
        return Likeness(self.spec, self.manifest["data"].get("stored"))  # earlier versions' files do not tell

    @property
    def has_parts(self) -> bool:
        """Whether the graph tells the parts of its map; files from before it did are used like any other."""
        return any(output.name == PARTS_OUTPUT for output in self._session.get_outputs())

    def parts(self, pixels: Pixels) -> dict[str, NDArray[np.float32]]:
        """What the anomaly maps of a batch [N, S, S, C] are made of: for each of `score.parts` its map [N, S, S], >= 0.

        Each has its weight in it: their sum is the map before smoothing and the histogram step. BundleError unless
        `has_parts`, ImageError where it is no such batch.
        """
        if not self.has_parts:
            came, do = "one made before there was that output", "Train or export it again with this version."
            raise BundleError(problem("detector", expected="a graph that gives 'parts'", came=came, do=do))
        each = [self._session.run([PARTS_OUTPUT], {"image": some})[0] for some in self._portions(pixels)]
        found = np.concatenate(each)
        return dict(zip(self.manifest["settings"]["score"]["parts"], np.moveaxis(found, 1, 0), strict=True))

    def _portions(self, pixels: Pixels) -> list[Pixels]:
        spec = self.spec
        square = (spec.size, spec.size, spec.channels)
        if not isinstance(pixels, np.ndarray):
            raise ImageError(type(pixels).__name__, "expected an array, a batch as `images.load` makes each image of")
        if pixels.ndim != 4 or len(pixels) == 0 or pixels.shape[1:] != square or pixels.dtype != spec.dtype:
            expected = f"a batch of one or more, {', '.join(map(str, ('N', *square)))}, of uint{spec.bits}"
            came = f"shape {pixels.shape} of {pixels.dtype}; `images.load` makes each image so"
            raise ImageError("array", f"expected {expected}, got {came}")
        return portions(pixels)

    def _load(self, source: Source) -> Pixels | ImageError:
        if not isinstance(source, (str, Path, np.ndarray)):
            return ImageError(type(source).__name__, "expected a path or an array H x W x C of uint8 or uint16")
        try:
            return images.load(source, self.spec)
        except ImageError as error:
            return error
        except ValueError as error:  # a NUL byte, which no file's name holds
            return ImageError(str(source), f"cannot be read: {error}")

    def _judge_all(self, loaded: Sequence[Pixels | ImageError]) -> Iterator[Prediction | ImageError]:
        usable = [item for item in loaded if not isinstance(item, ImageError)]
        verdicts = iter(self.judge(np.stack(usable))) if usable else iter(())
        for item in loaded:
            yield item if isinstance(item, ImageError) else next(verdicts)

    def judge(self, pixels: Pixels) -> list[Prediction]:
        """Verdicts on a batch [N, S, S, C] that is already as the model takes it; ImageError where it is not."""
        outputs = self.run(pixels)
        return [self._verdict(float(s), m) for s, m in zip(outputs.scores, outputs.anomaly_maps, strict=True)]

    def _verdict(self, score: float, anomaly_map: NDArray[np.float32]) -> Prediction:
        known = self.calibration
        own = anomaly_map.copy()  # whoever keeps one map does not keep its batch
        return Prediction(score, known.threshold, known.p_value(score), known.is_anomalous(score), own)


def load(path: str | Path, threads: int = 0, false_alarm_rate: float | None = None) -> Detector:
    """The detector in that file; `threads` at most; 0: as many as the process may use.

    `false_alarm_rate`, in (0, 1), is to be judged by in place of the one that it was trained with: the held-out images'
    scores, which are in the file, allow any. BundleError where the file is missing, damaged or of an unknown version,
    or where no images were held out for such a rate; ConfigError for a rate or a number of threads that is none.
    """
    _expect_count("threads", threads, 0, "0 takes as many as the process may use.")
    if false_alarm_rate is not None:
        Calibration((), false_alarm_rate)  # a wrong one is no fault of the file
    bundle = read_bundle(Path(path))
    try:
        _check_manifest(bundle.manifest)
        return Detector(bundle, threads, false_alarm_rate)
    except UserError as error:
        raise BundleError(f"detector {str(path)!r}: {error}") from None
    except TypeError as error:  # members of another version's image
        raise BundleError(f"detector {str(path)!r}: its manifest is not as expected: {error}.") from None
    except RuntimeError as error:
        raise BundleError(f"detector {str(path)!r}: {error}.") from None


def _expect_count(name: str, value: Any, least: int, do: str) -> None:
    if not isinstance(value, (int, np.integer)) or value < least:
        raise ConfigError(problem(name, expected=f"{least} or more", came=f"{value}", do=do))


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    """Whether it holds what is read from it sooner or later; BundleError names what it lacks."""
    for name, kinds in _MEMBERS.items():
        found: Any = manifest
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, kinds) or (name in _CHOICES and found not in _CHOICES[name]):
            expected = f"one of {_CHOICES[name]}" if name in _CHOICES else " or ".join(kind.__name__ for kind in kinds)
            do = "The file was changed, or made by another program: train it again."
            raise BundleError(problem(f"{name} in its manifest", expected=expected, came=f"{found!r:.80}", do=do))


def _usable(result: Prediction | ImageError, place: int, count: int) -> Prediction:
    if isinstance(result, ImageError):
        raise ImageError(f"array {place}", result.reason) if result.path == "array" and count > 1 else result
    return result


def portions(pixels: Pixels) -> list[Pixels]:
    """Images [N, S, S, C], N at least 1, cut into batches of ROOM pixels and MOST images at most, one at least."""
    each = min(MOST, max(1, ROOM // (pixels.shape[1] * pixels.shape[2])))
    return [pixels[start : start + each] for start in range(0, len(pixels), each)]


def open_session(graph: bytes, threads: int = 0) -> Any:
    """ONNX Runtime on the graph in these bytes; `threads` at most; 0: as many as the process may use.

    Left to itself it takes all processors there are, also those the process is kept from.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    kept_to = machine.cpu_count()
    there = os.cpu_count() or 1
    options.intra_op_num_threads = min(threads, there) or (kept_to if kept_to < there else 0)
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread costs its neighbour
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes, which have no common root
        version = onnxruntime.__version__
        raise RuntimeError(f"its graph cannot be run by ONNX Runtime {version} ({error}); try a newer one") from None
