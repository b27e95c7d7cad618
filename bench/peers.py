"""The stored results of `bench/peer.py`: detectors with borrowed weights, for comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METRICS = ("image_AUROC", "pixel_AUROC", "AUPRO", "image_AUROC_shifted")
_TOLD = ("fitting_seconds", "fitting_cpu_seconds", "backbone", "machine", "notes")


@dataclass(frozen=True)
class Peer:
    """A peer on one data set. `metrics` are shares in 0..1 or None; `values` is all of its file."""

    name: str
    data: str
    metrics: Mapping[str, float | None]
    values: Mapping[str, Any]

    @property
    def weights(self) -> str:
        """What its weights were learnt from."""
        return str(self.values["backbone"]["weights"])

    @property
    def fitting(self) -> str:
        """How long it was fitted, by the clock and of processor time, and where."""
        values = self.values
        clock, cpu = values["fitting_seconds"], values["fitting_cpu_seconds"]
        return f"{clock:.1f} s ({cpu:.1f} s of processor time), {values['machine']['processor']}"

    @property
    def cost(self) -> str:
        """What the weights cost in licence and channels, and what its seconds count."""
        notes, backbone = self.values["notes"], self.values["backbone"]
        told = "; ".join(str(notes[name]).rstrip(".") for name in ("licence", "channels"))
        return f"{self.name} stands on {backbone['name']}. {told}. Its seconds: {notes['seconds']}."


def read_peers(folder: Path) -> list[Peer]:
    """Every `*.json` in the folder, by name; ValueError names one that is no peer's."""
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def _read(path: Path) -> Peer:
    expected = "expected what `python -m bench.peer` writes"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        metrics = {name: values["metrics"][name] for name in METRICS}
        peer = Peer(values["peer"], values["data_name"], metrics, {name: values[name] for name in _TOLD})
        _ = peer.weights, peer.fitting, peer.cost
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {expected}, got {type(error).__name__} {error}") from None
    wrong = [name for name, value in metrics.items() if value is not None and not 0 <= value <= 1]
    if wrong:
        raise ValueError(f"{path}: {expected}, got {wrong[0]} {metrics[wrong[0]]}, which is not in 0..1")
    return peer
