"""`prepare`: the good images of a data set decoded, checked, split and laid, and what the user should know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .advice import ENOUGH, advise, on_folders
from .config import Config
from .data.cache import Cache, open_cache
from .data.files import below
from .data.folder import is_doubtful
from .data.loading import Loaded, find_spec, load_all
from .data.samples import Dataset, Sample, first_of
from .data.splits import contents_of, evenly, hold_out
from .errors import ImageError, TrainingError, problem
from .headers import Stored, stored_as
from .images import ImageSpec
from .laying import lay
from .likeness import SHAPE, SMALL, in_colour, stored_record
from .model.network import size_in_graph
from .model.pose import Pose
from .progress import Progress

FEWEST = 10
DIM = 0.25  # largest value, of full scale, below which images use too little of their depth
MANY = 4  # channels, above which they may be rows
RARE = 0.1  # share of the images, up to which those that are stored otherwise are named
LOOKED_UP = 200  # files whose headers are looked up
LARGEST_GRAPH = 2 * 10**9  # bytes: an ONNX file holds 2 GiB, and more than numbers is in it


@dataclass(frozen=True)
class Prepared:
    """The images of a run: to train on, held out, the words one should read about them, and how many are for testing.

    Those to train on are laid as `pose` does it; the others come as any image will come to the detector. `tested`
    counts the good images that our split, not the user, left for testing. `copies` are the digests of those of
    held-out images: neither trained on nor held out, and no news to a test. `contents` are `contents_of` all images,
    `stored` says how their files are stored.
    """

    spec: ImageSpec
    train: Loaded
    held_out: Loaded
    remarks: tuple[str, ...]
    tested: int
    copies: tuple[str, ...]
    contents: frozenset[str]
    pose: Pose
    stored: dict[str, Any] | None


def prepare(
    config: Config, dataset: Dataset, *, strict: bool = False, cache: Cache | None = None, quiet: bool = True
) -> Prepared:
    """Decode the good images and split off the held-out ones; TrainingError where there is too little to learn from."""
    if not dataset.train:
        raise _too_few(dataset, 0, dataset.skipped)
    cache = cache or open_cache()
    spec = find_spec(dataset.train, config.data)
    if "colour" in config.score.parts and spec.channels == 1:
        came = f"one in the images of {dataset.root}: the part is 0 everywhere"
        do = "Leave it out of score.parts."
        raise TrainingError(problem("score.parts: colour", expected="two channels or more", came=came, do=do))
    _check_detector(config, spec, dataset.train)
    try:
        with Progress("decoding", len(dataset.train), quiet=quiet) as progress:
            loaded = load_all(dataset.train, spec, cache, progress.update, strict=strict)
    except ImageError as error:
        raise TrainingError(f"{error}. Remove the file, or train without --strict to skip such files.") from None
    cache.trim()
    contents = contents_of(loaded.pixels)
    _check_images(len(set(contents)), loaded, dataset)
    chosen, kept = _hold_out(loaded, contents, config)
    train = _part(loaded, chosen)
    pose, pixels = lay(train.pixels, config)
    train = replace(train, pixels=pixels)
    looks, odd, stored = _look_up(loaded, dataset.root, spec)
    advice = advise(train.pixels, config, [one.size for one in looks], len(kept))
    copies, tested = len(contents) - len(set(contents)), _left_for_testing(dataset)
    on_use = _remarks_on_use(loaded, looks, len(chosen), len(kept), tested)
    remarks = (*_remarks(loaded, dataset, copies), *odd, *on_use, *advice)
    rest = {*range(len(contents))} - {*chosen, *kept}
    copied = tuple(loaded.digests[place] for place in sorted(rest))
    held_out = _part(loaded, kept)
    return Prepared(spec, train, held_out, remarks, tested, copied, frozenset(contents), pose, stored)


def _hold_out(loaded: Loaded, contents: Sequence[str], config: Config) -> tuple[list[int], list[int]]:
    """Positions to train on and to hold out. A held-out image's exact copies are in neither: it would be known."""
    first = {content: place for place, content in reversed([*enumerate(contents)])}
    originals = {loaded.samples[place].name: place for place in first.values()}
    samples = [loaded.samples[place] for place in originals.values()]
    _, kept = hold_out(samples, config.data.held_out, config.data.held_out_min, config.train.seed)
    held_out = [originals[sample.name] for sample in kept]
    unseen = {contents[place] for place in held_out}
    return [place for place, content in enumerate(contents) if content not in unseen], sorted(held_out)


def _part(loaded: Loaded, places: list[int]) -> Loaded:
    return Loaded(
        loaded.pixels[places],
        tuple(loaded.samples[i] for i in places),
        tuple(loaded.digests[i] for i in places),
        loaded.skipped,
    )


def _check_detector(config: Config, spec: ImageSpec, samples: Sequence[Sample]) -> None:
    """Before anything is trained that no file could hold."""
    known = config.data
    learnt, _ = hold_out(samples, known.held_out, known.held_out_min, config.train.seed)
    size = size_in_graph(config, spec.channels, len(learnt))
    if size > LARGEST_GRAPH:
        expected = f"a detector of {LARGEST_GRAPH / 1e9:.0f} GB at most, which is what its file can hold"
        do = "Lower data.size, or one of model.widths, items, latent, head_width, critic_width and bank."
        raise TrainingError(problem("model", expected=expected, came=f"one of {size / 1e9:.2f} GB", do=do))


