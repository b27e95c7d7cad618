"""The command line: exit codes, words without tracebacks, pipes, signals and terminals."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hostile import BROKEN, make_hostile
from PIL import Image
from tiny import SETTINGS, defective, make_tiny, save, weave

import normbank
from normbank import cli, fitting
from normbank.bundle import Bundle, read_bundle, write_bundle
from normbank.data.files import DRAWN
from normbank.progress import Progress, printable

COMMANDS = ["demo", "train", "evaluate", "predict", "export", "info", "doctor", "data download", "data cache"]
NORMBANK = [sys.executable, "-m", "normbank"]
SMALL = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]


class Came(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch):
    """The command line in this process: what came of these arguments."""

    def run(*arguments: object) -> Came:
        monkeypatch.setattr(sys, "argv", ["normbank", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        came = capsys.readouterr()
        return Came(left.value.code, came.out, came.err)

    return run


@pytest.fixture
def images(tmp_path):
    """Two good images and a defective one."""
    save(tmp_path / "images" / "a.png", weave(400))
    save(tmp_path / "images" / "b.png", weave(401))
    save(tmp_path / "images" / "c.png", defective(402, "spot")[0])
    return tmp_path / "images"


@pytest.fixture
def without_threshold(tiny_model, tmp_path):
    made = read_bundle(tiny_model)
    bare = {**made.manifest, "calibration": {"scores": [], "false_alarm_rate": 0.01}}
    write_bundle(tmp_path / "bare.nbk", Bundle(bare, made.weights, made.graph))
    return tmp_path / "bare.nbk"


def paths_in(table):
    with table.open(newline="") as file:
        return [Path(row["path"]) for row in csv.DictReader(file)]


@pytest.fixture
def separate():
    """The command line as a process of its own; what a failed test leaves running is ended."""
    started = []

    def start(*arguments, **more):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        started.append(subprocess.Popen([*NORMBANK, *map(str, arguments)], **pipes))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["", "data", *COMMANDS])
def test_help_is_quick_and_has_an_example(separate, command):
    process = separate(*command.split(), "--help", stdin=subprocess.DEVNULL)
    text = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.stderr.read()
    process.stdout.close(), process.stderr.close()
    assert used.ru_utime < 0.5
    assert text.startswith("Usage: normbank")
    if command in COMMANDS:
        assert f"Example: normbank {command}" in text


def test_without_a_command_there_is_help(run):
    assert "Usage: normbank" in "".join(run()[1:])
    assert "Usage: normbank data" in "".join(run("data")[1:])


def test_version(run):
    assert run("--version") == (0, f"normbank {normbank.__version__}\n", "")


# ---------------------------------------------------------------- what works


def test_info(run, tiny_model):
    came = run("info", tiny_model)
    assert came.code == 0
    assert came.err == ""
    size = tiny_model.stat().st_size / 2**20
    for text in (
        f"{tiny_model}: {size:.1f} MiB, format 1",
        "preset     paper-small, 3 steps, seed 0",
        "32 x 32, 3 channels",
        "from 12 held-out good images, false-alarm rate 7.69%",
        "12 images of tiny",
    ):
        assert text in came.out
    whole = json.loads(run("info", tiny_model, "--json").out)
    assert whole == read_bundle(tiny_model).manifest


def test_train_says_what_came_of_it_and_what_to_do_next(run, tiny_model, tiny_data, monkeypatch):
    monkeypatch.setattr("normbank.fitting.fit", lambda *_, **__: tiny_model)
    came = run("train", tiny_data, "--out", tiny_model.parent)
    assert (came.code, came.out) == (0, f"{tiny_model}\n")
    highest, threshold, promise, following = came.err.splitlines()[-4:]
    data = read_bundle(tiny_model).manifest["data"]
    first, score = max(zip(data["held_out"], data["held_out_scores"], strict=True), key=lambda pair: pair[1])
    assert highest.startswith(f"highest    {first} {score:.3g}, ")
    assert highest.count(".png") == 3
    assert highest.endswith(", of those held out: if one is not good, train without it")
    assert threshold.startswith("threshold  ")
    assert threshold.endswith("from 12 held-out good images, false-alarm rate 7.69%")
    assert promise.startswith("The 12 good images held out can promise no less than 7.69 % false alarms")
    evaluate = f"normbank evaluate {tiny_model} {tiny_data}"
    assert following == f"next       {evaluate} where it holds defects; normbank predict for new images"


def test_an_interruption_before_the_first_checkpoint_says_so(run, tiny_data, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("normbank.fitting.fit", interrupted)
    came = run("train", tiny_data, "--out", tmp_path / "run")
    assert (came.code, came.out) == (130, "")
    assert came.err.endswith("normbank: interrupted. It had not come to a checkpoint.\n")


def test_an_earlier_run_s_checkpoint_is_none_to_go_on_from(run, tiny_data, tmp_path, monkeypatch):
    """What `--overwrite` is to replace: another run's, until a checkpoint of this one takes its place."""
    checkpoint = tmp_path / "run" / "checkpoint.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_text("of an earlier run")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def interrupted_later(*_, **__):
        new = checkpoint.with_suffix(".new")
        new.write_text("of this run")
        new.replace(checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr("normbank.fitting.fit", interrupted)
    before = run("train", tiny_data, "--out", tmp_path / "run", "--overwrite").err
    assert before.endswith("normbank: interrupted. It had not come to a checkpoint.\n")
    go_on = f"normbank: interrupted. Its last checkpoint is in {tmp_path / 'run'}; go on with --resume.\n"
    assert run("train", tiny_data, "--out", tmp_path / "run", "--resume").err.endswith(go_on)
    monkeypatch.setattr("normbank.fitting.fit", interrupted_later)
    assert run("train", tiny_data, "--out", tmp_path / "run", "--overwrite").err.endswith(go_on)


def test_good_images_alone_have_false_alarms_and_no_figures(run, tiny_model, tmp_path):
    for number in range(3):
        save(tmp_path / "more" / f"{number}.png", weave(700 + number))
    first, figures, promise, alarms = run("evaluate", tiny_model, tmp_path / "more").out.splitlines()
    raised = sum(one.is_anomalous for one in normbank.load(tiny_model).predict(sorted((tmp_path / "more").iterdir())))
    assert first.startswith("3 good, 0 anomalous")
    assert figures == "no figures: how well good and anomalous images are told apart takes anomalous ones, too"
    assert promise.startswith("The 12 good images held out can promise")
    counts = f"{raised} of 3 good raise a false alarm, 0 of 0 anomalous are found"
    assert re.fullmatch(rf"at the threshold .*: {counts}", alarms)


@pytest.fixture
def odd_one(tiny_model, tmp_path):
    """A detector whose threshold one image set alone."""
    made = read_bundle(tiny_model)
    scores = [1.0] * 5 + [1.1] * 5 + [1.2, 9.0]
    data = {**made.manifest["data"], "held_out_scores": scores[::-1]}
    known = {**made.manifest["calibration"], "scores": scores}
    write_bundle(
        tmp_path / "odd.nbk", Bundle({**made.manifest, "calibration": known, "data": data}, made.weights, made.graph)
    )
    return tmp_path / "odd.nbk", data["held_out"][0]


def test_an_image_that_sets_the_threshold_alone_is_named(run, odd_one, tiny_data, tiny_model, tmp_path):
    model, name = odd_one
    told = (
        f"The threshold is the score of {name!r}, which stands apart: 9, where the next of the 12 held-out images has "
        "1.2 and their median 1.1. Look at it: defects that score less are not found. If it is no good image, train "
        "again without it."
    )
    assert f"           {told}" in run("info", model).out.splitlines()
    assert told in run("evaluate", model, tiny_data, "--report", tmp_path / "report").out.splitlines()
    assert "which stands apart: 9, where the next" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "stands apart" not in run("info", tiny_model).out


def test_images_of_another_shape_are_named(run, tiny_model, tiny_data, images, tmp_path):
    for name in ("wide", "wider"):
        save(images / f"{name}.png", weave(403)[:20])
    told = (
        "is 48 x 20, the good images were 48 wide and 48 high: stretched to a square it looks wider or narrower than "
        "they did. Do not rely on its score"
    )
    came, first = run("predict", tiny_model, images), repr(str(images / "wide.png"))
    assert came.code == 0
    *remarks, _ = came.err.splitlines()
    assert remarks == [f"{first} {told}.", f"{first} {told}, nor on those of 1 more like it."]
    evaluated = run("evaluate", tiny_model, images, "--json", tmp_path / "found.json", "--report", tmp_path / "report")
    all_told = f"'wide.png' {told}, nor on those of 1 more like it."
    assert all_told in evaluated.out.splitlines()
    assert json.loads((tmp_path / "found.json").read_text())["context"]["likeness_note"] == all_told
    assert "is 48 x 20, the good images" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "the good images were" not in run("evaluate", tiny_model, tiny_data).out


def test_what_is_no_plain_file_and_an_empty_array_are_broken_images(run, tiny_model, images):
    os.mkfifo(images.parent / "pipe.png")
    np.save(images.parent / "empty.npy", np.zeros((0, 48, 3), np.uint8))
    came = run("predict", tiny_model, images.parent / "pipe.png", images.parent / "empty.npy", images / "a.png")
    assert (came.code, came.err.splitlines()[-1].startswith("1 scored")) == (0, True)
    assert "is not a plain file" in came.err
    assert "got shape (0, 48, 3)" in came.err


def test_export(run, tiny_model, tmp_path):
    came = run("export", tiny_model, "--out", tmp_path / "new" / "deploy")
    files = [tmp_path / "new" / "deploy" / name for name in ("model.onnx", "manifest.json")]
    assert (came.code, came.out.split()) == (0, [str(file) for file in files])
    made = read_bundle(tiny_model)
    assert files[0].read_bytes() == made.graph
    assert json.loads(files[1].read_text()) == made.manifest


def test_without_a_threshold_none_is_counted_as_anomalous(run, without_threshold, images, tmp_path):
    came = run("predict", without_threshold, images, "--csv", tmp_path / "x.csv")
    assert came.err == "3 scored, no threshold, 0 could not be used\n"


def test_settings_of_another_version_are_named_with_the_file(run, tiny_model, tiny_data, tmp_path):
    made = read_bundle(tiny_model)
    made.manifest["settings"]["train"]["foo"] = 1
    write_bundle(tmp_path / "new.nbk", made)
    came = run("evaluate", tmp_path / "new.nbk", tiny_data)
    assert (came.code, came.out) == (2, "")
    assert "new.nbk': its settings are of another version of normbank: unknown setting 'train.foo'" in came.err


def test_doctor_names_all_that_is_missing(run, monkeypatch):
    monkeypatch.setattr(
        "normbank.machine.versions", lambda *_: {"python": "3", "scipy": "1", "torch": "2", "onnx": "1"}
    )
    missing = [line for line in run("doctor").out.splitlines() if line.startswith("missing")]
    assert [line.partition(", for ")[0].split(None, 1)[1] for line in missing] == [
        *("opencv-python-headless", "matplotlib, jinja2", "lightning, safetensors, onnxscript", "scikit-image"),
    ]


def test_doctor(run, monkeypatch, tmp_path):
    monkeypatch.setenv("NORMBANK_CACHE", str(tmp_path / "two\nlines"))
    came = run("doctor")
    assert came.code == 0
    names = ["system", "processor", "bfloat16", "device", "packages", "cache"]
    assert [line.split()[0] for line in came.out.splitlines()][:6] == names
    assert r"two\nlines': 0 images" in came.out
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NORMBANK_CACHE", str(tmp_path / "file"))
    came = run("doctor")
    assert came.code == 0  # everything else is worth telling, too
    assert re.search(r"^cache +none: .*file: expected a folder, got a file", came.out, re.MULTILINE)
    monkeypatch.setenv("NORMBANK_CACHE", str(tmp_path / "file" / "below"))
    assert re.search(r"^cache +none: .*below cannot be made; NORMBANK_CACHE can", run("doctor").out, re.MULTILINE)


def test_cache_is_told_and_cleared(run, monkeypatch, tmp_path, tiny_model, tiny_data):
    monkeypatch.setenv("NORMBANK_CACHE", str(tmp_path / "cache"))
    assert run("evaluate", tiny_model, tiny_data).code == 0
    assert run("data", "cache").out == f"{tmp_path / 'cache'}: 14 images, 0.0 MiB of at most 4 GiB\n"
    assert run("data", "cache", "--clear").out.startswith(f"{tmp_path / 'cache'}: 0 images")


def test_predict_tells_a_line_for_every_image(run, tiny_model, images):
    (images / "two\nlines.png").write_text("no picture")
    came = run("predict", tiny_model, images)
    rows = [line.split("\t") for line in came.out.splitlines()]
    assert came.code == 0
    assert [Path(row[3]).name for row in rows] == ["a.png", "b.png", "c.png"]
    assert rows[2][1] == "anomalous"
    assert rows[2][2] == "p=0.0769"
    assert float(rows[2][0]) == pytest.approx(normbank.load(tiny_model).predict(images / "c.png").score, rel=1e-4)
    skipped, tally = came.err.splitlines()
    assert re.fullmatch(r"skipped '.*two\\nlines.png': is not an image of a known format .*", skipped)
    assert tally == f"3 scored, {sum(row[1] == 'anomalous' for row in rows)} anomalous, 1 could not be used"


def test_predict_into_files_prints_no_rows(run, tiny_model, images, tmp_path):
    came = run("predict", tiny_model, images, "--csv", tmp_path / "o.csv", "--jsonl", tmp_path / "o.jsonl",
               "--maps", tmp_path / "maps", "--overlays", tmp_path / "heat", "--batch", 1, "--threads", 1)  # fmt: skip
    assert (came.code, came.out) == (0, "")
    assert paths_in(tmp_path / "o.csv") == sorted(images.iterdir())
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 3
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {DRAWN, "a.png.npy", "b.png.npy", "c.png.npy"}
    assert {path.name for path in (tmp_path / "heat").iterdir()} == {DRAWN, "a.png.png", "b.png.png", "c.png.png"}


def test_another_false_alarm_rate_is_judged_by_everywhere(run, tiny_model, tiny_data, images, tmp_path):
    lenient = normbank.load(tiny_model, false_alarm_rate=0.5)
    threshold, asked = lenient.calibration.threshold, ("--false-alarm-rate", 0.5)
    assert threshold < threshold_of(tiny_model)
    assert run("predict", tiny_model, images, "--jsonl", tmp_path / "o.jsonl", *asked).code == 0
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["threshold"] for row in rows] == [threshold] * 3
    assert [row["is_anomalous"] for row in rows] == [row["score"] > threshold for row in rows]
    assert run("evaluate", tiny_model, tiny_data, "--json", tmp_path / "e.json", *asked).code == 0
    judged = json.loads((tmp_path / "e.json").read_text())
    assert (judged["threshold"], judged["context"]["false_alarm_rate"]) == (threshold, 0.5)
    assert run("export", tiny_model, "--out", tmp_path / "deploy", *asked).code == 0
    assert json.loads((tmp_path / "deploy" / "manifest.json").read_text())["calibration"]["threshold"] == threshold
    assert "from 12 held-out good images, false-alarm rate 46.15%" in run("info", tiny_model, *asked).out


