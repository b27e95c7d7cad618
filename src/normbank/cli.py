"""The command line: parse, call, print. What a command needs is imported inside it, so that `--help` is quick."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .endings import ANOMALY_FOUND, MISTAKE, Commands, interruptible, run_to_its_end, stop
from .errors import UserError, problem
from .progress import note, printable

if TYPE_CHECKING:
    from .config import Config
    from .data.samples import Dataset
    from .detector import Detector

app = typer.Typer(
    name="normbank",
    cls=Commands,
    help="Learns what normal images look like from normal images alone; "
    "says how far a new image is from normal, and where.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
data_app = typer.Typer(help="Fetch data sets; look after the cache of decoded images.", no_args_is_help=True)
app.add_typer(data_app, name="data")

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="a detector file, model.nbk")]
DataPath = Annotated[Path, typer.Argument(metavar="DATA", help="a folder of images, or a .csv that lists them")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="change a setting; repeat for more (docs/commands.md)"),
]
ReaderSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="read DATA otherwise than for training; repeat for more"),
]
Strict = Annotated[bool, typer.Option("--strict", help="stop at the first broken image")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what an earlier run left in the folder")]
FalseAlarmRate = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="judge by this false-alarm rate, not by the one it was trained with"),
]
Threads = Annotated[int, typer.Option(min=0, help="threads that judge, at most; 0: one a processor")]
EvaluateThreads = Annotated[
    int, typer.Option(min=0, help="threads that judge, at most (two more read); 0: one a processor")
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False) -> None:
    if version:
        from . import __version__

        print(f"normbank {__version__}")
        raise typer.Exit


@app.command(epilog="Example: normbank demo --out demo")
def demo(
    out: Annotated[Path, typer.Option(help="folder for the data, the models and the reports")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="one texture and few steps")] = False,
) -> None:
    """Train, evaluate and report on photographs that come with scikit-image, defects drawn on held-out parts."""
    _prepare_for_training()
    from .demo import run_demo

    with interruptible(lambda: "Run the same command again: finished parts are kept."):
        run_demo(out, quick=quick, say=print)


@app.command(epilog="Example: normbank train parts --out runs/parts --set train.steps=800")
def train(
    data: DataPath,
    out: Annotated[Path, typer.Option(help="folder for model.nbk, run.json and the checkpoint")],
    preset: Annotated[
        str | None,
        typer.Option(help="the settings to start from (docs/commands.md); default: standard on a GPU, small elsewhere"),
    ] = None,
    set_: Settings = None,
    seed: Annotated[int | None, typer.Option(min=0, help="short for --set train.seed=N")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the last checkpoint in --out; score.* may be others")
    ] = False,
    overwrite: Overwrite = False,
    strict: Strict = False,
) -> None:
    """Train a detector on the good images of DATA and write it to OUT/model.nbk."""
    from .presets import DEFAULT_PRESET, PRESET_FOR_GPU

    config = _config(DEFAULT_PRESET if preset is None else preset, set_, seed)
    dataset = _dataset(data, config)
    _prepare_for_training()
    if preset is None and _has_gpu(config):
        config = _config(PRESET_FOR_GPU, set_, seed)
    from .fitting import CHECKPOINT_FILE, fit

    checkpoint = out / CHECKPOINT_FILE
    foreign = None if resume else _version(checkpoint)

    def left() -> str:
        there = _version(checkpoint) not in (None, foreign)
        return f"Its last checkpoint is in {out}; go on with --resume." if there else "It had not come to a checkpoint."

    note(f"{dataset.name}: {dataset.format} layout, {len(dataset.train)} files of good images for training")
    with interruptible(left):
        path = fit(config, dataset, out, resume=resume, overwrite=overwrite, strict=strict)
    from .telling import after_training

    for line in after_training(_load(path), path, data):
        note(line)
    print(path)


def _version(file: Path) -> tuple[int, int] | None:
    """What changes when a file is written anew; None where there is none."""
    return (file.stat().st_ino, file.stat().st_mtime_ns) if file.exists() else None


@app.command(epilog="Example: normbank evaluate runs/parts/model.nbk parts --json parts.json --report report")
def evaluate(
    model: ModelFile,
    data: DataPath,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write all figures here")] = None,
    report: Annotated[Path | None, typer.Option(metavar="DIR", help="write an HTML report into this folder")] = None,
    set_: ReaderSettings = None,
    false_alarm_rate: FalseAlarmRate = None,
    threads: EvaluateThreads = 0,
    strict: Strict = False,
) -> None:
    """Measure a detector on the test images of DATA: AUROC, AP, F1, AUPRO, whole and by kind of defect."""
    _need("evaluate", "scipy", *(("jinja2", "matplotlib") if report else ()))
    from .bundle import is_stdout
    from .judging import judge

    detector = _load(model, threads, false_alarm_rate)
    dataset = _dataset(data, _config_of(detector, model, set_))
    say = note if json_file and is_stdout(json_file) else print  # what is read there is JSON alone
    for line in judge(detector, dataset, json_file=json_file, report=report, model_name=model.name, strict=strict):
        say(line)


@app.command(epilog="Example: normbank predict runs/parts/model.nbk new_parts --csv scores.csv --overlays heat")
def predict(
    model: ModelFile,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH...", help="images, folders, or - (or none): names on standard input"),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="write one row an image")] = None,
    jsonl: Annotated[Path | None, typer.Option(metavar="FILE", help="write one JSON object a line")] = None,
    maps: Annotated[Path | None, typer.Option(metavar="DIR", help="write raw anomaly maps, float32 .npy")] = None,
    overlays: Annotated[Path | None, typer.Option(metavar="DIR", help="write heat maps over the images, .png")] = None,
    null: Annotated[bool, typer.Option("--null", "-0", help="names on standard input end with a NUL byte")] = False,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="exit with 3 if any image is anomalous, 2 if one was not scored")
    ] = False,
    false_alarm_rate: FalseAlarmRate = None,
    batch: Annotated[int, typer.Option(min=1, help="images scored at a time; 1 answers each name at once")] = 16,
    threads: Threads = 0,
    strict: Strict = False,
) -> None:
    """Score images: how far from normal, and whether beyond the threshold. Broken files are reported and skipped."""
    from .outlets import Outlets
    from .predicting import find_targets, score_all, watching

    detector = _load(model, threads, false_alarm_rate)
    if fail_on_anomaly and detector.calibration.threshold is None:
        raise UserError(f"--fail-on-anomaly: {model} has no threshold. {detector.calibration.note}")
    _say_what_is_promised(detector, false_alarm_rate)
    outlets = Outlets(csv, jsonl, maps, overlays)
    stdin = _stdin(explicit=bool(paths)) if not paths or "-" in paths else None
    targets = find_targets(paths or ["-"], stdin, null=null, without=[one for one in (maps, overlays) if one])
    show = _show_broken if csv or jsonl else _show_row
    likeness = detector.likeness()
    with interruptible(lambda: "What was scored so far is written."):
        watch = watching(likeness, note)
        tally = score_all(detector, targets, outlets, strict=strict, show=show, watch=watch, batch_size=batch)
    for remark in likeness.told(least=2):
        note(remark)
    judged = "no threshold" if detector.calibration.threshold is None else f"{tally.anomalous} anomalous"
    note(f"{tally.scored} scored, {judged}, {tally.broken} could not be used")
    if not (tally.scored or tally.broken):
        note("nothing to score: no name came on standard input")
    if tally.broken and not tally.scored:
        raise UserError("none of the files could be scored; the reasons stand above.")
    if fail_on_anomaly and tally.anomalous:
        raise typer.Exit(ANOMALY_FOUND)
    if fail_on_anomaly and (tally.broken or not tally.scored):
        raise UserError("--fail-on-anomaly: what could not be scored, or nothing at all, does not pass for normal.")


@app.command(epilog="Example: normbank export runs/parts/model.nbk --out deploy")
def export(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="folder for model.onnx and manifest.json")],
    false_alarm_rate: FalseAlarmRate = None,
) -> None:
    """Write the ONNX graph of a detector, with its manifest (thresholds, settings), for use without normbank."""
    from .exporting import export_files

    detector = _load(model, false_alarm_rate=false_alarm_rate)
    _say_what_is_promised(detector, false_alarm_rate)
    for path in export_files(detector, out):
        print(path)


@app.command(epilog="Example: normbank info runs/parts/model.nbk")
def info(
    model: ModelFile,
    json_: Annotated[bool, typer.Option("--json", help="print the whole manifest as JSON")] = False,
    false_alarm_rate: FalseAlarmRate = None,
) -> None:
    """What a detector is: how it was made, from what, and its threshold."""
    from .telling import about_model, manifest_json

    detector = _load(model, false_alarm_rate=false_alarm_rate)
    print(manifest_json(detector) if json_ else "\n".join(about_model(detector, model)))


@app.command(epilog="Example: normbank doctor")
def doctor() -> None:
    """What this machine has, what normbank will use of it, and what is missing."""
    from .telling import about_machine

    print("\n".join(about_machine()))


@data_app.command(epilog="Example: normbank data download mvtec_ad --category bottle --out data")
def download(
    name: Annotated[str, typer.Argument(help="mvtec_ad, mnist, ...")],
    category: Annotated[str | None, typer.Option(help="one category of a data set that has several")] = None,
    out: Annotated[Path, typer.Option(help="folder to unpack into")] = Path("data"),
    yes: Annotated[bool, typer.Option("--yes", help="accept the licence without being asked")] = False,
    base_url: Annotated[str | None, typer.Option(help="fetch from a mirror of yours instead")] = None,
) -> None:
    """Fetch a data set from its official address: licence first, resumed where it stopped, checked before unpacking."""
    from .data.download import download as fetch
    from .progress import Progress

    def accept(licence: str) -> bool:
        note(licence)
        if not yes and not (sys.stdin and sys.stdin.isatty()):
            raise UserError("the licence above has to be accepted before anything is fetched: repeat with --yes")
        return yes or _agrees("Do you accept this licence? [y/N] ")

    with interruptible(lambda: "What came is kept; the same command goes on from there."), Progress("MB", 0) as shown:

        def progress(done: int, total: int | None) -> None:
            shown.update_total(done // 10**6, total and total // 10**6)

        path = fetch(name, out, category, base_url=base_url, accept=accept, progress=progress)
    print(path)


@data_app.command(epilog="Example: normbank data cache --clear")
def cache(clear: Annotated[bool, typer.Option("--clear", help="remove every entry")] = False) -> None:
    """Where decoded images are kept and how much there is; --clear empties it."""
    from .data.cache import open_cache

    held = open_cache()
    if clear:
        held.clear()
    files, size = held.usage()
    print(f"{held.folder}: {files} images, {size / 2**20:.1f} MiB of at most {held.limit / 2**30:.0f} GiB")


def main() -> NoReturn:
    """Run the command line; leaves with its exit code.

    0 done, 2 the user's mistake (one message), 3 an anomaly where that was asked for, 1 a fault of ours; 130, 143 and
    141 where Ctrl-C, a termination or the reader of a pipe ended it.
    """
    _fill_closed_streams()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have us ignore it
        signal.signal(signal.SIGINT, stop)
    if sys.stdout:  # a file name may hold what the encoding cannot; where it can, its very bytes are printed
        known = sys.stdout.encoding.lower() == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if known else "backslashreplace")  # type: ignore[union-attr]
    if any(word == "" or (word.startswith("--") and word.endswith("=")) for word in sys.argv):
        note("normbank: an empty argument: expected a value, got ''. Is a variable of the shell not set?")
        sys.exit(MISTAKE)
    run_to_its_end(lambda: app(prog_name="normbank"))


def _fill_closed_streams() -> None:
    """A file that takes the number of a closed standard stream would be written to by decoders that complain."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number there is


