"""Pairing images with their masks: by name, never by position."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError, problem
from .files import Listing, list_images
from .samples import Sample, Skipped

SUFFIX = "_mask"
_ORPHAN = "a mask without an image"
_RULE = "A mask lies in the folder of its kind and has the name of its image, with or without '_mask' at its end."


def defect_samples(folder: Path, mask_folder: Path, kind: str) -> tuple[list[Sample], list[Skipped]]:
    """The images of one kind of defect with their masks of `mask_folder` (None: has none), and what was skipped."""
    masks = list_images(mask_folder)
    samples, left = pair(list_images(folder), [masks], kind)
    return samples, [*masks.skipped, *left]


def pair(images: Listing, masks: Iterable[Listing], kind: str) -> tuple[list[Sample], list[Skipped]]:
    """Anomalous samples of `kind`, and what was skipped: of the images, and of the masks those that no image has.

    Raises DataError where an image has two masks or a mask two images.
    """
    owner_of_stem: dict[str, list[str]] = defaultdict(list)
    for name in images.names:
        owner_of_stem[_stem(name)].append(name)
    found: dict[str, str] = {}
    orphans: list[Skipped] = []
    for listing in masks:
        for mask_name, path in zip(listing.names, listing.paths, strict=True):
            owners = [owner for stem in _image_stems(mask_name) for owner in owner_of_stem.get(stem, ())]
            if not owners:
                orphans.append(orphan(path, f"none of its name in {str(images.folder)!r}"))
            elif len(owners) > 1:
                raise _two_images(path, owners)
            elif owners[0] in found:
                raise _two_masks(str(images.folder / owners[0]), found[owners[0]], path)
            else:
                found[owners[0]] = path
    images = without_masks(images)
    samples = [
        Sample(path, 1, kind, mask=found.get(name)) for name, path in zip(images.names, images.paths, strict=True)
    ]
    return samples, [*images.skipped, *orphans]


def without_masks(images: Listing) -> Listing:
    """Those named like the mask of another go to what was skipped: they would be learnt, or be defects."""
    stems = {_stem(name) for name in images.names}
    masks = {name for name in images.names if stems.intersection(_image_stems(name)) != {_stem(name)}}
    reason = "looks like the mask of an image beside it: masks lie in a folder of their own (data.mask_dir)"
    told = [Skipped(str(images.folder / name), reason) for name in images.names if name in masks]
    kept = tuple(name for name in images.names if name not in masks)
    return images._replace(names=kept, skipped=(*images.skipped, *told))


def orphan(path: str, why: str) -> Skipped:
    """The report of a mask that belongs to no image."""
    return Skipped(path, f"{_ORPHAN}: {why}")


def require_some_pairs(root: Path, samples: Iterable[Sample], skipped: Iterable[Skipped]) -> None:
    """DataError where there are masks and defects and no two belong together: the names follow another rule."""
    orphans = [entry for entry in skipped if entry.reason.startswith(_ORPHAN)]
    defects = [sample for sample in samples if sample.label]
    if orphans and defects and not any(sample.mask for sample in defects):
        came = f"{len(orphans)} masks and no image of their names (the first mask: {orphans[0].path!r})"
        raise DataError(problem(repr(str(root)), expected="masks named like their images", came=came, do=_RULE))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _image_stems(mask_name: str) -> list[str]:
    """The stems an image of this mask can have."""
    stem = _stem(mask_name)
    return [stem, stem[: -len(SUFFIX)]] if stem.endswith(SUFFIX) else [stem]


def _two_masks(image: str, first: str, second: str) -> DataError:
    came = f"{first!r} and {second!r}"
    return DataError(problem(f"image {image!r}", expected="one mask at most", came=came, do="Remove one of them."))


def _two_images(mask: str, owners: list[str]) -> DataError:
    came = " and ".join(repr(owner) for owner in owners)
    return DataError(problem(f"mask {mask!r}", expected="one image of its name", came=came, do="Rename one. " + _RULE))
