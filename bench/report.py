"""From committed results to bench/README.md and to the tables of README.md and docs/method.md.

A run is called by its preset's name alone only if it was made with that preset's settings: one with fewer steps or
narrower widths is "reduced", one with anything else changed is "changed", and both say what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import ablated, comparison, cost, memories
from bench.paper import printed
from bench.peers import Peer, read_peers
from bench.runs import METRICS, Stored, absent, differences, read_cells
from bench.stored import read_result
from bench.tables import sections
from bench.text import percent, plain, seconds_by, spread, table
from normbank.presets import PRESETS

REPO = Path(__file__).resolve().parent.parent
DEVIATIONS = "deviations.md"


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
        parts = [f"{name} {plain(run)} (preset: {plain(own)})" for name, run, own in self.differences]
        if not parts:
            return "as the preset"
        smaller = any(_is_smaller(*difference) for difference in self.differences)
        return ("reduced: " if smaller else "changed: ") + ", ".join(parts)


def read_runs(folder: Path) -> list[Run]:
    """Every `*.json` in the folder, by data, preset, standing, seed; ValueError names one that is no evaluation."""
    files = sorted(folder.glob("*.json"))
    runs = [read_result(path, "normbank evaluate --json", partial(_run, path)) for path in files]
    return sorted(runs, key=lambda run: (*_group(run), run.context["seed"], run.file))


def _run(path: Path, values: Mapping[str, Any]) -> Run:
    context, metrics = values["context"], {name: values["metrics"][name] for name in METRICS}
    for name in ("data_name", "data_format", "seed", "training_seconds", "training_device", "training_commit"):
        context[name]
    return Run(path.name, metrics, values["reasons"], context, _differences(context["preset"], context["settings"]))


def _differences(preset: str, settings: dict[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    if preset not in PRESETS:
        raise ValueError(f"the preset {preset!r}, which is none of {', '.join(PRESETS)}")
    return differences(settings, PRESETS[preset]().model_dump(mode="json"))


def _is_smaller(name: str, run: Any, own: Any) -> bool:
    if name == "train.steps":
        return bool(run < own)
    return name == "model.widths" and (len(run) < len(own) or any(a < b for a, b in zip(run, own, strict=False)))


def _group(run: Run) -> tuple[str, str, bool, str]:
    return run.data, run.preset, bool(run.differences), run.standing


_SUMMARY = """Single runs, each by `normbank train` and `normbank evaluate --json`; of ours other trainings than above.
"made" says what was set otherwise than the preset has it; a row has the mean of its seeds."""


def summary(runs: Sequence[Run]) -> str:
    """The table of README.md: a row for each data set, preset and standing, over its seeds."""
    if not runs:
        return "No result is committed yet: `bench/results` is empty."
    header = ["data", "preset", "made", "steps", "widths", "seeds", "image AUROC", "paper", "pixel AUROC", "paper"]
    header += ["AUPRO", "brightness alone", "training", "commit"]
    return table(header, (_summary_row(list(group)) for _, group in groupby(runs, _group)))


def _summary_row(runs: list[Run]) -> list[str]:
    first = runs[0]
    settings = first.context["settings"]
    return [
        first.data,
        f"`{first.preset}`",
        first.standing,
        str(settings["train"]["steps"]),
        plain(settings["model"]["widths"]),
        ", ".join(str(run.context["seed"]) for run in runs),
        _spread(runs, "image_AUROC"),
        _paper(first, "image_AUROC"),
        _spread(runs, "pixel_AUROC"),
        _paper(first, "pixel_AUROC"),
        _spread(runs, "AUPRO"),
        _spread(runs, "brightness_AUROC"),
        seconds_by((str(run.context["training_device"]), run.context["training_seconds"]) for run in runs),
        _each(runs, "training_commit"),
    ]


def _paper(run: Run, metric: str) -> str:
    value = printed(metric, run.context["data_format"], run.data)
    return "-" if value is None else f"{value:.1f}"


def _spread(runs: list[Run], metric: str) -> str:
    return spread([run.metrics[metric] for run in runs])


def _each(runs: list[Run], name: str) -> str:
    return ", ".join(dict.fromkeys(str(run.context[name]) for run in runs))


_OPENING = """# Results

Made by `python -m bench report`: the summary from the files in `results/`, each written by `normbank evaluate --json`;
the paper's tables below it from `results/cells/`. What was tried on the way is in [LOG.md](LOG.md).

Values are percent; where a row has several seeds, it holds their mean and their range. "made" says whether a run had
its preset's settings: one with fewer steps or narrower widths is *reduced*, and stands for itself alone. "paper" is
what the paper prints for its method (Table I: image_AUROC, Table IV: pixel_AUROC). Pixels are scored at the model's
size. F1 max picks its threshold on the test set and is an upper bound. "brightness alone" is the image AUROC of the
mean brightness, without any model: a control.

No epoch, sign or threshold is chosen on test images. Some choices are not quite blind ([the log](LOG.md) has most):

- `paper-small` reads its memory with hard shrinkage and renormalisation: that follows short trials scored on the
  test images of MVTec bottle.
- The linear last step of the decoder was chosen on held-out good images, but two test scores of the sigmoid were
  seen before.
- Jitter, and the gradient beside the head, followed the selection sets, but the test figures stood in the same
  table.
- The bank counts twice in the map of `small` and `standard`: the selection sets of that day could not tell 2 from
  1, and the test figures of both, 1.8 points apart by image on magnetic tile, had been seen. A trial with the bank of
  today (its figures are in the log alone) puts 2 ahead by half a point in the mean of the three selection sets, on
  defects of shape, which the head never learnt, by one.
