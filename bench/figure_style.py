"""How the figures look, and how they are kept: one type, one palette, PNG, SVG, and a JSON that says where from."""

from __future__ import annotations

import base64
import io
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from bench.budgets import BUDGETS
from normbank.bundle import write_atomically

SLIDE = (10.0, 5.625)  # inches: 16 to 9
DPI, MAX_BYTES = 200, 600_000
TITLE, TEXT, SMALL, FINE = 17.0, 12.5, 11.0, 7.5  # points
INK, QUIET, RULE = "#1a1a1a", "#5f5f5f", "#d9d9d9"
# The palette of Okabe and Ito, told apart with any colour vision; yellow is left out, which is pale on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
IMAGE, PIXEL = COLOURS[0], COLOURS[1]

STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",  # the same on every machine
    "svg.hashsalt": "normbank",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Source:
    """A stored run that a figure is made of: the slug of its cell, and the commit that trained it."""

    slug: str
    commit: str
    seed: int


@dataclass(frozen=True)
class Made:
    """A finished figure: the numbers and images shown, as JSON, and what it lacks, with the reason why."""

    figure: Figure
    sources: tuple[Source, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def caption(text: str, budget: str, sources: Iterable[Source]) -> str:
    """The line below a figure: what is shown, at which budget, with which seeds, from which commits."""
    known = list(sources)
    seeds = sorted({one.seed for one in known})
    commits = sorted({one.commit for one in known})
    made = f"{_plural('Seed', len(seeds))} {_listed(map(str, seeds))}. {_plural('Commit', len(commits))} "
    return f"{text} Budget {budget}: {BUDGETS[budget].words}. {made}{_listed(commits)}."


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def framed(title: str, below: str, size: tuple[float, float] = SLIDE) -> tuple[Figure, float, float]:
    """A figure of `size` inches with its title and the fine print; and how many inches they take above and below."""
    figure = Figure(figsize=size, facecolor="white")
    width, height = size
    lines = textwrap.wrap(below, int((width - 0.5) * 72 / (FINE * 0.545)))
    figure.text(0.25 / width, 1 - 0.17 / height, title, fontsize=TITLE, weight="bold", va="top")
    fine: dict[str, Any] = {"fontsize": FINE, "color": QUIET, "linespacing": 1.35}
    figure.text(0.25 / width, 0.12 / height, "\n".join(lines), va="bottom", **fine)
    return figure, 0.62, 0.24 + len(lines) * FINE * 1.45 / 72


def below_height(below: str, width: float) -> float:
    """Inches that `framed` takes for the fine print of a figure this wide."""
    return framed("", below, (width, 1.0))[2]


def save(made: Made, stem: Path, facts: Mapping[str, Any]) -> list[Path]:
    """Write PNG, SVG and JSON beside each other; returns their paths. The same runs give the same bytes."""
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        made.figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        made.figure.savefig(svg, format="svg", dpi=DPI, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    runs = [{"slug": one.slug, "seed": one.seed, "commit": one.commit} for one in made.sources]
    values = {**facts, "runs": runs, "missing": dict(made.missing), "values": made.values}
    files = {
        "png": small_png(png.getvalue()),
        "svg": small_svg(svg.getvalue().decode()).encode(),
        "json": json.dumps(values, indent=1, allow_nan=False).encode() + b"\n",
    }
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in files]
    for path, content in zip(paths, files.values(), strict=True):
        write_atomically(path, content)
    return paths


def small_png(content: bytes, limit: int = MAX_BYTES) -> bytes:
    """The PNG packed well; with 6, 5 or 4 bits a colour instead of 8, where it is more than `limit` bytes otherwise.

    Fewer bits rather than a palette: a palette of a slide's photographs drops the few bright colours of a heat map.
    """
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    for bits in (8, 6, 5, 4):
        top = 2**bits - 1
        coarse = np.round(np.round(pixels / 255 * top) / top * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).save(buffer, format="PNG", optimize=True, dpi=(DPI, DPI))
        if buffer.tell() <= limit:
            break
    return buffer.getvalue()


def small_svg(text: str, limit: int = MAX_BYTES) -> str:
    """The SVG as it is, or with its pictures as JPEG where it is more than `limit` bytes."""
    return text if len(text) <= limit else re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _as_jpeg, text)


def _as_jpeg(found: re.Match[str]) -> str:
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")
    image.save(buffer, format="JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def spread_labels(places: Sequence[float], gap: float) -> list[float]:
    """Heights near `places`, in their order, no two closer than `gap`: where the labels of lines are written.

    Neighbours that would overlap are moved apart around their common middle.
    """
    order = sorted(range(len(places)), key=lambda at: places[at])
    groups: list[list[float]] = []  # [middle, count]
    for at in order:
        groups.append([places[at], 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            middle, count = groups.pop()
            before, held = groups[-1]
            groups[-1] = [(middle * count + before * held) / (count + held), held + count]
    heights = [middle + gap * (step - (count - 1) / 2) for middle, count in groups for step in range(int(count))]
    moved = [0.0] * len(places)
    for at, height in zip(order, heights, strict=True):
        moved[at] = height
    return moved
