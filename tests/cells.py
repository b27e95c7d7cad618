"""Stored cells as `python -m bench run` writes them, made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from normbank import machine

NAMES = ("image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "AUPRO", "brightness_AUROC")


def cell_values(own: Any, settings: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The content of the file of the identity `own`; metrics are 0.5 unless given."""
    context = {
        "training_seconds": 60.0,
        "evaluation_seconds": 20.0,
        "training_device": "a processor",
        "training_precision": "32-true",
        "training_commit": "abc123",
        "machine": machine.describe(),
    }
    return {
        "cell": own.to_dict(),
        "budget": own.budget,
        "settings": settings,
        "metrics": {**dict.fromkeys(NAMES, 0.5), **values.pop("metrics", {})},
        "reasons": {},
        "counts": {"good": 20, "anomalous": 60, "with_mask": 60, "left_out": 0},
        "context": {**context, **values.pop("context", {})},
        "seconds_per_training_step": 0.25,
        "peak_memory_bytes": 512 * 2**20,
        "seconds_per_image": 0.0125,
        "parameters": 3_500_000,
        "model_bytes": 5 * 2**20,
        "threads": machine.cpu_count(),
        **values,
    }


def put_cell(folder: Path, cell: Any, budget: str = "quick", **values: Any) -> Path:
    """Store a made-up result of a cell in `folder`."""
    from bench.budgets import settings
    from bench.runs import identity

    own = identity(cell, budget)
    content = cell_values(own, settings(cell, budget).model_dump(mode="json"), **values)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{own.slug}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def put_peer(folder: Path, data: str = "bottle", **values: Any) -> Path:
    """Store a made-up result of `bench/peer.py` in `folder`; metrics are 0.5 unless given."""
    metrics = dict.fromkeys(("image_AUROC", "pixel_AUROC", "AUPRO", "image_AUROC_shifted"), 0.5)
    content = {
        "peer": "PaDiM",
        "data_name": data,
        "metrics": {**metrics, **values.pop("metrics", {})},
        "fitting_seconds": 4.04,
        "fitting_cpu_seconds": 7.5,
        "size": 128,
        "backbone": {"name": "a_network", "weights": "ImageNet"},
        "machine": {"processor": "a processor"},
        "notes": {
            "licence": "research only",
            "channels": "takes three",
            "training": "all images",
            "seconds": "by the clock",
        },
        **values,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"padim-{data}-{content['size']}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
