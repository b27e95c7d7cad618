"""Saying in words what a detector is and what a machine has. No PyTorch is imported."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from . import machine
from .data.cache import open_cache
from .detector import Detector
from .errors import UserError
from .progress import printable

HIGHEST = 3  # held-out images that are named
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "deep": (("opencv-python-headless",), "16-bit colour images"),
    "evaluate": (("scipy", "matplotlib", "jinja2"), "normbank evaluate"),
    "train": (("torch", "lightning", "safetensors", "onnx", "onnxscript"), "normbank train"),
    "demo": (("scikit-image",), "normbank demo"),
}


def manifest_json(detector: Detector) -> str:
    """The whole manifest."""
    return json.dumps(detector.manifest, indent=1)


def about_model(detector: Detector, path: Path) -> Iterator[str]:
    """What one asks first of a model: from what, how, for what images, with what threshold."""
    made, spec = detector.manifest, detector.spec
    settings = made["settings"]
    yield f"{printable(str(path))}: {path.stat().st_size / 2**20:.1f} MiB, format {made['format_version']}"
    yield f"made       {made['created']} by normbank {made['versions'].get('normbank')}, commit {made['commit']}"
    yield f"preset     {settings['preset']}, {settings['train']['steps']} steps, seed {settings['train']['seed']}"
    source = f"{printable(made['data']['name'])} ({made['data']['fingerprint'][:12]})"
    yield f"trained on {made['data']['trained_on']} images of {source}"
    yield f"took       {made['training_seconds']:.0f} s on {made['device']}, {made['precision']}"
    yield f"images     {spec.size} x {spec.size}, {spec.channels} channels, {spec.bits} bits; others: {spec.fit}"
    if made.get("turned"):
        yield "turned     each image about its middle, until it lies as the good ones do"
    if made.get("moved"):
        yield "moved      each image, until it lies where the good ones do"
    yield f"network    {made['parameters'] / 1e6:.1f} M parameters, widths {settings['model']['widths']}"
    if "bank" in made:
        yield f"bank       {', '.join(f'{name} {share:.0%}' for name, share in made['bank'].items() if share)}"
    yield from _highest(detector)
    yield f"threshold  {_threshold(detector)}"
    yield from (f"           {remark}" for remark in _remarks(detector))


def after_training(detector: Detector, path: Path, data: Path) -> Iterator[str]:
    """What one asks once it is there: the threshold, what it promises, and what to do next."""
    yield from _highest(detector)
    yield f"threshold  {_threshold(detector)}"
    yield from _remarks(detector)
    command = f"normbank evaluate {shlex.quote(str(path))} {shlex.quote(str(data))}"
    yield f"next       {printable(command)} where it holds defects; normbank predict for new images"


def _remarks(detector: Detector) -> list[str]:
    """What there is to say of the threshold."""
    return [remark for remark in (detector.calibration.note, detector.threshold_note) if remark]


def _highest(detector: Detector) -> Iterator[str]:
    """Which held-out images the threshold comes from: one among them that is not good lets defects pass."""
    data = detector.manifest["data"]
    scored = zip(data.get("held_out_scores", ()), data["held_out"], strict=False)  # earlier versions kept no scores
    highest = [f"{printable(name)} {score:.3g}" for score, name in sorted(scored, reverse=True)[:HIGHEST]]
    if highest:
        yield f"highest    {', '.join(highest)}, of those held out: if one is not good, train without it"


def _threshold(detector: Detector) -> str:
    known = detector.calibration
    if known.threshold is None:
        return "none"
    held_out = f"{len(known.scores)} held-out good images"
    return f"{known.threshold:.6g}, from {held_out}, false-alarm rate {known.promised_rate:.2%}"


def about_machine() -> Iterator[str]:
    """What is here and what will be used, a line each; what is missing says how to get it."""
    found = machine.versions()
    told = machine.describe()
    yield f"system     {told['system']}, Python {found.pop('python')}"
    yield f"processor  {told['processor']}, {told['processors']} processors for this process"
    yield f"bfloat16   {'yes: training on 8-bit images uses it' if told['bf16'] else 'no: training uses 32 bits'}"
    yield f"device     {_device()}"
    yield f"packages   {', '.join(f'{name} {version}' for name, version in found.items())}"
    yield f"cache      {_cache()}"
    for name, (packages, use) in EXTRAS.items():
        if missing := [package for package in packages if package not in machine.versions(package)]:
            yield f"missing    {', '.join(missing)}, for {use}: pip install '.[{name}]' in normbank's folder"


def _cache() -> str:
    """Where it is, or why there is none: everything else is worth telling, too."""
    try:
        cache = open_cache()
        files, size = cache.usage()
        there = next(parent for parent in (cache.folder, *cache.folder.parents) if parent.exists())
        if not there.is_dir():
            return f"none: {printable(str(cache.folder))} cannot be made; NORMBANK_CACHE can name a folder"
        room = f"{shutil.disk_usage(there).free / 2**30:.0f} GiB free on the disk"
    except (OSError, UserError) as error:
        return f"none: {error}"
    return f"{printable(str(cache.folder))}: {files} images, {size / 2**20:.0f} MiB; {room}"


def _device() -> str:
    """The device training would use. Asking PyTorch takes seconds, so a GPU is told by its driver."""
    if os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi"):
        return "an NVIDIA driver is present: training uses the GPU if PyTorch is a CUDA build"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "Apple's GPU where PyTorch finds it (train.device=cpu keeps to the processor)"
    return "the processor (no NVIDIA driver)"