def test_a_false_alarm_rate_that_cannot_be_promised_is_told(run, tiny_model, images, tmp_path):
    told = "The 12 good images held out can promise no less than 7.69 % false alarms"
    assert told in run("predict", tiny_model, images, "--false-alarm-rate", 0.001).err
    assert told in run("export", tiny_model, "--out", tmp_path / "deploy", "--false-alarm-rate", 0.001).err
    assert told not in run("predict", tiny_model, images, "--false-alarm-rate", 0.1).err
    assert told not in run("predict", tiny_model, images).err  # whoever trained it was told


@pytest.mark.parametrize("rate", ["0", "1", "2", "nan", "often"])
def test_a_false_alarm_rate_that_is_none(run, tiny_model, images, rate):
    came = run("predict", tiny_model, images, "--false-alarm-rate", rate)
    assert (came.code, came.out) == (2, "")
    assert re.search(r"false.alarm.rate.*(expected a rate between 0 and 1|should be a valid number)", came.err)


def test_predict_without_a_threshold_says_so(run, without_threshold, images):
    came = run("predict", without_threshold, images)
    assert came.code == 0
    assert [line.split("\t")[1:3] for line in came.out.splitlines()] == [["no threshold", ""]] * 3
    came = run("predict", without_threshold, images, "--false-alarm-rate", 0.1)
    assert (came.code, came.out) == (2, "")
    assert "false_alarm_rate: expected held-out good images, got none" in came.err


