"""The demonstration: three textures, three detectors, three reports and a page that leads to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from . import detector as detectors
from .config import Config
from .data.cache import open_cache
from .data.demo import SIZE, make_demo
from .data.files import ensure_no_loss
from .data.open import open_dataset
from .fitting import fit
from .identity import OtherRunError
from .judging import judge
from .presets import preset
from .report.contents import PAGE_START, Entry, write_contents

TEXTURES = ("brick", "gravel", "grass")
ABOUT = (
    "Photographs from scikit-image, one detector each, trained on crops of the photograph's upper and lower "
    "parts and tested on its middle, where defects were drawn on some of the crops."
)


def demo_config(quick: bool = False) -> Config:
    """`fast` at the size of the photographs' crops; longer, so that there is a reconstruction to look at."""
    return preset("fast", {"data.size": SIZE, "train.steps": 20 if quick else 200, "train.batch_size": 5})


def run_demo(out: Path, *, quick: bool = False, say: Callable[[str], None] = print) -> Path:
    """Make the data, train, evaluate and report under `out`; returns the page to open.

    What an interrupted run finished is kept. Raises the classes of `errors`.
    """
    ensure_no_loss(out / "index.html", PAGE_START)
    say("photographs: brick, gravel and grass from scikit-image; defects are drawn on parts that training never sees")
    again = (out / "data").exists()  # what lies beside it is of an earlier demonstration
    data = make_demo(out / "data")
    chosen = TEXTURES[:1] if quick else TEXTURES
    entries = []
    for texture in chosen:
        say(f"\n{texture}")
        metrics = _one(data / texture, out / texture, demo_config(quick), say, again)
        entries.append(Entry(texture, f"{texture}/report/index.html", metrics))
    page = write_contents(out / "index.html", "normbank: the demonstration", ABOUT, entries)
    say(f"\nopen {page}")
    return page


def _one(data: Path, out: Path, config: Config, say: Callable[[str], None], again: bool) -> dict[str, float | None]:
    dataset, cache = open_dataset(data, config.data), open_cache(out.parent / "cache")
    try:
        model = fit(config, dataset, out, resume=True, cache=cache)
    except OtherRunError:  # a quick look before the whole, or an older version's; or someone's own
        if not again:
            raise
        model = fit(config, dataset, out, overwrite=True, cache=cache)
    for line in judge(detectors.load(model), dataset, json_file=out / "evaluation.json", report=out / "report"):
        say(line)
    metrics: dict[str, float | None] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["metrics"]
    return metrics
