"""From samples to arrays: what the images have in common, and all of them decoded, the broken ones reported."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..decoding import SUFFIXES, Pixels
from ..errors import DataError, ImageError
from ..headers import look_up, stored_as
from ..images import ImageSpec
from ..settings import Data
from .cache import Cache
from .samples import Sample, Skipped

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 64  # images decoded ahead of the one asked for: bounds the memory of a stream


@dataclass(frozen=True)
class Loaded:
    """Decoded images [N, size, size, channels] with their samples and SHA-256 digests, and what was skipped."""

    pixels: NDArray[Any]
    samples: tuple[Sample, ...]
    digests: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def find_spec(samples: Sequence[Sample], settings: Data) -> ImageSpec:
    """The arrays these settings ask for; channels and bits left open are what most of the samples have.

    The majority decides, so that one odd file among a thousand does not. Raises DataError where none can be opened.
    """
    if not samples:
        raise DataError("expected training images, got none. Name a folder that holds good images.")
    channels, bits = settings.channels, settings.bits
    if channels is None or bits is None:
        looks = ordered_map(lambda sample: stored_as(sample.path, sample.frame), samples)
        seen = Counter((stored.channels, stored.bits) for stored in looks if stored)
        if not seen:
            raise DataError(
                f"none of the {len(samples)} training images can be opened: {_first_reason(samples)}. "
                f"Check that they are images of a kind that is read: {', '.join(SUFFIXES)}."
            )
        (found_channels, found_bits), _ = seen.most_common(1)[0]
        channels, bits = channels or found_channels, bits or (16 if found_bits == 16 else 8)
    return ImageSpec(settings.size, channels, bits, settings.fit)


def load_all(
    samples: Sequence[Sample],
    spec: ImageSpec,
    cache: Cache,
    progress: Callable[[int], None] | None = None,
    *,
    strict: bool = False,
) -> Loaded:
    """Decode every sample through the cache. Broken ones are listed in `skipped` with the reason, in order.

    With `strict` the first of them raises ImageError instead, and what comes after it is left alone.
    """
    pixels = np.empty((len(samples), spec.size, spec.size, spec.channels), spec.dtype)
    kept: list[Sample] = []
    digests: list[str] = []
    skipped: list[Skipped] = []
    for done, (sample, result) in enumerate(load_each(samples, spec, cache), start=1):
        if isinstance(result, ImageError):
            if strict:
                raise ImageError(sample.name, result.reason)
            skipped.append(Skipped(sample.name, result.reason))
        else:
            pixels[len(kept)], digest = result
            digests.append(digest)
            kept.append(sample)
        if progress:
            progress(done)
    return Loaded(pixels[: len(kept)], tuple(kept), tuple(digests), tuple(skipped))


def load_each(
    samples: Sequence[Sample], spec: ImageSpec, cache: Cache
) -> Iterator[tuple[Sample, tuple[Pixels, str] | ImageError]]:
    """Each sample with its pixels [size, size, channels] and SHA-256 digest, or with the reason why there are none."""

    def load(sample: Sample) -> tuple[Pixels, str] | ImageError:
        try:
            return cache.load(sample, spec)
        except ImageError as error:
            return error

    return zip(samples, ordered_map(load, samples), strict=True)


def ordered_map(function: Callable[[T], R], items: Sequence[T], threads: int = 2) -> Iterator[R]:
    """`map` on a few threads, in order and never more than a few items ahead (decoding releases Python's lock)."""
    pool = ThreadPoolExecutor(threads)
    try:
        waiting = deque(pool.submit(function, item) for item in items[:_AHEAD])
        for item in items[_AHEAD:]:
            yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # whoever stops early, by Ctrl-C for one, does not wait for the rest


def _first_reason(samples: Sequence[Sample]) -> str:
    try:
        look_up(samples[0].path, samples[0].frame)
    except ImageError as error:
        return str(error)
    return "it can now"  # the file came, or came back, in between
