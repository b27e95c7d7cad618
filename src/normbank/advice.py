"""What is said before a training: what these images ask for that the settings do not give, and what will be done."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .calibration import Calibration
from .config import Config, takes_size
from .data.splits import evenly
from .decoding import Pixels
from .images import ImageSpec
from .likeness import Size, side_of
from .presets import PRESETS
from .progress import printable
from .settings import Score, Train

Planes = NDArray[np.float64]

ENOUGH = 50  # images to train on, below which a remark is due
CHOSEN_BY = 25  # images to train on, below which the bank has too few judges to choose between its memories
REDUCED = 4.0  # pixels of the original in one of the model's, along a side, above which a remark is due
ELONGATED = 1.5  # longer by shorter side, above which a remark on stretching is due
SEEN = 2  # pixels of the model's: smaller defects vanish
LARGEST = 512  # data.size, above which tiles are advised rather than a larger one
FORGOTTEN = 0.01  # share of the untrained network in an average of the weights, above which a remark is due
LONG = 15 * 60  # seconds of training, above which the preset that takes a minute is named

FOLDERS = 8  # named, of those that were taken for good
LOOKED_AT = 30  # images
GRID, ANGLES = 16, 24  # cells a side; turns tried
FAINT = 0.05  # of the range of values: an object stands out by more
APART = 0.6  # strength of the rim by that of the inside, below which an object lies on a background
ALIKE, GAINED = 0.65, 0.28  # correlation after moving and turning, and its gain, of objects that lie apart


def advise(pixels: Pixels, config: Config, original_sizes: Sequence[Size], held_out: int = 0) -> list[str]:
    """What the images to train on say against the settings, in words; nothing where they say nothing.

    `pixels` [N, S, S, C] are the images to train on as the model sees them, `original_sizes` the (width, height) of
    some of the files, none where they are not known, `held_out` the number of images kept for the threshold.
    """
    found = [_on_number(len(pixels), config, held_out), _on_average(config.train), _on_places(pixels, config)]
    if original_sizes:
        width, height = _typical(original_sizes)
        name = f"images of {_about(original_sizes)}{width} x {height}"
        found += [_on_reduction(width, height, name, config), _on_shape(original_sizes, name, config)]
        found.append(_on_enlargement(side_of((width, height), config.data.fit), name, config))
    return [remark for remark in found if remark]


def on_folders(names: Sequence[str]) -> list[str]:
    """Which sub-folders were taken for good, of images with these names below the data set's folder; [] of one."""
    counts = Counter(Path(name).parts[0] if len(Path(name).parts) > 1 else "." for name in names)
    if len(counts) < 2:
        return []
    told = [f"{printable(folder)} ({count})" for folder, count in sorted(counts.items())]
    more = f" and {len(told) - FOLDERS} more" if len(told) > FOLDERS else ""
    return [
        f"all images below are taken for good, whatever folder they are in: {', '.join(told[:FOLDERS])}{more}. "
        "If one of these holds defects, data.normal_dir names the folder of the good ones"
    ]


def _on_number(count: int, config: Config, held_out: int) -> str | None:
    if count >= ENOUGH:
        return None
    learner = "the memory" if config.model.memory_levels else "the network"
    promise = Calibration((0.0,) * held_out, config.score.false_alarm_rate).note
    unchosen = config.model.bank and config.model.patches and count < CHOSEN_BY
    said = (
        f"only {_count(count, 'image')} to train on; {ENOUGH} are a start, 200 are comfortable.",
        f"What varies among good parts but not among these few is unknown to {learner} and will be taken for a defect.",
        f"Below {CHOSEN_BY} the bank compares places unasked, which suits parts that lie alike." if unchosen else "",
        promise,
    )
    return " ".join(one for one in said if one)


def _on_average(known: Train) -> str | None:
    """The running average starts with the weights of the first step, of which it keeps a share that falls each step."""
    more = known.steps - 1
    untrained = known.average**more
    if not more or untrained <= FORGOTTEN:
        return None
    enough = math.floor(1000 * FORGOTTEN ** (1 / more)) / 1000
    return (
        f"train.average={known.average:g} over {known.steps} steps: {untrained:.0%} of the network that is kept is as "
        f"the first step left it. train.average={enough:g} or less keeps next to nothing of that"
    )


