"""From evaluation files to the tables of results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from normbank.presets import preset as named

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO))
    from bench import paper, report

    return SimpleNamespace(report=report, paper=paper)


def evaluation(*, preset="paper-small", data="bottle", format_="mvtec", overrides=None, **values):
    """What `normbank evaluate --json` writes, as far as the tables read it."""
    settings = named(preset, overrides or {}).model_dump(mode="json")
    metrics = dict.fromkeys(
        ("image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "AUPRO", "brightness_AUROC"), 0.5
    )
    return {
        "metrics": {**metrics, **values.get("metrics", {})},
        "reasons": values.get("reasons", {}),
        "context": {
            "data_name": data,
            "data_format": format_,
            "preset": preset,
            "settings": settings,
            "seed": settings["train"]["seed"],
            "training_seconds": values.get("seconds", 100.0),
            "training_device": values.get("device", "a processor"),
            "training_commit": values.get("commit", "abc123"),
        },
    }


@pytest.fixture
def repo(tmp_path):
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "README.md").write_text(
        "before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n", encoding="utf-8"
    )
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "method.md").write_text("<!-- ablation:begin -->\n<!-- ablation:end -->\n", encoding="utf-8")
    return tmp_path


def put(repo, name, values):
    (repo / "bench" / "results" / name).write_text(json.dumps(values), encoding="utf-8")


def rows(repo):
    """The cells of the README's table."""
    lines = (repo / "README.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_a_run_as_its_preset_by_hand(bench, repo):
    metrics = {"image_AUROC": 0.9123, "pixel_AUROC": 0.9, "AUPRO": None, "brightness_AUROC": 0.25}
    put(repo, "a.json", evaluation(preset="paper-mvtec-object", metrics=metrics, reasons={"AUPRO": "no masks"}))
    bench.report.report(repo=repo, say=lambda line: None)
    header, _, row = rows(repo)
    assert header[6:12] == ["image AUROC", "paper", "pixel AUROC", "paper", "AUPRO", "brightness alone"]
    assert row == [
        *("bottle", "`paper-mvtec-object`", "as the preset", "2000", "64,128,256,512,512", "0"),
        *("91.2", "95.2", "90.0", "93.7", "-", "25.0", "100 s, a processor", "abc123"),
    ]
    page = (repo / "bench" / "README.md").read_text(encoding="utf-8")
    assert "- `a.json`, AUPRO: no masks" in page
    assert "[a.json](results/a.json)" in page
    assert "Table I: image_AUROC, Table IV: pixel_AUROC" in page


@pytest.mark.parametrize(
    ("overrides", "standing"),
    [
        ({}, "as the preset"),
        ({"train.seed": 7, "train.threads": 1, "data.normal_dir": "ok", "train.precision": "32"}, "as the preset"),
        ({"train.steps": 50}, "reduced: train.steps 50 (preset: 400)"),
        ({"model.widths": "8,16,32,64,64"}, "reduced: model.widths 8,16,32,64,64 (preset: 16,32,64,128,128)"),
        ({"train.steps": 900}, "changed: train.steps 900 (preset: 400)"),
        ({"model.renormalise": False}, "changed: model.renormalise False (preset: True)"),
        (
            {"train.steps": 50, "score.delta_h": 0},
            "reduced: train.steps 50 (preset: 400), score.delta_h 0.0 (preset: 0.5)",
        ),
    ],
)
def test_a_run_is_never_called_by_a_preset_it_did_not_have(bench, repo, overrides, standing):
    put(repo, "a.json", evaluation(overrides=overrides))
    assert bench.report.read_runs(repo / "bench" / "results")[0].standing == standing


def test_seeds_are_one_row_with_mean_and_range_by_hand(bench, repo):
    for seed, value in enumerate((0.9, 0.95, 0.97)):
        made = {"metrics": {"image_AUROC": value}, "seconds": 100.0 * (seed + 1), "commit": "one" if seed else "two"}
        put(repo, f"{seed}.json", evaluation(overrides={"train.seed": seed}, **made))
    put(repo, "reduced.json", evaluation(overrides={"train.steps": 10}))
    bench.report.report(repo=repo, say=lambda line: None)
    _, _, whole, reduced = rows(repo)
    assert whole[5:7] == ["0, 1, 2", "94.0 (90.0 to 97.0)"]
    assert whole[12:] == ["200 s, a processor", "two, one"]
    assert reduced[2:6] == ["reduced: train.steps 10 (preset: 400)", "10", "16,32,64,128,128", "0"]


def test_the_paper_stands_beside_its_own_data_alone(bench, repo):
    for name, data, format_ in (("a", "bottle", "folder"), ("b", "cable", "mvtec"), ("c", "transistor", "mvtec")):
        put(repo, f"{name}.json", evaluation(data=data, format_=format_))
    bench.report.report(repo=repo, say=lambda line: None)
    assert [(row[0], row[7], row[9]) for row in rows(repo)[2:]] == [
        ("bottle", "-", "-"),
        ("cable", "85.6", "94.2"),
        ("transistor", "92.4", "80.8"),
    ]


def test_a_setting_newer_than_the_run_is_no_difference(bench, repo):
    values = evaluation()
    del values["context"]["settings"]["model"]["temperature"]
    put(repo, "a.json", values)
    assert bench.report.read_runs(repo / "bench" / "results")[0].standing == "as the preset"


def test_without_results_the_tables_say_so(bench, repo):
    bench.report.report(repo=repo, say=lambda line: None)
    assert "No result is committed yet" in (repo / "README.md").read_text(encoding="utf-8")
    bench.report.report(repo=repo, check=True)


def test_check_names_what_is_stale_and_writes_nothing(bench, repo):
    bench.report.report(repo=repo, say=lambda line: None)
    put(repo, "a.json", evaluation())
    before = (repo / "README.md").read_bytes()
    with pytest.raises(bench.report.StaleError, match=r"stale: bench/README\.md, README\.md\. Run `python -m bench"):
        bench.report.report(repo=repo, check=True)
    assert (repo / "README.md").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("context"), "KeyError 'context'"),
        (lambda v: v["metrics"].pop("AUPRO"), "KeyError 'AUPRO'"),
        (lambda v: v["metrics"].update(AUPRO=93.0), r"AUPRO 93\.0, which is not in 0\.\.1"),
        (lambda v: v["context"].update(preset="paper-new"), "the preset 'paper-new', which is none of"),
        (lambda v: v["context"].pop("training_commit"), "KeyError 'training_commit'"),
    ],
)
def test_a_file_that_is_no_evaluation_is_named(bench, repo, change, words):
    values = evaluation()
    change(values)
    put(repo, "odd.json", values)
    with pytest.raises(ValueError, match=rf"odd\.json: expected what `normbank evaluate --json` writes, got .*{words}"):
        bench.report.read_runs(repo / "bench" / "results")


