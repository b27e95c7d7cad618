"""Figures 8 and 9, from stored cells: lines over delta_H, bars over the settings of L and p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from bench.figure_style import (
    COLOURS,
    IMAGE,
    INK,
    PIXEL,
    QUIET,
    RULE,
    SMALL,
    STYLE,
    TEXT,
    Made,
    Source,
    caption,
    framed,
    spread_labels,
)
from bench.paper import DEPTHS, SHARES, TEXTURES, Cell, cells, short
from bench.runs import Stored, identity
from bench.text import mean

_CHANCE = 50.0  # percent: the AUROC of a guess, where the bars stand


@dataclass(frozen=True)
class Grid:
    """The stored cells of a table in which nothing is compared that not every row has.

    `rows` in the table's order; `by_data` maps data to their seeds, for each of which every row is stored; `missing`
    maps what the table has beside that to the reason why it is not shown.
    """

    rows: tuple[str, ...]
    by_data: Mapping[str, Mapping[int, Mapping[str, Stored]]]
    missing: Mapping[str, str]

    def sources(self) -> tuple[Source, ...]:
        """Every cell that is shown."""
        shown = (one for seeds in self.by_data.values() for known in seeds.values() for one in known.values())
        return tuple(map(_source, shown))

    def value(self, data: str, row: str, metric: str) -> list[float]:
        """The metric in percent for each seed in order; a seed without it is left out."""
        found = (known[row].metrics[metric] for _, known in sorted(self.by_data[data].items()))
        return [100 * value for value in found if value is not None]


def _source(one: Stored) -> Source:
    return Source(one.identity.slug, str(one.values["context"]["training_commit"]), one.identity.seed)


def grid(table: str, budget: str, stored: Mapping[str, Stored], metric: str) -> Grid:
    """What a table has stored at a budget. A row is one that some data have; data without all such rows are missing."""
    asked = cells(table, seeds=[0])
    seeds = sorted({one.identity.seed for one in stored.values() if one.identity.budget == budget})
    found: dict[str, dict[int, dict[str, Stored]]] = {}
    for cell in asked:
        for seed in seeds:
            one = stored.get(identity(replace(cell, seed=seed), budget).slug)
            if one is not None and one.metrics[metric] is not None:
                found.setdefault(cell.data, {}).setdefault(seed, {})[cell.row] = one
    has = {row for known in found.values() for by_row in known.values() for row in by_row}
    rows = tuple(row for row in dict.fromkeys(cell.row for cell in asked) if row in has)
    whole = {
        data: complete
        for data, known in found.items()
        if (complete := {seed: by_row for seed, by_row in known.items() if len(by_row) == len(rows)})
    }
    return Grid(rows, whole, _missing(asked, rows, found, whole))


def _missing(
    asked: Sequence[Cell], rows: Sequence[str], found: Mapping[str, Any], whole: Mapping[str, Mapping[int, Any]]
) -> dict[str, str]:
    told = {row: "no cell stored" for row in dict.fromkeys(cell.row for cell in asked) if rows and row not in rows}
    for data in dict.fromkeys(cell.data for cell in asked):
        if data not in found:
            told[short(data)] = "no cell stored"
        for seed, by_row in sorted(found.get(data, {}).items()):
            if seed not in whole.get(data, {}):
                lacking = ", ".join(row for row in rows if row not in by_row)
                told[f"{short(data)}, seed {seed}"] = f"left out without {lacking}"
    return told


def shares(budget: str, stored: Mapping[str, Stored]) -> Made | Mapping[str, str]:
    """Figure 8, pixel AUROC over delta_H with a line for each category; or what is missing, where nothing is stored."""
    own = grid("fig8", budget, stored, "pixel_AUROC")
    if not own.by_data:
        return own.missing
    at = {f"delta_h {share:g}": 100 * share for share in SHARES}
    lines = {short(data): {row: own.value(data, row, "pixel_AUROC") for row in own.rows} for data in own.by_data}
    text = "Each line: one category of MVTec AD; the same models, scored with each \u03b4H."
    if any(len(values) > 1 for by_row in lines.values() for values in by_row.values()):
        text += " Dots: mean of the seeds; thin bars: smallest to largest."
    if len(lines) > len(COLOURS):
        text += " Blue: objects; orange: textures."
    below = caption(text, budget, own.sources())
    with matplotlib.rc_context(STYLE):
        figure, top, bottom = framed("Localisation by the share of pixels taken for normal", below)
        axes = figure.add_axes(_box((0.95, bottom + 0.62, 7.3, 5.625 - top - bottom - 0.8)))
        _draw_lines(axes, [at[row] for row in own.rows], lines)
        axes.set_xlabel(r"$\delta_H$: share of the smallest errors that sets the normal level (%)", labelpad=6)
        axes.set_xticks([at[row] for row in own.rows])
        _percent(axes, "pixel AUROC (%)")
    values = {name: {row: [round(v, 3) for v in known] for row, known in rows.items()} for name, rows in lines.items()}
    return Made(figure, own.sources(), {"pixel_AUROC_percent_by_seed": values}, own.missing)


def _draw_lines(axes: Axes, places: Sequence[float], lines: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """A line for each name, named at its end; the colours tell up to seven apart, beyond them objects from textures."""
    ends = []
    for number, (name, by_row) in enumerate(lines.items()):
        colour = COLOURS[number] if len(lines) <= len(COLOURS) else COLOURS[name in TEXTURES]
        middles = [mean(values) for values in by_row.values()]
        ranges = [min(v) for v in by_row.values()], [max(v) for v in by_row.values()]
        axes.vlines(places, *ranges, color=colour, lw=1.5, clip_on=False)
        thick: dict[str, Any] = {"lw": 2.6, "ms": 7} if len(lines) <= len(COLOURS) else {"lw": 1.6, "ms": 4.5}
        axes.plot(places, middles, "o-", color=colour, clip_on=False, **thick)
        ends.append((name, middles[-1], colour))
    low, high = axes.get_ylim()
    gap = (high - low) * 0.062 if len(lines) <= 12 else (high - low) * 0.052
    heights = spread_labels([end for _, end, _ in ends], gap)
    for (name, end, colour), height in zip(ends, heights, strict=True):
        text = f"{_plain(name)}  {end:.1f}"
        letters = TEXT if len(lines) <= 8 else SMALL
        beside = places[-1] + 2
        axes.plot([places[-1] + 0.6, beside], [end, height], color=colour, lw=0.8, clip_on=False)
        axes.annotate(
            text, (beside, height), (4, 0), textcoords="offset points", color=colour, va="center",
            fontsize=letters, annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(low, high)
    axes.set_xlim(min(places) - 2, max(places))


def depths(budget: str, stored: Mapping[str, Stored]) -> Made | Mapping[str, str]:
    """Figure 9, image and pixel AUROC of the settings of L and p, objects and textures apart; or what is missing."""
    own = grid("fig9", budget, stored, "image_AUROC")
    groups = {
        "objects": [data for data in own.by_data if short(data) not in TEXTURES],
        "textures": [data for data in own.by_data if short(data) in TEXTURES],
    }
    bars = {name: _bars(own, data) for name, data in groups.items() if data}
    shown = {name: known for name, known in bars.items() if known}
    missing = {**own.missing, **{name: "no seed is stored of all categories" for name in bars if name not in shown}}
    if not shown:
        return missing
    used = ((data, seed) for name, known in shown.items() for data in groups[name] for seed in known[2])
    sources = tuple(_source(one) for data, seed in used for one in own.by_data[data][seed].values())
    below = caption(_bars_text(shown, groups), budget, sources)
    with matplotlib.rc_context(STYLE):
        figure, top, bottom = framed("Levels L and memories p", below)
        width = (10 - 0.95 - 0.3 - 0.35 * (len(shown) - 1)) / len(shown)
        height = 5.625 - top - bottom - 1.2
        values = [value for known in shown.values() for kind in known[:2] for one in kind.values() for value in one]
        for number, (name, (image, pixel, _)) in enumerate(shown.items()):
            axes = figure.add_axes(_box((0.95 + number * (width + 0.35), bottom + 0.72, width, height)))
            _draw_bars(axes, image, pixel, lettered=len(shown) == 1)
            axes.set_ylim(min(_CHANCE, 10 * (min(values) // 10) - 5), 100)
            axes.set_title(_group_title(name, groups[name]), fontsize=TEXT, weight="bold", loc="left", pad=20)
            _percent(axes, "AUROC (%)" if number == 0 else "")
            axes.tick_params(axis="y", labelleft=number == 0)
        for at, words, colour in ((0.75, "image (detection)", IMAGE), (0.97, "pixel (localisation)", PIXEL)):
            figure.text(at, 1 - 0.33 / 5.625, words, color=colour, ha="right", va="center", weight="bold")
    told = {
        name: {"image_AUROC_percent_by_seed": _rounded(image), "pixel_AUROC_percent_by_seed": _rounded(pixel)}
        for name, (image, pixel, _) in shown.items()
    }
    return Made(figure, sources, told, missing)


_Bars = tuple[dict[str, list[float]], dict[str, list[float]], list[int]]


def _bars(own: Grid, data: Sequence[str]) -> _Bars | None:
    """Image and pixel AUROC of each row: the mean over the data, for each seed that all data have; None without one."""
    seeds = sorted(set.intersection(*(set(own.by_data[one]) for one in data)))
    if not seeds:
        return None

    def means(metric: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for row in own.rows:
            for seed in seeds:
                known = [own.by_data[one][seed][row].metrics[metric] for one in data]
                values = [100 * value for value in known if value is not None]
                found.setdefault(row, []).extend([mean(values)] if len(values) == len(data) else [])
        return found

    return means("image_AUROC"), means("pixel_AUROC"), seeds


def _draw_bars(
    axes: Axes, image: Mapping[str, Sequence[float]], pixel: Mapping[str, Sequence[float]], *, lettered: bool
) -> None:
    """Two bars a setting, standing on chance, with their values; a thin line from the smallest seed to the largest."""
    size = TEXT if lettered else 9.0
    for shift, colour, by_row in ((-0.2, IMAGE, image), (0.2, PIXEL, pixel)):
        for at, values in enumerate(by_row.values()):
            if not values:
                continue
            middle, place = mean(values), at + shift
            axes.bar(place, middle - _CHANCE, 0.38, bottom=_CHANCE, color=colour)
            axes.vlines(place, min(values), max(values), color=INK, lw=1.4)
            up = middle >= _CHANCE
            axes.annotate(
                f"{middle:.1f}", (place, max(values) if up else min(values)), (0, 3 if up else -4),
                textcoords="offset points", ha="center", va="bottom" if up else "top", fontsize=size,
                annotation_clip=False,
            )  # fmt: skip
    axes.axhline(_CHANCE, color=QUIET, lw=1)
    axes.set_xticks(range(len(image)), [_setting(row) for row in image])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.55, len(image) - 0.45)


def _setting(row: str) -> str:
    """ "A", and below it its L and p."""
    name = row.partition(":")[0]
    levels, depth = DEPTHS[name]
    return f"{name}\nL={levels}\np={depth}"


def _bars_text(shown: Mapping[str, _Bars], groups: Mapping[str, Sequence[str]]) -> str:
    text = "MVTec AD. L: levels of the network; p: how many of them have a memory, the others a skip connection."
    text += " Bars start at 50, which is chance."
    if any(len(seeds) > 1 for _, _, seeds in shown.values()):
        text += " Bars: mean of the seeds; thin lines: smallest to largest."
    names = "; ".join(f"{name}: {', '.join(map(short, groups[name]))}" for name in shown if len(groups[name]) > 1)
    return f"{text} Means over {names}." if names else text


def _group_title(name: str, data: Sequence[str]) -> str:
    return _plain(short(data[0])) if len(data) == 1 else f"mean of {len(data)} {name}"


def _rounded(values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {row: [round(value, 3) for value in known] for row, known in values.items()}


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _percent(axes: Axes, label: str) -> None:
    """The vertical axis: quiet lines behind, no frame."""
    axes.set_ylabel(label, labelpad=8)
    axes.yaxis.grid(True, color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _box(inches: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, bottom, width, height = inches
    return left / 10, bottom / 5.625, width / 10, height / 5.625
