"""The paper's cells: how many, of what settings, which of them are one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cells import put_cell

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import budgets, paper, runs  # noqa: E402
from bench.lines import data_name  # noqa: E402

COUNTS = {
    "I": 15,
    "II": 10,
    "III": 1,
    "IV": 15,
    "V": 9 * 15,
    "VI": 5 * 15,
    "VII": 7 * 15,
    "VIII": 4 * 10 + 3,
    "fig5": 15,
    "fig6": 2 * 16,
    "fig7": 15,
    "fig8": 5 * 15,
    "fig9": 5 * 15,
    "tile": 9,
    "own": 3 * 13,
    "ablation": 41 * 3 - 1,  # colour is none on magnetic tile
    "textures": 8 * 3,
    "displaced": 16,
    "mnist": 21 * 10,
}


def test_every_table_has_its_cells():
    assert {name: len(paper.cells(name, seeds=[0])) for name in paper.TABLES} == COUNTS


@pytest.mark.parametrize("table", paper.TABLES)
def test_a_table_calls_no_two_data_the_same(table):
    data = {cell.data for cell in paper.cells(table, seeds=[0])}
    assert len({data_name(one) for one in data}) == len({paper.short(one) for one in data}) == len(data)


@pytest.mark.parametrize("budget", list(budgets.BUDGETS))
def test_the_settings_of_every_cell_fit_together(budget):
    for name in paper.TABLES:
        for cell in paper.cells(name, seeds=[1]):
            made = budgets.settings(cell, budget, "cpu")
            assert (made.train.seed, made.train.device, made.preset) == (1, "cpu", cell.preset)
            if cell.data.startswith("mnist/"):
                assert made.data.normal_class == int(cell.data[-1])
                assert made.data.size == 32


def slugs(cells, budget="quick"):
    return {runs.identity(cell, budget).slug for cell in cells}


def of(table, row, data="bottle"):
    (found,) = [cell for cell in paper.cells(table, [data], [0]) if cell.row.startswith(row)]
    return found


def test_what_several_tables_ask_for_is_one():
    asked = [
        of("I", "PMB"),
        of("IV", "PMB"),
        of("VI", "delta_h 0.5"),
        of("VII", "k2"),
        of("fig5", "PMB"),
        of("fig9", "D"),
    ]
    asked += [of("fig6", "PMB"), of("fig7", "PMB"), of("fig8", "delta_h 0.5"), paper.cells("V", ["bottle"], [0])[-1]]
    assert slugs(asked) == {"mvtec_ad-bottle.paper-mvtec-object.quick.seed0"}
    assert slugs([of("VII", "k3", "carpet"), of("I", "PMB", "carpet")]) == {
        "mvtec_ad-carpet.paper-mvtec-texture.quick.seed0"
    }
    assert slugs([of("V", paper.WITHOUT_H), paper.cells("VI", ["bottle"], [0])[0]]) == {
        "mvtec_ad-bottle.paper-mvtec-object.delta_h=0.0.quick.seed0"
    }
    assert slugs([of("II", "PMB", "3"), of("VIII", "k = 1,1,1", "3")]) == {"mnist-3.paper-mnist.quick.seed0"}


def test_the_budget_and_the_seed_keep_apart():
    cell = of("I", "PMB")
    apart = {runs.identity(cell, budget).slug for budget in budgets.BUDGETS}
    assert len(apart) == len(budgets.BUDGETS) == 4
    assert len(slugs(paper.cells("I", ["bottle"], [0, 1, 2]))) == 3


def test_scoring_alone_needs_no_training():
    wanted = [runs.identity(cell, "quick") for cell in paper.cells("VI", ["bottle"], [0])]
    assert {one.training.slug for one in wanted} == {"mvtec_ad-bottle.paper-mvtec-object.quick.seed0"}
    assert sorted(one.score.get("score.delta_h", 0.5) for one in wanted) == [0, 0.25, 0.5, 0.75, 0.9]


def test_no_two_identities_share_a_name():
    every = [runs.identity(cell, "paper") for name in paper.TABLES for cell in paper.cells(name, seeds=[0])]
    assert len({one.slug for one in every}) == len({json.dumps(one.to_dict(), sort_keys=True) for one in every})
    assert max(len(one.slug) for one in every) < 200
    assert all(
        set(one.slug) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-=") for one in every
    )


def test_settings_of_chosen_cells_by_hand():
    assert of("V", "AE-L2").overrides == {"model.latent": 500}
    assert of("V", "AE-L2", "carpet").overrides == {}
    assert of("VII", "k6").overrides == {"model.partitions": [32, 32, 16, 16]}
    fifth, third = of("fig9", "E"), of("fig9", "A")
    assert fifth.overrides == {
        "model.memory_levels": 5,
        "model.partitions": [16, 16, 16, 8, 8],
        "model.items": [150, 200, 200, 200, 200],
    }
    assert third.overrides["model.widths"] == [64, 128, 512]
    assert budgets.settings(third, "quick").model.widths == (16, 32, 128)
    quick = budgets.settings(of("II", "PMB", "3"), "quick")
    assert (quick.model.widths, quick.train.steps, quick.model.items) == ((16, 32, 64), 300, (10, 10, 10))
    narrow = budgets.settings(of("II", "PMB", "3"), "narrow")
    assert (narrow.model.widths, narrow.train.steps, narrow.model.items) == ((16, 32, 64), 2000, (10, 10, 10))
    whole = budgets.settings(of("I", "PMB"), "paper")
    assert (whole.model.widths, whole.train.steps) == ((64, 128, 256, 512, 512), 2000)
    tiny = budgets.settings(fifth, "tiny")
    assert (tiny.data.size, tiny.model.widths, tiny.train.steps) == (32, (4,) * 5, 2)
    digit = budgets.settings(of("fig6", "MemAE", "0"), "paper").model
    assert (digit.widths, digit.memory_places, digit.partitions) == ((64, 128, 256), (3,), (1,))


def test_printed_values_by_hand():
    assert of("I", "PMB").printed == {"image_AUROC": 95.2}
    assert of("IV", "PMB", "transistor").printed == {"pixel_AUROC": 80.8}
    assert of("V", "DAAD+", "zipper").printed == {"image_AUROC": 85.9}
    assert of("V", "MNAD").printed == {}
    assert of("VIII", "k = 2,2,2", "oct").printed == {"image_AUROC": 98.0}
    assert paper.printed_in("VII", "k0 = 2,2,2,2", "pixel_AUROC", "mean") == 93.0
    assert paper.printed_in("VI", "delta_h 0.75", "image_AUROC", "mean") == 91.05
    assert ("MKDAD", 97.01, True) in paper.others("III")
    assert paper.printed("pixel_AUROC", "mvtec", "wood") == 86.5
    assert paper.printed("AUPRO", "mvtec", "wood") is None


@pytest.mark.parametrize(("table", "row", "metric"), [("I", "PMB-AE", "image_AUROC"), ("IV", "PMB-AE", "pixel_AUROC")])
def test_the_printed_means_are_means_of_what_is_printed(table, row, metric):
    values = [paper.printed_in(table, row, metric, name) for name in paper.CATEGORIES]
    assert sum(values) / 15 == pytest.approx(paper.printed_in(table, row, metric, "mean"), abs=0.06)


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match="--categories bottel: table I has bottle, hazelnut"):
        paper.cells("I", ["bottel"])
    with pytest.raises(ValueError, match="table 'IX': expected one of I, II"):
        paper.cells("IX")


def test_stored_cells_are_read_and_told_apart(tmp_path):
    path = put_cell(tmp_path, of("VI", "delta_h 0.9"), metrics={"image_AUROC": 0.75})
    (tmp_path / "_absent.json").write_text("[]", encoding="utf-8")
    (stored,) = runs.read_cells(tmp_path).values()
    assert (stored.file, stored.metrics["image_AUROC"]) == (path.name, 0.75)
    assert runs.is_current(stored)


def test_a_cell_of_other_settings_is_not_current(tmp_path):
    path = put_cell(tmp_path, of("I", "PMB"))
    values = json.loads(path.read_text(encoding="utf-8"))
    values["settings"]["train"].update(steps=7, device="cuda", threads=3)
    path.write_text(json.dumps(values), encoding="utf-8")
    (stored,) = runs.read_cells(tmp_path).values()
    assert not runs.is_current(stored)
    assert runs.current({"a": stored}) == {}
    values["settings"]["train"]["steps"] = 300
    path.write_text(json.dumps(values), encoding="utf-8")
    assert runs.is_current(next(iter(runs.read_cells(tmp_path).values())))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("cell"), "KeyError 'cell'"),
        (lambda v: v.update(budget="paper"), r"ValueError the cell mvtec_ad-bottle\."),
        (lambda v: v["cell"].update(seed=4), r"ValueError the cell mvtec_ad-bottle.*seed4"),
        (lambda v: v["metrics"].update(AUPRO=93.0), r"AUPRO 93\.0, which is not in 0\.\.1"),
        (lambda v: v["cell"].update(preset="paper-new"), "unknown preset|the cell"),
    ],
)
def test_a_file_that_is_no_cell_is_named(tmp_path, change, words):
    path = put_cell(tmp_path, of("I", "PMB"))
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"json: expected what `python -m bench run` writes, got .*{words}"):
        runs.read_cells(tmp_path)


def test_data_are_found_where_they_lie(tmp_path):
    for name in ("mvtec_ad/bottle/train", "mnist", "OCT2017/train", "magnetic_tile"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mnist" / "a").touch()
    assert runs.data_folder(tmp_path, "mvtec_ad/bottle") == tmp_path / "mvtec_ad" / "bottle"
    assert runs.data_folder(tmp_path, "mnist/3") == tmp_path / "mnist"
    assert runs.data_folder(tmp_path, "oct") == tmp_path / "OCT2017"
    assert runs.data_folder(tmp_path, "magnetic_tile") is None  # an empty folder
    assert runs.data_folder(tmp_path, "mvtec_ad/cable") is None


def test_what_was_absent_is_remembered_and_forgotten(tmp_path):
    runs.note_absent(tmp_path, {"mnist/3"}, {"oct", "mvtec_ad/cable"})
    assert runs.absent(tmp_path) == {"oct", "mvtec_ad/cable"}
    runs.note_absent(tmp_path, {"oct"}, set())
    assert runs.absent(tmp_path) == {"mvtec_ad/cable"}
    before = (tmp_path / "_absent.json").stat().st_mtime_ns
    runs.note_absent(tmp_path, {"oct"}, set())
    assert (tmp_path / "_absent.json").stat().st_mtime_ns == before
