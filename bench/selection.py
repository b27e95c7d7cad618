"""The selection set: made defects on the good images that a detector held out. Choices are made on it alone.

    python -m bench.selection MODEL DATA [--set score.smooth=7]

judges a trained detector on it, at choice with another score. No test image is looked at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measures import judge, measure
from bench.runs import CHOSEN_BY
from bench.text import percent
from normbank.bundle import read_bundle
from normbank.config import from_dict
from normbank.data.cache import open_cache
from normbank.data.files import below
from normbank.data.loading import load_all
from normbank.data.open import open_dataset
from normbank.data.samples import Dataset, Sample
from normbank.defects import KINDS, Defective, Defects
from normbank.detector import Detector
from normbank.errors import DataError, UserError, problem

Pixels = NDArray[Any]
SEED = 10_007  # none of training's, which are small
AN_IMAGE, FEWEST = 3, 60  # made defects for each held-out image, and at least
METRICS = CHOSEN_BY


def select(detector: Detector, dataset: Dataset) -> dict[str, Any] | None:
    """`measured` on the good images of `dataset` that the detector held out; None where it held out none.

    DataError where they are not all there as they were.
    """
    return measured(detector, held_out(detector, dataset)) if detector.manifest["data"]["held_out"] else None


def held_out(detector: Detector, dataset: Dataset) -> Pixels:
    """The held-out good images [N, S, S, C] as the detector takes them; N at least 1."""
    made = detector.manifest["data"]
    known = {below(sample.name, dataset.root): sample for sample in dataset.train}
    wanted = [_named(name, known, dataset) for name in made["held_out"]]
    loaded = load_all(wanted, detector.spec, open_cache())
    if loaded.skipped:
        raise _missing(*loaded.skipped[0], dataset)
    for sample, digest in zip(loaded.samples, loaded.digests, strict=True):
        if digest[:16] not in made["seen"]:
            raise _missing(sample.name, "one of other content", dataset)
    return loaded.pixels


def _named(name: str, known: Mapping[str, Sample], dataset: Dataset) -> Sample:
    if name not in known:
        raise _missing(name, "no such good image", dataset)
    return known[name]


def _missing(name: str, came: str, dataset: Dataset) -> DataError:
    expected, do = f"the image that was held out ({name})", "Give the data that the detector was trained on."
    return DataError(problem(repr(dataset.root), expected=expected, came=came, do=do))


def make(pixels: Pixels) -> list[Defective]:
    """Made defects on good images [N, S, S, C]: three versions of each image, more where that is fewer than 60."""
    return Defects(pixels, SEED).make_all(max(AN_IMAGE, -(-FEWEST // len(pixels))))


def measured(detector: Detector, pixels: Pixels) -> dict[str, Any]:
    """How well the detector tells good images [N, S, S, C] from the same ones with made defects.

    METRICS in [0, 1], how many images that is, and under "kinds" the same for each kind of defect, against all good.
    """
    made = make(pixels)
    scores, maps = judge(detector, np.concatenate([pixels, [one.pixels for one in made]]))
    kinds = np.array([""] * len(pixels) + [one.kind for one in made])
    masks = [np.zeros(pixels.shape[1:3], bool)] * len(pixels) + [one.mask for one in made]

    def over(chosen: NDArray[np.bool_]) -> dict[str, float | None]:
        places = np.flatnonzero(chosen)
        known = [masks[place] for place in places]
        return measure(scores[places], maps[places], (kinds[places] != "").astype(int), known, METRICS)

    each = {
        kind: {"count": int((kinds == kind).sum()), **over((kinds == "") | (kinds == kind))}
        for kind in KINDS
        if kind in kinds
    }
    return {**over(np.ones(len(kinds), bool)), "good": len(pixels), "defective": len(made), "seed": SEED, "kinds": each}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, in percent, a line for all made defects and one for each kind."""
    yield f"{found['good']} held-out good images, {found['defective']} made defects on them (seed {found['seed']})"
    yield f"{'':8}  count  " + "  ".join(METRICS)
    for kind, values in {"all": {**found, "count": found["defective"]}, **found["kinds"]}.items():
        cells = "  ".join(f"{percent(values[name]):>{len(name)}}" for name in METRICS)
        yield f"{kind:8}  {values['count']:5}  {cells}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 done, 2 a mistake told on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.selection", description="judge a detector on made defects")
    parser.add_argument("model", type=Path, help="a detector file that held out good images")
    parser.add_argument("data", type=Path, help="the data it was trained on")
    parser.add_argument("--set", nargs="+", default=[], dest="score", metavar="score.NAME=VALUE", help="another score")
    asked = parser.parse_args(arguments)
    try:
        detector = _detector(asked.model, asked.score)
        found = select(detector, open_dataset(asked.data, from_dict(detector.manifest["settings"]).data))
        if found is None:
            do = "Train with data.held_out above 0."
            raise DataError(problem(repr(str(asked.model)), expected="held-out good images", came="none", do=do))
    except UserError as error:
        print(f"bench.selection: {error}", file=sys.stderr)
        return 2
    print(*lines(found), sep="\n")
    return 0


def _detector(model: Path, score: Sequence[str]) -> Detector:
    bundle = read_bundle(model)
    if score:
        from normbank.rescoring import rescore

        bundle = rescore(bundle, {name: value for name, _, value in (one.partition("=") for one in score)})
    return Detector(bundle)


if __name__ == "__main__":
    sys.exit(main())