def test_fail_on_anomaly(run, tiny_model, without_threshold, images):
    assert run("predict", tiny_model, images, "--fail-on-anomaly").code == 3
    assert run("predict", tiny_model, images).code == 0
    calm = images / "calm.png"
    calm.write_bytes((images / "a.png").read_bytes())
    score = normbank.load(tiny_model).predict(calm).score
    assert run("predict", tiny_model, calm, "--fail-on-anomaly").code == (3 if score > threshold_of(tiny_model) else 0)
    came = run("predict", without_threshold, images, "--fail-on-anomaly")
    assert (came.code, came.out) == (2, "")
    assert "--fail-on-anomaly: " in came.err
    assert "has no threshold. No good images were held out" in came.err


def test_what_was_not_scored_does_not_pass_a_gate(run, tiny_model, images, tmp_path):
    made = read_bundle(tiny_model)
    lenient = {**made.manifest, "calibration": {"scores": [1e9] * 99, "false_alarm_rate": 0.01}}
    write_bundle(tmp_path / "lenient.nbk", Bundle(lenient, made.weights, made.graph))
    assert run("predict", tmp_path / "lenient.nbk", images, "--fail-on-anomaly").code == 0
    (images / "broken.png").write_bytes(b"")
    assert run("predict", tmp_path / "lenient.nbk", images).code == 0
    came = run("predict", tmp_path / "lenient.nbk", images, "--fail-on-anomaly")
    assert came.code == 2
    assert "does not pass for normal" in came.err


def threshold_of(model):
    return normbank.load(model).calibration.threshold