- Temperature 0.1 had been turned down on the test images of bottle, with another network; it was taken later with
  restoring training, and in the trials that led there the test figures stood beside those of the selection sets. So
  they did where made defects were asked to be 40 % visible, and where `small` was cut to 600 steps of 8 images.
- The bank is bounded in cells, not in images: decided after digit 8 had been scored with a thousand of its images.
- The bank falls back on places, not on places and patches alike: that follows the selection sets, but one test
  score each of bottle, transistor and tile with the other choice had been seen.
- Patches have to be ahead of places by a point, not by half of one: that follows the sets of `python -m
  bench.memories` as they were, but was asked because the test figures of `fast` on transistor had fallen. With today's
  bank those sets show leads of every size, and none that would make one point better than another.
- Shifts and mirrors were looked for because `small` had come out behind `fast` on the test images of the
  demonstration's textures; that they are shown follows the selection sets alone.
- That images are turned upright, and not trained on in quarter turns, was seen on the real defects of transistors that
  we had turned, beside the selection set; that they are moved into place, on those of transistors that we had moved.
  When they are is told by good images alone, but the limit was set with the data of all tables in sight. That what is
  out of sight is told as the nearest place in sight follows the selection sets, but the test figures of this and of
  other ways, of `fast` with seed 0, had been seen.
- That images which keep more than 0.4 when moved stay as they lie was set back from 0.6, which selection sets of
  transistors as photographed favour, after three detectors so moved had been scored on the test images; what says so
  are held-out good images moved out of their place, which moving hides. That moving is asked before turning follows a
  selection set of moved bottles; the test figures of turning alone had been seen.
- That eight middles are tried where things are turned and moved, and not four, was asked because a damaged test image
  had been laid wrong; how many followed made defects on held-out good images, and their time.
- Turned images are not among the made defects: dropped after one training that had them was scored on the test images
  of digit 8.

Seconds are by the clock; those of the full-width run on bottle count long pauses for other work (LOG.md).

The MVTec AD images at hand were reduced to 384 x 384 beforehand (Lanczos; masks box-filtered, cut at one half).
"""


_CELLS = """
## The paper's tables and figures

Made from `results/cells/`, one JSON for each trained and scored detector, each written by `python -m bench run TABLE`.
A table has a section for each budget; no row joins two. A figure of ours is the mean over seeds and, in brackets, their
range; "mean of" is over data, and "paper" beside it the printed values of the same data unless it says of how many.
"-": not run, or nothing printed.
"""


def page(
    runs: Sequence[Run],
    cells: Mapping[str, Stored] | None = None,
    gone: Set[str] = frozenset(),
    peers: Sequence[Peer] = (),
    judged: Sequence[memories.Judged] = (),
    costs: Sequence[cost.Costs] = (),
) -> str:
    """bench/README.md: the summary, the paper's tables, its deviations, every run, and why a value is missing.

    `cells` are those of bench/results/cells by slug, `gone` the data that were not present when they were run, `peers`
    those of bench/results/peers, `judged` those of bench/results/memories, `costs` those of bench/results/costs.
    """
    parts = [_OPENING, "## Summary\n", summary(runs), _CELLS, *sections(cells or {}, gone, peers)]
    parts += [memories.section(judged)] if judged else []
    parts += [cost.section(costs)] if costs else []
    parts += ["", (Path(__file__).parent / DEVIATIONS).read_text(encoding="utf-8").rstrip()]
    if runs:
        parts += ["\n## Every run of the summary\n", table(_RUN_HEADER, map(_run_row, runs))]
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
        *(percent(run.metrics[name]) for name in METRICS),
        str(context.get("trained_images", "-")),
        f"`{str(context.get('trained_fingerprint', '-'))[:12]}`",
        f"{context['training_seconds']:.0f}",
        str(context["training_device"]),
        str(context.get("training_precision", "-")),
        str(context["training_commit"]),
    ]


def with_table(text: str, table: str, mark: str = "results", name: str = "README.md") -> str:
    """The text with `table` between its markers; ValueError where they are not there once, in order."""
    first, last = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end) or first in rest or last in before + after:
        raise ValueError(f"{name}: expected {first} and {last} once each, in that order")
    return f"{before}{first}\n{table}\n{last}{after}"


def report(*, check: bool = False, repo: Path = REPO, say: Callable[[str], None] = print) -> None:
    """Write every table, or with `check` raise StaleError where one of them is not what the results make of it."""
    results = repo / "bench" / "results"
    runs, folder, peers = read_runs(results), results / "cells", read_peers(results / "peers")
    cells = read_cells(folder)
    compared = comparison.readme(cells, peers)
    judged, costs = memories.read(results / "memories"), cost.read(results / "costs")
    wanted = {
        repo / "bench" / "README.md": page(runs, cells, absent(folder), peers, judged, costs),
        **_filled(repo, "README.md", "results", _for_readme(compared, runs)),
        **_filled(repo, "docs/method.md", "ablation", ablated.page(cells)),
    }
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if check and stale:
        names = ", ".join(path.relative_to(repo).as_posix() for path in stale)
        raise StaleError(f"stale: {names}. Run `python -m bench report` and commit what it writes.")
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        say(f"wrote {path.relative_to(repo).as_posix()}")


def _for_readme(compared: str | None, runs: Sequence[Run]) -> str:
    """The presets against paper and peer, and the single runs beside them."""
    parts = [compared, _SUMMARY if compared and runs else None, summary(runs)]
    return "\n\n".join(part for part in parts if part)


def _filled(repo: Path, name: str, mark: str, table: str) -> dict[Path, str]:
    path = repo / name
    return {path: with_table(path.read_text(encoding="utf-8"), table, mark, name)}