def _agrees(question: str) -> bool:
    """Asked on standard error, so that standard output holds results alone."""
    note(question, end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _stdin(*, explicit: bool) -> Any:
    """Names on standard input; UserError where no one can have meant to type them."""
    if sys.stdin is None or (sys.stdin.isatty() and not explicit):
        do = "For the images of this folder: normbank predict MODEL ."
        raise UserError(problem("PATH", expected="images, folders, or names on standard input", came="none", do=do))
    return sys.stdin.buffer


def _need(extra: str, *modules: str) -> None:
    """UserError that says what to install, where an extra is missing."""
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"this command needs {', '.join(missing)}: pip install '.[{extra}]' in normbank's folder")


def _prepare_for_training() -> None:
    from .machine import tune_for_training

    _need("train", "torch", "lightning", "onnx", "onnxscript", "safetensors")
    tune_for_training()


def _config(preset: str, settings: list[str] | None, seed: int | None) -> Config:
    from .config import override
    from .presets import preset as named

    chosen = named(preset, settings or [])
    return chosen if seed is None else override(chosen, {"train.seed": seed})


def _has_gpu(config: Config) -> bool:
    """Whether training has one, as far as `train.device` lets it."""
    from .training import accelerator_of

    return accelerator_of(config.train) != "cpu"


