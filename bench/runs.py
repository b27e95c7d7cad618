"""What a stored result is called, what it holds, and which cells have one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.budgets import settings
from bench.paper import MNIST, OCT, Cell, Settings
from bench.stored import read_result
from normbank.bundle import write_atomically
from normbank.config import GROUPS, completed

METRICS = ("image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "AUPRO", "brightness_AUROC")
CHOSEN_BY = ("image_AUROC", "pixel_AUROC", "AUPRO")  # measured on the selection set
SHIFTED = ("image_AUROC", "pixel_AUROC")  # measured again under a change of light, as "image_AUROC_shifted"
NEEDED = (
    *("settings", "context", "counts", "seconds_per_training_step", "seconds_per_image", "peak_memory_bytes"),
    *("parameters", "model_bytes", "threads"),
)
OF_CONTEXT = ("training_seconds", "evaluation_seconds", "training_device", "training_precision", "training_commit")
ABSENT_FILE = "_absent.json"  # data that were not there when cells were last run
# What says where a run was made or how its data lie, not what was trained.
CIRCUMSTANCE = frozenset(
    {
        *("train.seed", "train.threads", "train.device", "train.precision", "train.checkpoint_every"),
        *("data.format", "data.normal_dir", "data.abnormal_dir", "data.normal_test_dir", "data.mask_dir"),
        *("data.test_share", "data.split_seed", "data.normal_class"),
    }
)
FOLDERS = {MNIST: ("mnist",), OCT: ("oct", "OCT2017")}  # where data may lie, if not under their own name


@dataclass(frozen=True)
class Identity:
    """What makes two cells one: the same detector on the same data, whichever table asks for it."""

    data: str
    preset: str
    overrides: Settings
    score: Settings
    seed: int
    budget: str

    @property
    def slug(self) -> str:
        """A readable name of a file without its suffix, one for each identity."""
        changes = [_change(*one) for one in (*sorted(self.overrides.items()), *sorted(self.score.items()))]
        parts = [self.data.replace("/", "-"), self.preset, *changes, self.budget, f"seed{self.seed}"]
        return ".".join(parts)

    @property
    def training(self) -> Identity:
        """The same without its changes to scoring: what has to be trained."""
        return Identity(self.data, self.preset, self.overrides, {}, self.seed, self.budget)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in ("data", "preset", "overrides", "score", "seed", "budget")}

    @property
    def cell(self) -> Cell:
        """A cell of no table that asks for this."""
        return Cell("", "", self.data, self.preset, self.overrides, self.score, self.seed)


def _change(dotted: str, value: Any) -> str:
    """ "partitions=8-8-8-8" of "model.partitions", [8, 8, 8, 8]."""
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{dotted.rpartition('.')[2]}={re.sub(r'[^A-Za-z0-9_.-]', '_', text)}"


def identity(cell: Cell, budget: str) -> Identity:
    """Of a cell at a budget; the table and the row play no part."""
    return Identity(cell.data, cell.preset, cell.overrides, cell.score, cell.seed, budget)


@dataclass(frozen=True)
class Stored:
    """A cell's file.

    `metrics` are shares in 0..1 or None: METRICS, those of SHIFTED with "_shifted" behind, and what was measured on the
    selection set with "selection_" before, all None for a detector that held out nothing.
    """

    file: str
    identity: Identity
    metrics: Mapping[str, float | None]
    values: Mapping[str, Any]


def read_cells(folder: Path) -> dict[str, Stored]:
    """Every cell stored in a folder, by its slug; ValueError names a file that is not a cell's."""
    files = sorted(path for path in folder.glob("*.json") if not path.name.startswith("_"))
    read = (read_result(path, "python -m bench run", partial(_stored, path)) for path in files)
    return {one.identity.slug: one for one in read}


def _stored(path: Path, values: Mapping[str, Any]) -> Stored:
    own = Identity(**values["cell"])
    for name in NEEDED:
        values[name]
    for name in OF_CONTEXT:
        values["context"][name]
    values["context"]["machine"]["processor"]
    if values["budget"] != own.budget or path.stem != own.slug:
        raise ValueError(f"the cell {own.slug}")
    settings(own.cell, own.budget)
    return Stored(path.name, own, _metrics(values), values)


def _metrics(values: Mapping[str, Any]) -> dict[str, float | None]:
    selection = values.get("selection") or {}
    return {
        **{name: values["metrics"][name] for name in METRICS},
        **{f"{name}_shifted": values["metrics"].get(f"{name}_shifted") for name in SHIFTED},
        **{f"selection_{name}": selection.get(name) for name in CHOSEN_BY},
    }


def differences(found: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    """(name, found, own) of every setting that decides a result and differs; one newer than `found` had its default."""
    found = completed(found)
    names = ((group, name) for group in GROUPS for name in own[group])
    return tuple(
        (f"{group}.{name}", found[group][name], own[group][name])
        for group, name in names
        if f"{group}.{name}" not in CIRCUMSTANCE and found[group][name] != own[group][name]
    )


def is_current(stored: Stored) -> bool:
    """Whether it was made with the settings that its cell and budget have today."""
    own = settings(stored.identity.cell, stored.identity.budget).model_dump(mode="json")
    return not differences(stored.values["settings"], own)


def current(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """Those made with today's settings."""
    return {slug: one for slug, one in stored.items() if is_current(one)}


def data_folder(root: Path, data: str) -> Path | None:
    """Where "mvtec_ad/bottle" or "mnist/3" lies below `root`; None where it is not present."""
    group = data.partition("/")[0]
    places = FOLDERS.get(group, (data,))
    return next((root / place for place in places if (root / place).is_dir() and any((root / place).iterdir())), None)


def absent(folder: Path) -> set[str]:
    """The data that were not present when cells were last run."""
    path = folder / ABSENT_FILE
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else set()


def note_absent(folder: Path, present: Iterable[str], missing: Iterable[str]) -> None:
    """Remember what is not there, and forget of what is there that it was not."""
    before = absent(folder)
    now = (before - set(present)) | set(missing)
    if now != before:
        write_atomically(folder / ABSENT_FILE, json.dumps(sorted(now), indent=1).encode() + b"\n")
