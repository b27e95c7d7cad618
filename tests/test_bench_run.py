"""The runner: what it lists, how long it says it takes, and that a kill loses one cell at most."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cells import put_cell

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import __main__ as command  # noqa: E402
from bench import one, paper, runner, runs  # noqa: E402
from bench.budgets import settings  # noqa: E402
from normbank.presets import preset  # noqa: E402

BOTTLE = "mvtec_ad-bottle.paper-mvtec-object"


@pytest.fixture
def places(tmp_path):
    """Data of bottle and the digits are there, of nothing else."""
    for name in ("mvtec_ad/bottle/train", "mnist/a"):
        (tmp_path / "data" / name).mkdir(parents=True)
    return runner.Places(tmp_path / "data", tmp_path / "work", tmp_path / "results")


class Worker:
    """In place of the process that trains: stores made-up results, until it is killed."""

    def __init__(self, places, killed_at=None):
        self.places, self.killed_at, self.jobs = places, killed_at, []

    def __call__(self, job):
        self.jobs.append(job)
        if len(self.jobs) == self.killed_at:
            raise KeyboardInterrupt
        for score in job["scores"]:
            own = runs.Identity(**{**job["training"], "score": score})
            put_cell(self.places.results, own.cell, own.budget)
        return 0


def run(table, places, worker, **more):
    told = []
    measure = more.pop("measure", lambda configs: [0.5] * len(configs))
    code = runner.run(table, places, budget="quick", say=told.append, start=worker, measure=measure, **more)
    return code, told


def test_it_lists_what_is_stored_missing_and_without_data(places):
    put_cell(places.results, paper.cells("VI", ["bottle"], [0])[0])
    code, told = run("VI", places, None, categories=["bottle", "cable"], seeds=1, dry_run=True)
    assert code == 0
    assert told[0] == (
        "table VI, budget quick (reduced: 300 steps at most, and channels from 16 on (a quarter of the paper's "
        "presets')): 10 cells, 1 stored, 4 to run (1 trainings), 5 data not present"
    )
    assert told[1] == f"  stored            {BOTTLE}.delta_h=0.0.quick.seed0"
    assert told[2] == f"  to run            {BOTTLE}.delta_h=0.25.quick.seed0"
    assert told[6] == "  data not present  cable"
    assert told[7:] == [
        "about 80 s on this machine, as busy as it is now:",
        "  paper-mvtec-object, quick, widths 16,32,64,128,128: 1 x 80 s, as finished cells took with scoring",
    ]


def test_without_finished_cells_a_step_is_measured(places):
    asked = []

    def measure(configs):
        asked.extend(configs)
        return [0.25, 2.0]

    _, told = run("fig6", places, None, categories=["bottle", "0"], rows=["MemAE"], dry_run=True, measure=measure)
    assert [config.model.memory for config in asked] == ["memae", "memae"]
    assert told[-3:] == [
        "about 11 min on this machine, as busy as it is now:",  # 300 x 0.25 s + 300 x 2 s
        "  memae, quick, widths 16,32,64: 1 x 300 steps x 0.25 s, scoring not counted",
        "  memae, quick, widths 16,32,64,128,128: 1 x 300 steps x 2 s, scoring not counted",
    ]


def test_a_dry_run_leaves_nothing_behind(places):
    run("II", places, None, dry_run=True)
    assert not places.results.exists()
    assert not places.work.exists()


def test_every_training_is_run_once_and_scored_each_way(places):
    worker = Worker(places)
    code, _ = run("VI", places, worker, categories=["bottle", "cable"], seeds=2)
    assert code == 0
    assert [job["training"]["seed"] for job in worker.jobs] == [0, 1]
    assert worker.jobs[0]["scores"] == [
        *({"score.delta_h": 0.0}, {"score.delta_h": 0.25}, {}, {"score.delta_h": 0.75}, {"score.delta_h": 0.9})
    ]
    assert len(runs.read_cells(places.results)) == 10
    assert runs.absent(places.results) == {"mvtec_ad/cable"}
    again = Worker(places)
    code, told = run("fig8", places, again, categories=["bottle"], seeds=2)
    assert (code, again.jobs) == (0, [])
    assert "10 stored, 0 to run" in told[0]


def test_after_a_kill_it_goes_on_where_it_was(places):
    worker = Worker(places, killed_at=3)
    with pytest.raises(KeyboardInterrupt):
        run("II", places, worker, seeds=1)
    assert len(runs.read_cells(places.results)) == 2
    again = Worker(places)
    run("II", places, again, seeds=1)
    assert len(again.jobs) == 8
    assert again.jobs[0] == worker.jobs[2]


def test_a_failed_training_is_told_and_the_others_run(places):
    told = []
    failing = iter([2, 0, 0])
    code = runner.run(
        "II",
        places,
        categories=["1", "2", "3"],
        seeds=1,
        estimated=False,
        say=told.append,
        start=lambda job: next(failing),
    )
    assert code == 1
    assert "failed (2): mnist-1.paper-mnist.paper.seed0" in told


def test_an_interrupted_child_ends_the_run(places):
    with pytest.raises(KeyboardInterrupt):
        run("II", places, lambda job: 130, seeds=1)


def test_an_estimate_for_several_at_once_is_of_one_after_another(places):
    _, told = run("II", places, None, categories=["1"], seeds=1, dry_run=True, jobs=2)
    assert told[-2] == "about 2 min on this machine, one after another, as busy as it is now:"


def test_a_no_runs_nothing(places):
    worker = Worker(places)
    assert run("II", places, worker, agrees=lambda question: False)[0] == 0
    assert worker.jobs == []


def test_finished_cells_tell_how_long_the_rest_takes(places):
    digits = paper.cells("II", seeds=[0])
    for cell, seconds in zip(digits[:2], (40.0, 80.0), strict=True):
        put_cell(places.results, cell, context={"training_seconds": seconds, "evaluation_seconds": 30.0})

    def unasked(configs):
        raise AssertionError("nothing is left to measure")

    _, told = run("II", places, None, seeds=1, dry_run=True, measure=unasked)
    assert told[-2:] == [
        "about 12 min on this machine, as busy as it is now:",
        "  paper-mnist, quick, widths 16,32,64: 8 x 2 min, as finished cells took with scoring",
    ]


@pytest.mark.parametrize(
    "other", [{"context": {"machine": {"processor": "another"}}}, {"budget": "tiny"}, {"device": "cuda"}]
)
def test_cells_of_another_machine_budget_or_device_tell_nothing(places, other):
    cell = paper.cells("II", ["1"], [0])[0]
    put_cell(places.results, cell, other.get("budget", "quick"), **{k: v for k, v in other.items() if k == "context"})
    _, told = run("II", places, None, seeds=1, dry_run=True, device=other.get("device", "auto"))
    assert "scoring not counted" in told[-1]


def test_what_is_trained_already_needs_no_time_to_train(places):
    folder = places.work / f"{BOTTLE}.quick.seed0"
    folder.mkdir(parents=True)
    (folder / "model.nbk").touch()
    _, told = run("VI", places, None, categories=["bottle"], seeds=1, dry_run=True)
    assert told[-2:] == ["about 0 s on this machine, as busy as it is now:", "  1 that are trained: not counted"]


def test_cells_made_with_other_settings_are_run_again(places):
    path = put_cell(places.results, paper.cells("II", ["1"], [0])[0])
    values = json.loads(path.read_text(encoding="utf-8"))
    values["settings"]["train"]["steps"] = 7
    path.write_text(json.dumps(values), encoding="utf-8")
    worker = Worker(places)
    run("II", places, worker, categories=["1"], seeds=1)
    assert len(worker.jobs) == 1


def test_rows_are_chosen_by_name():
    assert {cell.row for cell in runner.chosen("V", ["bottle"], 1, ["pmb-ae", "MemAE"])} == {"PMB-AE", "MemAE"}
    assert {cell.row for cell in runner.chosen("VII", ["bottle"], 1, ["k5"])} == {"k5 = 32,16,16,16"}
    with pytest.raises(ValueError, match=r"--rows 'PBM': table V has AE-SSIM; AE-L2; AE\+skip; MemAE"):
        runner.chosen("V", [], 1, ["PBM"])


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (89.6, "90 s"), (720, "12 min"), (12000, "3 h 20 min")])
def test_times_in_words(seconds, words):
    assert runner.told(seconds) == words


def test_mistakes_end_with_2(capsys):
    assert command.main(["run", "I", "--categories", "bottel", "--dry-run"]) == 2
    assert "bench: --categories bottel: table I has" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["run", "I", "--seeds", "0"])
    assert "expected 1 or more, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["run", "I", "--jobs", "0"])
    assert "argument --jobs: expected 1 or more, got 0" in capsys.readouterr().err


def test_the_command_line_reaches_the_runner(monkeypatch, tmp_path):
    seen = {}

    def remember(table, places, **more):
        seen.update(more, table=table, places=places)
        return 0

    monkeypatch.setattr(command, "run", remember)
    line = f"run V --categories bottle,cable transistor --rows PMB-AE --seeds 1 --budget tiny --data {tmp_path} --yes"
    assert command.main([*line.split(), "--jobs", "4", "--refill"]) == 0
    assert (seen["table"], seen["categories"], seen["rows"]) == ("V", ["bottle", "cable", "transistor"], ["PMB-AE"])
    assert (seen["seeds"], seen["budget"], seen["jobs"], seen["dry_run"], seen["refill"]) == (1, "tiny", 4, False, True)
    assert seen["places"].data == tmp_path


def job(data, tmp_path, **more):
    cell = next(cell for cell in paper.cells("V", ["bottle"], [0]) if cell.row == paper.PMB)
    training = runs.identity(cell, "tiny").to_dict()
    where = {"data": str(data), "work": str(tmp_path / "work"), "results": str(tmp_path / "results")}
    return {"training": training, "scores": [{}], "device": "cpu", **where, **more}


@pytest.fixture(scope="module")
def like_mvtec(tiny_data, tmp_path_factory):
    """The tiny data set as bottle."""
    root = tmp_path_factory.mktemp("like") / "data"
    (root / "mvtec_ad").mkdir(parents=True)
    (root / "mvtec_ad" / "bottle").symlink_to(tiny_data)
    return root


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error(tmp_path):
    start = [sys.executable, "-m", "bench", "run", "V", "--dry-run", "--no-estimate", "--data", str(tmp_path)]
    process = subprocess.Popen(start, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.slow
def test_a_fresh_cell_from_the_command_line_to_the_table(like_mvtec, tmp_path):
    line = "run V --categories bottle --rows PMB-AE --seeds 1 --budget tiny --device cpu --yes --no-estimate"
    where = {"--data": like_mvtec, "--work": tmp_path / "work", "--results": tmp_path / "results"}
    arguments = [*line.split(), *(str(part) for pair in where.items() for part in pair)]

    def run_it():
        start = [sys.executable, "-m", "bench", *arguments]
        return subprocess.run(start, cwd=REPO, capture_output=True, text=True, timeout=300, env=os.environ)

    done = run_it()
    assert done.returncode == 0, done.stderr
    assert "1 to run (1 trainings)" in done.stdout
    (path,) = (tmp_path / "results").glob("*.json")
    assert path.name == f"{BOTTLE}.tiny.seed0.json"
    text = path.read_text(encoding="utf-8")
    values = json.loads(text)
    assert values["metrics"]["image_AUROC"] is not None
    assert values["settings"] == settings(paper.cells("I", ["bottle"], [0])[0], "tiny", "cpu").model_dump(mode="json")
    assert {kind: len(scores) for kind, scores in values["scores"].items()} == {"good": 6, "scratch": 4, "spot": 4}
    assert values["counts"]["with_mask"] == 8
    assert 50 * 2**20 < values["peak_memory_bytes"] < 8 * 2**30
    assert values["seconds_per_training_step"] > 0
    assert values["seconds_per_image"] > 0
    assert values["model_bytes"] == (tmp_path / "work" / path.stem / "model.nbk").stat().st_size
    assert values["context"]["versions"]["torch"]
    assert {"image_AUROC_shifted", "pixel_AUROC_shifted"} < set(values["metrics"])
    assert "selection" not in values  # the paper's presets hold nothing out
    assert "curves" not in values
    assert not any(str(place) in text for place in (tmp_path, like_mvtec.parent, REPO))
    assert "1 stored, 0 to run" in run_it().stdout
    assert list(runs.current(runs.read_cells(tmp_path / "results"))) == [path.stem]


@pytest.mark.slow
def test_the_stored_model_is_scored_another_way_and_never_trained_again(like_mvtec, tmp_path):
    from normbank import fitting

    first = job(like_mvtec, tmp_path)
    one.run(first, *(Path(first[name]) for name in ("data", "work", "results")))
    model = next((tmp_path / "work").rglob("model.nbk"))
    before = model.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "optimise", lambda *a, **k: pytest.fail("trained again"))
        second = {**first, "scores": [{"score.delta_h": 0.0}], "device": "auto"}
        one.run(second, *(Path(first[name]) for name in ("data", "work", "results")))
    whole, without = sorted(runs.read_cells(tmp_path / "results").values(), key=lambda stored: len(stored.file))
    assert model.read_bytes() == before
    assert without.values["settings"]["score"]["delta_h"] == 0
    assert without.values["peak_memory_bytes"] == whole.values["peak_memory_bytes"]
    assert max(without.values["scores"]["good"]) > max(whole.values["scores"]["good"])  # nothing is subtracted


@pytest.mark.slow
def test_a_preset_with_another_score_is_scored_again_and_not_trained(like_mvtec, tmp_path):
    from normbank import fitting

    (cell,) = [c for c in paper.cells("ablation", ["bottle"], [0]) if c.row == "the paper's method at this width"]
    wanted = job(like_mvtec, tmp_path, training=runs.identity(cell, "tiny").to_dict())
    places = [Path(wanted[name]) for name in ("data", "work", "results")]
    with pytest.MonkeyPatch.context() as patch:
        before = settings(cell, "tiny", "cpu")
        patch.setattr(
            one,
            "settings",
            lambda *a: before.model_copy(
                update={"score": preset("small").score.model_copy(update={"parts": ("gradient",), "weights": (1.0,)})}
            ),
        )
        one.run(wanted, *places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "optimise", lambda *a, **k: pytest.fail("trained again"))
        one.run(wanted, *places)
    (stored,) = runs.read_cells(places[2]).values()
    assert runs.is_current(stored)
    assert stored.values["settings"]["score"]["parts"] == ["absolute"]
    assert stored.values["selection"]["defective"] == 60


@pytest.mark.slow
def test_a_model_of_other_settings_makes_room(like_mvtec, tmp_path, capsys):
    wanted = job(like_mvtec, tmp_path)
    places = [Path(wanted[name]) for name in ("data", "work", "results")]
    with pytest.MonkeyPatch.context() as patch:
        before = settings(paper.cells("I", ["bottle"], [0])[0], "tiny", "cpu")
        other = before.model_copy(update={"train": before.train.model_copy(update={"steps": 1})})
        patch.setattr(one, "settings", lambda *a: other)
        one.run(wanted, *places)
    one.run(wanted, *places)
    assert "trained again: " in capsys.readouterr().err
    (stored,) = runs.read_cells(places[2]).values()
    assert stored.values["settings"]["train"]["steps"] == 2


def test_what_is_stored_is_run_again_where_banks_are_filled_again(places):
    worker = Worker(places)
    run("II", places, worker, categories=["3"], seeds=1)
    code, told = run("II", places, worker, categories=["3"], seeds=1, refill=True)
    assert (code, [job["refill"] for job in worker.jobs]) == (0, [False, True])
    assert "0 stored, 1 to run" in told[0]


@pytest.mark.parametrize(("commit", "stored"), [("c0ffee", 1), ("c0ffee+changes", 0), (None, 0)])
def test_what_this_commit_made_is_not_filled_again(commit, stored, places, monkeypatch):
    from bench import runner

    monkeypatch.setattr(runner.machine, "commit", lambda: commit)
    put_cell(places.results, paper.cells("II", ["3"], [0])[0], context={"commit": commit})
    _, told = run("II", places, None, categories=["3"], seeds=1, refill=True, dry_run=True)
    assert f"{stored} stored, {1 - stored} to run" in told[0]


def test_two_processes_do_not_share_a_folder(tmp_path):
    from normbank.errors import DataError

    with (
        one._alone(tmp_path / "work"),
        pytest.raises(DataError, match="another process at work"),
        one._alone(tmp_path / "work"),
    ):
        pass


def test_data_that_are_not_there_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(job(tmp_path, tmp_path))))
    assert one.main() == 2
    assert "bench: 'mvtec_ad/bottle' in the data's folder: expected a folder, got none." in capsys.readouterr().err