def _config_of(detector: Detector, model: Path, settings: list[str] | None) -> Config:
    """How a detector's images are read; BundleError for settings that this version does not know."""
    from . import config
    from .errors import BundleError, ConfigError

    try:
        known = config.from_dict(detector.manifest["settings"])
    except ConfigError as error:
        told = f"detector {str(model)!r}: its settings are of another version of normbank: {error}"
        raise BundleError(told) from None
    return config.override_reading(known, settings or [])


def _dataset(path: Path, config: Config) -> Dataset:
    from .data.open import open_dataset

    return open_dataset(path, config.data)


def _load(model: Path, threads: int = 0, false_alarm_rate: float | None = None) -> Detector:
    from . import detector

    return detector.load(model, threads, false_alarm_rate)


def _say_what_is_promised(detector: Detector, false_alarm_rate: float | None) -> None:
    """Whoever asks for a rate hears where too few images were held out for it."""
    if false_alarm_rate is not None and detector.calibration.note:
        note(detector.calibration.note)


def _show_row(row: dict[str, Any]) -> None:
    from .outlets import line_of

    if row["error"]:
        _show_broken(row)
    else:
        print(line_of(row), flush=True)


def _show_broken(row: dict[str, Any]) -> None:
    if row["error"]:
        note(f"skipped {printable(row['path'])}: {row['error']}")
