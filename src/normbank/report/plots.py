"""Figures as inline SVG whose colours are the page's own, so that they suit light, dark and print."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

# matplotlib wants real colours; these stand in for the page's variables and are exchanged in the finished SVG.
_INK, _QUIET, _GOOD, _BAD = "#010203", "#010204", "#010205", "#010206"
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _GOOD: "--good", _BAD: "--bad"}
_SIZE = (4.7, 3.1)  # inches at 72 units: as wide as a phone, so that the letters keep their size there
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.columnspacing": 1,
    "legend.handlelength": 1.5,
    "hatch.linewidth": 1.1,
}
_SPREAD = 30  # scores reaching this many times their median get a logarithmic axis


def score_histogram(good: Sequence[float], anomalous: Sequence[float], threshold: float | None) -> str:
    """SVG text: how many good and how many defective images have which raw score, and the threshold.

    The axis is logarithmic where all scores are positive and the largest is more than 30 times the median.
    """
    edges, is_log = bin_edges(np.array([*good, *anomalous], dtype=float), threshold)
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "histogram"}):
        figure, axes = _figure()
        if is_log:
            axes.set_xscale("log")
        axes.hist(list(good), edges.tolist(), color=_GOOD, alpha=0.75, label=f"good ({len(good)})")
        axes.hist(
            list(anomalous), edges.tolist(), histtype="step", edgecolor=_BAD, hatch="////", lw=1.4,
            label=f"defective ({len(anomalous)})",
        )  # fmt: skip
        if threshold is not None:
            axes.axvline(threshold, color=_INK, ls=(0, (4, 2)), lw=1.3, label=f"threshold ({threshold:.4g})")
        axes.set(xlabel="score (log axis)" if is_log else "score", ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
        return _svg(figure, "histogram", "Histogram of the scores of good and of defective images.")


def bin_edges(scores: NDArray[np.float64], threshold: float | None) -> tuple[NDArray[np.float64], bool]:
    """Edges of 10 to 40 bins over all scores and the threshold, and whether they are spaced logarithmically."""
    seen = scores if threshold is None else np.append(scores, threshold)
    count = int(np.clip(2 * np.sqrt(len(scores)), 10, 40))
    is_log = bool(seen.min() > 0 and seen.max() > _SPREAD * np.median(scores))
    if is_log:
        return np.geomspace(seen.min(), seen.max(), count + 1), True
    return np.histogram_bin_edges(seen, count), False


def roc_curve(rates: tuple[Sequence[float], Sequence[float]], operating: tuple[float, float] | None) -> str:
    """SVG text: the curve of (false-positive rates, true-positive rates), chance, and the point of the threshold."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "roc"}):
        figure, axes = _figure()
        axes.plot([0, 1], [0, 1], color=_QUIET, ls=(0, (1, 2)), lw=1.2, label="chance")
        axes.plot(*rates, color=_BAD, lw=2, label="detector", clip_on=False)
        if operating is not None:
            axes.plot(
                *operating, "o", color=_GOOD, ms=8, mec=_INK, mew=1.2, ls="none", label="threshold", clip_on=False,
                zorder=3,
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of good images flagged")
        axes.set_ylabel("share of defective images flagged")
        axes.legend(loc="lower right")
        return _svg(figure, "roc", "ROC curve: share of defective images flagged over share of good images flagged.")


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str, label: str) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)  # two figures on a page share no id
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)  # measured in the one, drawn in the page's
    opening = rf'<svg \1 role="img" aria-label="{escape(label)}">'
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', opening, text, count=1)
