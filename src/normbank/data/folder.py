"""A plain folder: good images, alone or with defects by kind and their masks. The names of the folders are settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, problem
from ..settings import Data
from .files import Listing, is_dir, list_images, name_of, nearest, some_images, subfolders, with_images
from .masks import orphan, pair, require_some_pairs, without_masks
from .samples import GOOD, GOOD_NAMES, Dataset, Sample, Skipped, letters
from .splits import portion, split_off

LOOSE_KIND = "defect"  # of images directly in abnormal_dir
_SETTINGS = ("normal_dir", "abnormal_dir", "normal_test_dir", "mask_dir")
# Names that speak against "all images below are good". `.` as data.normal_dir overrules them.
_MASKS = {"mask", "masks", "groundtruth"}
_DOUBTFUL = {"defect", "defects", "defective", "anomaly", "anomalies", "anomalous", "abnormal", "bad", *_MASKS}
_DOUBTFUL |= {"test", "nok", "ng", "ko", "nio", "notok", "notgood", "fail", "failed", "fault"}
_DOUBTFUL |= {"faulty", "broken", "damaged", "reject", "rejected", "rejects", "scrap"}


class _Folders(NamedTuple):
    """The folders of the settings; one that is None is not there."""

    good: Path
    defects: Path | None
    good_test: Path | None
    masks: Path | None

    def others(self, folder: Path) -> list[Path]:
        """All of them except `folder`."""
        return [other for other in self if other is not None and other != folder]


def fits(root: Path) -> bool:
    """Whether `root` is a folder at all: any folder may hold good images."""
    return is_dir(root)


def read(root: Path, settings: Data) -> Dataset:
    """Good images of `normal_dir` (of `root` itself where that is missing), defects of `abnormal_dir`.

    With `normal_test_dir` the good test images are those; without it, and where there are defects, `test_share` of the
    good images is split off by `split_seed`. Raises DataError where a folder that was named is missing, where two
    settings name one folder, where no good image is found, or where masks are ambiguous or fit no image.
    """
    folders = _resolve(root, settings)
    listing = _good(root, folders, settings)
    good = [Sample(path, 0, GOOD) for path in listing.paths]
    good_test, test_skipped = _good_test(folders)
    defects, skipped = _defects(folders)
    require_some_pairs(root, defects, skipped)
    split = bool(defects) and folders.good_test is None
    number = min(portion(settings.test_share, len(good)), len(good) - 1) if split else 0
    train, split_off_good = split_off(good, number, settings.split_seed)
    return Dataset(
        name=name_of(root),
        format="folder",
        root=str(root),
        train=train,
        test=(*good_test, *split_off_good, *defects),
        split_is_ours=split,
        skipped=(*listing.skipped, *test_skipped, *skipped, *_unused(root, folders)),
        pooled=folders.good == root and settings.normal_dir == Data.model_fields["normal_dir"].default,
    )


def _unused(root: Path, folders: _Folders) -> list[Skipped]:
    """Folders beside the used ones that hold images: `bad` next to `good` should not go unnoticed."""
    if folders.good == root:
        return []
    used = [os.path.realpath(folder) for folder in folders if folder is not None]
    beside = [child for child in subfolders(root) if not any(_holds(child, folder) for folder in used)]
    return [
        Skipped(str(folder), f"{count} images, not used; {_setting_for(folder)} can name the folder")
        for folder, count in with_images(beside)
    ]


def _setting_for(folder: Path) -> str:
    return "data.mask_dir" if letters(folder.name) in _MASKS else "data.abnormal_dir or data.normal_test_dir"


def _holds(folder: Path, inner: str) -> bool:
    outer = os.path.realpath(folder)
    return os.path.commonpath([outer, inner]) == outer


def _resolve(root: Path, settings: Data) -> _Folders:
    found = {name: _named(root, settings, name) for name in _SETTINGS}
    folders = _Folders(found["normal_dir"] or root, found["abnormal_dir"], found["normal_test_dir"], found["mask_dir"])
    setting_of: dict[str, str] = {}
    for name, folder in zip(_SETTINGS, folders, strict=True):
        if folder is not None and (first := setting_of.setdefault(os.path.realpath(folder), name)) != name:
            came = f"{str(folder)!r} for both"
            do = "Good, defective and mask images need a folder each."
            raise DataError(problem(f"data.{first} and data.{name}", expected="two folders", came=came, do=do))
    return folders


def _named(root: Path, settings: Data, name: str) -> Path | None:
    """The folder of a setting; None where it is not there and is not asked for: its default may be absent."""
    value: str | None = getattr(settings, name)
    if value is None:
        return None
    folder = root / value
    if is_dir(folder):
        return folder
    if value == Data.model_fields[name].default and not os.path.exists(folder):
        return None
    raise _not_there(f"data.{name}", folder)


def _not_there(setting: str, folder: Path) -> DataError:
    parent = folder.parent
    while not is_dir(parent) and parent != parent.parent:
        parent = parent.parent
    near = nearest(folder.name, [child.name for child in subfolders(parent)])
    do = f"The nearest there is is {str(parent / near)!r}." if near else f"{str(parent)!r} has no folder in it."
    came = "a file" if os.path.exists(folder) else "nothing there"
    return DataError(problem(f"{setting} ({str(folder)!r})", expected="a folder", came=came, do=do))


def _good(root: Path, folders: _Folders, settings: Data) -> Listing:
    there = ", ".join(repr(child.name) for child in subfolders(root)) or "none"
    do = f"Put good images there, or set data.normal_dir; folders in {str(root)!r}: {there}."
    listing = some_images(folders.good, without=folders.others(folders.good), expected="good images", do=do)
    if settings.normal_dir == Data.model_fields["normal_dir"].default:
        _refuse_doubtful(folders.good, listing, settings, is_named=folders.good != root)
    return without_masks(listing)


def is_doubtful(name: str) -> bool:
    """Whether a folder's name speaks against what is in it being good."""
    return letters(name) in _DOUBTFUL