def _on_places(pixels: Pixels, config: Config) -> str | None:
    if not lie_apart(pixels):
        return None
    known = config.model
    judges = set(config.score.parts) != {"bank"}  # what the network has learnt, beside the bank
    banded = judges and known.memory == "pmb" and max(known.partitions, default=1) > 1
    ones = ",".join(["1"] * known.memory_levels)
    remedy = f", or set model.partitions={ones}, which at least does not tie the memory to a height" if banded else ""
    but = ", all but the patches of the bank" if known.patches else ""
    idle = [f"model.{name}=auto" for name in ("upright", "steady") if getattr(known, name) == "none"]
    ours = f"; {' and '.join(idle)} may do it" if idle and _counts_no_copies(config.score) else ""
    return (
        "the objects seem to lie at different places or angles: moved and turned they would match, as they are they do "
        f"not. Most of what is learnt here is learnt for its place in the image{but}. Align them before training "
        f"(crop to the object, turn it upright{ours}), or train on several times as many images{remedy}"
    )


def _on_reduction(width: int, height: int, name: str, config: Config) -> str | None:
    size = config.data.size
    side = side_of((width, height), config.data.fit)
    if side <= REDUCED * size:
        return None
    lost = SEEN * side / size
    larger = 2 * size if 2 * size <= LARGEST and takes_size(config.model_dump(), 2 * size) else None
    remedy = (
        f"data.size={larger} shows defects of half that size, in {_cost_of_twice(config)}"
        if larger
        else "Cut the images into tiles, or crop them to what matters, to see smaller ones"
    )
    return (
        f"{name} are reduced to {size} x {size}: a defect smaller than about {lost:.0f} pixels of the original "
        f"({SEEN} pixels at the model's size) will vanish. {remedy}"
    )


def _cost_of_twice(config: Config) -> str:
    """Of training at a size twice as large, in words; what the network does not see costs little.

    A preset made for the size has a network that sees as much as it does now.
    """
    own = PRESETS[config.preset]().model.network_size if config.preset in PRESETS else 0
    seen = config.model.network_size or (own and own <= config.data.size)
    return "little more time" if seen else "about four times the time"


def _on_shape(sizes: Sequence[Size], name: str, config: Config) -> str | None:
    ratio = float(np.median([max(size) / min(size) for size in sizes]))
    if config.data.fit != "stretch" or ratio <= ELONGATED:
        return None
    return (
        f"{name} are stretched to a square: one side shows {ratio:.1f} times less detail than the other. "
        f"Square tiles cut from them keep everything; data.fit=pad keeps their shape, at the cost of detail along the "
        f"other side, too, and data.fit=crop their centre alone"
    )


def _on_enlargement(side: int, name: str, config: Config) -> str | None:
    size = config.data.size
    halves = [size >> n for n in range(1, size.bit_length()) if size >> n >= side]
    if not halves:
        return None
    fitting = [half for half in halves if takes_size(config.model_dump(), half)]
    remedy = f"data.size={fitting[-1]} shows as much" if fitting else "a smaller data.size would show as much"
    return f"{name} are enlarged to {size} x {size}, which adds nothing: {remedy}, in less time"


def _typical(sizes: Sequence[Size]) -> Size:
    width, height = np.median(np.array(sizes), axis=0).round().astype(int)
    return int(width), int(height)


def _about(sizes: Sequence[Size]) -> str:
    return "about " if len(set(sizes)) > 1 else ""


def lie_apart(pixels: Pixels) -> bool:
    """Whether images [N, S, S, C] show one kind of object on a background, each at another place or angle.

    They do where the rim of an image is plainer than its inside, and moving and turning the images makes them match
    far better than they do as they are. A texture has no background: its rim is like its inside. Never so for fewer
    than three images or fewer than 16 pixels a side.
    """
    if len(pixels) < 3 or pixels.shape[1] < GRID:
        return False
    chosen = evenly(len(pixels), LOOKED_AT)
    reach = float(np.ptp(pixels[chosen]))
    planes = contrast(pixels[chosen]) / (reach or 1.0)
    if not stands_out(planes):
        return False
    as_is, moved = matches(planes)
    return moved >= ALIKE and moved - as_is >= GAINED