def test_strict_stops_predict_and_evaluate(run, tiny_model, images, tmp_path):
    (images / "aa.png").write_bytes(b"")
    came = run("predict", tiny_model, images, "--strict")
    assert came.code == 2
    assert came.out.count("\n") == 1
    assert came.err.splitlines()[-1] == f"normbank: {str(images / 'aa.png')!r}: is empty (0 bytes)"
    data = make_tiny(tmp_path / "data", train=1, test=2, each_kind=1)
    (data / "test" / "spot" / "000.png").write_bytes(b"")
    assert run("evaluate", tiny_model, data).code == 0
    came = run("evaluate", tiny_model, data, "--strict")
    assert (came.code, came.out) == (2, "")
    assert "is empty (0 bytes)" in came.err


def test_evaluate_prints_figures_and_writes_json(run, tiny_model, tiny_data, tmp_path):
    came = run("evaluate", tiny_model, tiny_data, "--json", tmp_path / "e.json", "--threads", 1)
    assert (came.code, came.err) == (0, "")
    values = json.loads((tmp_path / "e.json").read_text())
    assert f"{values['metrics']['image_AUROC']:.4f}" in came.out
    assert values["context"]["model_name"] == "model.nbk"


def test_evaluate_takes_settings_of_the_data(run, tiny_model, tmp_path):
    for number in range(5):
        save(tmp_path / "d" / "2024" / f"{number}.png", weave(500 + number))
    save(tmp_path / "d" / "bad" / "b.png", defective(5, "spot")[0])
    names = ("--set", "data.normal_dir=2024", "--set", "data.abnormal_dir=bad")
    assert run("evaluate", tiny_model, tmp_path / "d", *names).out.startswith("5 good, 1 anomalous")


@pytest.mark.parametrize("name", ["data.size=64", "data.fit=crop", "score.pool=sum", "data.held_out=0.5"])
def test_evaluate_takes_no_setting_that_would_change_nothing(run, tiny_model, tiny_data, name):
    came = run("evaluate", tiny_model, tiny_data, "--set", name)
    assert (came.code, came.out) == (2, "")
    expected = "normbank: --set: expected a setting of how the data are read (data.format, data.normal_dir"
    assert came.err.startswith(expected)
    field = name.partition("=")[0]
    assert f"got {field!r}. All others were fixed when the detector was trained: train another." in came.err


def test_evaluate_names_the_option_for_another_rate(run, tiny_model, tiny_data):
    came = run("evaluate", tiny_model, tiny_data, "--set", "score.false_alarm_rate=0.05")
    assert came.code == 2
    assert came.err.endswith("got 'score.false_alarm_rate'. For another rate there is --false-alarm-rate.\n")


@pytest.mark.parametrize("name", ["model.nbk", "part.PNG"])
def test_evaluate_replaces_no_detector_and_no_image(run, tiny_model, tiny_data, tmp_path, name):
    (tmp_path / name).write_bytes(b"dear")
    came = run("evaluate", tiny_model, tiny_data, "--json", tmp_path / name)
    assert (came.code, came.out) == (2, "")
    assert "expected a new file, or earlier results of this kind, got another file. It would have been" in came.err
    assert (tmp_path / name).read_bytes() == b"dear"


@pytest.fixture
def writes(tiny_model, tiny_data, tmp_path):
    """A command for each file of results."""
    save(tmp_path / "a.png", weave(1))
    predict, evaluate = ("predict", tiny_model, tmp_path / "a.png"), ("evaluate", tiny_model, tiny_data)
    return {
        "x.csv": (*predict, "--csv", tmp_path / "x.csv"),
        "x.jsonl": (*predict, "--jsonl", tmp_path / "x.jsonl"),
        "x.json": (*evaluate, "--json", tmp_path / "x.json"),
        "page/index.html": (*evaluate, "--report", tmp_path / "page"),
        "out/manifest.json": ("export", tiny_model, "--out", tmp_path / "out"),
        "bare/model.onnx": ("export", tiny_model, "--out", tmp_path / "bare"),
    }


def test_results_replace_nothing_but_earlier_results(run, writes, tmp_path):
    for name, arguments in writes.items():
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text("dear\n", encoding="utf-8")
        came = run(*arguments)
        assert (came.code, came.out) == (2, ""), name
        assert f"{target.name}': expected a new file, or earlier results of this kind, got another file" in came.err
        assert target.read_text(encoding="utf-8") == "dear\n"


def test_a_report_and_its_figures_are_two_files(run, tiny_model, tiny_data, tmp_path):
    came = run("evaluate", tiny_model, tiny_data, "--json", tmp_path / "r" / "index.html", "--report", tmp_path / "r")
    assert (came.code, came.out) == (2, "")
    assert "--json and --report: expected two files, got " in came.err
    assert not (tmp_path / "r").exists()


def test_an_export_replaces_nothing_before_all_of_it_can_be_written(run, tiny_model, tmp_path):
    (tmp_path / "manifest.json").mkdir()
    (tmp_path / "model.onnx").write_text("dear", encoding="utf-8")
    assert run("export", tiny_model, "--out", tmp_path).code == 2
    (tmp_path / "model.onnx").unlink()
    came = run("export", tiny_model, "--out", tmp_path)
    assert came.code == 2
    assert "manifest.json' cannot be written: it is a folder" in came.err
    assert not (tmp_path / "model.onnx").exists()


def test_an_export_for_which_there_is_no_room_leaves_nothing_and_can_be_repeated(
    run, tiny_model, tmp_path, monkeypatch
):
    def full(file: int) -> None:
        calls.append(file)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for earlier in (False, True):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        calls: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            came = run("export", tiny_model, "--out", tmp_path, "--false-alarm-rate", 0.5)
        assert (came.code, len(calls)) == (2, 2)
        assert "cannot be written: No space left on device" in came.err
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        assert bool(before) == earlier
        assert run("export", tiny_model, "--out", tmp_path).code == 0


def test_onnx_runtime_neither_counts_this_machine_nor_calls(tiny_model, tmp_path):
    """Its telemetry leaves an identity in the user's home when it is imported."""
    save(tmp_path / "a.png", weave(1))
    home = tmp_path / "home"
    home.mkdir()
    told = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    command = [sys.executable, "-m", "normbank", "predict", str(tiny_model), str(tmp_path / "a.png")]
    subprocess.run(command, env={**told, "HOME": str(home)}, check=True, capture_output=True, timeout=120)
    assert not [*home.rglob("*onnxruntime*"), *home.rglob("Microsoft*")]


