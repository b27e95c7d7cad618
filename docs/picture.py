"""Makes the README's picture from a finished demo: `python docs/picture.py DEMO_DIR docs/picture.png`.

A row for each texture, its defective image named by its place (`--rows`), not by how well it came out: the input,
the reconstruction, the heat map, and the true outline of the defect over the heat map.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from normbank.bundle import write_atomically
from normbank.config import from_dict
from normbank.data.open import open_dataset
from normbank.data.samples import Sample
from normbank.detector import Detector, load
from normbank.errors import DataError
from normbank.judging import examine
from normbank.report.overlays import encode, outline, overlay, resized, to_rgb

ROWS = ("brick/thread/000", "gravel/stain/000", "grass/hole/000")
HEADINGS = ("input", "reconstruction", "heat map", "true outline")
TILE, GAP, HEAD = 224, 8, 30  # pixels
PAPER, INK = (255, 255, 255), (40, 40, 40)


def render(demo: Path, rows: tuple[str, ...] = ROWS) -> NDArray[np.uint8]:
    """The picture, uint8 [H, W, 3]. `rows` are texture/kind/stem; DataError names one that is not there."""
    tiles = [_row(demo, *row.split("/")) for row in rows]
    width = len(HEADINGS) * (TILE + GAP) - GAP
    picture = Image.new("RGB", (width, HEAD + len(rows) * (TILE + GAP) - GAP), PAPER)
    draw = ImageDraw.Draw(picture)
    for column, heading in enumerate(HEADINGS):
        middle = column * (TILE + GAP) + TILE // 2
        draw.text((middle, HEAD // 2), heading, INK, ImageFont.load_default(16), anchor="mm")
    for number, row in enumerate(tiles):
        for column, tile in enumerate(row):
            picture.paste(Image.fromarray(tile), (column * (TILE + GAP), HEAD + number * (TILE + GAP)))
    return np.asarray(picture)


def _row(demo: Path, texture: str, kind: str, stem: str) -> list[NDArray[np.uint8]]:
    detector = load(demo / texture / "model.nbk")
    sample = _sample(demo / "data" / texture, detector, kind, stem)
    found = examine(detector, sample)
    assert found.mask is not None
    heat = overlay(found.image, found.anomaly_map, float(detector.manifest["map_scale"]))
    shown = [resized(to_rgb(pixels), (TILE, TILE)) for pixels in (found.image, found.reconstruction)]
    large = resized(heat, (TILE, TILE))
    return [*shown, large, outline(large, resized(found.mask, (TILE, TILE)), width=2)]


def _sample(folder: Path, detector: Detector, kind: str, stem: str) -> Sample:
    dataset = open_dataset(folder, from_dict(detector.manifest["settings"]).data)
    known = {(sample.kind, Path(sample.path).stem): sample for sample in dataset.test if sample.mask}
    if (kind, stem) not in known:
        names = ", ".join(sorted("/".join(key) for key in known))
        raise DataError(f"{folder}: expected a test image {kind}/{stem} with a mask. There are: {names}.")
    return known[kind, stem]


def main() -> None:
    """Render and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="what `normbank demo --out` made")
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--rows", nargs="+", default=ROWS, metavar="TEXTURE/KIND/STEM", help="one test image a row")
    given = parser.parse_args()
    write_atomically(given.out, encode(render(given.demo, tuple(given.rows)), "PNG"))


if __name__ == "__main__":
    main()