def contrast(pixels: Pixels) -> Planes:
    """How far each cell of a 16 x 16 grid is from the background: [N, S, S, C] to [N, 16, 16], in values of `pixels`.

    A cell is the mean of its pixels, the background the median of the cells of the rim; channels are added as the
    sides of a right angle. Brightness of the whole image cancels.
    """
    edges = np.linspace(0, pixels.shape[1], GRID + 1).astype(int)
    rows = np.add.reduceat(pixels, edges[:-1], axis=1, dtype=np.float64)
    sums = np.add.reduceat(rows, edges[:-1], axis=2)
    cells = sums / np.multiply.outer(np.diff(edges), np.diff(edges))[None, :, :, None]
    background = np.median(cells[:, _rim()], axis=1)[:, None, None]
    distance: Planes = np.linalg.norm(cells - background, axis=-1)
    return distance


def stands_out(planes: Planes) -> bool:
    """Whether something stands out inside planes [N, 16, 16] in shares of the range, and the rim is plain beside it."""
    rim = _rim()
    outside, inside = (np.sqrt((planes[:, where] ** 2).mean(axis=1)) for where in (rim, ~rim))
    share = outside / np.maximum(inside, 1e-12)
    return bool(np.median(inside) > FAINT and np.median(share) < APART)


def matches(planes: Planes) -> tuple[float, float]:
    """Median correlation of planes [N, G, G] with the most typical of them: as they are, and moved and turned to it.

    The most typical is the one whose median correlation with the others is highest. What is moved or turned is
    compared on a plane twice as wide, empty around it; all moves by whole cells and 24 turns are tried.
    """
    as_they_are = _unit(planes).reshape(len(planes), -1)
    alike = as_they_are @ as_they_are.T
    np.fill_diagonal(alike, np.nan)
    likeness = np.nanmedian(alike, axis=0)
    typical = int(likeness.argmax())
    others = np.delete(planes, typical, axis=0)
    target = np.conj(np.fft.rfft2(_unit(_widened(planes[typical : typical + 1]))))
    best = np.full(len(others), -1.0)
    for angle in np.arange(ANGLES) * 360.0 / ANGLES:
        moved = np.fft.rfft2(_unit(_widened(_turned(others, float(angle))))) * target
        best = np.maximum(best, np.fft.irfft2(moved, s=(2 * planes.shape[1],) * 2).max(axis=(1, 2)))
    return float(likeness[typical]), float(np.median(best))


def _rim() -> NDArray[np.bool_]:
    rim = np.ones((GRID, GRID), bool)
    rim[1:-1, 1:-1] = False
    return rim


def _unit(planes: Planes) -> Planes:
    """Without their mean, and of length 1, so that a product of two is their correlation; 0 where a plane is plain."""
    centred = planes - planes.mean(axis=(1, 2), keepdims=True)
    unit: Planes = centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), 1e-12)
    return unit


def _widened(planes: Planes) -> Planes:
    half = planes.shape[1] // 2
    return np.pad(planes, ((0, 0), (half, half), (half, half)))


def _turned(planes: Planes, angle: float) -> Planes:
    turned = [Image.fromarray(plane.astype(np.float32)).rotate(angle, Image.Resampling.BILINEAR) for plane in planes]
    return np.stack([np.asarray(plane, np.float64) for plane in turned])


@dataclass(frozen=True)
class Outlook:
    """What a plan tells beside the settings.

    The arrays, images to train on and held out, what computes and how, steps `done` before, measured seconds a step,
    None where that was not measured, the mirrors and shifts that the images are shown in, good images that our split
    leaves for testing, and whether images are turned upright, and moved.
    """

    spec: ImageSpec
    train: int
    held_out: int
    device: str
    precision: str
    threads: int
    done: int = 0
    seconds_per_step: float | None = None
    mirrors: tuple[str, ...] = ()
    shifts: tuple[str, ...] = ()
    tested: int = 0
    is_turned: bool = False
    is_moved: bool = False


