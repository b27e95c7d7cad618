"""The demo's data: real photographs that come with scikit-image, with defects drawn on held-out parts.

Three data sets in the MVTec layout, one a texture: `<out>/<texture>/{train,test,ground_truth}`. The photographs
(brick, gravel, grass; 512 x 512, grey, CC0) are cut in bands of rows: training crops come from the top and the bottom
band, test crops from the middle one, and no pixel is in both. Defects are drawn on test crops alone, and the mask of a
defective image is exactly its changed pixels.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError, UserError, problem
from .samples import GOOD

Grey = NDArray[np.uint8]
Plane = NDArray[np.float64]

TEXTURES = ("brick", "gravel", "grass")
SIZE = 128
TEST_ROWS = (154, 358)
TRAIN_CROPS, GOOD_CROPS, CROPS_A_KIND = 80, 30, 8
LEAST_CHANGE = 4
"""Grey levels by which every masked pixel differs from the photograph at least."""

_MARKER = "demo.json"
_FORMAT = 1
_EDGE = 0.15  # coverage below it is left out: it would not be seen, but would widen the mask


class _Defect(NamedTuple):
    """`values` [SIZE, SIZE] in 0..255 stand where `cover` [SIZE, SIZE] in 0..1 says how much."""

    values: Plane
    cover: Plane


_Draw = Callable[[Grey, np.random.Generator], _Defect]


def make_demo(out: Path, seed: int = 0) -> Path:
    """Write the demo's three data sets below `out` and return it; each `out/<texture>` is one in the MVTec layout.

    A texture holds 80 training crops, 30 good and 40 defective test crops (8 a kind), 128 x 128 grey PNG, and the
    masks. The same seed gives the same bytes. A folder that is complete for this seed is left as it is; an interrupted
    one is done again, since the folder gets its name only when it is whole.

    Raises UserError without scikit-image, DataError where `out` holds something else or cannot be written.
    """
    out = Path(out)
    if _is_complete(out, seed):
        return out
    _refuse_foreign(out)
    part = out.with_name(f".{out.name}.normbank.part")  # no one else's; what a kill left goes
    try:
        shutil.rmtree(part, ignore_errors=True)
        _write_all(part, seed)
        if out.exists():
            _refuse_others(out, _files(out) - _files(part))
            shutil.rmtree(out)
        part.rename(out)
    except OSError as error:
        raise DataError(
            problem(str(out), expected="a place to write 6 MB", came=str(error), do="Choose another folder.")
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def _files(folder: Path) -> set[str]:
    """Names below it, without what systems leave in every folder that is looked at."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    shown = (path for path in found if not path.name.startswith(".") and path.name != "Thumbs.db")
    return {path.relative_to(folder).as_posix() for path in shown}


def _is_complete(out: Path, seed: int) -> bool:
    marker = _read_marker(out)
    files = sum(1 for _ in out.glob("*/*/*/*.png")) if marker else 0
    return marker is not None and marker == _marker(seed, files)


def _marker(seed: int, files: int) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "seed": seed,
        "files": files,
        "source": "photographs brick, gravel and grass of scikit-image (CC0); the defects are drawn",
    }


