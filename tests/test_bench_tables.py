"""From stored cells to the paper's tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cells import put_cell

from normbank import machine

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import lines, paper, report, runs, tables  # noqa: E402


def put_all(folder, table, categories, values, *, row="", budget="quick", **more):
    """Store the cells of a table whose row starts with `row`; `values` maps (data, seed) to the image AUROC."""
    for cell in paper.cells(table, categories, sorted({seed for _, seed in values})):
        key = (paper.short(cell.data), cell.seed)
        if cell.row.startswith(row) and key in values:
            put_cell(folder, cell, budget, metrics={"image_AUROC": values[key]}, **more)


def text(folder, gone=frozenset()):
    return "\n".join(tables.sections(runs.read_cells(folder), gone))


def section(folder, title, gone=frozenset()):
    """The lines of the section whose heading starts with `title`."""
    parts = text(folder, gone).split("\n### ")
    (found,) = [part for part in parts if part.startswith(title)]
    return found


def rows(part):
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_table_by_hand(tmp_path):
    values = {("bottle", 0): 0.9, ("bottle", 1): 0.94, ("transistor", 0): 0.8, ("transistor", 1): 0.7}
    put_all(tmp_path, "I", ["bottle", "transistor"], values)
    part = section(tmp_path, "Table I:")
    assert part.startswith("Table I: MVTec AD, detection (budget quick)\n\nBudget quick: reduced: 300 steps at most")
    assert "Trained on a processor (32-true); commits abc123." in part
    header, _, bottle, transistor, both = rows(part)
    assert header == ["row", "data", "image AUROC", "paper", "brightness alone", "seeds", "steps", "widths"]
    assert bottle == ["PMB-AE", "bottle", "92.0 (90.0 to 94.0)", "95.2", "50.0", "2", "300", "16,32,64,128,128"]
    assert transistor[:4] == ["PMB-AE", "transistor", "75.0 (70.0 to 80.0)", "92.4"]
    # seed 0: (90 + 80) / 2, seed 1: (94 + 70) / 2; printed: (95.2 + 92.4) / 2
    assert both[:4] == ["PMB-AE", "**mean of 2**", "83.5 (82.0 to 85.0)", "93.8"]
    assert "Printed means of the other rows: CNN-Dict 78 (other data too)" in part


def test_budgets_are_never_joined(tmp_path):
    put_all(tmp_path, "I", ["bottle"], {("bottle", 0): 0.6}, budget="quick")
    put_all(tmp_path, "I", ["bottle"], {("bottle", 1): 0.9}, budget="paper")
    quick, whole = (
        section(tmp_path, "Table I: MVTec AD, detection (budget quick)"),
        section(tmp_path, "Table I: MVTec AD, detection (budget paper)"),
    )
    assert rows(quick)[2][2:8] == ["60.0", "95.2", "50.0", "1", "300", "16,32,64,128,128"]
    assert rows(whole)[2][2:8] == ["90.0", "95.2", "50.0", "1", "2000", "64,128,256,512,512"]
    assert "Budget paper: the preset as it is." in whole


def test_what_one_table_stored_stands_in_the_others(tmp_path):
    put_all(tmp_path, "I", ["bottle"], {("bottle", 0): 0.9})
    assert rows(section(tmp_path, "Table V:"))[-1][:4] == ["PMB-AE", "bottle", "90.0", "95.2"]
    shares = section(tmp_path, "Table VI:")
    assert {row[0]: row[2:4] for row in rows(shares)[2:]} == {"delta_h 0.5": ["90.0", "90.56 (all 15)"]}
    assert "Rows not run: delta_h 0; delta_h 0.25; delta_h 0.75; delta_h 0.9." in shares
    assert "1 of the 15 runs that the figure is made of are stored." in section(tmp_path, "Figure 5:")


def test_costs_stand_in_table_five(tmp_path):
    put_all(tmp_path, "V", ["bottle"], {("bottle", 0): 0.9}, row="AE-L2")
    put_all(tmp_path, "V", ["transistor"], {("transistor", 0): 0.9}, row="MemAE")
    part = section(tmp_path, "Table V:")
    header, _, found, other, *_ = rows(part)
    assert header[-5:] == ["s a step", "peak MiB", "ms an image", "M parameters", "model MiB"]
    assert found[:4] == ["AE-L2", "bottle", "90.0", "80*"]
    assert found[-6:] == ["own (bergmann)", "0.25", "512", "12.5", "3.50", "5.0"]
    assert (other[:2], other[-5:]) == (["AE-L2", "transistor"], ["-"] * 5)
    assert "* printed as AUROC, but a mean of true positive and true negative rates" in part


def test_seconds_on_two_devices_have_no_mean(tmp_path):
    put_all(tmp_path, "V", ["bottle"], {("bottle", 0): 0.9}, row="MemAE")
    put_all(tmp_path, "V", ["bottle"], {("bottle", 1): 0.9}, row="MemAE", context={"training_device": "a GPU"})
    part = section(tmp_path, "Table V:")
    (found,) = [row for row in rows(part) if row[0] == "MemAE"]
    assert found[-5:] == ["-", "-", "12.5", "3.50", "5.0"]
    assert "Trained on a GPU (32-true), a processor (32-true)" in part


@pytest.mark.parametrize(
    ("other", "step", "image"),
    [
        ({}, "0.75", "15.0"),
        ({"threads": 99}, "0.25 to 1.25", "15.0"),
        ({"context": {"training_precision": "bf16-mixed"}}, "0.25 to 1.25", "15.0"),
        ({"context": {"machine": {**machine.describe(), "processors": 99}}}, "0.75", "12.5 to 17.5"),
    ],
)
def test_what_was_measured_on_unlike_machines_is_a_range(other, step, image, tmp_path):
    here = {"training_device": machine.describe()["processor"]}
    put_all(tmp_path, "V", ["bottle"], {("bottle", 0): 0.9}, row="MemAE", context=here)
    took = {"seconds_per_training_step": 1.25, "seconds_per_image": 0.0175}
    second = {**took, **other, "context": {**here, **other.get("context", {})}}
    put_all(tmp_path, "V", ["bottle"], {("bottle", 1): 0.9}, row="MemAE", **second)
    (found,) = [row for row in rows(section(tmp_path, "Table V:")) if row[0] == "MemAE"]
    assert found[-5:] == [step, "512", image, "3.50", "5.0"]


def test_an_image_that_took_no_known_time_has_no_mean(tmp_path):
    put_all(tmp_path, "V", ["bottle"], {("bottle", 0): 0.9}, row="MemAE", seconds_per_image=None)
    (found,) = [row for row in rows(section(tmp_path, "Table V:")) if row[0] == "MemAE"]
    assert found[-3] == "-"


def test_seeds_that_were_tested_on_other_images_are_not_averaged(tmp_path):
    put_all(tmp_path, "V", ["bottle"], {("bottle", 0): 0.9}, row="MemAE")
    put_all(tmp_path, "V", ["bottle"], {("bottle", 1): 0.9}, row="MemAE", counts={"good": 19, "anomalous": 60})
    told = r"seed0\.json and its other seeds: tested on 19 good and 60 anomalous and 20 good and 60 anomalous\. Run"
    with pytest.raises(ValueError, match=told):
        section(tmp_path, "Table V:")


def test_the_digits_stand_beside_the_printed_mean(tmp_path):
    put_all(tmp_path, "VIII", ["0", "1"], {("0", 0): 0.9, ("1", 0): 0.8}, row="k = 1,1,1")
    part = section(tmp_path, "Table VIII:")
    assert rows(part)[2][:4] == ["k = 1,1,1", "mnist 0", "90.0", "-"]
    assert rows(part)[4][:4] == ["k = 1,1,1", "**mean of 2**", "85.0", "98.1 (all 10)"]
    put_all(tmp_path, "II", paper.DIGITS, {(digit, 0): 0.9 for digit in paper.DIGITS})
    assert rows(section(tmp_path, "Table II:"))[-1][:4] == ["PMB-AE", "**mean of 10**", "90.0", "98.1"]


def test_a_mean_over_unlike_seeds_takes_the_common_ones(tmp_path):
    put_all(tmp_path, "I", ["bottle", "transistor"], {("bottle", 0): 0.9, ("bottle", 1): 0.5, ("transistor", 0): 0.8})
    assert rows(section(tmp_path, "Table I:"))[-1][2] == "85.0"
    assert lines.seed_means([{0: 0.5, 1: 0.7}, {1: None}]) == [None]
    assert lines.seed_means([{0: 0.5}, {1: 0.5}]) == []


def test_what_was_not_run_and_what_is_not_there_are_told(tmp_path):
    put_all(tmp_path, "I", ["bottle"], {("bottle", 0): 0.9})
    part = section(tmp_path, "Table I:", {"mvtec_ad/cable", "mvtec_ad/screw"})
    assert "Data not present: cable, screw." in part
    assert "Not run: hazelnut, capsule, metal_nut" in part
    assert section(tmp_path, "Table III", {"oct"}).rstrip() == "Table III: Retinal OCT\n\nData not present."
    assert section(tmp_path, "Table II:").rstrip().endswith("Not run.")


def test_cells_of_other_settings_are_left_out_and_named(tmp_path):
    cell = paper.cells("I", ["bottle"], [0])[0]
    path = put_cell(tmp_path, cell)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["settings"]["train"]["steps"] = 7
    path.write_text(json.dumps(values), encoding="utf-8")
    found = text(tmp_path)
    assert "Made with settings that preset or budget no longer have: `mvtec_ad-bottle.paper-mvtec-object" in found
    assert "budget quick" not in found


@pytest.fixture
def repo(tmp_path):
    (tmp_path / "bench" / "results" / "cells").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for name, mark in (("README.md", "results"), ("docs/method.md", "ablation")):
        (tmp_path / name).write_text(f"<!-- {mark}:begin -->\n<!-- {mark}:end -->\n", encoding="utf-8")
    return tmp_path


def test_a_new_cell_makes_the_tables_stale(repo):
    report.report(repo=repo, say=lambda line: None)
    report.report(repo=repo, check=True)
    put_cell(repo / "bench" / "results" / "cells", paper.cells("I", ["bottle"], [0])[0])
    with pytest.raises(report.StaleError, match=r"stale: bench/README\.md\. Run"):
        report.report(repo=repo, check=True)
    report.report(repo=repo, say=lambda line: None)
    page = (repo / "bench" / "README.md").read_text(encoding="utf-8")
    assert "(budget quick)" in page
    assert "## Deviations from the paper, and likely causes" in page


def test_no_file_of_the_bench_is_long():
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 400 for path in (REPO / "bench").glob("*.py"))
