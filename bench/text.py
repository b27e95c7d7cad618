"""Figures and rows as they stand in a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def plain(value: Any) -> str:
    """A setting as one would type it."""
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def mean(values: Iterable[float]) -> float:
    """Of at least one value."""
    known = list(values)
    return sum(known) / len(known)


def percent(value: float | None) -> str:
    """A share in 0..1 in percent, "-" for none."""
    return "-" if value is None else f"{100 * value:.1f}"


def spread(values: Sequence[float | None]) -> str:
    """The mean in percent, and the range where there are several values; "-" where one of them, or all, is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    middle = percent(mean(known))
    return middle if len(known) == 1 else f"{middle} ({percent(min(known))} to {percent(max(known))})"


def seconds_by(known: Iterable[tuple[str, float]]) -> str:
    """ "302 s, a processor; 60 s, a GPU": the mean seconds of each device by itself."""
    found: dict[str, list[float]] = {}
    for device, seconds in known:
        found.setdefault(device, []).append(seconds)
    return "; ".join(f"{mean(seconds):.0f} s, {device}" for device, seconds in found.items())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