def _read_marker(out: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((out / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def _refuse_foreign(out: Path) -> None:
    """Only an empty folder, or one with nothing but an earlier demo's data, is ever replaced."""
    if not out.exists():
        return
    ours = {_MARKER, *TEXTURES} if _read_marker(out) is not None else set()
    _refuse_others(out, {entry.name for entry in out.iterdir()} - ours if out.is_dir() else {"a file"})


def _refuse_others(out: Path, others: set[str]) -> None:
    if others:
        raise DataError(
            problem(
                str(out),
                expected="a new or empty folder, or an earlier demo's data alone",
                came=f"{len(others)} other things ({', '.join(sorted(others)[:3])})",
                do="Choose another folder; nothing was changed.",
            )
        )


def _write_all(out: Path, seed: int) -> None:
    for index, texture in enumerate(TEXTURES):
        _write_texture(out / texture, _photograph(texture), np.random.default_rng([seed, index]))
    files = sum(1 for _ in out.glob("*/*/*/*.png"))
    (out / _MARKER).write_text(json.dumps(_marker(seed, files), indent=1) + "\n", encoding="utf-8")


def _photograph(texture: str) -> Grey:
    """One of scikit-image's own photographs: [512, 512] uint8."""
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(
            problem(
                "the demo's photographs",
                expected="scikit-image, which brings them",
                came=f"no such package ({error})",
                do="Install it: pip install '.[demo]' in normbank's folder.",
            )
        ) from error
    return np.asarray(getattr(data, texture)(), dtype=np.uint8)


def _write_texture(folder: Path, photograph: Grey, rng: np.random.Generator) -> None:
    top, bottom = TEST_ROWS
    training = _crops([photograph[:top], photograph[bottom:]], rng)
    testing = _crops([photograph[top:bottom]], rng)
    for number in range(TRAIN_CROPS):
        _save(folder / "train" / GOOD / f"{number:03d}.png", next(training))
    for number in range(GOOD_CROPS):
        _save(folder / "test" / GOOD / f"{number:03d}.png", next(testing))
    for kind, draw in KINDS.items():
        for number in range(CROPS_A_KIND):
            image, mask = _spoil(next(testing), draw, rng)
            _save(folder / "test" / kind / f"{number:03d}.png", image)
            _save(folder / "ground_truth" / kind / f"{number:03d}_mask.png", mask)


def _crops(bands: list[Grey], rng: np.random.Generator) -> Iterator[Grey]:
    """Random SIZE x SIZE crops, band by band in turn, half of them mirrored left to right (all three photographs
    could as well have been taken that way; upside down they could not).
    """
    while True:
        for band in bands:
            y, x = (int(rng.integers(side - SIZE + 1)) for side in band.shape)
            crop = band[y : y + SIZE, x : x + SIZE]
            yield crop[:, ::-1] if rng.random() < 0.5 else crop


def _save(path: Path, image: Grey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG")
        file.flush()
        os.fsync(file.fileno())


def _spoil(crop: Grey, draw: _Draw, rng: np.random.Generator) -> tuple[Grey, Grey]:
    """The crop with a defect, and its mask: 255 exactly where they differ, by LEAST_CHANGE at least."""
    before = crop.astype(np.float64)
    values, cover = draw(crop, rng)
    marked = cover > _EDGE
    after = np.round(before + (values - before) * cover).clip(0, 255)
    change = after - before
    up = np.where(before > 255 - LEAST_CHANGE, False, (change > 0) | (before < LEAST_CHANGE))
    nudged = before + np.where(up, LEAST_CHANGE, -LEAST_CHANGE)
    after = np.where(np.abs(change) < LEAST_CHANGE, nudged, after)
    image = np.where(marked, after, before).astype(np.uint8)
    return image, np.where(marked, 255, 0).astype(np.uint8)


def _grid() -> tuple[Plane, Plane]:
    """Row and column of every pixel, [SIZE, SIZE] each."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    return rows, columns


def _smooth(values: Plane) -> Plane:
    """0 below 0, 1 above 1, without a corner between."""
    clipped: Plane = values.clip(0, 1)
    return clipped**2 * (3 - 2 * clipped)


def _curve(rng: np.random.Generator, length: float, bend: float) -> Plane:
    """Points [200, 2] (row, column) of a bent stroke of about `length` pixels, its middle inside the crop."""
    middle, angle = rng.uniform(0.3, 0.7, 2) * SIZE, rng.uniform(0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([along[1], -along[0]])
    t = np.linspace(-0.5, 0.5, 200)[:, None]
    shape = rng.uniform(-bend, bend) * (4 * t**2 - 0.5) + rng.uniform(-bend, bend) * np.sin(2 * np.pi * t) / 3
    points: Plane = middle + length * (t * along + shape * across)
    return points


def _distance(points: Plane) -> tuple[Plane, Plane]:
    """Distance of every pixel to the nearest of `points`, and which share of the stroke that one is at (0 to 1)."""
    along = np.arange(SIZE)[:, None]
    squares = ((along - points[:, 0]) ** 2)[:, None] + (along - points[:, 1]) ** 2
    nearest = squares.argmin(axis=-1)
    distance = np.sqrt(np.take_along_axis(squares, nearest[..., None], axis=-1)[..., 0])
    return distance, nearest / (len(points) - 1)


def _blob(rng: np.random.Generator, radius: float, ragged: float) -> Plane:
    """Distance [SIZE, SIZE] inside the outline of an irregular round shape, in pixels; negative outside."""
    rows, columns = _grid()
    reach = 1.3 * radius
    y, x = rng.uniform(reach, SIZE - reach, 2)
    angle = np.arctan2(rows - y, columns - x)
    outline = np.full_like(angle, radius)
    for wave in range(2, 6):
        outline += radius * ragged / wave * rng.normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    inside: Plane = outline - np.hypot((rows - y) * rng.uniform(1, 1.3), columns - x)
    return inside


def _scratch(crop: Grey, rng: np.random.Generator) -> _Defect:
    """A thin line that thins out at both ends, bright or dark."""
    distance, share = _distance(_curve(rng, length=rng.uniform(55, 95), bend=0.25))
    half_width = rng.uniform(0.9, 1.5) * (0.4 + 0.6 * np.sin(np.pi * share))
    level = rng.uniform(205, 240) if rng.random() < 0.5 else rng.uniform(10, 35)
    values = level + 0.3 * (crop - crop.mean())
    return _Defect(values, (half_width + 0.5 - distance).clip(0, 1) * rng.uniform(0.75, 0.95))


def _stain(crop: Grey, rng: np.random.Generator) -> _Defect:
    """A soft-edged spot, darker as if wet or paler as if dusty; the texture shows through."""
    inside = _blob(rng, radius=rng.uniform(14, 24), ragged=0.25)
    strength = rng.uniform(0.5, 0.62)
    tone = 5.0 if rng.random() < 0.5 else 230.0
    return _Defect(crop + strength * (tone - crop), _smooth(inside / 8 + 0.5))


def _patch(crop: Grey, rng: np.random.Generator) -> _Defect:
    """A piece of the same texture, turned a quarter and enlarged, set in where it does not belong."""
    side = int(rng.integers(34, 53))
    source = int(side / rng.uniform(1.7, 2.2))
    y, x = (int(v) for v in rng.integers(0, SIZE - source + 1, 2))
    piece = Image.fromarray(np.rot90(crop[y : y + source, x : x + source]).copy())
    large = np.asarray(piece.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
    top, left = (int(v) for v in rng.integers(4, SIZE - side - 4, 2))
    values, cover = crop.astype(np.float64), np.zeros((SIZE, SIZE))
    values[top : top + side, left : left + side] = large
    cover[top : top + side, left : left + side] = 1
    return _Defect(values, cover)


def _hole(crop: Grey, rng: np.random.Generator) -> _Defect:
    """A piece missing: an irregular shape of one flat, dark value."""
    inside = _blob(rng, radius=rng.uniform(8, 14), ragged=0.25)
    return _Defect(np.full_like(inside, rng.uniform(8, 28)), (inside + 0.5).clip(0, 1))


def _thread(crop: Grey, rng: np.random.Generator) -> _Defect:
    """A pale thread lying on top, rounded by its shading, with a shadow to its lower right."""
    points = _curve(rng, length=rng.uniform(80, 120), bend=0.5)
    half_width = rng.uniform(1.2, 1.8)
    distance, share = _distance(points)
    twist = 6 * np.sin(share * rng.uniform(90, 130))
    body = rng.uniform(195, 225) - 70 * (distance / (half_width + 0.5)).clip(0, 1) ** 2 + twist
    cover = (half_width + 0.5 - distance).clip(0, 1)
    shadow = 0.4 * _smooth((half_width + 1.5 - _distance(points + 2)[0]) / 2)
    both = 1 - (1 - cover) * (1 - shadow)
    values = np.divide(body * cover + 10 * shadow * (1 - cover), both, out=body.copy(), where=both > 0)
    return _Defect(values, both)


KINDS: dict[str, _Draw] = {
    "hole": _hole,
    "patch": _patch,
    "scratch": _scratch,
    "stain": _stain,
    "thread": _thread,
}
