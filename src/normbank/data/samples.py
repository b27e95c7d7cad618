"""What a reader returns: samples, by split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

GOOD = "good"
GOOD_NAMES = {GOOD, "ok", "normal", "io"}  # of folders, by their `letters`, that are no kind of defect
TOLD = 3  # files


def letters(name: str) -> str:
    """Of a name what says what it is: `Not-OK 2` is `notok`."""
    return "".join(filter(str.isalpha, name.casefold()))


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    `path` is a file; `frame` its index inside a file that holds many images (MNIST IDX), else None.
    `label` is 0 for good and 1 for anomalous; `kind` is "good" or the name of the defect; `mask` the path of the ground
    truth (255 where defective), None where there is none.
    """

    path: str
    label: int
    kind: str
    mask: str | None = None
    frame: int | None = None

    @property
    def name(self) -> str:
        """The path, and `#frame` where the file holds many images: unique in a data set."""
        return self.path if self.frame is None else f"{self.path}#{self.frame}"


class Skipped(NamedTuple):
    """A file that could not be used, and why."""

    path: str
    reason: str


def first_of(skipped: Sequence[tuple[str, str]]) -> str:
    """The first files of those that could not be used, each with its reason, in brackets; nothing where there is none.

    For the message where what is left does not suffice.
    """
    told = [f"{path!r}: {reason}" for path, reason in skipped[:TOLD]]
    return f" ({'; '.join([*told, *['...'] * (len(skipped) > TOLD)])})" if told else ""


@dataclass(frozen=True)
class Dataset:
    """A data set as its reader found it.

    `train` holds good samples only. `test` may be empty: a folder of good images alone is a data set.
    `split_is_ours` says that no one set good test images apart, so that a share of the good ones, which may be none, is
    split off by a seed.
    `pooled` says that no one named the folder of the good images: all that were found are taken for good.
    `skipped` lists files that were seen and can never be an image (a directory named x.png).
    """

    name: str
    format: str
    root: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    split_is_ours: bool = False
    skipped: tuple[Skipped, ...] = ()
    pooled: bool = False
