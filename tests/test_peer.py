"""The peer with borrowed weights: what of it runs without anomalib."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normbank.data.open import open_dataset
from normbank.data.samples import Sample
from normbank.errors import DataError
from normbank.images import ImageSpec
from normbank.settings import Data

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO))
    from bench import peer

    return peer


def run(*arguments):
    command = [sys.executable, "-m", "bench.peer", *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60, check=False)


def test_help_needs_no_peer():
    done = run("--help")
    assert done.returncode == 0
    assert "normbank train" in done.stdout


def test_a_size_out_of_range_is_told():
    done = run("data", "--size", "3")
    assert done.returncode == 2
    assert "--size: expected 32 to 1024, got 3" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("anomalib") is not None, reason="anomalib is installed here")
def test_without_anomalib_it_says_so(tmp_path):
    done = run(str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "not installed here: anomalib" in done.stderr
    assert "bench/peer.py" in done.stderr
    assert not (tmp_path / "out").exists()


def test_shifts_are_within_five_percent_seeded_and_cut(peer):
    images = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (0, 100, 100, 255)])
    moved = peer.shifted(images)
    # default_rng(0) draws 0.637, 0.270, 0.041, 0.017 of the way from -5 % to 5 %: 3.5, -5.9, -11.7, -12.3 of 255
    assert moved[:, 0, 0, 0].tolist() == [3, 94, 88, 243]
    assert (moved == moved[:, :1, :1, :1]).all()
    assert (peer.shifted(np.zeros((9, 1, 1, 3), np.uint8)) <= 13).all()
    deep = peer.shifted(np.full((2, 1, 1, 1), 1000, np.uint16))  # of 65535: 898.2 and -1509
    assert deep.dtype == np.uint16
    assert deep.ravel().tolist() == [1898, 0]


def test_metrics_by_hand(peer):
    maps = np.zeros((3, 4, 4), np.float32)
    maps[1, 0, 0], maps[2, 1, 1] = 2, 1
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = True
    masks = [np.zeros((4, 4), bool), mask, None]  # the third image's pixels do not count
    found = peer.measure(maps.max(axis=(1, 2)), maps, np.array([0, 1, 1]), masks)
    assert found == dict.fromkeys(
        ("image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "AUPRO"), pytest.approx(1)
    )
    found = peer.measure(np.array([1, 0]), maps[:2], np.array([0, 1]), [np.zeros((4, 4), bool), None])
    assert (found["image_AUROC"], found["pixel_AUROC"], found["AUPRO"]) == (0, None, None)


def test_images_are_those_of_evaluate(peer, tiny_data, tmp_path):
    for folder, source in (("good", "train/good"), ("defect/one", "test/good")):  # a folder whose split is ours
        shutil.copytree(tiny_data / source, tmp_path / folder)
    again = tmp_path / "defect" / "one" / "again.png"
    shutil.copy(sorted((tmp_path / "good").iterdir())[0], again)
    dataset = open_dataset(tmp_path)
    shutil.copy(dataset.train[0].path, again)  # seen in training, so left out
    train, test, broken = peer._load(dataset, ImageSpec(16, 3, 8))
    assert set(train.samples) == set(dataset.train)
    assert set(test.samples) == {sample for sample in dataset.test if not sample.path.endswith("again.png")}
    assert test.pixels.shape == (len(test.samples), 16, 16, 3)
    assert broken == 0


def test_nothing_to_test_is_told(peer, tiny_data, tmp_path):
    shutil.copytree(tiny_data / "train" / "good", tmp_path / "good")
    with pytest.raises(DataError, match="no image left to train or to test on"):
        peer._load(open_dataset(tmp_path, Data(test_share=0)), ImageSpec(16, 3, 8))


def test_unmarked_masks_do_not_count(peer, tmp_path):
    spec = ImageSpec(4, 3, 8)
    for name, value in (("empty", 0), ("full", 255)):
        Image.new("L", (8, 8), value).save(tmp_path / f"{name}.png")
    assert peer.mask_of(Sample("a", 1, "kind", str(tmp_path / "empty.png")), spec) is None
    assert peer.mask_of(Sample("a", 1, "kind"), spec) is None
    assert peer.mask_of(Sample("a", 1, "kind", str(tmp_path / "full.png")), spec).all()
    assert peer.mask_of(Sample("a", 1, "kind", str(tmp_path / "gone.png")), spec) is None
    assert not peer.mask_of(Sample("a", 0, "good"), spec).any()
