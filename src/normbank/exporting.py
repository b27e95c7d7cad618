"""Taking the ONNX graph out of a detector file. No PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

from .bundle import ensure_writable, write_together
from .data.files import ensure_no_loss
from .detector import Detector


def export_files(detector: Detector, out: Path) -> list[Path]:
    """Write `out/model.onnx` and `out/manifest.json`.

    BundleError where the folder cannot be written, UserError where it holds such files that are no earlier export.
    The graph takes `image` [N, S, S, C] uint8 or uint16 and gives `pred_score` [N], `anomaly_map` [N, 1, S, S],
    `reconstruction` [N, S, S, C] and `parts` [N, P, S, S], what the map is the sum of; the threshold is
    `calibration.threshold` in the manifest.
    """
    parts = {
        "manifest.json": json.dumps(detector.manifest, indent=1).encode() + b"\n",  # first: it is known as ours
        "model.onnx": detector.graph,
    }
    ensure_no_loss(out / "manifest.json", b'{\n "format_version": ')
    if (out / "model.onnx").exists() and not (out / "manifest.json").is_file():
        ensure_no_loss(out / "model.onnx", b"")  # another's
    for name in reversed(parts):  # before the first of them is replaced
        ensure_writable(out / name)
    write_together({out / name: content for name, content in parts.items()})
    return [out / name for name in reversed(parts)]