@pytest.mark.slow
def test_results_replace_earlier_results(run, writes):
    for name, arguments in [*writes.items()] * 2:
        assert run(*arguments).code == 0, name


@pytest.mark.parametrize(
    "words",
    [("train", "parts", "--out", ""), ("evaluate", "m.nbk", "parts", "--report="), ("predict", "m.nbk", "")],
)
def test_an_empty_name_is_not_the_current_folder(run, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = "normbank: an empty argument: expected a value, got ''. Is a variable of the shell not set?\n"
    assert run(*words) == (2, "", told)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_said_changes_no_exit_code(tiny_model, tmp_path):
    save(tmp_path / "a.png", weave(1))
    command = [sys.executable, "-m", "normbank", "predict", str(tiny_model), str(tmp_path / "a.png")]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=full, timeout=60).returncode == 0


def test_predict_leaves_its_own_heat_maps_alone(run, tiny_model, tmp_path):
    save(tmp_path / "parts" / "a.png", weave(1))
    again = ("predict", tiny_model, tmp_path / "parts", "--overlays", tmp_path / "parts" / "heat",
             "--maps", tmp_path / "parts" / "maps")  # fmt: skip
    for _ in range(2):
        assert run(*again).err == "1 scored, 0 anomalous, 0 could not be used\n"
    assert (tmp_path / "parts" / "heat" / "a.png.png").exists()
    heat = tmp_path / "parts" / "heat"
    for option in ("--overlays", "--maps"):
        came = run("predict", tiny_model, heat, option, heat)
        assert came.code == 2
        assert f"normbank: {str(heat)!r}: expected a folder that is only read, got one to write into" in came.err
    assert sorted(path.name for path in heat.iterdir()) == [DRAWN, "a.png.png"]


# ---------------------------------------------------------------- the user's mistakes


def mistakes(tmp_path, model, data):
    """Arguments, and what is said of them."""
    gone, file = tmp_path / "gone", tmp_path / "file.txt"
    file.write_text("text")
    damaged, foreign = tmp_path / "damaged.nbk", tmp_path / "foreign.nbk"
    damaged.write_bytes(model.read_bytes()[:-100])
    made = read_bundle(model)
    write_bundle(foreign, Bundle({**made.manifest, "format_version": 7}, b"", b""))
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "out")
    return {
        "a model that is not there": (("predict", gone, data), "cannot be read: No such file or directory"),
        "the folder of a model": (("info", model.parent), "Is a directory. Expected a file written by `normbank train"),
        "no model": (("info", file), "is not a detector: expected a file written by `normbank train` (model.nbk)"),
        "a damaged model": (("evaluate", damaged, data), "is damaged: it is cut or changed"),
        "a model of the future": (("export", foreign, *out), "is of format version 7; this normbank reads version 1"),
        "data that are not there": (("evaluate", model, gone), "expected a folder or a CSV file, got nothing there"),
        "data to train on that are not there": (("train", gone, *out), "expected a folder or a CSV file, got nothing"),
        "images that are not there": (("predict", model, gone), "there is no such file or folder"),
        "an empty folder": (("predict", model, tmp_path / "empty"), "no image in this folder"),
        "an unknown preset": (("train", data, *out, "--preset", "paper-smal"), "the nearest there is is 'paper-small'"),
        "an unknown setting": (("train", data, *out, "--set", "train.step=1"), "the nearest there is is 'train.steps'"),
        "a setting without a value": (("train", data, *out, "--set", "train.steps"), "expected group.field=value"),
        "a value out of range": (("train", data, *out, "--set", "train.steps=0"), "train.steps: Input should be gr"),
        "an unknown option": (("predict", model, data, "--overlay", "x"), "No such option"),
        "an unknown command": (("trian",), "No such command"),
        "an option without a value": (("train", data, "--out"), "requires an argument"),
        "a number that is none": (("predict", model, data, "--batch", "many"), "valid integer"),
        "a seed out of range": (("train", data, *out, "--seed", "-1"), "--seed"),
        "JSON into a folder": (("evaluate", model, data, "--json", tmp_path), "cannot be written: it is a folder"),
        "JSON below a file": (("evaluate", model, data, "--json", file / "x.json"), "x.json' cannot be written"),
        "a report below a file": (("evaluate", model, data, "--report", file), "cannot be written"),
        "a full disk for JSON": (("evaluate", model, data, "--json", "/dev/full"), "'/dev/full' cannot be written: No"),
        "a CSV below a file": (("predict", model, data, "--csv", file / "x.csv"), "file.txt/x.csv' cannot be written"),
        "a full disk for rows": (("predict", model, data, "--csv", "/dev/full"), "'/dev/full' cannot be written: No"),
        "rows to a minus": (("predict", model, data, "--csv", "-"), "expected a file, got '-'. Without --csv and"),
        "figures to a minus": (("evaluate", model, data, "--json", "-"), "--json: expected a file, got '-'"),
        "maps in a file": (("predict", model, data, "--maps", file), "cannot be made: File exists. Name another"),
        "overlays below a file": (("predict", model, data, "--overlays", file / "x"), "cannot be made: Not a dir"),
        "an export into a file": (("export", model, "--out", file), "model.onnx' cannot be written"),
        "an unknown data set": (("data", "download", "mvtec"), "the nearest there is is 'mvtec_ad'"),
        "nothing but broken files": (("predict", model, file), "none of the files could be scored"),
    }  # fmt: skip


@pytest.fixture
def every_mistake(tmp_path, tiny_model, tiny_data):
    return mistakes(tmp_path, tiny_model, tiny_data)


def test_every_mistake_is_told_in_one_message_with_exit_code_2(run, every_mistake):
    for name, (arguments, message) in every_mistake.items():
        came = run(*arguments)
        assert came.code == 2, (name, came)
        assert message in came.err, (name, came)
        assert "Traceback" not in came.err
        assert came.out == ""


def test_an_input_is_not_written_over(run, tiny_model, images):
    before = (images / "a.png").read_bytes()
    came = run("predict", tiny_model, images / "b.png", "--csv", images / "a.png")
    assert came.code == 2
    assert "expected a new file, or earlier results of this kind, got another file" in came.err
    assert (images / "a.png").read_bytes() == before


