"""A tree of MVTec AD with every image turned or moved, its mask likewise."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import save

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench.displaced import KINDS, displace, main  # noqa: E402
from normbank.data.open import open_dataset  # noqa: E402
from normbank.settings import Data  # noqa: E402


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One good image to train on, one to test, and one with a white mark and its mask."""
    marked = np.full((32, 32, 3), 90, np.uint8)
    marked[4:10, 14:20] = 255
    for name in ("train/good/000.png", "test/good/000.png"):
        save(tmp_path / "part" / name, np.full((32, 32, 3), 90, np.uint8))
    save(tmp_path / "part/test/spot/000.png", marked)
    save(tmp_path / "part/ground_truth/spot/000_mask.png", (marked[..., 0] > 200).astype(np.uint8) * 255)
    return tmp_path / "part"


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_and_mark_are_displaced_alike_and_by_the_seed(kind: str, tree: Path, tmp_path: Path) -> None:
    assert displace(kind, tree, tmp_path / "one") == displace(kind, tree, tmp_path / "again") == 3
    image, mask = (read(tmp_path / "one" / name) for name in ("test/spot/000.png", "ground_truth/spot/000_mask.png"))
    assert image.shape == (32, 32, 3)
    assert set(np.unique(mask)) == {0, 255}
    assert not np.array_equal(mask, read(tree / "ground_truth/spot/000_mask.png"))
    assert image[mask == 255].mean() > 220
    assert image[mask == 0].mean() < 100
    assert np.array_equal(image, read(tmp_path / "again/test/spot/000.png"))


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_is_displaced_in_its_own_way(kind: str, tree: Path, tmp_path: Path) -> None:
    marked = read(tree / "test/spot/000.png")
    for name in ("train/good/001.png", "train/good/002.png"):
        save(tree / name, marked)
    displace(kind, tree, tmp_path / "out")
    one, other = (read(tmp_path / "out" / name) for name in ("train/good/001.png", "train/good/002.png"))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_data_set_as_before(kind: str, tree: Path, tmp_path: Path) -> None:
    displace(kind, tree, tmp_path / "out")
    found = open_dataset(tmp_path / "out", Data())
    assert (found.format, len(found.train), len(found.test)) == ("mvtec", 1, 2)
    assert sum(sample.mask is not None for sample in found.test) == 1


def test_the_command(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["moved", str(tree), str(tmp_path / "moved")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'moved'}: 3 images\n"
    wrong = {
        ("moved", str(tree), str(tmp_path / "moved")): "expected no such folder yet",
        ("turned", str(tmp_path / "none"), str(tmp_path / "other")): "expected the folder of a category of MVTec AD",
    }
    for arguments, message in wrong.items():
        assert main([*arguments]) == 2
        assert message in capsys.readouterr().err
