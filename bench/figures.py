"""`python -m bench figures`: Figures 5 to 9 from stored models and cells, as PNG, SVG and a JSON of where from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.budgets import BUDGETS
from bench.figure_charts import depths, shares
from bench.figure_pictures import PICTURES, Gallery
from bench.figure_style import Made, save
from bench.paper import TABLES
from bench.runner import Places
from bench.runs import Stored, current, read_cells
from normbank import machine

CHARTS = {"fig8": shares, "fig9": depths}
PARTS = (*PICTURES, *CHARTS)  # what is a file of its own: figure 6 has two
FIGURES = tuple(dict.fromkeys(name.partition("-")[0] for name in PARTS))


def figures(
    names: Sequence[str], budget: str, places: Places, out: Path, say: Callable[[str], None] = print
) -> list[Path]:
    """Make the named figures (all, if none is) of what is stored at a budget; returns the files written in `out`.

    What is missing is told and left out. ValueError for a figure there is none of, and where nothing at all is stored.
    """
    if unknown := [name for name in names if name not in (*FIGURES, *PARTS)]:
        raise ValueError(f"figure {unknown[0]!r}: expected one of {', '.join(FIGURES)}")
    asked = [name for name in PARTS if not names or {name, name.partition("-")[0]} & set(names)]
    gallery = Gallery(places.data, places.work, budget)
    stored = current(read_cells(places.results)) if any(name in CHARTS for name in asked) else {}
    written: list[Path] = []
    for name in asked:
        made = make(name, gallery, stored)
        if isinstance(made, Made):
            title = TABLES[name.partition("-")[0]].title
            facts = {"figure": name, "title": title, "budget": budget, "drawn_at_commit": machine.commit()}
            paths = save(made, out / f"{name}.{budget}", facts)
            written += paths
            say(f"{name}: {', '.join(path.name for path in paths)} from {len(made.sources)} runs")
        else:
            say(f"{name}: left out, nothing is stored at budget {budget}")
        for line in told(made.missing if isinstance(made, Made) else made):
            say(f"  {line}")
    if not written:
        raise ValueError(_nothing(asked, budget, places))
    return written


def make(name: str, gallery: Gallery, stored: Mapping[str, Stored]) -> Made | Mapping[str, str]:
    """One figure; or what is missing and why, where it can show nothing."""
    if name in CHARTS:
        return CHARTS[name](gallery.budget, stored)
    gallery.missing = {}
    return PICTURES[name](gallery)


def told(missing: Mapping[str, str]) -> Iterator[str]:
    """What is missing, a line for each reason."""
    for why in dict.fromkeys(missing.values()):
        yield f"{why}: {'; '.join(what for what, reason in missing.items() if reason == why)}"


def _nothing(asked: Sequence[str], budget: str, places: Places) -> str:
    names = dict.fromkeys(name.partition("-")[0] for name in asked)
    commands = "\n".join(f"  python -m bench run {name} --budget {budget}" for name in names)
    slugs = [path.parent.name for path in places.work.glob("*/model.nbk")]
    slugs += [path.stem for path in places.results.glob("*.json")]
    stored = {part for slug in slugs for part in slug.split(".")[-2:-1]}
    others = [f"--budget {name}" for name in BUDGETS if name != budget and name in stored]
    hint = f"\nSomething is stored at another budget: {' or '.join(others)}." if others else ""
    return f"nothing is stored of {', '.join(names)} at budget {budget}. Run first:\n{commands}{hint}"
