"""MNIST as anomaly detection: one digit is normal, the nine others are not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, problem
from ..settings import Data
from .files import name_of
from .idx import LABELS_AXES, images_of, read_idx
from .samples import GOOD, Dataset, Sample

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def fits(root: Path) -> bool:
    """Whether `root` holds MNIST's training images, gzip or plain."""
    return _find(root, TRAIN_IMAGES) is not None


def read(root: Path, settings: Data) -> Dataset:
    """Train: the training images of `settings.normal_class`. Test: all test images, the other digits anomalous.

    Kinds are "good" and "digit_<d>". Raises DataError where a file is missing or damaged, where counts disagree, or
    where the digit has no training image.
    """
    digit = settings.normal_class
    train_file, train_labels = _split(root, TRAIN_IMAGES, TRAIN_LABELS)
    test_file, test_labels = _split(root, TEST_IMAGES, TEST_LABELS)
    chosen = np.flatnonzero(train_labels == digit)
    if not len(chosen):
        raise DataError(
            problem(repr(train_file), expected=f"images of the digit {digit}", came="none", do="Set data.normal_class.")
        )
    return Dataset(
        name=f"{name_of(root)} digit {digit}",
        format="mnist",
        root=str(root),
        train=tuple(Sample(train_file, 0, GOOD, frame=int(frame)) for frame in chosen),
        test=tuple(_test_sample(test_file, frame, int(found), digit) for frame, found in enumerate(test_labels)),
    )


def _test_sample(path: str, frame: int, found: int, digit: int) -> Sample:
    if found == digit:
        return Sample(path, 0, GOOD, frame=frame)
    return Sample(path, 1, f"digit_{found}", frame=frame)


def _split(root: Path, images_name: str, labels_name: str) -> tuple[str, NDArray[np.uint8]]:
    """The path of the images file and the labels [N], checked against each other."""
    images, labels_path = _require(root, images_name), _require(root, labels_name)
    labels = read_idx(labels_path, LABELS_AXES)
    count = len(images_of(images))
    if len(labels) != count:
        came = f"{len(labels)} labels for {count} images"
        do = f"Take both from one source: {str(images)!r} and this."
        raise DataError(problem(repr(str(labels_path)), expected="a label for each image", came=came, do=do))
    if labels.max() > 9:
        first = int(np.flatnonzero(labels > 9)[0])
        came = f"{labels[first]} at index {first}"
        raise DataError(problem(repr(str(labels_path)), expected="labels 0 to 9", came=came, do="Is it MNIST's file?"))
    return str(images), labels


def _find(root: Path, name: str) -> Path | None:
    return next((path for path in (root / name, root / f"{name}.gz") if os.path.isfile(path)), None)


def _require(root: Path, name: str) -> Path:
    path = _find(root, name)
    if path is None:
        do = "MNIST is four files; put all of them in this folder."
        raise DataError(problem(repr(str(root)), expected=f"the file {name} or {name}.gz", came="neither", do=do))
    return path
