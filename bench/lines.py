"""A table's rows on their data, with what is stored of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.paper import Cell, cells, short
from bench.runs import Stored, identity
from bench.text import mean

NAMES = {
    "image_AUROC": "image AUROC",
    "image_AP": "image AP",
    "pixel_AUROC": "pixel AUROC",
    "pixel_AP": "pixel AP",
    "AUPRO": "AUPRO",
    "brightness_AUROC": "brightness alone",
    "image_AUROC_shifted": "image AUROC, light shifted",
    "selection_image_AUROC": "image AUROC, made defects",
}


@dataclass(frozen=True)
class Line:
    """A table's row on one data set: its stored cells, one a seed, all of one budget."""

    cell: Cell
    stored: tuple[Stored, ...]

    @property
    def data(self) -> str:
        """The data as the table calls them."""
        return data_name(self.cell.data)

    def by_seed(self, metric: str) -> dict[int, float | None]:
        """The metric of each seed."""
        return {one.identity.seed: one.metrics[metric] for one in self.stored}


def data_name(data: str) -> str:
    """ "bottle" of "mvtec_ad/bottle", "mnist 3" of "mnist/3"."""
    return data.replace("/", " ") if data.startswith("mnist") else short(data)


def all_lines(name: str, budget: str, stored: Mapping[str, Stored]) -> list[Line]:
    """A line for each row and data of a table, with the stored cells of all their seeds."""
    seeds = sorted({one.identity.seed for one in stored.values()})
    return [_line(cell, budget, seeds, stored) for cell in cells(name, seeds=[0])]


def _line(cell: Cell, budget: str, seeds: Sequence[int], stored: Mapping[str, Stored]) -> Line:
    """ValueError where the seeds were tested on unlike numbers of images: their data were not the same."""
    slugs = (identity(replace(cell, seed=seed), budget).slug for seed in seeds)
    found = tuple(stored[slug] for slug in slugs if slug in stored)
    tested = {(one.values["counts"]["good"], one.values["counts"]["anomalous"]) for one in found}
    if len(tested) > 1:
        told = " and ".join(f"{good} good and {bad} anomalous" for good, bad in sorted(tested))
        raise ValueError(f"{found[0].file} and its other seeds: tested on {told}. Run them again on the same data.")
    return Line(cell, found)


def with_results(lines: Sequence[Line]) -> list[Line]:
    """The lines whose row has a result on some data, and whose data have one in some row."""
    rows = {line.cell.row for line in lines if line.stored}
    data = {line.cell.data for line in lines if line.stored}
    return [line for line in lines if line.cell.row in rows and line.cell.data in data]


def waiting(lines: Sequence[Line]) -> str:
    """The rows that have no result on any data, in a sentence; "" where there is none."""
    run = {line.cell.row for line in lines if line.stored}
    rest = [row for row in dict.fromkeys(line.cell.row for line in lines) if row not in run]
    return f"Rows not run: {'; '.join(rest)}." if rest else ""


def seed_means(values: Sequence[Mapping[int, float | None]]) -> list[float | None]:
    """The mean over data for each seed that all of them have; none where no seed is common or a value is missing."""
    common = sorted(set.intersection(*(set(one) for one in values)))
    found: list[float | None] = []
    for seed in common:
        known = [value for one in values if (value := one[seed]) is not None]
        found.append(mean(known) if len(known) == len(values) else None)
    return found


def common(lines: Sequence[Line]) -> list[Stored]:
    """The stored cells of the seeds that all of the lines have."""
    seeds = set.intersection(*({one.identity.seed for one in line.stored} for line in lines))
    return [one for line in lines for one in line.stored if one.identity.seed in seeds]


def machines_of(lines: Sequence[Line]) -> list[str]:
    """Where the stored cells of the lines were trained, with the precision, each once."""
    contexts = [one.values["context"] for line in lines for one in line.stored]
    return sorted({f"{known['training_device']} ({known['training_precision']})" for known in contexts})


def made(found: Sequence[Line]) -> str:
    """Where and from which commits the stored cells of the lines were trained, in a sentence or two."""
    commits = sorted({str(one.values["context"]["training_commit"]) for line in found for one in line.stored})
    text = f"Trained on {', '.join(machines_of(found))}; commits {', '.join(commits)}."
    networks = {one.values.get("network_commit") for line in found for one in line.stored} - {None}
    if not networks:
        return text
    return (
        f"{text} Of some the bank alone was made anew there: their networks were trained at "
        f"{', '.join(sorted(networks))}, and the seconds are of that training."
    )