@pytest.mark.parametrize("text", ["none", "<!-- results:end --><!-- results:begin -->", "<!-- results:begin -->"])
def test_a_readme_without_its_markers_is_left_alone(bench, text):
    with pytest.raises(ValueError, match=r"README\.md: expected <!-- results:begin -->"):
        bench.report.with_table(text, "table")


def test_what_stands_around_the_table_stays(bench):
    text = "a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb\n"
    assert bench.report.with_table(text, "new") == text.replace("old", "new")


def test_a_real_evaluation_is_read(bench, repo, tiny_model, tiny_data):
    from normbank.data.open import open_dataset
    from normbank.detector import load
    from normbank.judging import judge

    detector = load(tiny_model)
    list(judge(detector, open_dataset(tiny_data), json_file=repo / "bench" / "results" / "tiny.json", quiet=True))
    (run,) = bench.report.read_runs(repo / "bench" / "results")
    assert (run.data, run.preset) == ("tiny", "paper-small")
    assert run.standing.startswith("reduced: data.size 32 (preset: 128)")


@pytest.mark.slow  # `make check` does it, too
def test_the_committed_tables_are_what_the_results_make_of_them():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "report", "--check"], cwd=REPO, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_exit_code_2_for_a_file_that_cannot_be_used(bench, monkeypatch, capsys):
    from bench import __main__ as command

    def broken(check):
        raise ValueError("a.json: expected more")

    monkeypatch.setattr(command, "report", broken)
    monkeypatch.setattr(sys, "argv", ["bench", "report"])
    assert command.main() == 2
    assert capsys.readouterr().err == "bench: a.json: expected more\n"
