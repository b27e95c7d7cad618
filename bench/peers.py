"""The stored results of `bench/peer.py`: detectors with borrowed weights, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.stored import read_result

METRICS = ("image_AUROC", "pixel_AUROC", "AUPRO", "image_AUROC_shifted")
_TOLD = ("fitting_seconds", "fitting_cpu_seconds", "size", "backbone", "machine", "notes")


@dataclass(frozen=True)
class Peer:
    """A peer on one data set. `metrics` are shares in 0..1 or None; `values` is all of its file."""

    name: str
    data: str
    metrics: Mapping[str, float | None]
    values: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Its name and the size of the images that it saw."""
        return f"{self.name}, {self.values['size']} px"

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
        told += f". It learnt from {str(notes['training']).rstrip('.')}"
        seconds = "by the clock, decoding not counted; where others slowed the machine, the processor time tells more"
        return f"{self.name} stands on {backbone['name']}. {told}. Its seconds are {seconds}."


def read_peers(folder: Path) -> list[Peer]:
    """Every `*.json` in the folder, by name; ValueError names one that is no peer's."""
    return [read_result(path, "python -m bench.peer", _peer) for path in sorted(folder.glob("*.json"))]


def _peer(values: Mapping[str, Any]) -> Peer:
    metrics = {name: values["metrics"][name] for name in METRICS}
    peer = Peer(values["peer"], values["data_name"], metrics, {name: values[name] for name in _TOLD})
    _ = peer.weights, peer.fitting, peer.cost  # whether all they need is there
    return peer
