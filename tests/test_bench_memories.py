"""`python -m bench.memories`: places or patches, on good images that were moved about."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import weave

from normbank.batches import as_batches
from normbank.metrics import auroc
from normbank.model.bank import Bank, Shares
from normbank.presets import preset
from normbank.residual import finish

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import memories, report, selection  # noqa: E402

SMALL = preset("fast", {"data.size": 32, "model.partitions": [2, 2, 2, 2], "model.patches": 300})


def good(count, first=0):
    return np.stack([weave(seed, 32) for seed in range(first, first + count)])


def test_a_shift_moves_each_image_by_at_most_three_of_32_pixels_and_mirrors_the_border():
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, None, :, None], (40, 32, 32, 2)).copy()
    moved = memories.shifted(ramp)
    assert (moved.shape, moved.dtype) == (ramp.shape, ramp.dtype)
    by = moved[:, 0, 16, 0].astype(int) - 16
    assert set(by) == {-3, -2, -1, 0, 1, 2, 3}
    wanted = np.arange(32) + by[:, None]
    wanted = np.where(wanted < 0, -wanted, np.where(wanted > 31, 62 - wanted, wanted))
    assert (moved == wanted[:, None, :, None]).all()
    assert (memories.shifted(ramp) == moved).all()
    down = memories.shifted(ramp.swapaxes(1, 2))
    assert len(set(down[:, 16, 0, 0])) == 7


def test_a_turn_keeps_what_is_round_and_moves_what_is_not():
    rows, columns = np.mgrid[:32, :32] - 15.5
    ring = (100 + 100 * np.cos(np.hypot(rows, columns) / 6)).astype(np.uint16)[None, ..., None]
    inside = np.hypot(rows, columns) < 14
    moved = memories.turned(np.repeat(ring, 5, axis=0)).astype(int)
    assert np.abs(moved - ring)[:, inside].max() < 5
    images = good(5)
    apart = np.abs(memories.turned(images).astype(int) - images)[:, inside].mean(axis=(1, 2))
    assert memories.turned(images).dtype == images.dtype
    assert (apart > 3).all()


def by_the_bank_itself(shares, train, held_out):
    """Image AUROC as the package's own bank gives it when it is settled on `shares`."""
    made = selection.make(held_out)
    bank = Bank(3, 32, SMALL.model.bank, SMALL.model.patches)
    bank.learn(as_batches(train, 20), len(train))
    (seen,) = as_batches(held_out, len(held_out))
    both = [float(memory(described(seen)).mean()) for memory in (bank.places, bank.patches)]
    bank.settle(Shares(*shares), Shares(*both))
    pixels = np.concatenate([held_out, [one.pixels for one in made]])
    with torch.no_grad():
        found = torch.cat([bank(batch) for batch in as_batches(pixels, 20)])
    maps = torch.nn.functional.interpolate(found / (1 + found), size=(32, 32), mode="bilinear")
    return auroc(finish(maps, SMALL.score)[1].numpy(), np.repeat([0, 1], [len(held_out), len(made)]))


def described(seen):
    from normbank.descriptors import describe

    return describe(seen)


def test_the_metrics_are_those_of_the_bank_itself():
    train, held_out = good(30), good(20, 100)
    found = memories.compare(train, held_out, SMALL)
    assert found["counts"] == {"trained": 30, "good": 20, "defective": 60}
    assert found["chosen"] in memories.SHARES
    for name, shares in memories.SHARES.items():
        wanted = by_the_bank_itself(shares, train, held_out)
        assert found["found"][name]["image_AUROC"] == pytest.approx(wanted, abs=0.002), name
        assert 0.5 < found["found"][name]["pixel_AUROC"] <= 1


def test_a_set_a_file_and_a_row_of_the_report(tiny_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memories, "preset", lambda name, _: {"fast": SMALL}[name])
    assert memories.main([str(tiny_data), "--shifted", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-shifted.json"]
    values = json.loads((tmp_path / "tiny-shifted.json").read_text())
    assert (values["data_name"], values["moved"], values["seed"]) == ("tiny", "shifted", selection.SEED)
    assert {"seconds", "machine", "versions", "commit", "settings"} <= set(values)
    (tmp_path / "another.json").write_text(json.dumps({**values, "moved": "as-is"}))
    assert "tiny-shifted.json" in capsys.readouterr().out
    judged = memories.read(tmp_path)
    assert [one.moved for one in judged] == ["as-is", "shifted"]
    image, pixel, aupro = (f"{100 * values['found']['places'][name]:.1f}" for name in memories.METRICS)
    assert f"| tiny | shifted | {image} / {pixel} / {aupro} |" in report.page([], judged=judged)
    assert "Places or patches" not in report.page([])


def test_a_wrong_path_and_a_wrong_file_are_told(tmp_path, capsys):
    assert memories.main([str(tmp_path / "nothing")]) == 2
    assert "bench.memories: " in capsys.readouterr().err
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json: expected what `python -m bench\.memories` writes"):
        memories.read(tmp_path)
