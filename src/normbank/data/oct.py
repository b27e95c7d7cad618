"""The OCT2017 tree of retinal images: train/NORMAL, test/<class>; the case of the names does not matter."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, problem
from ..settings import Data
from .files import list_images, name_of, some_images, subfolders, with_images
from .samples import GOOD, Dataset, Sample, Skipped

NORMAL = "normal"


def fits(root: Path) -> bool:
    """Whether `root` has train/NORMAL, and no masks, which would be passed over."""
    train = _child(root, "train")
    return _child(root, "ground_truth") is None and train is not None and _child(train, NORMAL) is not None


def read(root: Path, settings: Data) -> Dataset:
    """Train: train/NORMAL; its other classes are passed over. Test: every class of test, NORMAL good; no masks.

    Raises DataError where train/NORMAL is missing or empty, or where two folders differ in case alone.
    """
    train = _child(root, "train")
    normal = _child(train, NORMAL) if train else None
    if normal is None:
        names = ", ".join(folder.name for folder in subfolders(train or root)) or "none"
        do = "Name the folder that holds train and test."
        raise DataError(problem(repr(str(root)), expected="a folder train/NORMAL", came=f"folders: {names}", do=do))
    good = some_images(normal, expected="normal images", do="Put the images for training there.")
    test, skipped = _test(root)
    return Dataset(
        name=name_of(root),
        format="oct",
        root=str(root),
        train=tuple(Sample(path, 0, GOOD) for path in good.paths),
        test=tuple(test),
        skipped=(*good.skipped, *skipped, *_beside(root)),
    )


def _beside(root: Path) -> list[Skipped]:
    folders = [folder for folder in subfolders(root) if folder.name.casefold() not in ("train", "test")]
    reason = "images, not used: train is for training, test for testing"
    return [Skipped(str(folder), f"{count} {reason}") for folder, count in with_images(folders)]


def _test(root: Path) -> tuple[list[Sample], list[Skipped]]:
    samples: list[Sample] = []
    skipped: list[Skipped] = []
    folder = _child(root, "test")
    if folder:
        loose, reason = list_images(folder, without=subfolders(folder)), "not in the folder of a class, test/<class>"
        skipped += [*loose.skipped, *(Skipped(path, reason) for path in loose.paths)]
    for kind in subfolders(folder) if folder else ():
        found = list_images(kind)
        good = kind.name.casefold() == NORMAL
        if kind.name == GOOD:
            do = "Rename it; the good images are those of NORMAL."
            raise DataError(problem(repr(str(kind)), expected="a class of defects", came=f"the name {GOOD!r}", do=do))
        samples += [Sample(path, 0 if good else 1, GOOD if good else kind.name) for path in found.paths]
        skipped += found.skipped
    return samples, skipped


def _child(folder: Path, name: str) -> Path | None:
    """The sub-folder of that name in any case, None where there is none."""
    found = [child for child in subfolders(folder) if child.name.casefold() == name]
    if len(found) > 1:
        came = " and ".join(repr(child.name) for child in found)
        raise DataError(
            problem(repr(str(folder)), expected=f"one folder {name!r}", came=came, do="Rename one of them.")
        )
    return found[0] if found else None
