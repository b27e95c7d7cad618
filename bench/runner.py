"""`python -m bench run TABLE`: which cells are there, which can be run and how long that takes; then runs them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.budgets import BUDGETS, settings, widths
from bench.children import ENDED, REPO, Children, threads
from bench.paper import Cell, cells, short
from bench.runs import Identity, Stored, current, data_folder, identity, note_absent, read_cells
from normbank import machine
from normbank.config import Config

Say = Callable[[str], None]
Start = Callable[[Mapping[str, Any]], int]
LISTENING = 0.5  # seconds


@dataclass(frozen=True)
class Places:
    """Where the data lie, where models are kept, and where results go."""

    data: Path
    work: Path
    results: Path


@dataclass(frozen=True)
class Plan:
    """The identities of a table by what is to be done; `trainings` maps each training to the scores wanted of it."""

    stored: tuple[Identity, ...]
    missing: tuple[Identity, ...]
    absent: tuple[Identity, ...]
    finished: Mapping[str, Stored]

    @property
    def trainings(self) -> dict[str, list[Identity]]:
        """What is missing, by the slug of its training."""
        found: dict[str, list[Identity]] = {}
        for one in self.missing:
            found.setdefault(one.training.slug, []).append(one)
        return found


def chosen(table: str, categories: Sequence[str], seeds: int, rows: Sequence[str]) -> list[Cell]:
    """The cells of a table that were asked for; ValueError for a row there is none of."""
    found = cells(table, categories, range(seeds))
    names = list(dict.fromkeys(cell.row for cell in found))
    if unknown := [row for row in rows if not any(_is_row(name, row) for name in names)]:
        raise ValueError(f"--rows {unknown[0]!r}: table {table} has {'; '.join(names)}")
    return [cell for cell in found if not rows or any(_is_row(cell.row, row) for row in rows)]


def _is_row(name: str, asked: str) -> bool:
    """The whole name, or what stands before its "=" or ":", in any case."""
    return asked.casefold() in (name.casefold(), name.casefold().partition(" = ")[0], name.casefold().partition(":")[0])


def plan(wanted: Iterable[Cell], budget: str, places: Places, *, refill: bool = False) -> Plan:
    """What of the cells is stored (with today's settings), can be run, or lacks its data. Each identity once.

    With `refill` what is stored is to be run, too, unless this very commit made it.
    """
    known = list({one.slug: one for one in (identity(cell, budget) for cell in wanted)}.values())
    finished = current(read_cells(places.results))
    kept = {slug: one for slug, one in finished.items() if not refill or _is_of_today(one)}
    stored = tuple(one for one in known if one.slug in kept)
    rest = [one for one in known if one.slug not in kept]
    there = {data: data_folder(places.data, data) is not None for data in {one.data for one in rest}}
    return Plan(
        stored,
        tuple(one for one in rest if there[one.data]),
        tuple(one for one in rest if not there[one.data]),
        finished,
    )


def _is_of_today(stored: Stored) -> bool:
    """Whether the commit that this runs from made it; one with changes is not told from others with changes."""
    commit = machine.commit()
    return commit is not None and "+" not in commit and stored.values["context"].get("commit") == commit


def listing(table: str, budget: str, plan: Plan) -> list[str]:
    """The plan in lines."""
    total = len(plan.stored) + len(plan.missing) + len(plan.absent)
    lines = [
        f"table {table}, budget {budget} ({BUDGETS[budget].words}): {total} cells, {len(plan.stored)} stored, "
        f"{len(plan.missing)} to run ({len(plan.trainings)} trainings), {len(plan.absent)} data not present"
    ]
    lines += [f"  stored            {one.slug}" for one in plan.stored]
    lines += [f"  to run            {one.slug}" for one in plan.missing]
    if plan.absent:
        names = dict.fromkeys(short(one.data) if "mvtec" in one.data else one.data for one in plan.absent)
        lines.append(f"  data not present  {', '.join(names)}")
    return lines


def estimate(
    plan: Plan, device: str, work: Path, measure: Callable[[Sequence[Config]], list[float]]
) -> tuple[float, list[str]]:
    """Seconds for what is missing, and how they were found, a line for each preset and width.

    Finished cells of the same preset, budget, widths, processor and device tell their own seconds; otherwise `measure`
    is asked for the seconds of a training step. A model that is in `work` needs no training, and is not counted.
    """
    groups: dict[tuple[str, str], list[list[Identity]]] = {}
    trainings = plan.trainings
    trained = {slug for slug in trainings if (work / slug / "model.nbk").is_file()}
    for slug, scores in trainings.items():
        if slug not in trained:
            groups.setdefault(_kind(scores[0]), []).append(scores)
    known = {kind: seconds for kind in groups if (seconds := _seconds_before(kind, plan.finished, device))}
    asked = [kind for kind in groups if kind not in known]
    configs = [settings(groups[kind][0][0].cell, groups[kind][0][0].budget, device) for kind in asked]
    steps = dict(zip(asked, zip(configs, measure(configs) if configs else [], strict=True), strict=True))
    total, lines = 0.0, [f"  {len(trained)} that are trained: not counted"] if trained else []
    for kind, trainings in groups.items():
        name, count = f"{kind[0]}, widths {kind[1]}", len(trainings)
        if kind in known:
            total += count * known[kind]
            lines.append(f"  {name}: {count} x {told(known[kind])}, as finished cells took with scoring")
        else:
            config, each = steps[kind]
            total += count * each * config.train.steps
            lines.append(f"  {name}: {count} x {config.train.steps} steps x {each:.3g} s, scoring not counted")
    return total, lines


def _kind(own: Identity) -> tuple[str, str]:
    return f"{own.preset}, {own.budget}", widths(settings(own.cell, own.budget))


def _seconds_before(kind: tuple[str, str], finished: Mapping[str, Stored], device: str) -> float | None:
    """Mean seconds of training and scoring of the finished cells of that kind made on this machine."""
    seconds = [
        one.values["context"]["training_seconds"] + one.values["context"]["evaluation_seconds"]
        for one in finished.values()
        if _kind(one.identity) == kind
        and one.values["settings"]["train"]["device"] == device
        and one.values["context"]["machine"] == machine.describe()  # where it was scored
        and one.values["threads"] == machine.cpu_count()
    ]
    return sum(seconds) / len(seconds) if seconds else None


def told(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def measure_steps(configs: Sequence[Config]) -> list[float]:
    """Seconds of a training step for each of the settings, found in a process of its own: this one stays small.

    A child's peak of memory starts from its parent's on Linux.
    """
    asked = json.dumps([config.model_dump(mode="json") for config in configs])
    command = [sys.executable, "-m", "bench.steps"]
    done = subprocess.run(command, cwd=REPO, input=asked, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ValueError("a training step could not be measured (see above); --no-estimate goes on without")
    found: list[float] = json.loads(done.stdout)
    return found


def run_all(
    plan: Plan,
    places: Places,
    device: str,
    say: Say,
    start: Start,
    *,
    jobs: int = 1,
    refill: bool = False,
    end: Callable[[], None] = lambda: None,
) -> int:
    """Every missing training, so many at once; how many failed. What is done is stored at once.

    Where one of them or this process is interrupted, `end` is to end those that run, and no other is started.
    """
    trainings, stopping, speaking = plan.trainings, threading.Event(), threading.Lock()

    def tell(line: str) -> None:
        with speaking:
            say(line)

    def train(number: int, slug: str, wanted: Sequence[Identity]) -> bool:
        if stopping.is_set():
            return False
        try:
            tell(f"[{number}/{len(trainings)}] {slug}: {len(wanted)} to score")
            if (code := start(_job(wanted, places, device, shared=jobs > 1, refill=refill))) in ENDED:
                raise KeyboardInterrupt
            if code:
                tell(f"failed ({code}): {slug}")
        except BaseException:
            stopping.set()  # here, as this thread is about to take the next
            raise
        return code != 0

    with threads(jobs) as pool:
        try:
            begun = [pool.submit(train, number, *one) for number, one in enumerate(trainings.items(), start=1)]
            return sum(_as_completed(begun))
        except BaseException:
            stopping.set()
            end()
            raise


def _as_completed(begun: Iterable[Future[bool]]) -> Iterator[bool]:
    """Results as they come. Waits in short stretches: a signal that comes just before a wait begins does not end it."""
    left = set(begun)
    while left:
        done, left = wait(left, timeout=LISTENING, return_when=FIRST_COMPLETED)
        yield from (one.result() for one in done)


def _job(wanted: Sequence[Identity], places: Places, device: str, *, shared: bool, refill: bool) -> dict[str, Any]:
    """What `bench.one` is told of a training and the scores wanted of it."""
    return {
        "training": wanted[0].training.to_dict(),
        "scores": [one.score for one in wanted],
        "device": device,
        "shared": shared,
        "refill": refill,
        **{name: str(getattr(places, name)) for name in ("data", "work", "results")},
    }


def run(
    table: str,
    places: Places,
    *,
    categories: Sequence[str] = (),
    seeds: int = 3,
    rows: Sequence[str] = (),
    budget: str = "paper",
    device: str = "auto",
    jobs: int = 1,
    refill: bool = False,
    dry_run: bool = False,
    estimated: bool = True,
    agrees: Callable[[str], bool] = lambda question: True,
    say: Say = print,
    start: Start | None = None,
    measure: Callable[[Sequence[Config]], list[float]] = measure_steps,
) -> int:
    """List, estimate, and run what is missing of a table; 0 done, 1 where a cell failed. ValueError for a mistake.

    `refill` runs what is stored, too; of detectors in `places.work` the bank alone is made again.
    """
    found = plan(chosen(table, categories, seeds, rows), budget, places, refill=refill)
    for line in listing(table, budget, found):
        say(line)
    if found.missing and estimated:
        seconds, lines = estimate(found, device, places.work, measure)
        how = "on this machine, " + ("one after another, " if jobs > 1 else "") + "as busy as it is now"
        for line in (f"about {told(seconds)} {how}:", *lines):
            say(line)
    if dry_run or not found.missing:
        return 0
    if not agrees("Run them? [y/N] "):
        return 0
    note_absent(places.results, {one.data for one in found.missing}, {one.data for one in found.absent})
    children = Children()
    begin = start or children.run
    return 1 if run_all(found, places, device, say, begin, jobs=jobs, refill=refill, end=children.end) else 0
