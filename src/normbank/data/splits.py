"""Choosing good images to hold out, and naming a set of images by its content."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..decoding import Pixels
from .samples import Sample

Split = tuple[tuple[Sample, ...], tuple[Sample, ...]]


def hold_out(samples: Sequence[Sample], share: float, minimum: int, seed: int) -> Split:
    """(train, held out), each sorted by name: `share` (0 to 1) of them rounded up, `minimum` at least, half at most.

    The choice depends on the seed and the names below the folder that the samples have in common: not on the order they
    come in, nor on where that folder lies.
    """
    number = min(max(portion(share, len(samples)), minimum), len(samples) // 2)
    return split_off(samples, number, seed)


def split_off(samples: Sequence[Sample], number: int, seed: int) -> Split:
    """(the rest, `number` samples chosen by the seed), each sorted by name; order-independent as `hold_out` is."""
    ranked = [
        sample for _, sample in sorted(zip(_ranks(samples, seed), samples, strict=True), key=lambda pair: pair[0])
    ]
    return _by_name(ranked[number:]), _by_name(ranked[:number])


def portion(share: float, count: int) -> int:
    """`share` of `count`, rounded up; the share is taken as it is written, so a tenth of 30 is 3."""
    return math.ceil(Fraction(str(float(share))) * count)


def fingerprint(samples: Iterable[Sample], digests: Mapping[str, str]) -> str:
    """SHA-256 (hex) of a set of images: of each one's content, label and frame, whatever their names, order or folder.

    `digests` maps `Sample.name` to the digest of the content; a sample it lacks is a KeyError.
    """
    lines = sorted(f"{digests[sample.name]} {sample.label} {sample.frame}" for sample in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def contents_of(pixels: Pixels) -> list[str]:
    """SHA-256 (hex) of each of images [N, S, S, C] as the model sees them: equal where they are.

    Two files of one picture may differ, in a date or in how they are packed.
    """
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]


def _ranks(samples: Sequence[Sample], seed: int) -> list[tuple[str, str]]:
    """A key a sample: a hash of the seed and its name, so that an image more or less beside them moves no other."""
    names = _relative_names(samples)
    return [(hashlib.sha256(f"{seed}\0{name}".encode(errors="surrogateescape")).hexdigest(), name) for name in names]


def _relative_names(samples: Sequence[Sample]) -> list[str]:
    """The names below the folder all samples have in common, with `/` on every system."""
    paths = [os.path.abspath(sample.path) for sample in samples]
    try:
        base = os.path.commonpath({os.path.dirname(path) for path in paths})
    except ValueError:  # no sample at all, or files on several drives
        base = ""
    below = [path[len(base) :].replace(os.sep, "/").lstrip("/") for path in paths]
    return [name if s.frame is None else f"{name}#{s.frame}" for name, s in zip(below, samples, strict=True)]


def _by_name(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: (sample.path, -1 if sample.frame is None else sample.frame)))


def evenly(total: int, most: int) -> NDArray[np.int64]:
    """Positions of at most `most` of `total`, evenly spread, first and last among them; all where there are no more."""
    return np.linspace(0, total - 1, min(most, total)).round().astype(np.int64)
