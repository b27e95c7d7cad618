"""A data set and settings so small that a detector is trained in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from normbank.bundle import Bundle
from normbank.config import Config
from normbank.data.samples import Dataset, Sample
from normbank.presets import preset

SIDE = 48
KINDS = ("scratch", "spot")
SETTINGS = {
    "data.size": 32,
    "data.fit": "stretch",
    "data.held_out": 0.1,
    "data.held_out_min": 20,
    "model.widths": (4, 8, 8),
    "model.memory_levels": 2,
    "model.partitions": (4, 4),
    "model.items": (5, 5),
    "train.steps": 3,
    "train.batch_size": 4,
    "train.precision": "32",
    "train.device": "cpu",
    "train.threads": 1,
}


def tiny_config(**more: object) -> Config:
    """The settings of `tiny_model`; `train__steps=5` changes one."""
    return preset("paper-small", {**SETTINGS, **{name.replace("__", "."): value for name, value in more.items()}})


def weave(seed: int, side: int = SIDE) -> np.ndarray:
    """A woven texture with noise of its own: [side, side, 3] uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    height = 35 * np.sin(rows / 2.5 + rng.uniform(0, 6)) + 25 * np.sin(columns / 3 + rng.uniform(0, 6))
    return (height[..., None] + rng.normal(0, 5, (side, side, 3)) + (150, 120, 90)).clip(0, 255).astype(np.uint8)


def defective(seed: int, kind: str, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A texture with a dark line or a bright square in it, and its mask [side, side] uint8, 255 where it is."""
    image, mask = weave(seed, side), np.zeros((side, side), np.uint8)
    at = 8 + seed % 20
    if kind == "scratch":
        mask[at : at + 4, 6:42] = 255
    else:
        mask[at : at + 12, at : at + 12] = 255
    image[mask > 0] = 10 if kind == "scratch" else 250
    return image, mask


def planes(pixels: np.ndarray) -> torch.Tensor:
    """Images [N, S, S, C] as a network has them: float32 [N, C, S, S]."""
    return torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)


def good_ones(folder: Path, pixels: Iterable[np.ndarray]) -> Dataset:
    """A data set of good images [S, S] or [S, S, 3], saved in `folder`, none to test."""
    paths = [save(folder / f"{number:02d}.png", image) for number, image in enumerate(pixels)]
    return Dataset(folder.name, "folder", str(folder), tuple(Sample(str(path), 0, "good") for path in paths), ())


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write an array as an image, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_tiny(root: Path, train: int = 24, test: int = 6, each_kind: int = 4, side: int = SIDE) -> Path:
    """An MVTec AD tree: train/good, test/good, test/scratch, test/spot, ground_truth; returns `root`."""
    for number in range(train):
        save(root / "train" / "good" / f"{number:03d}.png", weave(number, side))
    for number in range(test):
        save(root / "test" / "good" / f"{number:03d}.png", weave(1000 + number, side))
    for base, kind in enumerate(KINDS, start=2):
        for number in range(each_kind):
            image, mask = defective(1000 * base + number, kind, side)
            save(root / "test" / kind / f"{number:03d}.png", image)
            save(root / "ground_truth" / kind / f"{number:03d}_mask.png", mask)
    return root


def without_parts(bundle: Bundle) -> Bundle:
    """The detector as it was written before its graph told the parts of the map."""
    import onnx

    model = onnx.load_model_from_string(bundle.graph)
    kept = [output for output in model.graph.output if output.name != "parts"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    manifest = {**bundle.manifest, "settings": {**bundle.manifest["settings"], "score": {"delta_h": 0.5}}}
    return replace(bundle, manifest=manifest, graph=model.SerializeToString())
