"""A CSV file of samples: image_path, label_index, split, and optionally mask_path and kind."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..decoding import SUFFIXES
from ..errors import DataError, problem
from ..settings import Data
from .files import is_image_name
from .samples import GOOD, Dataset, Sample

REQUIRED = ("image_path", "label_index", "split")
OPTIONAL = ("mask_path", "kind")
UNNAMED_KIND = "defect"
_HEADER = ",".join((*REQUIRED, OPTIONAL[0]))


class _Row(NamedTuple):
    """One record; `line` is the first of its lines in the file, counted from 1."""

    file: Path
    line: int
    values: Mapping[str, str]

    def error(self, column: str, expected: str, came: str, do: str) -> DataError:
        subject = f"{str(self.file)!r}, line {self.line}, column {column}"
        return DataError(problem(subject, expected=expected, came=came, do=do))


def fits(root: Path) -> bool:
    """Whether `root` is a CSV file, by its name."""
    return root.suffix.lower() == ".csv" and os.path.isfile(root)


def lists_samples(file: Path) -> bool:
    """Whether the first line of `file` has the columns of a table of samples."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            header = lines.readline(1000)
    except (OSError, ValueError):
        return False
    return all(name in header for name in REQUIRED)


def read(root: Path, settings: Data) -> Dataset:
    """The samples of the CSV file `root`, in its order; paths are relative to its folder or absolute.

    label_index is 0 (good) or 1 (anomalous), split is train or test; mask_path and kind may be empty or left out, other
    columns are passed over, and so are masks of good images. Raises DataError naming the line and the column.
    """
    samples: dict[str, list[Sample]] = {"train": [], "test": []}
    seen: dict[str, int] = {}
    for row in _rows(root):
        sample, split = _sample(row), _split(row)
        first = seen.setdefault(os.path.realpath(sample.path), row.line)
        if first != row.line:
            do = "An image is named once; remove one of the two lines."
            raise row.error("image_path", "a new image", f"that of line {first}", do)
        samples[split].append(sample)
    if not seen:
        do = "Add a line for each image."
        raise DataError(problem(repr(str(root)), expected="lines below the header", came="none", do=do))
    return Dataset(
        name=root.stem, format="csv", root=str(root), train=tuple(samples["train"]), test=tuple(samples["test"])
    )


def _rows(file: Path) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                pass  # an empty line, or a row of nothing, as spreadsheets leave them
            elif header is None:
                header = _checked_header(file, line, cells)
            else:
                yield _row(file, line, header, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        do = "Quote cells that hold commas, quotes or line breaks."
        raise DataError(problem(f"{str(file)!r}, line {line}", expected="CSV", came=str(error), do=do)) from None
    if header is None:
        raise DataError(
            problem(repr(str(file)), expected=f"the header {_HEADER}", came="no line", do="Write it first.")
        )


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{str(file)!r}: cannot be read: {error.strerror or error}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        came = f"the byte 0x{content[error.start]:02x}"
        do = "Save the file as UTF-8."
        raise DataError(problem(f"{str(file)!r}, line {line}", expected="UTF-8 text", came=came, do=do)) from None


def _checked_header(file: Path, line: int, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    subject = f"{str(file)!r}, line {line}"
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        do = f"The first line is {_HEADER}, with commas between."
        came = f"no {', '.join(missing)} among {header}"
        raise DataError(problem(subject, expected="the columns " + ", ".join(REQUIRED), came=came, do=do))
    for name in (*REQUIRED, *OPTIONAL):
        if header.count(name) > 1:
            came = f"{name} {header.count(name)} times"
            raise DataError(problem(subject, expected="each column once", came=came, do="Remove the others."))
    return header


def _row(file: Path, line: int, header: list[str], cells: list[str]) -> _Row:
    if len(cells) > len(header):
        do = "Quote a cell that holds a comma."
        came = f"{len(cells)}"
        raise DataError(problem(f"{str(file)!r}, line {line}", expected=f"{len(header)} cells", came=came, do=do))
    padded = [*cells, *[""] * (len(header) - len(cells))]
    return _Row(file, line, dict(zip(header, padded, strict=True)))


def _sample(row: _Row) -> Sample:
    label = _label(row)
    image = _file(row, "image_path")
    if image is None:
        raise row.error("image_path", "the path of an image", "nothing", "Fill it in, or remove the line.")
    return Sample(image, label, _kind(row, label), mask=_file(row, "mask_path"))


def _label(row: _Row) -> int:
    text = row.values["label_index"].strip()
    if text not in ("0", "1"):
        raise row.error("label_index", "0 (good) or 1 (anomalous)", repr(text), "Correct it.")
    return int(text)


def _split(row: _Row) -> str:
    split = row.values["split"].strip()
    if split not in ("train", "test"):
        raise row.error("split", "train or test", repr(split), "Correct it.")
    if split == "train" and _label(row) == 1:
        do = "Training takes good images only: set split to test, or remove the line."
        raise row.error("label_index", "0, as split is train", "1", do)
    return split


def _kind(row: _Row, label: int) -> str:
    kind = row.values.get("kind", "").strip()
    if (kind == GOOD) == (label == 0) or not kind:
        return kind or (UNNAMED_KIND if label else GOOD)
    expected = f"the kind of the defect, not {GOOD!r}" if label else f"{GOOD!r} or nothing"
    raise row.error("kind", f"{expected}, as label_index is {label}", repr(kind), "Correct one of the two.")


def _file(row: _Row, column: str) -> str | None:
    """The path in that column, checked to be a file of a known sort; None where the cell is empty."""
    text = row.values.get(column, "")
    if not text.strip():
        return None
    path = row.file.parent / text
    if not os.path.isfile(path):  # a name may begin or end with a space, but hardly ever does
        text = text.strip()
        path = row.file.parent / text
    if not is_image_name(path.name):
        raise row.error(column, f"a file ending in {' '.join(SUFFIXES)}", repr(text), "Convert it, or remove the line.")
    if not os.path.isfile(path):
        do = f"Paths are relative to {str(row.file.absolute().parent)!r}."
        raise row.error(column, "a file", f"{text!r}, which is none", do)
    return str(path)
