"""From stored cells to the paper's tables: our figure beside the printed one, one section a table and budget.

Every cell is looked up by all that makes it what it is, the budget too, so no row joins two budgets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set

from bench import ablated, comparison
from bench.budgets import BUDGETS, settings, widths
from bench.lines import NAMES, Line, all_lines, data_name, made, seed_means, waiting, with_results
from bench.paper import OWN, TABLES, cells, others, printed_in
from bench.peers import Peer
from bench.runs import Stored, current
from bench.text import mean, spread, table

# Printed as AUROC, but the mean of the true positive and true negative rates at one threshold.
NOT_AUROC = {("V", "AE-SSIM"), ("V", "AE-L2")}
COMPARED = ("own", "textures", "displaced")  # our presets in them stand beside the paper and the peers, too
COSTS = ["s a step", "peak MiB", "ms an image", "M parameters", "model MiB"]


def sections(stored: Mapping[str, Stored], absent: Set[str], peers: Sequence[Peer] = ()) -> Iterator[str]:
    """Every table as text, those without results in one line each; then what was left out.

    The peers stand beside the presets of our own, in each table that has these.
    """
    shown = current(stored)
    budgets = [name for name in BUDGETS if any(one.identity.budget == name for one in shown.values())]
    for name in TABLES:
        parts = [text for budget in budgets if (text := _section(name, budget, shown, absent, peers))]
        yield from parts or [f"\n### {TABLES[name].title}\n\n{_nothing(name, absent)}"]
    outdated = sorted(set(stored) - set(shown))
    if outdated:
        yield "\n### Left out\n\nMade with settings that preset or budget no longer have: " + ", ".join(
            f"`{slug}.json`" for slug in outdated
        )


def _nothing(name: str, absent: Set[str]) -> str:
    needed = {cell.data for cell in cells(name)}
    return "Data not present." if needed <= absent else "Not run."


def _section(
    name: str, budget: str, stored: Mapping[str, Stored], absent: Set[str], peers: Sequence[Peer]
) -> str | None:
    """One table at one budget; None without a result."""
    lines = all_lines(name, budget, stored)
    found = [line for line in lines if line.stored]
    if not found:
        return None
    head = f"\n### {TABLES[name].title} (budget {budget})\n\nBudget {budget}: {BUDGETS[budget].words}. {made(found)}\n"
    if TABLES[name].one_seed:
        return f"{head}\n{len(found)} of the {len(lines)} runs that the figure is made of are stored."
    shown = with_results(lines)
    if TABLES[name].wide:
        parts = [head, ablated.LEGENDS[name], "", ablated.side_by_side(name, shown)]
    else:
        parts = [head, _grid(name, budget, shown)]
    own = [line for line in shown if line.cell.row in OWN]
    if name in COMPARED and own:
        parts.insert(1, f"{comparison.compare(own, peers)}\n")
    parts += [f"\n{text}" for text in (*_notes(name), *_left(lines, absent))]
    return "\n".join(parts)


def _grid(name: str, budget: str, lines: Sequence[Line]) -> str:
    known = TABLES[name]
    prints = {metric: _is_printed(name, lines, metric) for metric in known.metrics}
    header = ["row", "data"]
    for metric in known.metrics:
        header += [NAMES[metric], "paper"] if prints[metric] else [NAMES[metric]]
    header += ["brightness alone", "seeds", "steps", "widths", *(COSTS if known.costs else [])]
    rows: list[list[str]] = []
    for row in dict.fromkeys(line.cell.row for line in lines):
        group = [line for line in lines if line.cell.row == row]
        rows += [_row(name, budget, line, prints, alone=len(group) == 1) for line in group]
        rows += [[*_mean_row(name, group, prints), *[""] * (3 + 5 * known.costs)]] if len(group) > 1 else []
    return table(header, rows)


def _is_printed(name: str, lines: Sequence[Line], metric: str) -> bool:
    rows = {line.cell.row for line in lines}
    return any(printed_in(name, row, metric, data) is not None for row in rows for data in _printable(lines))


def _printable(lines: Sequence[Line]) -> list[str]:
    return ["mean", *(line.cell.data for line in lines)]


def _row(name: str, budget: str, line: Line, prints: Mapping[str, bool], *, alone: bool) -> list[str]:
    """A line's texts. Where it is alone in its row and only a mean is printed, that stands beside it and says so."""
    texts = [line.cell.row, line.data]
    for metric in TABLES[name].metrics:
        texts.append(spread([*line.by_seed(metric).values()]))
        if prints[metric]:
            own = printed_in(name, line.cell.row, metric, line.cell.data)
            known = _printed_mean(name, line.cell.row, metric, [line]) if alone else (own, "")
            texts.append(_paper(name, line.cell.row, *known))
    texts.append(spread([*line.by_seed("brightness_AUROC").values()][:1]))
    wanted = settings(line.cell, budget)
    texts += [str(len(line.stored)), str(wanted.train.steps), widths(wanted)]
    return [*texts, *(_costs(line) if TABLES[name].costs else [])]


