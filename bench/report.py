"""From committed evaluations (`normbank evaluate --json`) to the tables of bench/README.md and of README.md.

A run is called by its preset's name alone only if it was made with that preset's settings: one with fewer steps or
narrower widths is "reduced", one with anything else changed is "changed", and both say what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.paper import PRINTED, printed
from normbank.config import PRESETS

REPO = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
METRICS = ("image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "AUPRO", "brightness_AUROC")
# What says where a run was made or how its data lie, not what was trained.
_CIRCUMSTANCE = {
    *("train.seed", "train.threads", "train.device", "train.precision", "train.checkpoint_every"),
    *("data.format", "data.normal_dir", "data.abnormal_dir", "data.normal_test_dir", "data.mask_dir"),
    *("data.test_share", "data.split_seed", "data.normal_class"),
}


class StaleError(Exception):
    """A table is not what the results make of it."""


@dataclass(frozen=True)
class Run:
    """One evaluation file. `differences` are the settings that its preset has otherwise: (name, run's, preset's)."""

    file: str
    metrics: dict[str, float | None]
    reasons: dict[str, str]
    context: dict[str, Any]
    differences: tuple[tuple[str, Any, Any], ...]

    @property
    def data(self) -> str:
        """The name of the data set."""
        return str(self.context["data_name"])

    @property
    def preset(self) -> str:
        """The preset's name."""
        return str(self.context["preset"])

    @property
    def standing(self) -> str:
        """ "as the preset", or what is reduced or changed."""
        parts = [f"{name} {_plain(run)} (preset: {_plain(own)})" for name, run, own in self.differences]
        if not parts:
            return "as the preset"
        smaller = any(_is_smaller(*difference) for difference in self.differences)
        return ("reduced: " if smaller else "changed: ") + ", ".join(parts)


def read_runs(folder: Path) -> list[Run]:
    """Every `*.json` in the folder, by data, preset, standing, seed; ValueError names one that is no evaluation."""
    runs = [_read(path) for path in sorted(folder.glob("*.json"))]
    return sorted(runs, key=lambda run: (*_group(run), run.context["seed"], run.file))


