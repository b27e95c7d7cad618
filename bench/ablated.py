"""Tables whose data stand side by side, a row each ingredient or cause; that of ingredients in docs/method.md, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.ablation import WHOLE
from bench.budgets import BUDGETS
from bench.lines import Line, all_lines, machines_of, made, seed_means, waiting, with_results
from bench.paper import TABLES, Cell
from bench.runs import Stored, current
from bench.text import plain, spread, table

SHORT = {
    "image_AUROC": "image",
    "pixel_AUROC": "pixel",
    "AUPRO": "AUPRO",
    "selection_image_AUROC": "selection",
    "image_AUROC_shifted": "shifted",
}
LEGEND = (  # of the ingredients
    "AUROC and AUPRO in percent. image, pixel, AUPRO: on the test images. selection: by image, good images that were "
    "held out of training against made defects on them (`python -m bench.selection`); choices rest on this column, but "
    "for those that were not blind (bench/README.md lists them). shifted: by image, each test image as a whole "
    "brighter or darker by up to 5 % of full scale. Mean and range over seeds; -: not run, or not to be had (colour of "
    "one channel). A row of one seed is to be compared with that seed of `small`, which then has a row of its own. "
    "seeds, trained on: in the order of the data where they differ."
)
LEGENDS = {
    "ablation": LEGEND,
    "textures": (
        "Crops of three photographs with drawn defects, as `make demo` leaves them, after which "
        "`python -m bench run textures --data .` runs what is missing. " + LEGEND
    ),
    "displaced": (
        "MVTec transistor, every image turned about its middle by an angle of its own, or moved by a way of its own, a "
        "tenth of the side at most, or both, defects and all; and MVTec bottle moved so, which is round. Borders are "
        "mirrored, and defects mirrored there have no mask. After `python -m bench.displaced turned "
        "mvtec_ad/transistor turned/transistor`, `python -m bench.displaced moved mvtec_ad/transistor "
        "moved/transistor`, `python -m bench.displaced moved turned/transistor both/transistor` and `python -m "
        "bench.displaced moved mvtec_ad/bottle moved_bottle/bottle`, `python -m bench run displaced --data .` runs "
        "what is missing. " + LEGEND
    ),
    "mnist": (
        "Image AUROC in percent on the 10,000 test images, each digit as the normal one. A row changes what it names "
        "and nothing else; those that end with a score judge a model trained as the row they begin with by it. sharp: "
        "hard shrinkage, renormalised, temperature 0.02. The means are over the digits that every row has, and "
        "over all ten where a row has them; the seeds are those of the first."
    ),
}
NOT_RUN = "Not run yet: `python -m bench run ablation`."


def side_by_side(name: str, lines: Sequence[Line]) -> str:
    """A table whose data are columns: those of the lines, each with the table's metrics."""
    if any(len(line.stored) == 1 for line in lines if line.cell.row != WHOLE):
        lines = [one for line in lines for one in _with_first_seed(line)]
    data = list(dict.fromkeys(line.data for line in lines))
    metrics = TABLES[name].metrics
    rows: dict[str, dict[str, Line]] = {}
    for line in lines:
        rows.setdefault(line.cell.row, {})[line.data] = line
    for known in rows.values():  # empty on data that the row cannot have
        cell = next(iter(known.values())).cell
        known.update({one: Line(cell, ()) for one in data if one not in known})
    groups = _groups(list(rows.values()), data) if len(metrics) == 1 else []
    means = [f"mean of {len(group)}" for group in groups]
    header = ["row", *means, *(f"{one} {SHORT[metric]}" for one in data for metric in metrics)]
    return table(
        [*header, "seeds", "made of", "trained on"],
        (_row(name, row, [known[one] for one in data], groups) for row, known in rows.items()),
    )


def _with_first_seed(line: Line) -> Iterator[Line]:
    """The line, and after that of the whole preset its seed 0 alone, which rows of one seed are to be compared with."""
    yield line
    if line.cell.row == WHOLE:
        first = tuple(one for one in line.stored if one.identity.seed == 0)
        yield Line(replace(line.cell, row=f"{WHOLE}, seed 0 alone"), first)


def _groups(rows: Sequence[Mapping[str, Line]], data: Sequence[str]) -> list[list[str]]:
    """The data that means are over: those of which every row has a result, and all of them where a row has them all."""
    common = [one for one in data if all(row[one].stored for row in rows)]
    has_all = any(all(line.stored for line in row.values()) for row in rows)
    groups = [common, list(data)] if has_all and len(common) < len(data) else [common]
    return [group for group in groups if len(group) > 1]


def _row(name: str, row: str, lines: Sequence[Line], groups: Sequence[Sequence[str]]) -> list[str]:
    metrics = TABLES[name].metrics
    figures = [spread([*line.by_seed(metric).values()]) for line in lines for metric in metrics]
    shared = [[line for line in lines if line.data in group] for group in groups]
    means = [_mean(group, metrics[0]) for group in shared]
    counts = [str(len(line.stored)) for line in (shared[0] if shared else lines)]
    machines = [", ".join(machines_of([line])) or "-" for line in lines]
    return [row, *means, *figures, _once(counts, ", "), made_of(lines[0].cell), _once(machines, "; ")]


def _once(texts: Sequence[str], mark: str) -> str:
    """One text for all where they are the same."""
    return mark.join(texts if len(set(texts)) > 1 else texts[:1])


def _mean(lines: Sequence[Line], metric: str) -> str:
    return spread(seed_means([line.by_seed(metric) for line in lines])) if all(line.stored for line in lines) else "-"


def made_of(cell: Cell) -> str:
    """The preset and what is set otherwise."""
    changed = {**cell.overrides, **cell.score}
    return ", ".join([f"`{cell.preset}`", *(f"{name} {plain(value)}" for name, value in changed.items())])


def page(stored: Mapping[str, Stored]) -> str:
    """What stands in docs/method.md: the table at each budget that has results, the trial of the runner left out."""
    known = current(stored)
    parts = [text for budget in BUDGETS if budget != "tiny" and (text := _part(budget, known))]
    return "\n\n".join([LEGEND, *parts] if parts else [NOT_RUN])


def _part(budget: str, stored: Mapping[str, Stored]) -> str | None:
    lines = all_lines("ablation", budget, stored)
    found = [line for line in lines if line.stored]
    if not found:
        return None
    shown = side_by_side("ablation", with_results(lines))
    parts = [f"Budget {budget}: {BUDGETS[budget].words}. {made(found)}", shown, waiting(lines)]
    return "\n\n".join(part for part in parts if part)
