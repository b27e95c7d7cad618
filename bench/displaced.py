"""The MVTec AD tree of a category with every image turned by a seeded angle, or moved by a seeded way; masks likewise.

    python -m bench.displaced turned mvtec_ad/transistor turned/transistor
    python -m bench.displaced moved mvtec_ad/transistor moved/transistor
    python -m bench.displaced moved turned/transistor both/transistor
    python -m bench.displaced moved mvtec_ad/bottle moved_bottle/bottle

Real defects on things that lie at any angle, at any place, or both, which the data at hand lack: the table `displaced`
is made on them (`python -m bench run displaced --data .`). Borders are mirrored; a mask ends where the image does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import rotate, shift

SEED = 0
FAR = 0.1  # of the side, the farthest that an image is moved, either way
Displace = Callable[[NDArray[Any], str, int], NDArray[Any]]  # pixels, how they go on beyond the border, spline order


def turned(rng: np.random.Generator) -> Displace:
    """Turns images about their middle, all by one angle."""
    angle = rng.uniform(0, 360)
    return lambda pixels, mode, order: np.asarray(rotate(pixels, angle, reshape=False, order=order, mode=mode))


def moved(rng: np.random.Generator) -> Displace:
    """Moves images, all one way, by whole pixels."""
    share = rng.uniform(-FAR, FAR, 2)

    def move(pixels: NDArray[Any], mode: str, order: int) -> NDArray[Any]:
        by = np.round(share * pixels.shape[:2])
        return np.asarray(shift(pixels, [*by, *[0] * (pixels.ndim - 2)], order=order, mode=mode))

    return move


KINDS = {"turned": turned, "moved": moved}


def displace(kind: str, source: Path, target: Path) -> int:
    """Write the tree to `target`, which must not be there; returns the number of images. ValueError."""
    files = sorted(path for path in source.rglob("*.png") if path.relative_to(source).parts[0] in ("train", "test"))
    if not files:
        raise ValueError(f"{source}: expected the folder of a category of MVTec AD, got one without train/ and test/")
    if target.exists():
        raise ValueError(f"{target}: expected no such folder yet, got one. Delete it, or name another.")
    rng = np.random.default_rng(SEED)
    for path in files:
        change = KINDS[kind](rng)
        for found, mode, order in _with_mask(source, path):
            with Image.open(found) as image:
                pixels = np.asarray(image)
            out = target / found.relative_to(source)
            out.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(change(pixels, mode, order)).save(out)
    return len(files)


def _with_mask(source: Path, path: Path) -> Iterator[tuple[Path, str, int]]:
    """The image and, where there is one, its mask: how each is continued beyond its border, and read between pixels."""
    yield path, "mirror", 1
    mask = source / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
    if "test" in path.relative_to(source).parts and mask.is_file():
        yield mask, "constant", 0


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 done, 2 a mistake told on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.displaced", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kind", choices=KINDS, help="turned by any angle, or moved by up to a tenth of the side")
    parser.add_argument("source", type=Path, help="the folder of a category of MVTec AD")
    parser.add_argument("target", type=Path, help="a folder to write, which is not there yet")
    asked = parser.parse_args(arguments)
    try:
        print(f"{asked.target}: {displace(asked.kind, asked.source, asked.target)} images")
    except (OSError, ValueError) as error:
        print(f"bench.displaced: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
