"""Our own presets: the table of ingredients, and the comparison with the paper and with a peer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cells import put_cell, put_peer

from normbank.presets import preset

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import ablated, ablation, comparison, digits, paper, peers, report, runs, tables  # noqa: E402
from bench.lines import all_lines, made  # noqa: E402


def put(folder, table, row, data, seed, budget="paper", **metrics):
    """Store a made-up cell; `selection` is that image AUROC, the others are metrics."""
    (cell,) = [cell for cell in paper.cells(table, [data], [seed]) if cell.row == row]
    chosen = {"selection": {"image_AUROC": metrics.pop("selection")}} if "selection" in metrics else {}
    return put_cell(folder, cell, budget, metrics=metrics, **chosen)


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def sentences(text):
    return [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]


# --- The ingredients -------------------------------------------------------------------------------------------------


def test_every_ingredient_is_one_row_and_what_is_scored_otherwise_is_not_trained():
    cells = paper.cells("ablation", ["bottle"], [0])
    own = [runs.identity(cell, "paper") for cell in cells]
    assert len({cell.row for cell in cells}) == len({one.slug for one in own}) == len(list(ablation.rows()))
    assert len({one.training.slug for one in own}) == 24
    trained = {one.training.slug for one in own if not one.score}
    added = ("bank=1000000.patches=20000", "corrupt=0.5", "gradient_weight=0.3", "head_width=16.corrupt=0.5")
    assert {one.training.slug for one in own if one.score} - trained == {
        f"mvtec_ad-bottle.paper-small.{changed}.paper.seed0" for changed in (*added, "temperature=0.1")
    }


def test_the_whole_is_the_cell_of_the_other_table():
    for table, row in (("ablation", "small"), ("own", "small")):
        (cell,) = [cell for cell in paper.cells(table, ["magnetic_tile"], [2]) if cell.row == row]
        assert runs.identity(cell, "paper").slug == "magnetic_tile.small.paper.seed2"


def test_ingredients_by_hand():
    settings = {
        cell.row: (cell.preset, cell.overrides, cell.score) for cell in paper.cells("ablation", ["bottle"], [0])
    }
    assert settings["the paper's method at this width"] == ("paper-small", {}, {})
    assert settings["no jitter"] == ("small", {"train.jitter": 0.0}, {})
    assert settings["no head, the gradient in its place"] == (
        "small",
        {"model.head_width": 0, "score.parts": ["gradient", "bank"]},
        {},
    )
    headless = settings["no head, the gradient in its place"][1]
    assert settings["no made defects, the gradient in the head's place"][1] == {**headless, "train.corrupt": 0.0}
    assert settings["soft read"][1] == {
        "model.shrinkage": "soft",
        "model.renormalise": False,
        "model.temperature": 1.0,
    }
    assert settings["with memory distance"][2] == {
        "score.parts": ["head", "bank", "memory"],
        "score.weights": [*preset("small").score.weights, 1.0],
    }
    assert settings["+ gradient score"] == (
        "paper-small",
        {},
        {
            "score.parts": ["gradient"],  # its weight is 1 there
            "score.smooth": preset("small").score.smooth,
            "score.pool": "max",
            "score.delta_h": 0.0,
        },
    )


def test_parts_keep_the_weights_they_have():
    config = preset("small", {"score.weights": [0.5, 2]})
    assert ablation.parts(config, ["bank", "memory"]) == {
        "score.parts": ["bank", "memory"],
        "score.weights": [2.0, 1.0],
    }
    assert ablation.parts(config, ["gradient"]) == {"score.parts": ["gradient"], "score.weights": [1.0]}


def test_the_first_seed_has_a_row_only_where_another_row_has_one_seed(tmp_path):
    for seed, row in ((0, "small"), (1, "small"), (0, "no jitter"), (1, "no jitter")):
        put(tmp_path, "ablation", row, "bottle", seed, image_AUROC=0.9)
    _, _, *found = rows(ablated.page(runs.read_cells(tmp_path)))
    assert [row[0] for row in found] == ["small", "no jitter"]
    put(tmp_path, "ablation", "gate", "bottle", 0, image_AUROC=0.9)
    _, _, *found = rows(ablated.page(runs.read_cells(tmp_path)))
    assert [row[0] for row in found] == ["small", "small, seed 0 alone", "no jitter", "gate"]


def test_the_table_of_ingredients_by_hand(tmp_path):
    for seed, value in ((0, 0.9), (1, 0.94)):
        more = {"pixel_AUROC": 0.8, "selection": 0.99, "image_AUROC_shifted": 0.7}
        put(tmp_path, "ablation", "small", "bottle", seed, image_AUROC=value, **more)
    put(tmp_path, "ablation", "small", "magnetic_tile", 0, image_AUROC=0.6)
    put(tmp_path, "ablation", "no jitter", "bottle", 0, image_AUROC=0.5, selection=0.75)
    put(tmp_path, "ablation", "with colour", "bottle", 0, image_AUROC=0.5)  # on tile there is none
    page = ablated.page(runs.read_cells(tmp_path))
    header, _, *found = rows(page)
    names = ("image", "pixel", "AUPRO", "selection", "shifted")
    assert header == [
        "row",
        *(f"{data} {name}" for data in ("bottle", "magnetic_tile") for name in names),
        *("seeds", "made of", "trained on"),
    ]
    by_row = {row[0]: row[1:] for row in found}
    assert by_row["small"] == [
        *("92.0 (90.0 to 94.0)", "80.0 (80.0 to 80.0)", "50.0 (50.0 to 50.0)"),
        *("99.0 (99.0 to 99.0)", "70.0 (70.0 to 70.0)"),
        *("60.0", "50.0", "50.0", "-", "-"),
        *("2, 1", "`small`", "a processor (32-true)"),
    ]
    assert by_row["small, seed 0 alone"] == [
        *("90.0", "80.0", "50.0", "99.0", "70.0"),
        *("60.0", "50.0", "50.0", "-", "-"),
        *("1", "`small`", "a processor (32-true)"),
    ]
    assert by_row["no jitter"][:6] == ["50.0", "50.0", "50.0", "75.0", "-", "-"]
    assert by_row["no jitter"][-3:] == ["1, 0", "`small`, train.jitter 0.0", "a processor (32-true); -"]
    assert by_row["with colour"][5:11] == [*("-",) * 5, "1, 0"]
    assert list(by_row) == ["small", "small, seed 0 alone", "no jitter", "with colour"]
    (rest,) = [line for line in page.splitlines() if line.startswith("Rows not run: ")]
    not_run = [row for row, *_ in ablation.rows() if row not in by_row]
    assert rest.removeprefix("Rows not run: ").rstrip(".").split("; ") == not_run
    assert page.startswith("AUROC and AUPRO in percent. image, pixel, AUPRO: on the test images. selection:")
    assert "Budget paper: the preset as it is. Trained on a processor (32-true); commits abc123." in page


# --- The causes on MNIST ---------------------------------------------------------------------------------------------


def test_every_cause_is_one_row_and_the_first_is_table_two():
    cells = paper.cells("mnist", ["3"], [0])
    own = [runs.identity(cell, "quick") for cell in cells]
    assert len({cell.row for cell in cells}) == len({one.slug for one in own}) == len(list(digits.rows()))
    assert len({one.training.slug for one in own}) == 13
    (printed,) = paper.cells("II", ["3"], [0])
    assert own[0].slug == runs.identity(printed, "quick").slug


def test_a_cause_changes_what_it_names_alone():
    settings = {cell.row: (cell.overrides, cell.score) for cell in paper.cells("mnist", ["3"], [0])}
    sharp = {"model.shrinkage": "hard", "model.renormalise": True, "model.temperature": 0.02}
    assert settings["as printed"] == ({}, {})
    assert settings["addressing: sharp"] == (sharp, {})
    assert settings["width: a quarter, sharp"] == ({"model.widths": [4, 8, 16], **sharp}, {})
    assert settings["length: a third"] == ({"train.steps": 100}, {})
    assert settings["addressing: sharp, score: squared"] == (sharp, {"score.parts": ["squared"]})


def test_the_mean_of_causes_is_over_the_digits_that_every_row_has(tmp_path):
    for row, values in (("as printed", (0.7, 0.8, 0.9)), ("length: a third", (0.5, 0.6))):
        for digit, value in zip("258", values, strict=False):
            put(tmp_path, "mnist", row, digit, 0, "quick", image_AUROC=value)
    (text,) = [one for one in tables.sections(runs.read_cells(tmp_path), set()) if "What keeps MNIST" in one]
    header, _, *found = rows(text)
    assert header == [
        *("row", "mean of 2", "mean of 3"),
        *(f"mnist {n} image" for n in "258"),
        "seeds",
        "made of",
        "trained on",
    ]
    by_row = {row[0]: row[1:-2] for row in found}
    assert by_row["as printed"] == ["75.0", "80.0", "70.0", "80.0", "90.0", "1"]
    assert by_row["length: a third"] == ["55.0", "-", "50.0", "60.0", "-", "1"]
    assert list(by_row) == ["as printed", "length: a third"]
    assert "place: no memory" in text.partition("Rows not run: ")[2]
    assert "The means are over the digits that every row has," in text


def test_budgets_of_ingredients_are_apart_and_the_trial_is_left_out(tmp_path):
    for budget, value in (("quick", 0.6), ("paper", 0.9), ("tiny", 0.3)):
        put(tmp_path, "ablation", "small", "bottle", 0, budget, image_AUROC=value)
    page = ablated.page(runs.read_cells(tmp_path))
    whole, quick = page.split("Budget quick")
    assert ["small", "90.0"] in [row[:2] for row in rows(whole)]
    assert ["small", "60.0"] in [row[:2] for row in rows(quick)]
    assert "30.0" not in page


def test_ingredients_of_other_settings_are_left_out(tmp_path):
    path = put(tmp_path, "ablation", "small", "bottle", 0)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["settings"]["train"]["steps"] = 7
    path.write_text(json.dumps(values), encoding="utf-8")
    assert ablated.page(runs.read_cells(tmp_path)) == "Not run yet: `python -m bench run ablation`."


def test_the_same_table_stands_in_the_bench(tmp_path):
    put(tmp_path, "ablation", "small", "bottle", 0)
    stored = runs.read_cells(tmp_path)
    text = "\n".join(tables.sections(stored, set()))
    part = text.partition("### The ingredients of small (budget paper)")[2].partition("\n### ")[0]
    assert rows(part) == rows(ablated.page(stored))
    assert "Not run: transistor, magnetic_tile." in part


# --- The comparison --------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(tmp_path):
    """Cells and peers of bottle and the tiles, and two digits; what README.md says of them."""
    for seed, value in ((0, 0.99), (1, 1.0)):
        more = {"pixel_AUROC": 0.98, "AUPRO": 0.9, "image_AUROC_shifted": 0.97}
        put(tmp_path / "cells", "own", "small", "bottle", seed, image_AUROC=value, **more)
    put(tmp_path / "cells", "own", "standard", "bottle", 0, image_AUROC=0.9, pixel_AUROC=0.99)
    put(tmp_path / "cells", "own", "small", "magnetic_tile", 0, image_AUROC=0.95, pixel_AUROC=None, AUPRO=None)
    for digit, value in (("0", 0.98), ("1", 0.992)):
        put(tmp_path / "cells", "own", "small", digit, 0, image_AUROC=value, pixel_AUROC=None, AUPRO=None)
    theirs = {"image_AUROC": 0.9951, "pixel_AUROC": 0.97, "AUPRO": 0.9, "image_AUROC_shifted": 0.98}
    put_peer(tmp_path / "peers", "bottle", metrics=theirs)
    put_peer(tmp_path / "peers", "magnetic_tile", metrics={"image_AUROC": 0.94})
    put_peer(tmp_path / "peers", "transistor")
    return comparison.readme(runs.read_cells(tmp_path / "cells"), peers.read_peers(tmp_path / "peers"))


def test_other_data_by_hand(tmp_path):
    put(tmp_path / "cells", "own", "small", "bottle", 0)
    for seed, value in ((0, 0.9), (1, 0.94)):
        put(tmp_path / "cells", "textures", "small", "gravel", seed, image_AUROC=value, pixel_AUROC=0.8, AUPRO=None)
    put(tmp_path / "cells", "textures", "head alone", "gravel", 0, image_AUROC=0.1)
    put(tmp_path / "cells", "displaced", "fast", "turned", 0, image_AUROC=0.7, pixel_AUROC=0.6, AUPRO=0.55)
    put_peer(tmp_path / "peers", "turned")
    put_peer(tmp_path / "peers", "bottle", size=256)  # not among them
    text = comparison.readme(runs.read_cells(tmp_path / "cells"), peers.read_peers(tmp_path / "peers"))
    assert rows(text)[-4:] == [
        ["data", "`small`", "`fast`", "PaDiM, 128 px"],
        ["---", "---", "---", "---"],
        ["texture: gravel", "92.0 / 80.0 / -", "-", "-"],
        ["transistor, at any angle", "-", "70.0 / 60.0 / 55.0", "50.0 / 50.0 / 50.0"],
    ]
    assert text.endswith("Image AUROC / pixel AUROC / AUPRO, ours the mean of 1 or 2 seeds (spread: bench/README.md).")


def test_the_comparison_by_hand(compared):
    header, _, *found = rows(compared)
    assert header == [
        *("data", "method", "borrowed weights", "seeds", "image AUROC", "pixel AUROC", "AUPRO"),
        *("image AUROC, light shifted", "training"),
    ]
    assert found == [
        ["bottle", "the paper", "none", "-", "95.2", "93.7", "-", "-", "-"],
        ["bottle", "`standard`", "none", "1", "90.0", "99.0", "50.0", "-", "60 s, a processor"],
        [
            *("bottle", "`small`", "none", "2", "99.5 (99.0 to 100.0)", "98.0 (98.0 to 98.0)"),
            *("90.0 (90.0 to 90.0)", "97.0 (97.0 to 97.0)", "60 s, a processor"),
        ],
        [
            *("bottle", "PaDiM, 128 px", "ImageNet", "1", "99.5", "97.0", "90.0", "98.0"),
            "4.0 s (7.5 s of processor time), a processor",
        ],
        ["magnetic_tile", "`small`", "none", "1", "95.0", "-", "-", "-", "60 s, a processor"],
        [
            *("magnetic_tile", "PaDiM, 128 px", "ImageNet", "1", "94.0", "50.0", "50.0", "50.0"),
            "4.0 s (7.5 s of processor time), a processor",
        ],
        ["mnist, mean of 10 digits", "the paper", "none", "-", "98.1", "-", "-", "-", "-"],
        ["mnist, mean of 2 digits", "`small`", "none", "1", "98.6", "-", "-", "-", "60 s, a processor"],
    ]


def test_seconds_are_of_the_seeds_that_count_and_of_each_device_by_itself(tmp_path):
    for digit, seed, seconds, device in ((1, 0, 60.0, "a GPU"), (2, 0, 90.0, "another"), (1, 1, 10.0, "a GPU")):
        cell = next(one for one in paper.cells("own", [str(digit)], [seed]) if one.row == "small")
        put_cell(tmp_path, cell, "paper", context={"training_seconds": seconds, "training_device": device})
    lines = [line for line in all_lines("own", "paper", runs.read_cells(tmp_path)) if line.stored]
    assert comparison._training(lines) == "60 s, a GPU; 90 s, another"


def test_a_bank_that_was_filled_again_tells_of_what_commit_its_network_is(tmp_path):
    cells = [one for one in paper.cells("own", ["bottle", "transistor"], [0]) if one.row == "small"]
    put_cell(tmp_path, cells[0], "paper")
    assert made(all_lines("own", "paper", runs.read_cells(tmp_path))).endswith("commits abc123.")
    put_cell(tmp_path, cells[1], "paper", network_commit="older")
    assert "their networks were trained at older, and" in made(all_lines("own", "paper", runs.read_cells(tmp_path)))


@pytest.mark.parametrize(
    ("device", "cores", "told"),
    [
        ("some CPU", 1, "some CPU (1 core, 32-true)"),
        ("some CPU", 2, "some CPU (2 cores, 32-true)"),
        ("a GPU", 16, "a GPU"),
    ],
)
def test_seconds_are_of_so_many_cores_in_one_precision(device, cores, told):
    context = {"training_device": device, "machine": {"processor": "some CPU", "processors": 7}}
    context["training_precision"] = "32-true"
    assert comparison.device({"context": context, "threads": cores}) == told


def test_who_is_ahead_is_said_by_the_figures_that_are_shown(compared):
    assert sentences(compared) == [
        "The paper is ahead of `standard` on bottle: image AUROC (95.2 against 90.0).",
        "The paper is nowhere ahead of `small` on the data that this table has of both.",
        "PaDiM, 128 px is ahead of `standard` on bottle: image AUROC (99.5 against 90.0), AUPRO (90.0 against 50.0).",
        "PaDiM, 128 px is ahead of `small` on bottle: image AUROC, light shifted (98.0 against 97.0).",
        "For digits these settings of `small` were changed: data.size 32, model.widths 16,32,64, model.memory_levels "
        "3, model.partitions 1,1,1, model.items 150,200,200, train.batch_size 64.",
        "PaDiM stands on a_network. research only; takes three. It learnt from all images. Its seconds are by "
        "the clock, decoding not counted; where others slowed the machine, the processor time tells more.",
    ]


def test_a_peer_has_a_row_for_each_size_that_it_saw(tmp_path):
    put(tmp_path / "cells", "own", "small", "bottle", 0, image_AUROC=0.9, pixel_AUROC=0.99)
    put_peer(tmp_path / "peers", "bottle", size=256, metrics={"image_AUROC": 0.95})
    put_peer(tmp_path / "peers", "bottle", metrics={"image_AUROC": 0.85})
    text = comparison.readme(runs.read_cells(tmp_path / "cells"), peers.read_peers(tmp_path / "peers"))
    assert [row[1] for row in rows(text)[2:]] == ["the paper", "`small`", "PaDiM, 128 px", "PaDiM, 256 px"]
    ahead = [one for one in sentences(text) if "is ahead of `small`" in one]
    assert ahead == [
        "The paper is ahead of `small` on bottle: image AUROC (95.2 against 90.0).",
        "PaDiM, 256 px is ahead of `small` on bottle: image AUROC (95.0 against 90.0).",
    ]


def test_without_a_result_of_ours_nothing_is_compared(tmp_path):
    put(tmp_path / "cells", "own", "small", "bottle", 0, "quick")
    put_peer(tmp_path / "peers", "bottle")
    assert comparison.readme(runs.read_cells(tmp_path / "cells"), peers.read_peers(tmp_path / "peers")) is None


def test_the_section_of_our_own_has_peers_and_every_cell(tmp_path):
    put(tmp_path / "cells", "own", "small", "bottle", 0, "quick", image_AUROC=0.9)
    put_peer(tmp_path / "peers", "bottle")
    stored, known = runs.read_cells(tmp_path / "cells"), peers.read_peers(tmp_path / "peers")
    text = "\n".join(tables.sections(stored, set(), known))
    part = text.partition("### Presets of our own (budget quick)")[2].partition("\n### ")[0]
    names = [row[1] for row in rows(part)]
    assert names[2:5] == ["the paper", "`small`", "PaDiM, 128 px"]
    assert ["small", "bottle", "90.0"] in [row[:3] for row in rows(part)]


@pytest.mark.parametrize(("table", "data"), [("textures", "gravel"), ("displaced", "turned")])
def test_our_presets_stand_beside_peers_on_other_data_too(tmp_path, table, data):
    for row in ("fast", "small"):
        put(tmp_path / "cells", table, row, data, 0, "quick", image_AUROC=0.9)
    put_peer(tmp_path / "peers", data, metrics={"image_AUROC": 0.95})
    put_peer(tmp_path / "peers", "bottle")
    stored, known = runs.read_cells(tmp_path / "cells"), peers.read_peers(tmp_path / "peers")
    part = next(one for one in tables.sections(stored, set(), known) if "(budget quick)" in one)
    assert [row[:5] for row in rows(part)[2:5]] == [
        [data, "`small`", "none", "1", "90.0"],
        [data, "`fast`", "none", "1", "90.0"],
        [data, "PaDiM, 128 px", "ImageNet", "1", "95.0"],
    ]
    assert f"PaDiM, 128 px is ahead of `small` on {data}: image AUROC (95.0 against 90.0)" in part


def test_without_a_preset_of_ours_nothing_stands_beside_peers(tmp_path):
    put(tmp_path / "cells", "displaced", "fast, as they lie", "turned", 0, "quick")
    part = next(one for one in tables.sections(runs.read_cells(tmp_path / "cells"), set()) if "(budget quick)" in one)
    assert "borrowed weights" not in part


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("fitting_seconds"), "KeyError 'fitting_seconds'"),
        (lambda v: v["notes"].pop("licence"), "KeyError 'licence'"),
        (lambda v: v["metrics"].pop("AUPRO"), "KeyError 'AUPRO'"),
        (lambda v: v["metrics"].update(AUPRO=88.0), r"AUPRO 88\.0, which is not in 0\.\.1"),
        (lambda v: v.update(fitting_seconds="four"), "ValueError"),
    ],
)
def test_a_file_that_is_no_peer_is_named(tmp_path, change, words):
    path = put_peer(tmp_path)
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    told = rf"bottle-128\.json: expected what `python -m bench\.peer` writes, got .*{words}"
    with pytest.raises(ValueError, match=told):
        peers.read_peers(tmp_path)


def test_the_committed_peers_are_read():
    found = {peer.data: peer for peer in peers.read_peers(REPO / "bench" / "results" / "peers")}
    assert set(found) >= {"bottle", "transistor", "magnetic_tile"}
    for peer in found.values():
        assert "ImageNet" in peer.cost
        assert "three channels" in peer.cost


# --- The pages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path):
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for name, mark in (("README.md", "results"), ("docs/method.md", "ablation")):
        (tmp_path / name).write_text(
            f"above\n<!-- {mark}:begin -->\nold\n<!-- {mark}:end -->\nbelow\n", encoding="utf-8"
        )
    return tmp_path


def test_both_pages_are_written_and_checked(repo):
    cells = repo / "bench" / "results" / "cells"
    report.report(repo=repo, say=lambda line: None)
    put(cells, "own", "small", "bottle", 0, image_AUROC=0.9)
    with pytest.raises(report.StaleError, match=r"stale: bench/README\.md, README\.md, docs/method\.md\. Run"):
        report.report(repo=repo, check=True)
    told = []
    report.report(repo=repo, say=told.append)
    assert told == ["wrote bench/README.md", "wrote README.md", "wrote docs/method.md"]
    report.report(repo=repo, check=True)
    readme = (repo / "README.md").read_text(encoding="utf-8")
    assert readme.index("| data | method |") < readme.index("No result is committed yet")
    method = (repo / "docs" / "method.md").read_text(encoding="utf-8")
    assert method.startswith("above\n<!-- ablation:begin -->\nAUROC and AUPRO in percent.")
    assert method.endswith("<!-- ablation:end -->\nbelow\n")
    assert ["small", "90.0"] in [row[:2] for row in rows(method)]


def test_a_new_peer_makes_the_tables_stale(repo):
    put(repo / "bench" / "results" / "cells", "own", "small", "bottle", 0)
    report.report(repo=repo, say=lambda line: None)
    put_peer(repo / "bench" / "results" / "peers", "bottle")
    with pytest.raises(report.StaleError, match=r"stale: bench/README\.md, README\.md\. Run"):
        report.report(repo=repo, check=True)


def test_a_page_without_its_markers_is_named(repo):
    (repo / "docs" / "method.md").write_text("none", encoding="utf-8")
    with pytest.raises(ValueError, match=r"docs/method\.md: expected <!-- ablation:begin -->"):
        report.report(repo=repo)