def test_a_missing_path_is_told_before_an_old_table_is_touched(run, tiny_model, images, tmp_path):
    (tmp_path / "o.csv").write_text("of yesterday")
    assert run("predict", tiny_model, images, images / "gone.png", "--csv", tmp_path / "o.csv").code == 2
    assert (tmp_path / "o.csv").read_text() == "of yesterday"


def test_a_fault_of_ours_is_no_mistake_of_the_users(run, tiny_model, monkeypatch):
    monkeypatch.setattr("normbank.telling.about_model", lambda *_: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["normbank", "info", str(tiny_model)])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_trouble_with_the_disk_is_named(run, tiny_model, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "/some/where")

    monkeypatch.setattr("normbank.telling.about_model", fail)
    came = run("info", tiny_model)
    assert came.code == 2
    assert came.err == (
        "normbank: /some/where: Permission denied. Mend the permissions, or name another place, and run it again.\n"
    )


# ---------------------------------------------------------------- training


@pytest.mark.slow
def test_train_on_a_hostile_folder_then_use_it(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    fates = make_hostile(tmp_path / "hostile", good=14)
    broken = {name for name, fate in fates.items() if fate == BROKEN}
    arguments = ("train", tmp_path / "hostile", "--out", tmp_path / "out", *SMALL, "--seed", 3)
    came = run(*arguments)
    assert (came.code, came.out) == (0, f"{tmp_path / 'out' / 'model.nbk'}\n"), came
    assert f"hostile: folder layout, {len(fates) - 3} files of good images for training" in came.err  # 3 are none
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {Path(name).name for name, _ in record["data"]["skipped"]} == broken
    for name in broken:
        assert re.search(rf"skipped '.*/{re.escape(name)}': \w+", came.err), name

    came = run(*arguments)
    assert (came.code, came.out) == (2, "")
    assert "holds a finished model, which is not replaced unasked" in came.err
    came = run(*arguments[:4], "--strict", "--overwrite", *SMALL)
    assert came.code == 2
    assert "train without --strict to skip such files" in came.err
    came = run("train", tmp_path / "hostile", "--out", tmp_path / "hostile" / "text.png")
    assert came.code == 2
    assert "expected a folder, got a file" in came.err

    save(tmp_path / "hostile" / "new.png", weave(1))
    came = run("evaluate", tmp_path / "out" / "model.nbk", tmp_path / "hostile", "--json", tmp_path / "e.json")
    assert came.code == 0
    values = json.loads((tmp_path / "e.json").read_text())
    assert {name for name, _ in values["skipped"]} == broken
    assert [one["name"] for one in values["scored"]] == ["new.png"]
    came = run("predict", tmp_path / "out" / "model.nbk", tmp_path / "hostile", "--jsonl", tmp_path / "o.jsonl")
    assert came.code == 0
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert {Path(row["path"]).name for row in rows if row["error"]} == broken
    assert {Path(row["path"]).name for row in rows} == {*fates, "new.png"}


def test_the_plan_is_told_before_training(run, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    measured = []

    def seconds_per_step(config, channels, bits):
        measured.append(config.train.steps)
        return 0.6

    def optimise(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("normbank.timing.seconds_per_step", seconds_per_step)
    monkeypatch.setattr("normbank.fitting.optimise", optimise)
    arguments = ("train", tiny_data, "--out", tmp_path / "out", *SMALL, "--set")
    came = run(*arguments, "train.steps=500")
    assert (came.code, came.out) == (130, "")
    for line in ("images  12 to train on, 12 held out for the threshold; 32 x 32, 3 channels, 8 bits",
                 "time    about 5 minutes for 500 steps of 0.6 s (measured); the bank and the file come on top",
                 f"writes  model.nbk and run.json into {tmp_path / 'out'}"):  # fmt: skip
        assert line in came.err.splitlines()
    assert "only 12 images to train on; 50 are a start" in came.err
    came = run(*arguments, "train.steps=50")
    assert "time    not measured for 50 steps" in came.err.splitlines()
    assert measured == [500]


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_images_to_train_on(run, tmp_path, monkeypatch, count):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    (tmp_path / "good").mkdir()
    for number in range(count):
        save(tmp_path / "good" / f"{number}.png", weave(number))
    came = run("train", tmp_path / "good", "--out", tmp_path / "out", *SMALL)
    assert (came.code, came.out) == (2, "")
    assert ("expected at least 10 different good images" if count else "expected good images") in came.err
    assert not (tmp_path / "out").exists()


def test_signals_end_training_with_what_is_left(separate, tiny_data, tmp_path):
    wanted = {signal.SIGINT: 130, signal.SIGTERM: 143}
    running = {
        number: separate("train", tiny_data, "--out", tmp_path / number.name, *SMALL, "--set", "train.steps=1000000",
                         "--set", "train.checkpoint_every=5")
        for number in wanted
    }  # fmt: skip
    for number, process in running.items():
        wait_for(lambda n=number: (tmp_path / n.name / "checkpoint.ckpt").exists(), process)
        process.send_signal(number)
    for number, process in running.items():
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (wanted[number], ""), err
        assert err.splitlines()[-1] == (
            f"normbank: interrupted. Its last checkpoint is in {tmp_path / number.name}; go on with --resume."
        )
        assert "Traceback" not in err
        assert (tmp_path / number.name / "checkpoint.ckpt").stat().st_size > 1000


def wait_for(there, process, seconds=60.0):
    end = time.monotonic() + seconds
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


# ---------------------------------------------------------------- pipes, signals and terminals


def test_names_come_from_standard_input_and_answers_go_out_at_once(separate, tiny_model, images, tmp_path):
    process = separate("predict", tiny_model, "-", "--batch", 1)
    for name in ("a.png", "c.png"):
        process.stdin.write(f"{images / name}\n")
        process.stdin.flush()
        assert process.stdout.readline().split("\t")[3] == f"{images / name}\n"
    process.stdin.write(f"{images / 'gone.png'}\n")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "gone.png: cannot be read: No such file or directory\n2 scored, " in err


def test_names_end_with_nul_where_asked(separate, tiny_model, images):
    odd = os.fsencode(images / "a.png") + b"\nb\xe9.png"
    os.rename(images / "a.png", odd)
    process = separate("predict", tiny_model, "-0", text=False)
    out, err = process.communicate(odd + b"\0", timeout=30)
    assert process.returncode == 0
    assert out.count(b"\n") == 1
    assert rb"a.png\nb\udce9.png'" in out
    assert err.endswith(b" 0 could not be used\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_predict_with_the_results_so_far(separate, tiny_model, images, tmp_path, number, code):
    table = tmp_path / "o.csv"
    process = separate("predict", tiny_model, "--csv", table, "--batch", 2)
    for name in ("a.png", "b.png", "c.png"):
        process.stdin.write(f"{images / name}\n")
    process.stdin.flush()
    wait_for(lambda: table.exists() and table.read_text().count("\n") == 3, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert err == "\nnormbank: interrupted. What was scored so far is written.\n"
    assert paths_in(table) == [images / "a.png", images / "b.png"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("where", ["cli.Commands.make_context", "cli.app"])
def test_an_interruption_before_a_command_has_begun_is_told(where, number, code):
    """typer takes for its own what comes while it reads the command line; nobody does what comes before."""
    script = f"""
import os, sys
from normbank import cli

def interrupted(*_, **__):
    os.kill(os.getpid(), {int(number)})

{where} = interrupted
sys.argv = ["normbank", "doctor"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "\nnormbank: interrupted.\n")


def test_an_interruption_while_the_command_line_is_loading_is_told():
    script = """
import sys
from normbank import __main__ as command

class Interrupted:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
command.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nnormbank: interrupted.\n")


@pytest.mark.parametrize("where", ["normbank.detector.load", "normbank.config.override", "normbank.judging.judge"])
def test_an_interruption_anywhere_leaves_no_traceback(run, tiny_model, tiny_data, monkeypatch, where):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    assert run("evaluate", tiny_model, tiny_data) == (130, "", "\nnormbank: interrupted.\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_that_a_library_makes_a_failed_import_leaves_no_traceback(tiny_model, number, code):
    script = f"""
import os, sys
from normbank import cli, detector

def load(*_):
    try:
        os.kill(os.getpid(), {int(number)})
    except KeyboardInterrupt:
        raise ImportError("numpy failed to import") from None

detector.load = load
sys.argv = ["normbank", "info", {str(tiny_model)!r}]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "\nnormbank: interrupted.\n")


def test_an_import_that_fails_by_itself_is_no_interruption(run, tiny_model, monkeypatch):
    def broken(*_):
        raise ImportError("numpy failed to import")

    monkeypatch.setattr("normbank.detector.load", broken)
    with pytest.raises(ImportError, match="numpy failed"):
        run("info", tiny_model)


def test_a_name_that_no_file_can_have_is_a_row_and_not_the_end(separate, tiny_model, images, tmp_path):
    process = separate("predict", tiny_model, "--batch", 1, "--csv", tmp_path / "scores.csv")
    _, err = process.communicate("\n".join([str(images / "a.png"), "x" * 300 + ".png", str(images / "b.png")]), 60)
    assert process.returncode == 0, err
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [bool(row["error"]) for row in rows] == [False, True, False]


def test_two_runs_into_one_table_are_not_mixed(separate, run, tiny_model, images, tmp_path):
    table = tmp_path / "scores.csv"
    process = separate("predict", tiny_model, "--batch", 1, "--csv", table)
    process.stdin.write(f"{images / 'a.png'}\n")
    process.stdin.flush()
    until = time.monotonic() + 60
    while not (table.exists() and "a.png" in table.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    before = table.read_text()
    assert "a.png" in before
    code, out, err = run("predict", tiny_model, images / "b.png", "--csv", table)
    assert (code, out) == (2, "")
    told = f"normbank: {str(table)!r}: expected it free, got another run at work in it. Wait for it, end it, or name"
    assert err.startswith(told)
    assert table.read_text() == before
    process.communicate(f"{images / 'b.png'}\n", 60)
    assert process.returncode == 0
    assert [line.partition(",")[0] for line in table.read_text().splitlines()[1:]] == [
        str(images / "a.png"),
        str(images / "b.png"),
    ]
    assert run("predict", tiny_model, images / "b.png", "--csv", table).code == 0  # now it is free


def test_where_standard_error_is_closed_no_decoder_complains_into_a_table(tiny_model, tmp_path):
    for name in ("whole", "cut"):
        Image.fromarray(weave(1)).save(tmp_path / f"{name}.tif", compression="tiff_lzw")
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[:8] + bytes(200) + whole[208:])
    command = [*NORMBANK, "predict", str(tiny_model), str(tmp_path / "whole.tif"), str(tmp_path / "cut.tif")]
    line = " ".join(map(shlex.quote, [*command, "--csv", str(tmp_path / "scores.csv")]))
    assert subprocess.run(["sh", "-c", f"exec {line} 2>&-"], stdout=subprocess.DEVNULL, timeout=120).returncode == 0
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [Path(row["path"]).name for row in rows] == ["whole.tif", "cut.tif"]
    assert rows[1]["error"]


def test_a_reader_that_leaves_is_no_error(separate, tiny_model, images):
    process = separate("predict", tiny_model, "--batch", 1)
    process.stdin.write(f"{images / 'a.png'}\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.stdout.close()
    for _ in range(3):
        process.stdin.write(f"{images / 'b.png'}\n")
    process.stdin.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_reader_of_the_last_lines_that_leaves_is_no_error(separate, tiny_model):
    process = separate("info", tiny_model, "--json")
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == ""
    process.stdin.close(), process.stderr.close()


def test_nothing_given_is_told_where_no_one_could_know(separate, tiny_model):
    master, terminal = pty.openpty()
    process = separate("predict", tiny_model, stdin=terminal)
    _, err = process.communicate(timeout=30)
    os.close(master), os.close(terminal)
    assert process.returncode == 2
    assert err == (
        "normbank: PATH: expected images, folders, or names on standard input, got none. "
        "For the images of this folder: normbank predict MODEL .\n"
    )
    shell = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *NORMBANK, "predict", str(tiny_model)], capture_output=True)
    assert shell.returncode == 2
    assert b"PATH: expected images" in shell.stderr


def test_paths_need_no_standard_input(tiny_model, tmp_path):
    save(tmp_path / "a.png", weave(1))
    command = [sys.executable, "-m", "normbank", "predict", str(tiny_model)]
    closed = ["sh", "-c", '"$@" <&-', "sh"]
    done = subprocess.run([*closed, *command, str(tmp_path / "a.png")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "1 scored, 0 anomalous, 0 could not be used\n")
    done = subprocess.run([*closed, *command, "-"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "expected images, folders, or names on standard input, got none" in done.stderr


def test_no_names_at_all_are_no_error(separate, tiny_model):
    process = separate("predict", tiny_model, stdin=subprocess.DEVNULL)
    assert process.communicate(timeout=30) == (
        "",
        "0 scored, 0 anomalous, 0 could not be used\nnothing to score: no name came on standard input\n",
    )
    assert process.returncode == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 40.2 GiB for an array"),
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: 4 TB.\nmore"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_too_little_memory_is_told_in_words(run, monkeypatch, tmp_path, error):
    def load(*_):
        raise error

    monkeypatch.setattr(normbank.detector, "load", load)
    came = run("info", tmp_path / "model.nbk")
    first = (str(error) or "MemoryError").splitlines()[0].rstrip(".")
    assert came.code == 2
    assert came.err == (
        f"normbank: there is not enough memory: {first}. "
        "Less does with a smaller data.size, train.batch_size or model.widths; in use, with --batch 1.\n"
    )


def test_any_other_fault_of_ours_is_not_hidden(monkeypatch, tmp_path):
    def load(*_):
        raise RuntimeError("a memory of something else")

    monkeypatch.setattr(normbank.detector, "load", load)
    monkeypatch.setattr(sys, "argv", ["normbank", "info", str(tmp_path)])
    with pytest.raises(RuntimeError, match="something else"):
        cli.main()


def test_results_can_be_written_to_standard_output(separate, tiny_model, tiny_data):
    process = separate("evaluate", tiny_model, tiny_data, "--json", "/dev/stdout")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["counts"]["good"] == 6  # and nothing else: another program reads it
    assert err.startswith("6 good, ")
    assert Path("/dev/stdout").is_symlink()


def test_a_licence_has_to_be_accepted(separate, tmp_path):
    arguments = ("data", "download", "mvtec_ad", "--category", "bottle", "--out", tmp_path / "d",
                 "--base-url", "http://127.0.0.1:9")  # fmt: skip
    process = separate(*arguments, stdin=subprocess.DEVNULL)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert "Licence: CC BY-NC-SA 4.0" in err
    assert err.splitlines()[-1] == (
        "normbank: the licence above has to be accepted before anything is fetched: repeat with --yes"
    )
    for answer in ("n\n", "\n", "\x04"):  # the last is the end of the input
        master, terminal = pty.openpty()
        process = separate(*arguments, stdin=terminal)
        os.write(master, answer.encode())
        out, err = process.communicate(timeout=30)
        os.close(master), os.close(terminal)
        assert (process.returncode, out) == (2, ""), err
        assert err.count("Do you accept this licence? [y/N] ") == 1
        assert "the licence was not accepted, so nothing was fetched" in err
    assert not (tmp_path / "d").exists()


# ---------------------------------------------------------------- what a terminal shows


def test_names_on_one_line():
    assert printable("a b ü.png") == "a b ü.png"
    assert printable("two\nlines.png") == r"'two\nlines.png'"
    assert printable("latin_\udce9.png") == r"'latin_\udce9.png'"


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("normbank.progress.time.monotonic", lambda: now[0])
    with Progress("training", 100) as progress:
        for step in range(1, 101):
            progress.update(step, "loss 0.1")
            now[0] += 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"training {31 + 30 * n}/100  loss 0.1  {69 - 30 * n} s left" for n in range(3)]


def test_progress_of_an_unknown_total(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("normbank.progress.time.monotonic", lambda: now[0])
    with Progress("MB", 0) as progress:
        for done, total in ((1, None), (5, None), (8, 20)):
            progress.update_total(done, total)
            now[0] += 40
    assert capsys.readouterr().err.splitlines() == ["MB 5  ", "MB 8/20  "]


def test_quiet_progress_says_nothing(capsys):
    with Progress("x", 10, quiet=True) as progress:
        progress.update(5)
        assert not progress.due()
    assert capsys.readouterr().err == ""


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("closed", [True, False])
def test_what_cannot_be_said_stops_no_work_and_is_no_result(closed, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None if closed else FullDisk())
    monkeypatch.setattr(Progress, "due", lambda progress: True)
    with Progress("training", 3) as progress:
        progress.update(1)
    fitting._say("a remark", quiet=False)
    cli.note("a remark")
    assert capsys.readouterr().out == ""


BAR = """
import sys, time
from normbank.progress import Progress
with Progress("decoding", 3) as progress:
    assert progress.due() is False
    time.sleep(0.25)
    assert progress.due()
    print("QUESTION", file=sys.stderr, flush=True)
    for n in range(1, 4):
        progress.update(n, "loss 0.5")
"""


def test_a_bar_comes_with_the_first_step():
    master, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", BAR], stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    assert process.wait(30) == 0
    before, after = shown.split(b"QUESTION")
    assert before == b""
    assert b"decoding" in after
    assert b"3/3" in after
    assert b"loss 0.5" in after


@pytest.mark.parametrize(
    ("accelerator", "asked", "wanted"),
    [
        ("cpu", (), "small"),
        ("cuda", (), "standard"),
        ("mps", (), "standard"),
        ("cuda", ("--set", "train.device=cpu"), "small"),
        ("cuda", ("--preset", "fast"), "fast"),
    ],
)
def test_the_default_preset_is_the_one_for_the_machine(
    run, images, tmp_path, tiny_model, monkeypatch, accelerator, asked, wanted
):
    begun = []
    monkeypatch.setattr("normbank.fitting.fit", lambda config, *_, **__: begun.append(config) or tiny_model)
    monkeypatch.setattr(
        "normbank.training.accelerator_of", lambda known: accelerator if known.device == "auto" else known.device
    )
    assert run("train", images, "--out", tmp_path / "out", "--seed", "3", *asked).code == 0
    assert [(config.preset, config.train.seed) for config in begun] == [(wanted, 3)]
