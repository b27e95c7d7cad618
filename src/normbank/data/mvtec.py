"""The MVTec AD tree of one category: train/good, test/<kind>, ground_truth/<kind>/<stem>_mask.png."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, problem
from ..settings import Data
from .files import is_dir, list_images, name_of, some_images, subfolders, with_images
from .masks import defect_samples, orphan, require_some_pairs, without_masks
from .samples import GOOD, GOOD_NAMES, Dataset, Sample, Skipped, letters


def fits(root: Path) -> bool:
    """Whether `root` is a category: it has train/good."""
    return is_dir(root / "train" / GOOD)


def categories(root: Path) -> list[str]:
    """The names of the categories directly in `root`, sorted."""
    return [folder.name for folder in subfolders(root) if fits(folder)]


def read(root: Path, settings: Data) -> Dataset:
    """The category at `root`. A defective image may lack its mask; a mask without an image goes to `skipped`.

    Raises DataError where train/good is missing or empty, where a mask is ambiguous, or where no mask fits any image.
    """
    if not fits(root):
        raise _no_train_good(root)
    do = "Put the images for training there."
    good = without_masks(some_images(root / "train" / GOOD, expected="good images", do=do))
    test, skipped = _test(root)
    return Dataset(
        name=name_of(root),
        format="mvtec",
        root=str(root),
        train=tuple(Sample(path, 0, GOOD) for path in good.paths),
        test=tuple(test),
        skipped=(*good.skipped, *skipped, *_unused(root)),
    )


def _test(root: Path) -> tuple[list[Sample], list[Skipped]]:
    samples: list[Sample] = []
    skipped: list[Skipped] = _outside_kinds(root / "test")
    for folder in subfolders(root / "test"):
        if folder.name == GOOD:
            good = without_masks(list_images(folder))
            samples += [Sample(path, 0, GOOD) for path in good.paths]
            skipped += good.skipped
        elif letters(folder.name) in GOOD_NAMES:  # as a kind of defect every good image in it would be one
            came, do = f"the folder {str(folder)!r}", f"Call it {GOOD}, or what its defects are called."
            raise DataError(problem(repr(str(root / "test")), expected="good, and kinds of defects", came=came, do=do))
        else:
            found, left = defect_samples(folder, root / "ground_truth" / folder.name, folder.name)
            samples += found
            skipped += left
    skipped += _kinds_without_images(root)
    require_some_pairs(root, samples, skipped)
    return samples, skipped


def _unused(root: Path) -> list[Skipped]:
    """Folders of images that are no part of the layout: `validation`, or `bad` in `train`."""
    parts = ("train", "test", "ground_truth")
    beside = [folder for folder in subfolders(root) if folder.name not in parts]
    beside += [folder for folder in subfolders(root / "train") if folder.name != GOOD]
    reason = "images, not used: train/good is for training, test for testing"
    return [Skipped(str(folder), f"{count} {reason}") for folder, count in with_images(beside)]


def _outside_kinds(test: Path) -> list[Skipped]:
    loose = list_images(test, without=subfolders(test))
    return [*loose.skipped, *(Skipped(path, "not in the folder of a kind, test/<kind>") for path in loose.paths)]


def _kinds_without_images(root: Path) -> list[Skipped]:
    """Masks of kinds that test does not have; those of good images say nothing and are passed over."""
    strays = [f for f in subfolders(root / "ground_truth") if f.name != GOOD and not is_dir(root / "test" / f.name)]
    return [orphan(path, f"there is no folder test/{f.name}") for f in strays for path in list_images(f).paths]


def _no_train_good(root: Path) -> DataError:
    inside = categories(root)
    if inside:
        came = f"a folder of {len(inside)} categories: {', '.join(inside)}"
        return DataError(
            problem(repr(str(root)), expected="one category", came=came, do=f"Name one: {str(root / inside[0])!r}.")
        )
    names = ", ".join(folder.name for folder in subfolders(root)) or "none"
    do = "Set data.format=folder for a folder of good images."
    return DataError(problem(repr(str(root)), expected="a folder train/good", came=f"the folders: {names}", do=do))
