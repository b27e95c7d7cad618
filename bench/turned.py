"""The MVTec AD tree of a category with every image turned about its middle by a seeded angle, its mask likewise.

    python -m bench.turned mvtec_ad/transistor turned/transistor

Real defects on things that lie at any angle, which the data at hand lack: the table `turned` is made on them
(`python -m bench run turned --data .`). Borders are mirrored; a mask ends where the image does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import rotate

SEED = 0


def turn(source: Path, target: Path) -> int:
    """Write the turned tree to `target`, which must not be there; returns the number of images. ValueError."""
    files = sorted(path for path in source.rglob("*.png") if path.relative_to(source).parts[0] in ("train", "test"))
    if not files:
        raise ValueError(f"{source}: expected the folder of a category of MVTec AD, got one without train/ and test/")
    if target.exists():
        raise ValueError(f"{target}: expected no such folder yet, got one. Delete it, or name another.")
    angles = np.random.default_rng(SEED).uniform(0, 360, len(files))
    for path, angle in zip(files, angles, strict=True):
        for found, mode, order in _with_mask(source, path):
            with Image.open(found) as image:
                pixels = np.asarray(image)
            turned = rotate(pixels, angle, reshape=False, order=order, mode=mode)
            out = target / found.relative_to(source)
            out.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(turned).save(out)
    return len(files)


def _with_mask(source: Path, path: Path) -> Iterator[tuple[Path, str, int]]:
    """The image and, where there is one, its mask: how each is continued beyond its border, and read between pixels."""
    yield path, "mirror", 1
    mask = source / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
    if "test" in path.relative_to(source).parts and mask.is_file():
        yield mask, "constant", 0


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 done, 2 a mistake told on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.turned", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="the folder of a category of MVTec AD")
    parser.add_argument("target", type=Path, help="a folder to write, which is not there yet")
    asked = parser.parse_args(arguments)
    try:
        print(f"{asked.target}: {turn(asked.source, asked.target)} images")
    except (OSError, ValueError) as error:
        print(f"bench.turned: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