def plan(config: Config, outlook: Outlook, out: Path) -> str:
    """What the training will do, how long it will take, and what it leaves in the folder `out`: a few lines."""
    known, spec = config.train, outlook.spec
    left = known.steps - outlook.done
    kept = f"{outlook.held_out} held out for the threshold" if outlook.held_out else "none held out: no threshold"
    channels = _count(spec.channels, "channel")
    tested = f", {outlook.tested} left for testing (data.test_share)" if outlook.tested else ""
    went_before = f", of which {outlook.done} are done" if outlook.done else ""
    rows = {
        "images": f"{outlook.train} to train on, {kept}{tested}; {_side(config)}, {channels}, {spec.bits} bits",
        "steps": f"{known.steps} of {known.batch_size} images{went_before}; preset {config.preset or 'of your own'}",
        "memory": _memory(config),
        "defects": _defects(config),
        "bank": "the good images themselves, after the steps" if config.model.bank else "",
        "score": _score(config.score),
        "mirrors": _ways(outlook.mirrors, known.flips),
        "shifts": _ways(outlook.shifts, known.shifts),
        "turned": _turning(config) if outlook.is_turned else "",
        "moved": _moving(config) if outlook.is_moved else "",
        "device": f"{outlook.device}, {_count(outlook.threads, 'thread')}, precision {outlook.precision}",
        "time": _time(left, outlook.seconds_per_step, config),
        "less": _less(config, left * (outlook.seconds_per_step or 0)),
        "writes": f"model.nbk and run.json into {printable(str(out))}",
        "Ctrl-C": f"loses at most {_count(known.checkpoint_every, 'step')}; --resume goes on from there",
    }
    return "\n".join(f"{name:8}{text}" for name, text in rows.items() if text)


def _side(config: Config) -> str:
    whole, side = config.data.size, config.network_size
    told = f" (the network sees {side} x {side}, the bank all)" if side < whole else ""
    return f"{whole} x {whole}{told}"


def _memory(config: Config) -> str:
    known = config.model
    if not known.memory_levels or known.memory == "none":
        return "none"
    levels = ", ".join(map(str, known.memory_places))
    renormalised = ", renormalised" if known.renormalise else ""
    read = f", {known.shrinkage} shrinkage{renormalised}" if known.memory == "pmb" else ""
    return f"{known.memory} at level{'s' if known.memory_levels > 1 else ''} {levels}{read}"


def _defects(config: Config) -> str:
    if not config.train.corrupt:
        return ""
    marked = ", the head to mark them" if config.model.head_width else ""
    return f"made on {config.train.corrupt:.0%} of the images shown: the network learns to undo them{marked}"


def _ways(found: tuple[str, ...], asked: str) -> str:
    return f"{' and '.join(found)} ({asked})" if found else ""


def _counts_no_copies(known: Score) -> bool:
    """Whether a score hardly depends on how often the map's values are there: what is out of sight copies them."""
    return known.pool == "max" and not known.delta_h


def _turning(config: Config) -> str:
    told = f"each image about its middle, until it lies as the others do ({config.model.upright}); corners"
    return told + _out_of_sight(config.score, "angle")


def _moving(config: Config) -> str:
    told = f"each image, until it lies where the others do ({config.model.steady}); edges"
    return told + _out_of_sight(config.score, "place")


def _out_of_sight(known: Score, by: str) -> str:
    if _counts_no_copies(known):
        return " that leave the picture are not judged, but told as the nearest that stay"
    return f" that leave the picture count as the nearest that stay, so that a score depends on the {by}"


def _score(known: Score) -> str:
    weighed = zip(known.parts, known.weights, strict=True)
    parts = " + ".join(part if weight == 1 else f"{weight:g} x {part}" for part, weight in weighed)
    steps = [
        f"less the estimate of delta_H {known.delta_h:g}" if known.delta_h else "",
        f"mean over {known.smooth} x {known.smooth} pixels" if known.smooth > 1 else "",
    ]
    pooled = {"max": "largest value", "sum": "sum", "mean": "mean", "top": f"mean of the top {known.top_share:.0%}"}
    told = (parts, *(reversed(steps) if known.smooth_first else steps), pooled[known.pool])
    return ", ".join(one for one in told if one)


def _time(left: int, seconds_per_step: float | None, config: Config) -> str:
    if left <= 0:
        return "no step is left, only the model is to be written"
    if seconds_per_step is None:
        return f"not measured for {_count(left, 'step')}"
    whole = _duration(left * seconds_per_step)
    rest = "the bank and the file come" if config.model.bank else "the file comes"
    return f"about {whole} for {_count(left, 'step')} of {seconds_per_step:.2g} s (measured); {rest} on top"


def _less(config: Config, seconds: float) -> str:
    """The way out of a long training, for who took a preset of ours; none for the paper's, which are asked for."""
    has_bank_to_spare = "bank" in config.score.parts and len(config.score.parts) > 1
    if seconds <= LONG or not has_bank_to_spare:
        return ""
    return "--preset fast keeps the bank of good images alone: a small part of the time, a little less exact"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return _count(minutes, "minute") if minutes < 100 else f"{seconds / 3600:.1f} hours"


def _count(number: int, of_what: str) -> str:
    return f"{number} {of_what}{'' if number == 1 else 's'}"
