"""Finding image files: what every reader that walks folders shares."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..decoding import SUFFIXES
from ..errors import DataError, UserError, problem
from .samples import Skipped

_HEAD = 1024  # bytes of a file that tell what it is
DRAWN = ".normbank"  # in a folder of maps or overlays: they are not images to train on or to score


class Listing(NamedTuple):
    """Image files under a folder, sorted by their name relative to it, and what could not be used."""

    folder: Path
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    @property
    def paths(self) -> list[str]:
        """The files as paths that can be opened."""
        return [str(self.folder / name) for name in self.names]


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its extension, in any case, unless it is hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def list_images(folder: Path, *, without: Collection[Path] = ()) -> Listing:
    """All image files in `folder` and its sub-folders, except in the folders `without`.

    Links are followed except upwards, each folder is entered once, hidden names are passed over, and so are sub-folders
    of our own pictures, which hold a file DRAWN. A folder that does not exist gives an empty listing. What looks like
    an image and can never be one goes to `skipped`.
    """
    if not folder.is_dir():
        return Listing(folder, (), ())
    above = Path(os.path.realpath(folder)).parents  # a link up would bring in other folders of the data set
    entered = {os.path.realpath(path) for path in (*without, *above)}
    names: list[str] = []
    skipped: list[Skipped] = []
    for name, reason in _walk(folder, "", entered):
        if reason is None:
            names.append(name)
        else:
            skipped.append(Skipped(str(folder / name), reason))
    return Listing(folder, tuple(sorted(names)), tuple(sorted(skipped)))


def ensure_no_loss(path: Path, start: bytes | re.Pattern[bytes]) -> None:
    """UserError where results would replace what is not an earlier file of theirs, which begins with `start`.

    With an empty `start` none does. A name mistyped, `--csv *.png`, the very table that lists the images. An empty file
    holds nothing to lose.
    """
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            found = file.read((len(start) or 1) if isinstance(start, bytes) else _HEAD)
    except OSError:
        return  # whoever writes there says why it cannot be done
    if not (start.startswith(found) if isinstance(start, bytes) else start.match(found) or not found):
        expected, do = "a new file, or earlier results of this kind", "It would have been replaced: name another."
        raise UserError(problem(repr(str(path)), expected=expected, came="another file", do=do))


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in `folder`, by name, without hidden ones, those named like an image and those we drew."""
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return []
    shown = [p for p in children if not p.name.startswith(".") and not is_image_name(p.name)]
    return [p for p in shown if is_dir(p) and not _is_drawn(p)]


def _is_drawn(folder: Path) -> bool:
    return os.path.exists(folder / DRAWN)  # False, too, where one may not look


def with_images(folders: Iterable[Path]) -> list[tuple[Path, int]]:
    """Those of the folders that hold images, and how many."""
    counts = ((folder, len(list_images(folder).names)) for folder in folders)
    return [(folder, count) for folder, count in counts if count]


def is_dir(path: Path) -> bool:
    """Whether `path` is a folder; a link that leads nowhere or in circles is none."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def name_of(root: Path) -> str:
    """What a data set at `root` is called: the name of the folder, also where `root` is written `.` or `..`."""
    return os.path.basename(os.path.abspath(root))


def below(name: str, root: str) -> str:
    """`name` as it is called from a data set at `root`, a folder or a file in it; as it is where no way leads there."""
    try:
        return os.path.relpath(name, _folder_of(root) or ".")
    except ValueError:  # on another drive
        return name


def all_below(text: str, root: str) -> str:
    """Words in which files of the data set at `root` are quoted by their paths, with these as `below` has them."""
    start = repr(os.path.join(_folder_of(root), ""))[1:-1]
    return re.sub(rf"(['\"]){re.escape(start)}", r"\1", text)


def _folder_of(root: str) -> str:
    return root if os.path.isdir(root) else os.path.dirname(root)


def nearest(wanted: str, names: Collection[str], cutoff: float = 0.0) -> str:
    """The name most like `wanted`, its case aside; empty where none is `cutoff` (0 to 1) like it."""
    by_folded = {name.casefold(): name for name in sorted(names)}
    found = difflib.get_close_matches(wanted.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else ""


def some_images(folder: Path, *, without: Collection[Path] = (), expected: str, do: str) -> Listing:
    """`list_images` where there has to be one: DataError if there is none, with the first skipped file's reason."""
    listing = list_images(folder, without=without)
    if listing.names:
        return listing
    came = "no image"
    if listing.skipped:
        first = min(listing.skipped)
        came += f" ({len(listing.skipped)} skipped; the first: {first.path!r}: {first.reason})"
    raise DataError(problem(repr(str(folder)), expected=expected, came=came, do=do))


def _walk(top: Path, prefix: str, entered: set[str]) -> Iterator[tuple[str, str | None]]:
    """(name relative to `top`, None or why it cannot be an image), depth first, in sorted order."""
    here = top / prefix
    if (real := os.path.realpath(here)) in entered or (prefix and _is_drawn(here)):
        return
    entered.add(real)
    try:
        children = sorted(os.listdir(here))
    except OSError as error:
        yield prefix or ".", f"the folder cannot be listed: {error.strerror}"
        return
    for child in children:
        name = f"{prefix}/{child}" if prefix else child
        if is_image_name(child):
            yield name, _why_not(top / name)
        elif not child.startswith(".") and is_dir(top / name):
            yield from _walk(top, name, entered)


def _why_not(path: Path) -> str | None:
    """None for a plain file, else why it can never be an image."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a broken link ({error.strerror})" if path.is_symlink() else f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "a folder, though named like an image"
    return None if stat.S_ISREG(mode) else "not a plain file"