def _refuse_doubtful(good: Path, listing: Listing, settings: Data, *, is_named: bool) -> None:
    """All images below count as good: not where a folder's name says otherwise."""
    whole = f"./{settings.normal_dir}" if is_named else "."
    do = f"data.normal_dir={whole} takes every image for good."
    do = f"Move it out of there; {do}" if is_named else f"Name the folder it is in, or set data.normal_dir; {do}"
    named = {letters(Path(value).name) for value in (settings.abnormal_dir, settings.mask_dir)} - {""}
    for name in listing.names:
        for folder in Path(name).parents:
            if is_doubtful(folder.name) or letters(folder.name) in named:
                came = f"the sub-folder {folder.as_posix()!r}"
                raise DataError(problem(repr(str(good)), expected="a folder of good images", came=came, do=do))


def _good_test(folders: _Folders) -> tuple[list[Sample], tuple[Skipped, ...]]:
    if folders.good_test is None:
        return [], ()
    do = "Put good test images there, or leave data.normal_test_dir out."
    without = folders.others(folders.good_test)
    listing = without_masks(some_images(folders.good_test, without=without, expected="good images", do=do))
    return [Sample(path, 0, GOOD) for path in listing.paths], listing.skipped


def _defects(folders: _Folders) -> tuple[list[Sample], list[Skipped]]:
    """All defective images, those directly in the folder first, then kind by kind."""
    images_by_kind, masks_by_kind = _images_by_kind(folders), _listings(folders.masks, folders)
    skipped = [skip for listing in masks_by_kind.values() for skip in listing.skipped]
    samples: list[Sample] = []
    for kind, images in images_by_kind.items():
        # Loose images are of the kind LOOSE_KIND, so their masks may lie in its folder, too.
        kinds = {kind, LOOSE_KIND} if kind == "" and LOOSE_KIND not in images_by_kind else {kind}
        masks = [masks_by_kind.pop(name) for name in sorted(kinds) if name in masks_by_kind]
        found, unused = pair(images, masks, kind or LOOSE_KIND)
        samples += found
        skipped += unused
    for left in masks_by_kind.values():
        skipped += [orphan(path, "there are no images of its kind") for path in left.paths]
    return samples, skipped


def _images_by_kind(folders: _Folders) -> dict[str, Listing]:
    by_kind = _listings(folders.defects, folders)
    if names := [name for name in by_kind if letters(name) in GOOD_NAMES]:
        do = "Rename it, or set data.normal_dir or data.normal_test_dir to it."
        came = f"the folder {str(by_kind[names[0]].folder)!r}"
        raise DataError(problem(f"{str(folders.defects)!r}", expected="kinds of defects", came=came, do=do))
    return by_kind


def _listings(folder: Path | None, folders: _Folders) -> dict[str, Listing]:
    """Images directly in `folder` (under the empty kind) and in each of its sub-folders."""
    if folder is None:
        return {}
    others = {os.path.realpath(other) for other in folders.others(folder)}
    kinds = [child for child in subfolders(folder) if os.path.realpath(child) not in others]
    loose = list_images(folder, without=subfolders(folder))
    by_kind = {"": loose} if loose.names or loose.skipped else {}
    return by_kind | {kind.name: list_images(kind, without=folders.others(folder)) for kind in kinds}
