"""The main job on real images: what is committed as measured comes out again."""

from __future__ import annotations

from pathlib import Path

import pytest

import normbank
from normbank.data.open import open_dataset
from normbank.evaluation import evaluate
from normbank.fitting import fit
from normbank.presets import preset


@pytest.mark.slow
@pytest.mark.data
def test_fast_finds_the_defects_of_bottles(real_data: Path, tmp_path: Path) -> None:
    """Measured: 99.6 to 99.7 by image, 98.2 to 98.3 by pixel (bench/README.md, three seeds)."""
    config = preset("fast")
    dataset = open_dataset(real_data / "mvtec_ad" / "bottle", config.data)
    found = evaluate(normbank.load(fit(config, dataset, tmp_path, quiet=True)), dataset)
    assert found.metrics["image_AUROC"] > 0.99
    assert found.metrics["pixel_AUROC"] > 0.975
    assert found.metrics["AUPRO"] > 0.92