def _check_images(different: int, loaded: Loaded, dataset: Dataset) -> None:
    count = len(loaded.pixels)
    if count > 1 and different == 1:
        raise TrainingError(
            f"{dataset.root}: all {count} good images are identical, so there is no variation to learn. "
            f"Check that the folder holds different photographs."
        )
    if different < FEWEST:
        raise _too_few(dataset, different, (*dataset.skipped, *loaded.skipped))


def _too_few(dataset: Dataset, count: int, skipped: Sequence[tuple[str, str]]) -> TrainingError:
    rest = f"; {len(skipped)} more could not be used{first_of(skipped)}" if skipped else ""
    if tested := _left_for_testing(dataset):
        rest += f"; {tested} more are left for testing (data.test_share)"
    return TrainingError(
        f"{dataset.root}: expected at least {FEWEST} different good images to learn from, got {count}{rest}. "
        f"Add good images; a few dozen is a start, 200 is comfortable."
    )


def _left_for_testing(dataset: Dataset) -> int:
    """Good images that our split, not the user's, left for testing."""
    return sum(sample.label == 0 for sample in dataset.test) if dataset.split_is_ours else 0


def _remarks(loaded: Loaded, dataset: Dataset, copies: int) -> list[str]:
    """What the user should know about the images, in words."""
    found = [f"skipped {name!r}: {reason}" for name, reason in (*dataset.skipped, *loaded.skipped)]
    found += on_folders([below(sample.name, dataset.root) for sample in dataset.train]) if dataset.pooled else []
    if dataset.pooled and is_doubtful(dataset.name):
        found.append(f"all images are taken for good, though their folder is called {dataset.name!r}")
    if copies:
        found.append(
            f"{copies} of the {len(loaded.pixels)} good images are exact copies of others; "
            f"those of held-out images are not trained on"
        )
    flat = [c for c in range(loaded.pixels.shape[3]) if np.ptp(loaded.pixels[..., c]) == 0]
    if flat:
        names = ", ".join(str(c) for c in flat)
        found.append(
            f"channel {names} has the same value in every pixel of every good image: it carries no information"
        )
    return found


def _remarks_on_use(loaded: Loaded, looks: Sequence[Stored], chosen: int, kept: int, tested: int) -> Iterator[str]:
    if chosen < FEWEST:
        yield f"only {chosen} images are left to train on, {kept} are held out: data.held_out_min=0 keeps fewer back"
    elif chosen < ENOUGH <= chosen + kept + tested:
        yield (
            f"{chosen} images are left to train on: {kept} are held out for the threshold (data.held_out_min), "
            f"{tested} left for testing (data.test_share)"
        )
    channels = loaded.pixels.shape[3]
    size = looks[0].size if looks else None
    if size and channels > max(MANY, size[1]):
        yield (
            f"images of {size[0]} x {size[1]} with {channels} channels: if the channels stand first, transpose the "
            f"arrays to height x width x channels"
        )
    largest, white = int(loaded.pixels.max()), int(np.iinfo(loaded.pixels.dtype).max)
    if largest < DIM * white:
        yield (
            f"the largest value of all good images is {largest} of {white}: data of fewer bits in a wider file? "
            f"Scaled to the full range they would be learnt better"
        )


def _look_up(loaded: Loaded, root: str, spec: ImageSpec) -> tuple[list[Stored], list[str], dict[str, Any] | None]:
    """How some of the files are stored, evenly chosen, a remark on the odd ones among them, and the record of all."""
    places = evenly(len(loaded.samples), LOOKED_UP)
    chosen = [loaded.samples[place] for place in places]
    found = {below(one.name, root): stored_as(one.path, one.frame) for one in chosen}
    looks = {name: one for name, one in found.items() if one is not None}
    record = stored_record([*looks.values()], spec.fit, in_colour(loaded.pixels[place] for place in places))
    return [*looks.values()], [*_on_odd_ones(looks)], record


def _on_odd_ones(looks: Mapping[str, Stored]) -> Iterator[str]:
    """Few that are stored otherwise than most may be no pictures of the part: learnt, they spoil the threshold."""
    usual = Counter((one.channels, one.bits) for one in looks.values()).most_common(1)
    ratio = np.median([one.size[0] / one.size[1] for one in looks.values()] or [1.0])
    side = np.median([max(one.size) for one in looks.values()] or [1])
    odd = [
        name
        for name, one in looks.items()
        if (one.channels, one.bits) != usual[0][0]
        or not 1 / SHAPE <= one.size[0] / one.size[1] / ratio <= SHAPE
        or max(one.size) * SMALL < side
    ]
    if 0 < len(odd) <= RARE * len(looks):
        first = looks[odd[0]]
        width, height = first.size
        channels = "grey" if first.channels == 1 else f"{first.channels} channels"
        yield (
            f"{len(odd)} of {len(looks)} good images {'is' if len(odd) == 1 else 'are'} stored otherwise than the "
            f"others (first {odd[0]!r}: {width} x {height}, {channels}, {first.bits} bits): what is no picture of a "
            f"good part as the others are does not belong here"
        )
