"""Opening a data set: by its format, or by finding out which it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, problem
from ..settings import Data
from . import folder, mnist, mvtec, oct, table
from .files import is_dir, nearest, subfolders
from .samples import Dataset


class Reader(NamedTuple):
    """A format: `fits(root)` says whether the data look like it, `read(root, settings)` reads them."""

    fits: Callable[[Path], bool]
    read: Callable[[Path, Data], Dataset]


# In the order in which "auto" tries them; `folder` fits every folder, so it is last.
# A new format is its file, its line here, and its name in settings.Data.format.
READERS: dict[str, Reader] = {
    "csv": Reader(table.fits, table.read),
    "mnist": Reader(mnist.fits, mnist.read),
    "oct": Reader(oct.fits, oct.read),
    "mvtec": Reader(mvtec.fits, mvtec.read),
    "folder": Reader(folder.fits, folder.read),
}
_DEFAULTS = Data()


def open_dataset(root: str | Path, settings: Data = _DEFAULTS) -> Dataset:
    """The data at `root`, a folder or a CSV file, as samples by split.

    `settings.format` names the reader; "auto" takes the first of READERS that fits. Raises DataError naming the path
    and what to do where it is missing, of the wrong sort, empty, or not as the format wants it.
    """
    path = Path(root)
    _require_exists(path)
    name = _detect(path, settings) if settings.format == "auto" else settings.format
    _require_sort(path, name)
    return READERS[name].read(path, settings)


def _detect(path: Path, settings: Data) -> str:
    name = next((name for name, reader in READERS.items() if reader.fits(path)), "folder")
    if name == "folder" and not is_dir(path / settings.normal_dir):
        _refuse_collection(path)
        _refuse_beside_table(path)
    return name


def _refuse_collection(path: Path) -> None:
    """A folder of data sets (MVTec AD with all its categories) is not a folder of good images."""
    special = [reader for name, reader in READERS.items() if name not in ("csv", "folder")]
    inside = [child.name for child in subfolders(path) if any(reader.fits(child) for reader in special)]
    if inside:
        came = f"a folder that holds some: {', '.join(inside)}"
        do = f"Name one, such as {str(path / inside[0])!r}."
        raise DataError(problem(repr(str(path)), expected="one data set", came=came, do=do))


def _refuse_beside_table(path: Path) -> None:
    """Where a table says which images are good, the folder beside it is not one of good images."""
    tables = [file for file in sorted(path.glob("*.csv")) if table.lists_samples(file)]
    if tables:
        came = f"a folder with the table {tables[0].name!r}"
        do = f"Name the table, {str(tables[0])!r}, or set data.format=folder."
        raise DataError(problem(repr(str(path)), expected="a folder of images", came=came, do=do))


def _require_sort(path: Path, name: str) -> None:
    """A CSV file for csv, a folder for the rest."""
    if name == "csv":
        if is_dir(path):
            do = "Name the CSV file itself."
            raise DataError(problem(repr(str(path)), expected="a CSV file", came="a folder", do=do))
    elif not is_dir(path):
        expected = "a folder or a CSV file" if name == "folder" else f"a folder, as data.format is {name}"
        do = f"Name the folder it is in ({str(path.parent)!r})."
        raise DataError(problem(repr(str(path)), expected=expected, came="a file", do=do))


def _require_exists(path: Path) -> None:
    try:
        path.stat()
        return
    except (OSError, ValueError) as error:
        came = "nothing there" if isinstance(error, FileNotFoundError) else str(error)
    parent = path.parent
    while not is_dir(parent) and parent != parent.parent:
        parent = parent.parent
    siblings = [child.name for child in (*subfolders(parent), *parent.glob("*.csv"))]
    near = nearest(path.name, siblings, cutoff=0.5) if parent == path.parent else ""
    do = f"Did you mean {str(parent / near)!r}?" if near else f"The part that is there: {str(parent)!r}."
    raise DataError(problem(repr(str(path)), expected="a folder or a CSV file", came=came, do=do))