def _read(path: Path) -> Run:
    expected = "expected what `normbank evaluate --json` writes"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        context, metrics = values["context"], {name: values["metrics"][name] for name in METRICS}
        differences = _differences(context["preset"], context["settings"])
        run = Run(path.name, metrics, values["reasons"], context, differences)
        for name in ("data_name", "data_format", "seed", "training_seconds", "training_device", "training_commit"):
            context[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {expected}, got {type(error).__name__} {error}") from None
    wrong = [name for name, value in metrics.items() if value is not None and not 0 <= value <= 1]
    if wrong:
        raise ValueError(f"{path}: {expected}, got {wrong[0]} {metrics[wrong[0]]}, which is not in 0..1")
    return run


def _differences(preset: str, settings: dict[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    if preset not in PRESETS:
        raise ValueError(f"the preset {preset!r}, which is none of {', '.join(PRESETS)}")
    own = PRESETS[preset]().model_dump(mode="json")
    names = ((group, field) for group in ("data", "model", "train", "score") for field in own[group])
    return tuple(
        (f"{group}.{field}", settings[group][field], own[group][field])
        for group, field in names
        if f"{group}.{field}" not in _CIRCUMSTANCE
        and field in settings[group]  # a setting that is newer than the run
        and settings[group][field] != own[group][field]
    )


def _is_smaller(name: str, run: Any, own: Any) -> bool:
    if name == "train.steps":
        return bool(run < own)
    return name == "model.widths" and (len(run) < len(own) or any(a < b for a, b in zip(run, own, strict=False)))


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def _group(run: Run) -> tuple[str, str, bool, str]:
    return run.data, run.preset, bool(run.differences), run.standing


def summary(runs: Sequence[Run]) -> str:
    """The table of README.md: a row for each data set, preset and standing, over its seeds."""
    if not runs:
        return "No result is committed yet: `bench/results` is empty."
    header = ["data", "preset", "made", "steps", "widths", "seeds", "image AUROC", "paper", "pixel AUROC", "paper"]
    header += ["AUPRO", "brightness alone", "training", "commit"]
    return _table(header, (_summary_row(list(group)) for _, group in groupby(runs, _group)))


def _summary_row(runs: list[Run]) -> list[str]:
    first = runs[0]
    settings = first.context["settings"]
    return [
        first.data,
        f"`{first.preset}`",
        first.standing,
        str(settings["train"]["steps"]),
        _plain(settings["model"]["widths"]),
        ", ".join(str(run.context["seed"]) for run in runs),
        _spread(runs, "image_AUROC"),
        _paper(first, "image_AUROC"),
        _spread(runs, "pixel_AUROC"),
        _paper(first, "pixel_AUROC"),
        _spread(runs, "AUPRO"),
        _spread(runs, "brightness_AUROC"),
        f"{_mean(run.context['training_seconds'] for run in runs):.0f} s, {_each(runs, 'training_device')}",
        _each(runs, "training_commit"),
    ]


def _paper(run: Run, metric: str) -> str:
    value = printed(metric, run.context["data_format"], run.data)
    return "-" if value is None else f"{value:.1f}"


def _spread(runs: list[Run], metric: str) -> str:
    """The mean in percent, and the range where there are several."""
    values = [value for run in runs if (value := run.metrics[metric]) is not None]
    if len(values) < len(runs):
        return "-"
    mean = _percent(_mean(values))
    return mean if len(values) == 1 else f"{mean} ({_percent(min(values))} to {_percent(max(values))})"


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _each(runs: list[Run], name: str) -> str:
    return ", ".join(dict.fromkeys(str(run.context[name]) for run in runs))


_OPENING = """# Results

Made by `python -m bench report` from the files in `results/`, each written by `normbank evaluate --json`. What was
tried on the way is in [LOG.md](LOG.md).

Values are percent; where a row has several seeds, it holds their mean and their range. "made" says whether a run had
its preset's settings: one with fewer steps or narrower widths is *reduced*, and stands for itself alone. "paper" is
what the paper prints for its method ({tables}). Pixels are scored at the model's size. F1 max
picks its threshold on the test set and is an upper bound. "brightness alone" is the image AUROC of the mean brightness,
without any model: a control.

No epoch, sign or threshold is chosen on test images. Two choices are not quite blind. That `paper-small` reads its
memory with hard shrinkage and renormalisation follows short trials scored on the test images of MVTec bottle. The
linear last step of the decoder was chosen on held-out good images, but two test scores of the sigmoid were seen before.

Seconds are by the clock; those of the full-width run on bottle count long pauses for other work (LOG.md).

The MVTec AD images at hand were reduced to 384 x 384 beforehand (Lanczos; masks box-filtered, cut at one half).
"""


def page(runs: Sequence[Run]) -> str:
    """bench/README.md: the summary, every run, and why a value is missing."""
    tables = ", ".join(f"{table}: {metric}" for table, (metric, _) in PRINTED.items())
    parts = [_OPENING.format(tables=tables), "## Summary\n", summary(runs)]
    if runs:
        parts += ["\n## Every run\n", _table(_RUN_HEADER, map(_run_row, runs))]
        missing = [f"- `{run.file}`, {name}: {reason}" for run in runs for name, reason in sorted(run.reasons.items())]
        parts += ["\n## Why a value is missing\n", *missing] if missing else []
    return "\n".join(parts) + "\n"


_RUN_HEADER = ["file", "data", "preset", "made", "seed", *METRICS, "trained on", "images (SHA-256)", "seconds"]
_RUN_HEADER += ["device", "precision", "commit"]


def _run_row(run: Run) -> list[str]:
    context = run.context
    return [
        f"[{run.file}](results/{run.file})",
        run.data,
        f"`{run.preset}`",
        run.standing,
        str(context["seed"]),
        *(_percent(run.metrics[name]) for name in METRICS),
        str(context.get("trained_images", "-")),
        f"`{str(context.get('trained_fingerprint', '-'))[:12]}`",
        f"{context['training_seconds']:.0f}",
        str(context["training_device"]),
        str(context.get("training_precision", "-")),
        str(context["training_commit"]),
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def with_table(readme: str, table: str) -> str:
    """The README with `table` between its markers; ValueError where they are not there once, in order."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise ValueError(f"README.md: expected {BEGIN} and {END} once each, in that order")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def report(*, check: bool = False, repo: Path = REPO, say: Callable[[str], None] = print) -> None:
    """Write both tables, or with `check` raise StaleError where one of them is not what the results make of it."""
    runs = read_runs(repo / "bench" / "results")
    readme = repo / "README.md"
    wanted = {
        repo / "bench" / "README.md": page(runs),
        readme: with_table(readme.read_text(encoding="utf-8"), summary(runs)),
    }
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if check and stale:
        names = ", ".join(str(path.relative_to(repo)) for path in stale)
        raise StaleError(f"stale: {names}. Run `python -m bench report` and commit what it writes.")
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        say(f"wrote {path.relative_to(repo)}")