def _paper(name: str, row: str, value: float | None, of: str = "") -> str:
    if value is None:
        return "-"
    return f"{round(value, 2):g}{'*' if (name, row) in NOT_AUROC else ''}{of}"


def _mean_row(name: str, group: Sequence[Line], prints: Mapping[str, bool]) -> list[str]:
    """The plain mean over the data of a row, seed by seed, beside the printed mean over the same data."""
    row, texts = group[0].cell.row, [group[0].cell.row, f"**mean of {len(group)}**"]
    for metric in TABLES[name].metrics:
        texts.append(spread(seed_means([line.by_seed(metric) for line in group])))
        if prints[metric]:
            texts.append(_paper(name, row, *_printed_mean(name, row, metric, group)))
    return [*texts, ""]


def _printed_mean(name: str, row: str, metric: str, group: Sequence[Line]) -> tuple[float | None, str]:
    """Over the same data where they are printed one by one; else the printed mean, and over how many that is."""
    each = [printed_in(name, row, metric, line.cell.data) for line in group]
    known = [value for value in each if value is not None]
    if len(known) == len(each):
        return mean(known), ""
    total = len({cell.data for cell in cells(name, seeds=[0]) if cell.row == row and cell.data != "oct"})
    return printed_in(name, row, metric, "mean"), "" if total == len(group) else f" (all {total})"


def _costs(line: Line) -> list[str]:
    """Means over the seeds, ranges of what was measured on unlike machines; on unlike devices "-"."""
    if not line.stored:
        return ["-"] * len(COSTS)
    values = [one.values for one in line.stored]
    one_device = len({known["context"]["training_device"] for known in values}) == 1
    trained = {(comparison.device(known), known["context"]["training_precision"]) for known in values}
    scored = {json.dumps(known["context"]["machine"], sort_keys=True) for known in values}
    steps = [known["seconds_per_training_step"] for known in values]
    peaks = [known["peak_memory_bytes"] for known in values]
    images = [None if (one := known["seconds_per_image"]) is None else 1000 * one for known in values]
    return [
        _cost(steps, ".3g", alike=len(trained) == 1) if one_device else "-",
        f"{mean(peaks) / 2**20:.0f}" if one_device and None not in peaks else "-",
        _cost(images, ".1f", alike=len(scored) == 1),
        f"{values[0]['parameters'] / 1e6:.2f}",
        f"{values[0]['model_bytes'] / 2**20:.1f}",
    ]


def _cost(values: Sequence[float | None], form: str, *, alike: bool) -> str:
    """The mean where the machines were `alike`, else the range; "-" where a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    ends = (f"{one:{form}}" for one in (min(known), max(known)))
    return f"{mean(known):{form}}" if alike else " to ".join(dict.fromkeys(ends))


def _notes(name: str) -> Iterator[str]:
    if any(table_name == name for table_name, _ in NOT_AUROC):
        yield "\\* printed as AUROC, but a mean of true positive and true negative rates: not comparable."
    if TABLES[name].costs:
        yield (
            "Seconds a training step: the whole training by the clock, pauses and the filling of a bank included, over "
            "its steps; peak MiB of memory in training (of the process, or of the GPU where there is one); ms an "
            "image: one at a time through the exported graph on the processor. A range is of seeds that were run on "
            "other machines or numbers of cores; rows may be of other machines, too."
        )
    known = [f"{row} {value:g}{' (other data too)' if extra else ''}" for row, value, extra in others(name)]
    if known:
        yield f"Printed means of the other rows: {', '.join(known)}."


def _left(lines: Sequence[Line], absent: Set[str]) -> Iterator[str]:
    """The rows and the data that have no result in this table, and why."""
    if rows := waiting(lines):
        yield rows
    with_result = {line.cell.data for line in lines if line.stored}
    rest = dict.fromkeys(line.cell.data for line in lines if line.cell.data not in with_result)
    gone, not_run = ([data_name(data) for data in rest if (data in absent) is told] for told in (True, False))
    if gone:
        yield f"Data not present: {', '.join(gone)}."
    if not_run:
        yield f"Not run: {', '.join(not_run)}."
