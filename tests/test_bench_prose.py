"""Figures of our own presets that are written by hand: each is the mean over the seeds of the committed cells."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import pytest

from normbank.presets import PRESETS

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench.lines import all_lines  # noqa: E402
from bench.runs import current, read_cells  # noqa: E402
from bench.text import mean  # noqa: E402

PHOTOGRAPHS = ("bottle", "transistor", "magnetic_tile")
OWN = ("standard", "small", "fast")
ROWS = {  # how the row of docs/findings.md on a preset begins
    "standard": "| twice the channels, and a GPU (`standard`, three seeds) |",
    "small": "| what goes beyond the paper (`small`, three seeds) |",
    "fast": "| the bank alone (`fast`, three seeds)",
}


@cache
def measured() -> dict[tuple[str, str, str], str]:
    """Preset, data and metric to the mean over seeds in percent, as it is written."""
    lines = all_lines("own", "paper", current(read_cells(REPO / "bench" / "results" / "cells")))
    found = {}
    for line in lines:
        for metric in ("image_AUROC", "pixel_AUROC", "AUPRO"):
            values = [value for value in line.by_seed(metric).values() if value is not None]
            if values:
                found[line.cell.row, line.data, metric] = f"{100 * mean(values):.1f}"
    return found


def pair(name: str, data: str) -> str:
    return " / ".join(measured()[name, data, metric] for metric in ("image_AUROC", "pixel_AUROC"))


@pytest.mark.parametrize("name", OWN)
def test_presets_expect_what_was_measured(name):
    text = " ".join((PRESETS[name].__doc__ or "").split())
    expected = dict(re.findall(r"(bottle|transistor) (\d+\.\d / \d+\.\d)", text))
    assert expected == {data: pair(name, data) for data in ("bottle", "transistor")}


@pytest.mark.parametrize("name", OWN)
def test_findings_say_what_was_measured(name):
    lines = (REPO / "docs" / "findings.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(ROWS[name])]
    said = re.findall(r"(\d+\.\d / \d+\.\d) on (bottle|transistor|magnetic tile)", row)[:3]
    assert said == [(pair(name, data), data.replace("_", " ")) for data in PHOTOGRAPHS]


def test_findings_say_what_standard_covers():
    (row,) = [
        line
        for line in (REPO / "docs" / "findings.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(ROWS["standard"])
    ]
    assert f"(AUPRO {', '.join(measured()['standard', data, 'AUPRO'] for data in PHOTOGRAPHS)})" in row
