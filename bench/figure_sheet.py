"""Pictures in rows and columns: blocks of columns side by side, and as many bands of blocks as fit legibly."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.figure_style import INK, QUIET, SLIDE, SMALL, STYLE, TEXT, TITLE, below_height, framed
from normbank.report.overlays import Rgb, overlay

MAX_COLUMNS = 11
_TOP, _APART = 0.62, 0.14  # inches: title, and between bands
_EDGE, _GAP, _BETWEEN, _HEAD, _NOTE = 0.25, 0.05, 0.3, 0.32, 0.22  # inches
_SMALLEST, _LARGEST = 0.8, 1.5
_LETTER = 0.6  # width of a letter in heights


@dataclass(frozen=True)
class Tile:
    """A picture [H, W, 3] and the short text below it; without a picture, the text stands large in its place."""

    image: Rgb | None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """Pictures of one image, top to bottom, and what it is."""

    label: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Block:
    """Columns that belong together; `note` stands beside the title."""

    title: str
    columns: tuple[Column, ...]
    note: str = ""


@dataclass(frozen=True)
class _Plan:
    """Inches: of a picture, of what stands left of and above a band, from the top of each row to the next, in all."""

    cell: float
    left: float
    head: float
    rows: tuple[float, ...]
    size: tuple[float, float]
    bands: tuple[tuple[Block, ...], ...]


def sheet(title: str, below: str, rows: Sequence[str], blocks: Sequence[Block], *, scale: str = "") -> Figure:
    """All blocks under the title. `rows` are the names of the rows; `scale` explains a strip of the heat colours.

    The figure is a slide of 16 to 9; where the pictures would become too small, it is longer.
    """
    with matplotlib.rc_context(STYLE):
        plan = _plan(below, rows, blocks)
        figure, _, _ = framed(title, below, plan.size)
        top = _TOP
        for band in plan.bands:
            _draw_band(figure, plan, rows, band, top)
            top += plan.head + sum(plan.rows) + _APART
        if scale:
            _draw_scale(figure, plan, scale)
        return figure


def bands(blocks: Sequence[Block], most: int = MAX_COLUMNS) -> Iterator[tuple[Block, ...]]:
    """The blocks in order, in lines of `most` columns, a block of more in a line of its own."""
    line: list[Block] = []
    for block in blocks:
        if line and sum(len(one.columns) for one in (*line, block)) > most:
            yield tuple(line)
            line = []
        line.append(block)
    if line:
        yield tuple(line)


def _plan(below: str, rows: Sequence[str], blocks: Sequence[Block]) -> _Plan:
    """The largest pictures that fit on a slide, within limits."""
    lines = tuple(bands(blocks))
    width, least = SLIDE
    left = 0.3 + max(len(part) for name in rows for part in name.split("\n")) * TEXT * _LETTER / 72
    columns = [column for block in blocks for column in block.columns]
    notes = [any(c.tiles[row].note and c.tiles[row].image is not None for c in columns) for row in range(len(rows))]
    extra = [_GAP + _NOTE * has for has in notes]
    by_width = min((width - 2 * _EDGE - left - _gaps(band)) / _count(band) for band in lines)
    fixed = _TOP + below_height(below, width) + len(lines) * (sum(extra) + _APART)

    def fitted(head: float) -> float:
        by_height = (least - fixed - len(lines) * head) / (len(rows) * len(lines))
        return min(by_width, _LARGEST, max(by_height, _SMALLEST))

    heads = [_HEAD + count * SMALL * 1.3 / 72 + 0.06 for count in (1, 2)]
    is_long = any("\n" in _wrapped(column.label, fitted(heads[1])) for column in columns)
    cell, head = fitted(heads[is_long]), heads[is_long]
    height = max(least, fixed + len(lines) * (head + len(rows) * cell))
    return _Plan(cell, left, head, tuple(cell + more for more in extra), (width, height), lines)


def _count(band: Sequence[Block]) -> int:
    return sum(len(block.columns) for block in band)


def _gaps(band: Sequence[Block]) -> float:
    return (_count(band) - len(band)) * _GAP + (len(band) - 1) * _BETWEEN


def _draw_band(figure: Figure, plan: _Plan, rows: Sequence[str], band: Sequence[Block], top: float) -> None:
    """`top` in inches from the figure's upper edge."""
    width, height = plan.size
    widest = max(plan.left + _count(one) * plan.cell + _gaps(one) for one in plan.bands)
    left = max(_EDGE, (width - widest) / 2)
    starts = np.cumsum([top + plan.head, *plan.rows])
    for name, start in zip(rows, starts, strict=False):
        middle = start + plan.cell / 2
        figure.text(left / width, 1 - middle / height, name, fontsize=TEXT, va="center", linespacing=1.2)
    at = left + plan.left
    for block in band:
        span = len(block.columns) * (plan.cell + _GAP) - _GAP
        _draw_title(figure, plan, block, (at, top, span))
        for column in block.columns:
            _draw_column(figure, plan, column, at, top)
            at += plan.cell + _GAP
        at += _BETWEEN - _GAP


