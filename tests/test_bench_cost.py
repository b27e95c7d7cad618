"""`python -m bench.cost`: what scoring an image costs, beside the paper's method."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from normbank import machine
from normbank.presets import preset

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import cost, report  # noqa: E402


@pytest.fixture
def narrow(monkeypatch):
    """The presets at two levels of two channels and a bank of few, so that a graph is made soon; what was asked for."""
    asked = []

    def tiny(name, overrides):
        asked.append(name)
        small = {"model.widths": [2, 2], "model.memory_levels": 1, "model.partitions": [2], "model.items": [3]}
        few = {"model.patches": 500} if name == "fast" else {}
        return preset(name, {**small, **few, **overrides})

    monkeypatch.setattr(cost, "preset", tiny)
    monkeypatch.setattr(cost, "GOOD", 40)
    return asked


@pytest.mark.slow  # three graphs
def test_a_machine_a_file_and_a_table_of_the_report(narrow, tmp_path, capsys, monkeypatch):
    graphs = []
    opened = cost.open_session
    monkeypatch.setattr(cost, "open_session", lambda graph, threads: graphs.append(graph) or opened(graph, threads))
    assert cost.main(["--presets", cost.PAPER, "fast", "--sizes", "32", "--threads", "1", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.iterdir()
    assert str(file) in capsys.readouterr().out
    values = json.loads(file.read_text())
    assert {"machine", "versions", "commit", "good"} <= set(values)
    kinds = [(row["preset"], row["size"], row["bank"]) for row in values["rows"]]
    assert kinds == [(cost.PAPER, 32, "none"), ("fast", 32, "places"), ("fast", 32, "both")]
    assert narrow == [cost.PAPER, "fast"]
    assert all(row["milliseconds"]["1"] > 0 for row in values["rows"])
    _, places, both = map(len, graphs)
    assert places > cost.GOOD * 8 * 8 * 36  # a byte a number, 36 numbers a cell: a bank is measured full
    assert both - places > 500 * 24 * 4


def test_each_row_stands_beside_the_paper_where_it_was_measured(tmp_path):
    known = {"machine": {"processor": "some", "processors": 2}, "versions": {}, "commit": "0123456789ab", "good": 40}
    kinds = ((cost.PAPER, "none", 40), ("fast", "places", 10), ("fast", "both", 30))
    rows = [
        {"preset": one, "size": 32, "bank": bank, "milliseconds": {"1": ms, "2": ms / 2}} for one, bank, ms in kinds
    ]
    (tmp_path / "some.json").write_text(json.dumps({**known, "rows": rows}))
    page = report.page([], costs=cost.read(tmp_path))
    assert "| preset | size | bank | ms, 1 thread | of the paper's time | ms, 2 threads | of the paper's time |" in page
    assert f"| `{cost.PAPER}` | 32 | none | 40 | 1.00 | 20 | 1.00 |" in page
    assert "| `fast` | 32 | both | 30 | 0.75 | 15 | 0.75 |" in page
    (tmp_path / "some.json").write_text(json.dumps({**known, "rows": rows[1:]}))
    assert "| `fast` | 32 | places | 10 | - | 5 | - |" in report.page([], costs=cost.read(tmp_path))
    assert "What scoring an image costs" not in report.page([])


def test_a_preset_is_measured_with_the_banks_it_may_come_to():
    assert cost.banks(preset("fast")) == ["places", "both"]
    assert cost.banks(preset("fast", {"model.patches": 0})) == ["places"]
    assert cost.banks(preset(cost.PAPER)) == ["none"]


def test_threads_that_no_cores_are_there_for_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cost.machine, "cpu_count", lambda: 1)
    assert cost.main(["--threads", "1", "2", "--out", str(tmp_path)]) == 2
    told = "bench.cost: --threads: expected 1 or less, as there are cores, got 2. Ask for that many at most.\n"
    assert capsys.readouterr().err == told
    asked = []
    monkeypatch.setattr(cost, "cost", lambda *known: asked.append(known[2]) or {"machine": machine.describe()})
    assert cost.main(["--out", str(tmp_path)]) == 0
    assert asked == [[1]]


def test_a_wrong_preset_and_a_wrong_file_are_told(tmp_path, capsys):
    assert cost.main(["--presets", "smal", "--out", str(tmp_path / "there")]) == 2
    assert "bench.cost: " in capsys.readouterr().err
    assert not (tmp_path / "there").exists()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json: expected what `python -m bench\.cost` writes"):
        cost.read(tmp_path)
