"""Our own presets beside what the paper prints and beside a peer with borrowed weights, and who is ahead where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.lines import NAMES, Line, all_lines, common, made, seed_means
from bench.paper import CATEGORIES, MNIST, PMB, printed_in, short
from bench.peers import METRICS, Peer
from bench.runs import Stored, current
from bench.text import mean, percent, plain, seconds_by, spread, table
from normbank.presets import PRESETS

THE_PAPER = "the paper"
ELSEWHERE = {  # data of the tables textures and displaced
    "brick": "texture: brick",
    "gravel": "texture: gravel",
    "grass": "texture: grass",
    "turned": "transistor, at any angle",
    "moved": "transistor, at any place",
    "both": "transistor, at any angle and place",
    "moved_bottle": "bottle, at any place",
}
_SHORT = ("image_AUROC", "pixel_AUROC", "AUPRO")
_HEADER = ["data", "method", "borrowed weights", "seeds", *(NAMES[metric] for metric in METRICS), "training"]


@dataclass(frozen=True)
class Entry:
    """A method on one data set: the texts of its row, and its metrics in percent (None: not measured, not printed)."""

    data: str
    method: str
    texts: tuple[str, ...]
    values: Mapping[str, float | None]
    ours: bool = False


def readme(stored: Mapping[str, Stored], peers: Sequence[Peer]) -> str | None:
    """What stands in README.md: the presets as they are against paper and peer; None without a result of ours."""
    known = current(stored)
    lines = all_lines("own", "paper", known)
    found = [line for line in lines if line.stored]
    return "\n\n".join([compare(lines, peers), made(found), *_elsewhere(known, peers)]) if found else None


def _elsewhere(stored: Mapping[str, Stored], peers: Sequence[Peer]) -> Iterator[str]:
    """A short table of the data that the paper has not, where there is a result of ours."""
    lines = [line for name in ("textures", "displaced") for line in all_lines(name, "paper", stored)]
    ours = [line for line in lines if line.stored and line.cell.row in PRESETS]
    shown = [data for data in ELSEWHERE if data in {line.data for line in ours}]
    texts = {
        **{
            (line.data, f"`{line.cell.row}`"): _shortly([*line.by_seed(one).values()] for one in _SHORT)
            for line in ours
        },
        **{(peer.data, peer.title): _shortly([peer.metrics[one]] for one in _SHORT) for peer in peers},
    }
    columns = list(dict.fromkeys(column for data, column in texts if data in shown))
    if shown:
        yield table(
            ["data", *columns], ([ELSEWHERE[data], *(texts.get((data, one), "-") for one in columns)] for data in shown)
        )
        seeds = " or ".join(map(str, sorted({len(line.stored) for line in ours})))
        yield f"Image AUROC / pixel AUROC / AUPRO, ours the mean of {seeds} seeds (spread: bench/README.md)."


def compare(lines: Sequence[Line], peers: Sequence[Peer]) -> str:
    """A table of the data on which one of the lines has a result, and who is ahead, in sentences."""
    entries = [entry for group in _groups(lines) for entry in _entries(group, peers)]
    shown = {entry.data for entry in entries}
    costs = dict.fromkeys(peer.cost for peer in peers if peer.data in shown)
    rows = ([entry.data, f"`{entry.method}`" if entry.ours else entry.method, *entry.texts] for entry in entries)
    told = (*_ahead(entries), *_changed(lines), *costs)
    return "\n".join([table(_HEADER, rows), "", *(f"- {text}" for text in told)])


def _shortly(metrics: Iterable[Sequence[float | None]]) -> str:
    """The mean of each, in percent."""
    return " / ".join("-" if (value := _middle(values)) is None else f"{value:.1f}" for values in metrics)


def _changed(lines: Sequence[Line]) -> Iterator[str]:
    """What a preset has otherwise on digits, which no more than its name would tell."""
    cells = {line.cell.row: line.cell for line in lines if line.stored and _is_digit(line)}
    for method, cell in cells.items():
        changes = ", ".join(f"{name} {plain(value)}" for name, value in cell.overrides.items())
        yield f"For digits these settings of `{method}` were changed: {changes}."


def _groups(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines with a result by their data; the digits are one."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if line.stored:
            found.setdefault(line.cell.data.partition("/")[0] if _is_digit(line) else line.data, []).append(line)
    return list(found.values())


def _is_digit(line: Line) -> bool:
    return line.cell.data.startswith(f"{MNIST}/")


def _entries(group: Sequence[Line], peers: Sequence[Peer]) -> Iterator[Entry]:
    first = group[0]
    data = MNIST if _is_digit(first) else first.data
    yield from _paper(data)
    for method in dict.fromkeys(line.cell.row for line in group):
        yield _own(data, method, [line for line in group if line.cell.row == method])
    yield from (_peer(data, peer) for peer in peers if peer.data == data)


def _paper(data: str) -> Iterator[Entry]:
    """Nothing where the paper has not these data."""
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    if data == MNIST:
        values["image_AUROC"] = printed_in("II", PMB, "image_AUROC", "mean")
    elif short(data) in CATEGORIES:
        values["image_AUROC"] = printed_in("I", PMB, "image_AUROC", data)
        values["pixel_AUROC"] = printed_in("IV", PMB, "pixel_AUROC", data)
    if any(value is not None for value in values.values()):
        known = ("-" if value is None else f"{value:.1f}" for value in values.values())
        yield Entry(_mean_of(data, 10), THE_PAPER, ("none", "-", *known, "-"), values)


def _mean_of(data: str, digits: int) -> str:
    return f"mnist, mean of {digits} digits" if data == MNIST else data


def _own(data: str, method: str, lines: Sequence[Line]) -> Entry:
    by_seed = {metric: seed_means([line.by_seed(metric) for line in lines]) for metric in METRICS}
    seeds = len(by_seed["image_AUROC"])
    texts = ("none", str(seeds), *(spread(by_seed[metric]) for metric in METRICS), _training(lines))
    return Entry(_mean_of(data, len(lines)), method, texts, {m: _middle(by_seed[m]) for m in METRICS}, ours=True)


def _training(lines: Sequence[Line]) -> str:
    """Mean seconds of the cells that the metrics are of, those of each device by themselves."""
    return seconds_by((device(one.values), one.values["context"]["training_seconds"]) for one in common(lines))


def device(values: Mapping[str, Any]) -> str:
    """What a cell was trained on; of a processor, how many of its cores, and in which precision.

    Processors of one name may differ in it, and by a factor of three in how long they take.
    """
    context, cores = values["context"], values["threads"]
    name = str(context["training_device"])
    if name != context["machine"]["processor"]:
        return name
    return f"{name} ({cores} {'core' if cores == 1 else 'cores'}, {context['training_precision']})"


def _middle(values: Sequence[float | None]) -> float | None:
    """The mean in percent; None where a value is missing."""
    known = [value for value in values if value is not None]
    return 100 * mean(known) if known and len(known) == len(values) else None


def _peer(data: str, peer: Peer) -> Entry:
    values = {name: None if value is None else 100 * value for name, value in peer.metrics.items()}
    texts = (peer.weights, "1", *(percent(peer.metrics[metric]) for metric in METRICS), peer.fitting)
    return Entry(data, peer.title, texts, values)


def _ahead(entries: Sequence[Entry]) -> Iterator[str]:
    """For each other method and each of ours: where it is ahead, by the figures as they are shown."""
    for other in dict.fromkeys(entry.method for entry in entries if not entry.ours):
        for own in dict.fromkeys(entry.method for entry in entries if entry.ours):
            pairs = [
                (theirs, ours)
                for theirs in entries
                for ours in entries
                if (theirs.method, ours.method) == (other, own) and theirs.data == ours.data
            ]
            if pairs:
                yield _told(other, own, [text for pair in pairs for text in _better(*pair)])


def _told(other: str, own: str, where: Sequence[str]) -> str:
    name = other[0].upper() + other[1:]
    if not where:
        return f"{name} is nowhere ahead of `{own}` on the data that this table has of both."
    return f"{name} is ahead of `{own}` on {'; '.join(where)}."


def _better(theirs: Entry, ours: Entry) -> Iterator[str]:
    """Where they are ahead of ours, metric by metric."""
    shown = {
        metric: (round(value, 1), round(own, 1))
        for metric in METRICS
        if (value := theirs.values[metric]) is not None and (own := ours.values[metric]) is not None
    }
    ahead = [
        f"{NAMES[metric]} ({value:.1f} against {own:.1f})" for metric, (value, own) in shown.items() if value > own
    ]
    if ahead:
        yield f"{theirs.data}: {', '.join(ahead)}"
