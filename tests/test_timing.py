"""The seconds of a training step: measured on real steps, and nothing left changed."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from tiny import tiny_config

from normbank import machine, timing
from normbank.config import Config
from normbank.errors import TrainingError
from normbank.model.network import Network
from normbank.model.objective import Batch, objective
from normbank.timing import seconds_per_step

EVERYTHING = {
    "model__head_width": 2,
    "model__critic_width": 2,
    "train__corrupt": 0.5,
    "train__jitter": 0.1,
    "train__adversarial_weight": 0.1,
    "train__entropy_weight": 0.1,
}


class Steps:
    """The objective, with a note of every step; each takes `pause` seconds more, the first ten times as much."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.batches: list[Batch] = []
        self.networks: list[Network] = []
        self.threads: list[int] = []
        self.half: list[bool] = []

    def __call__(self, network: Network, batch: Batch, known: object) -> torch.Tensor:
        self.batches.append(batch)
        self.networks.append(network)
        self.threads.append(torch.get_num_threads())
        self.half.append(torch.is_autocast_enabled("cpu"))
        time.sleep(self.pause * (10 if len(self.batches) == 1 else 1))
        return objective(network, batch, known)  # type: ignore[arg-type]


def watched(monkeypatch: pytest.MonkeyPatch, config: Config, pause: float = 0.0, **more: int) -> tuple[float, Steps]:
    steps = Steps(pause)
    monkeypatch.setattr(timing, "objective", steps)
    return seconds_per_step(config, more.pop("channels", 3), **more), steps


@pytest.mark.parametrize(("channels", "bits", "more"), [(3, 8, {}), (1, 16, {}), (5, 8, EVERYTHING)])
def test_it_takes_real_steps_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, channels: int, bits: int, more: dict[str, object]
) -> None:
    seconds, steps = watched(monkeypatch, tiny_config(**more), channels=channels, bits=bits)
    assert 0 < seconds < 5
    assert len(steps.batches) == 3
    assert len(set(map(id, steps.networks))) == 1
    for batch in steps.batches:
        assert batch.inputs.shape == batch.targets.shape == (4, channels, 32, 32)
        assert 0 <= batch.inputs.min() < 0.2
        assert 0.8 < batch.inputs.max() <= 1
        if bits == 16:
            values = batch.inputs.numpy() * 65535
            assert np.allclose(values, np.rint(values), atol=0.01)
            assert len(np.unique(values)) > 3000
    network = steps.networks[0]
    assert (network.head is not None, network.critic is not None) == ((True, True) if more else (False, False))


def test_it_is_the_mean_of_the_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def clock() -> float:
        return now[0]

    def step(network: Network, batch: Batch, known: object) -> torch.Tensor:
        now[0] += spent.pop(0)
        return objective(network, batch, known)  # type: ignore[arg-type]

    spent = [100.0, 3.0, 4.0]
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    monkeypatch.setattr(timing, "objective", step)
    assert seconds_per_step(tiny_config(), 3) == 3.5


def test_a_slower_step_is_told_as_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, _ = watched(monkeypatch, tiny_config(), pause=0.05)
    assert 0.05 < seconds < 5


def test_the_steps_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def step(network: Network, batch: Batch, known: object) -> torch.Tensor:
        seen.append(network.state_dict()["autoencoder.head.weight"].clone())
        return objective(network, batch, known)  # type: ignore[arg-type]

    monkeypatch.setattr(timing, "objective", step)
    seconds_per_step(tiny_config(), 3)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (3, 3), (None, machine.cpu_count())])
def test_the_caller_s_threads_and_random_numbers_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, used: int
) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before, theirs, threads = torch.random.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    _, steps = watched(monkeypatch, tiny_config(train__threads=asked))
    assert steps.threads == [used] * 3
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], theirs)


def test_they_are_left_alone_where_a_step_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("no memory")

    torch.manual_seed(6)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    monkeypatch.setattr(timing, "objective", broken)
    with pytest.raises(RuntimeError, match="no memory"):
        seconds_per_step(tiny_config(train__threads=threads + 1), 3)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("precision", "bits", "half"), [("32", 8, False), ("bf16", 8, True), ("auto", 8, True), ("auto", 16, False)]
)
def test_it_computes_in_the_precision_of_the_training(
    monkeypatch: pytest.MonkeyPatch, precision: str, bits: int, half: bool
) -> None:
    monkeypatch.setattr(machine, "has_fast_bf16", lambda: True)
    _, steps = watched(monkeypatch, tiny_config(train__precision=precision), bits=bits)
    assert steps.half == [half] * 3


def test_a_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"train\.device: expected auto or .* \(cpu\), got 'cuda'"):
        seconds_per_step(tiny_config(train__device="cuda"), 3)


def test_steps_are_of_the_size_that_the_network_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    _, steps = watched(monkeypatch, tiny_config(data__size=64, model__network_size=32))
    assert steps.batches[0].inputs.shape[-2:] == (32, 32)