def _draw_title(figure: Figure, plan: _Plan, block: Block, place: tuple[float, float, float]) -> None:
    """`place`: left, top and width in inches."""
    width, height = plan.size
    at, top, span = place
    base = 1 - (top + 0.2) / height
    needed = len(block.title) * 1.15 + len(block.note) + 2 * bool(block.note)
    letters = min(TEXT, span * 72 / (_LETTER * needed))
    title = figure.text(at / width, base, block.title, fontsize=letters, weight="bold", va="baseline")
    if block.note:
        beside: dict[str, Any] = {"xy": (1, 0), "xycoords": title, "xytext": (7, 0), "textcoords": "offset points"}
        _axes(figure).annotate(block.note, fontsize=letters, va="bottom", annotation_clip=False, **beside)
    line = 1 - (top + _HEAD - 0.04) / height
    figure.add_artist(Line2D([at / width, (at + span) / width], [line, line], color=QUIET, linewidth=0.8))


def _axes(figure: Figure) -> matplotlib.axes.Axes:
    """Invisible axes over the whole figure, made once."""
    found = [axes for axes in figure.axes if axes.get_label() == "whole"]
    if found:
        return found[0]
    axes = figure.add_axes((0, 0, 1, 1), label="whole")
    axes.set_axis_off()
    return axes


def _draw_column(figure: Figure, plan: _Plan, column: Column, left: float, top: float) -> None:
    width, height = plan.size
    centre = (left + plan.cell / 2) / width
    label = _wrapped(column.label, plan.cell)
    under = 1 - (top + plan.head - 0.09) / height
    text: dict[str, Any] = {"ha": "center", "va": "baseline", "linespacing": 1.1}
    figure.text(centre, under, label, fontsize=_fitting(label, plan.cell), **text)
    starts = np.cumsum([top + plan.head, *plan.rows])
    for tile, start in zip(column.tiles, starts, strict=False):
        lower = start + plan.cell
        if tile.image is None:
            letters = min(TITLE, plan.cell * 72 / (_LETTER * max(len(tile.note), 1)))
            middle = 1 - (start + plan.cell / 2) / height
            figure.text(centre, middle, tile.note, fontsize=letters, ha="center", va="center", weight="bold")
            continue
        axes = figure.add_axes((left / width, 1 - lower / height, plan.cell / width, plan.cell / height))
        axes.imshow(tile.image, interpolation="none", aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=QUIET, linewidth=0.4)  # white grounds end somewhere, too
        axes.spines[:].set_visible(True)
        note = 1 - (lower + 0.17) / height
        figure.text(centre, note, tile.note, fontsize=_fitting(tile.note, plan.cell), ha="center", color=INK)


def _fitting(text: str, cell: float) -> float:
    """The size of letters with which the longest line is no wider than a picture."""
    longest = max(len(part) for part in text.split("\n"))
    return min(SMALL, cell * 72 / (_LETTER * max(longest, 1)))


def _wrapped(label: str, cell: float) -> str:
    """In two lines where it has two words and is wider than the picture."""
    fits = int(cell * 72 / (SMALL * 0.6))
    return label if len(label) <= fits else "\n".join(textwrap.wrap(label, fits, break_long_words=False)[:2])


def _draw_scale(figure: Figure, plan: _Plan, words: str) -> None:
    """The heat colours over grey as a strip in the upper right corner, the words left and right of it parted by "|"."""
    width, height = plan.size
    low, _, high = words.partition("|")
    end = width - _EDGE - 0.1 - len(high) * SMALL * 0.56 / 72
    axes = figure.add_axes(((end - 1.3) / width, 1 - 0.42 / height, 1.3 / width, 0.16 / height))
    grey = np.full((1, 256, 3), 128, np.uint8)
    axes.imshow(overlay(grey, np.linspace(0, 1, 256)[None], 1.0), interpolation="none", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for at, text, side in ((end - 1.4, low, "right"), (end + 0.1, high, "left")):
        figure.text(at / width, 1 - 0.34 / height, text, fontsize=SMALL, ha=side, va="center")
