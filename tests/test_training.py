"""The optimisation: determinism, the order of the images, interruptions at every step, precision and devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_batches import images
from tiny import tiny_config

from normbank import machine, training
from normbank.batches import Batches
from normbank.config import Config
from normbank.decoding import Pixels
from normbank.errors import TrainingError
from normbank.identity import ORDER, OtherRunError, difference
from normbank.model.network import build
from normbank.model.objective import Batch, objective
from normbank.progress import Progress
from normbank.training import Trained, optimise

STEPS, EVERY = 7, 3  # the last stretch is cut short
IDENTITY = {"data.size": 32, "train.steps": STEPS, "fingerprint of the images": "a1b2"}


class Watch(Progress):
    """Progress that calls `at(step)` after each step: where tests interrupt."""

    def __init__(self, at: Callable[[int], None], first: int = 1) -> None:
        super().__init__("training", STEPS, quiet=True)
        self.at, self.step = at, first - 1

    def due(self) -> bool:
        """Asked once a step."""
        self.step += 1
        self.at(self.step)
        return False


def settings(**more: object) -> Config:
    """A network that is trained in a tenth of a second."""
    return tiny_config(**{"train__steps": STEPS, "train__checkpoint_every": EVERY, **more})


def trained(
    folder: Path,
    config: Config | None = None,
    pixels: Pixels | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    identity: dict[str, object] | None = None,
) -> Trained:
    return optimise(
        config or settings(),
        images() if pixels is None else pixels,
        folder / "checkpoint.ckpt",
        identity=identity or IDENTITY,
        resume=resume,
        progress=progress or Progress("training", STEPS, quiet=True),
    )


def weights(result: Trained) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in result.network.state_dict().items()}


def assert_same(a: Trained, b: Trained) -> None:
    """The same weights and the same curve, to the last bit."""
    assert a.curve == b.curve
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run that nothing interrupted."""
    return trained(tmp_path_factory.mktemp("whole"))


def own_loop(config: Config) -> Iterator[tuple[float, torch.nn.Module]]:
    """The loss of each step and the network after it: the same batches, Adam and cosine, in a loop of one's own."""
    torch.manual_seed(0)
    network = build(config, 3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.002)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 0.002 * (1 + np.cos(np.pi * step / STEPS)) / 2
        loss = objective(network, Batches(images(), 4, seed=0)[step], config.train)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item(), network


def interrupt_at(step: int, error: BaseException | None = None) -> Watch:
    def at(now: int) -> None:
        if now == step:
            if error is not None:
                raise error
            signal.raise_signal(signal.SIGINT)

    return Watch(at)


def test_restoring_training_resumed_ends_the_same(tmp_path: Path) -> None:
    more = {"train__corrupt": 0.5, "train__jitter": 0.1, "model__head_width": 2, "model__critic_width": 2}
    config = settings(**more, train__adversarial_weight=0.1, train__weight_decay=1e-4)
    uninterrupted = trained(tmp_path / "a", config)
    with pytest.raises(RuntimeError):
        trained(tmp_path / "b", config, progress=interrupt_at(5, RuntimeError("stop")))
    assert_same(uninterrupted, trained(tmp_path / "b", config, resume=True))


def test_averaged_weights_are_kept_and_survive_interruptions(tmp_path: Path) -> None:
    config = settings(train__average=0.7)
    straight = trained(tmp_path / "a", config)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", config, progress=interrupt_at(5))
    assert_same(trained(tmp_path / "b", config, resume=True), straight)
    assert_same(trained(tmp_path / "b", config, resume=True), straight)  # nothing is left to do


def test_averaged_weights_by_hand(tmp_path: Path) -> None:
    config, expected = settings(train__average=0.7), torch.empty(0)
    for step, (_, network) in enumerate(own_loop(config)):
        now = network.state_dict()["autoencoder.head.weight"].clone()
        expected = 0.7 * expected + 0.3 * now if step else now
    found = weights(trained(tmp_path, config))["autoencoder.head.weight"]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert (found - now).abs().max() > 1e-4  # it is not the last step's


def test_what_is_no_weight_is_not_averaged(tmp_path: Path) -> None:
    """An index that is averaged with itself and cut is another, and rows of weights no longer have their sum."""
    config = settings(train__average=0.9, model__upright="always", model__bank=100, train__flips="none")
    found, fresh = (dict(one.named_buffers()) for one in (trained(tmp_path, config).network, build(config, 3)))
    fixed = [name for name in fresh if "running_" not in name and "num_batches" not in name]
    assert len(fixed) > 3
    for name in fixed:
        assert torch.equal(found[name], fresh[name]), name


def test_moved_items_travel_in_the_checkpoint(tmp_path: Path) -> None:
    config = settings(model__memory="mnad", train__penalty_weight=0.1)
    uninterrupted = trained(tmp_path / "a", config)
    with pytest.raises(RuntimeError):
        trained(tmp_path / "b", config, progress=interrupt_at(5, RuntimeError("stop")))
    assert_same(uninterrupted, trained(tmp_path / "b", config, resume=True))
    start = build(config, 3).state_dict()["autoencoder.memories.0.items"]
    assert not torch.equal(start, weights(uninterrupted)["autoencoder.memories.0.items"])


def test_weight_decay_is_adam_s_own(tmp_path: Path) -> None:
    """One step from the start by hand: Adam moves a weight by rate * g / (|g| + 1e-8), g with the decay in it."""
    config = settings(train__weight_decay=0.5, train__steps=1)
    torch.manual_seed(0)
    start = build(config, 3)
    objective(start, Batches(images(), 4, seed=0)[0], config.train).backward()
    before = start.autoencoder.head.weight
    assert before.grad is not None
    gradient = before.grad + 0.5 * before
    expected = before - 0.002 * gradient / (gradient.abs() + 1e-8)
    found = trained(tmp_path, config).network.state_dict()["autoencoder.head.weight"]
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)
    assert (before.grad.sign() != gradient.sign()).any()  # so that the decay shows


# determinism


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_same_seed_gives_the_same_weights_to_the_last_bit(tmp_path: Path, precision: str) -> None:
    config = settings(train__precision=precision)
    first = trained(tmp_path / "a", config)
    torch.rand(100)  # the caller's own random numbers do not matter
    np.random.rand(100)
    assert_same(first, trained(tmp_path / "b", config))
    other = trained(tmp_path / "c", settings(train__precision=precision, train__seed=1))
    assert not torch.equal(
        first.network.state_dict()["autoencoder.head.weight"], other.network.state_dict()["autoencoder.head.weight"]
    )


def test_precisions_differ_and_are_named(tmp_path: Path, whole: Trained) -> None:
    half = trained(tmp_path, settings(train__precision="bf16"))
    assert (whole.precision, half.precision) == ("32-true", "bf16-mixed")
    assert not torch.equal(
        whole.network.state_dict()["autoencoder.head.weight"], half.network.state_dict()["autoencoder.head.weight"]
    )
    assert all(value.dtype != torch.bfloat16 for value in half.network.state_dict().values())


def test_the_loss_falls(tmp_path: Path) -> None:
    curve = trained(tmp_path, tiny_config(train__steps=60, train__checkpoint_every=20)).curve
    assert [step for step, _ in curve] == [20, 40, 60]
    assert curve[2][1] < 0.8 * curve[0][1]


def test_the_curve_holds_the_mean_loss_of_each_stretch(whole: Trained) -> None:
    """Against a loop of one's own."""
    losses = [loss for loss, _ in own_loop(settings())]
    means = [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]]
    assert [step for step, _ in whole.curve] == [3, 6, 7]
    assert [loss for _, loss in whole.curve] == pytest.approx(means, rel=1e-4)


def test_the_caller_s_pytorch_is_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(3)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    trained(tmp_path, settings(train__threads=threads + 1, train__steps=1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("asked", "used"), [(1, 1), (2, 2), (None, machine.cpu_count())])
def test_the_threads_asked_for_are_used(tmp_path: Path, asked: int | None, used: int) -> None:
    seen = []
    config = settings(train__threads=asked, train__steps=1)
    trained(tmp_path, config, progress=Watch(lambda _: seen.append(torch.get_num_threads())))
    assert set(seen) == {used}


def test_no_time_goes_into_filling_memory_that_is_written_anyway(tmp_path: Path) -> None:
    seen = []
    watch = Watch(lambda _: seen.append(torch.utils.deterministic.fill_uninitialized_memory))
    trained(tmp_path, settings(train__steps=1), progress=watch)
    assert set(seen) == {False}


# interruptions


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_interrupted_at_any_step_and_resumed_it_ends_the_same(tmp_path: Path, whole: Trained, step: int) -> None:
    with pytest.raises(RuntimeError, match="pulled"):
        trained(tmp_path, progress=interrupt_at(step, RuntimeError("the plug was pulled")))
    checkpoint = tmp_path / "checkpoint.ckpt"
    assert checkpoint.exists() == (step > EVERY)
    seen: list[int] = []
    done = EVERY * ((step - 1) // EVERY)  # what the last checkpoint holds
    assert_same(whole, trained(tmp_path, resume=True, progress=Watch(seen.append, first=done + 1)))
    assert len(seen) == STEPS - done


def test_interrupted_after_every_step_it_still_ends(tmp_path: Path, whole: Trained) -> None:
    config = settings(train__checkpoint_every=1)
    for _ in range(STEPS - 1):
        with pytest.raises(RuntimeError):
            trained(tmp_path, config, resume=True, progress=interrupt_at(2, RuntimeError("again")))
    result = trained(tmp_path, config, resume=True)
    assert torch.equal(
        result.network.state_dict()["autoencoder.head.weight"], whole.network.state_dict()["autoencoder.head.weight"]
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_it_goes_on(tmp_path: Path, whole: Trained, number: signal.Signals) -> None:
    seen: list[int] = []

    def at(step: int) -> None:
        seen.append(step)
        if step == 5:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, progress=Watch(at))
    assert seen[-1] == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert_same(whole, trained(tmp_path, resume=True))


def test_a_caller_s_own_handler_of_sigterm_is_kept(tmp_path: Path) -> None:
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, progress=Watch(lambda step: signal.raise_signal(signal.SIGTERM) if step == 4 else None))
        assert came
    finally:
        signal.signal(signal.SIGTERM, before)


def test_it_trains_outside_the_main_thread(tmp_path: Path, whole: Trained) -> None:
    results: list[Trained] = []
    thread = threading.Thread(target=lambda: results.append(trained(tmp_path)))
    thread.start()
    thread.join()
    assert_same(whole, results[0])


def test_stopped_in_the_middle_of_a_step(tmp_path: Path, whole: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = training.objective

    def cut(*arguments: object, **more: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return real(*arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training, "objective", cut)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path)
    assert_same(whole, trained(tmp_path, resume=True))


def test_a_finished_run_resumed_gives_the_same_without_a_step(tmp_path: Path, whole: Trained) -> None:
    trained(tmp_path)
    seen: list[int] = []
    again = trained(tmp_path, resume=True, progress=Watch(seen.append))
    assert_same(whole, again)
    assert not seen


def test_resumed_with_other_checkpoint_steps_it_ends_the_same(tmp_path: Path, whole: Trained) -> None:
    with pytest.raises(RuntimeError):
        trained(tmp_path, progress=interrupt_at(5, RuntimeError("stop")))
    for every, stop in ((2, 2), (5, 1)):  # from 3 to 4, and on from there
        with pytest.raises(RuntimeError):
            trained(
                tmp_path,
                settings(train__checkpoint_every=every),
                resume=True,
                progress=interrupt_at(stop, RuntimeError("stop")),
            )
    result = trained(tmp_path, settings(train__checkpoint_every=5), resume=True)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, result.network.state_dict()[name]), name


def test_seconds_add_up_over_interruptions(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        trained(tmp_path, progress=interrupt_at(4, RuntimeError("stop")))
    before = torch.load(tmp_path / "checkpoint.ckpt", weights_only=True)["callbacks"]["Journal"]["seconds"]
    assert 0 < before < trained(tmp_path, resume=True).seconds


def test_resume_without_a_checkpoint_starts_at_the_beginning(tmp_path: Path, whole: Trained) -> None:
    assert_same(whole, trained(tmp_path, resume=True))


def test_what_auto_came_to_may_not_change_on_the_way(tmp_path: Path) -> None:
    trained(tmp_path)
    for change, words in (
        ({"train__threads": 2}, r"train\.threads was 1 and is 2"),
        ({"train__precision": "bf16"}, r"train\.precision was 32-true and is bf16-mixed"),
    ):
        with pytest.raises(OtherRunError, match=words):
            trained(tmp_path, settings(**change), resume=True)


def test_a_checkpoint_of_a_version_without_a_setting_is_gone_on_with(tmp_path: Path, whole: Trained) -> None:
    """Its default leaves everything as it was before there was one."""
    asked, default = {**IDENTITY, "train.exposure": 0.0}, Config().train.exposure
    assert default == 0
    trained(tmp_path)  # its identity is without
    assert_same(whole, trained(tmp_path, resume=True, identity=asked))
    with pytest.raises(OtherRunError, match=r"train\.exposure was 0\.0 and is 0\.5"):
        trained(tmp_path, resume=True, identity={**asked, "train.exposure": 0.5})


def test_without_resume_a_checkpoint_is_passed_over(tmp_path: Path, whole: Trained) -> None:
    trained(tmp_path, settings(train__seed=4))
    assert_same(whole, trained(tmp_path))


# the checkpoint file


def test_the_checkpoint_holds_no_code(tmp_path: Path) -> None:
    trained(tmp_path)
    state = torch.load(tmp_path / "checkpoint.ckpt", weights_only=True)
    assert state["global_step"] == STEPS
    resolved = {"train.device": "cpu", "train.precision": "32-true", "train.threads": 1}
    assert state["callbacks"]["Journal"]["identity"] == {**IDENTITY, **resolved}
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.ckpt"]


def test_nothing_is_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    (tmp_path / "run").mkdir()
    trained(tmp_path / "run")
    assert not list(elsewhere.iterdir())


def test_another_run_s_checkpoint_is_refused_and_told_apart(tmp_path: Path) -> None:
    trained(tmp_path)
    other = {**IDENTITY, "train.steps": 500}
    with pytest.raises(OtherRunError, match=r"other settings or images \(train.steps was 7 and is 500\)") as caught:
        trained(tmp_path, resume=True, identity=other)
    assert isinstance(caught.value, TrainingError)
    assert "--overwrite" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_checkpoint_from_before_the_order_was_kept_goes_on(tmp_path: Path) -> None:
    known = {"a": 1}
    state = {"callbacks": {"Journal": {"identity": known}}}
    torch.save(state, tmp_path / "c.ckpt")
    found = training._resume_from(tmp_path / "c.ckpt", {**known, ORDER: "abc"}, resume=True)
    assert found == tmp_path / "c.ckpt"
    torch.save({"callbacks": {"Journal": {"identity": {**known, ORDER: "xyz"}}}}, tmp_path / "c.ckpt")
    with pytest.raises(OtherRunError, match="order of the images, by their names was xyz and is abc"):
        training._resume_from(tmp_path / "c.ckpt", {**known, ORDER: "abc"}, resume=True)


def test_difference_by_hand() -> None:
    assert difference({"a": 1, "b": 2}, {"a": 1, "b": None}) == "b was 2 and is None"
    assert difference({"a": 1}, {"b": 2}) == "a was 1 and is None; b was None and is 2"
    many = difference(dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2))
    assert many == "a was 1 and is 2; b was 1 and is 2; c was 1 and is 2; and 2 more"


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "not ours", "folder"])
def test_a_damaged_checkpoint_is_refused_in_words(tmp_path: Path, harm: str) -> None:
    trained(tmp_path)
    checkpoint = tmp_path / "checkpoint.ckpt"
    content = checkpoint.read_bytes()
    checkpoint.unlink()
    if harm == "folder":
        checkpoint.mkdir()
    elif harm == "not ours":
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    else:
        checkpoint.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}[harm])
    with pytest.raises(TrainingError, match="cannot be read: expected what an interrupted training wrote") as caught:
        trained(tmp_path, resume=True)
    assert str(checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, ("touch harmed",)

    torch.save({"callbacks": {"Journal": {"identity": Harm()}}}, tmp_path / "checkpoint.ckpt")
    with pytest.raises(TrainingError, match="cannot be read"):
        trained(tmp_path, resume=True)


def test_a_kill_while_the_checkpoint_is_written_leaves_the_one_before(
    tmp_path: Path, whole: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0
    real = os.fsync

    def killed(handle: int) -> None:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise KeyboardInterrupt
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(training.os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path)
    fresh = tmp_path / "checkpoint.new"
    fresh.write_bytes(fresh.read_bytes()[:1000])  # as a kill would leave it
    assert torch.load(tmp_path / "checkpoint.ckpt", weights_only=True)["global_step"] == EVERY
    assert_same(whole, trained(tmp_path, resume=True))
    assert not fresh.exists()


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training.os, "fsync", full)
    told = (
        r"checkpoint\.ckpt' cannot be written: No space left on device\. The one before it, if there is one, is whole"
    )
    with pytest.raises(TrainingError, match=told):
        trained(tmp_path)
    assert not list(tmp_path.iterdir())


# numbers that are none


def test_a_loss_that_is_no_number_stops_it_in_words(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss became nan at step \d+: expected a finite number") as caught:
        trained(tmp_path, settings(train__learning_rate=1e30))
    assert str(caught.value).endswith("Lower train.learning_rate (now 1e+30).")  # in 32 bits already


def test_a_crowd_of_threads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_count", lambda: 2)
    assert [training.threads_of(settings(train__threads=count).train) for count in (None, 1, 16)] == [2, 1, 16]
    expected = r"train.threads: expected at most 16, for 2 processors, got 17\. Without it there is one for each"
    with pytest.raises(TrainingError, match=expected):
        training.threads_of(settings(train__threads=17).train)


def test_weights_that_are_no_numbers_after_the_last_step_are_refused(tmp_path: Path) -> None:
    def at(step: int) -> None:
        if step == STEPS:
            tasks[0].network.autoencoder.head.bias.data.fill_(float("nan"))

    tasks: list[training.Task] = []
    real = training.Task.__init__

    def remember(self: training.Task, *arguments: object) -> None:
        real(self, *arguments)  # type: ignore[arg-type]
        tasks.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Task, "__init__", remember)
        with pytest.raises(TrainingError, match="weights that are not finite"):
            trained(tmp_path, progress=Watch(at))


# devices, precision, depth


def test_a_device_that_is_not_there_is_told_with_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps", "tpu"):
        with pytest.raises(TrainingError, match=rf"expected auto or one this machine has \(cpu\), got '{name}'"):
            trained(tmp_path, settings(train__device=name))
    assert not list(tmp_path.iterdir())


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(train__device="auto").train
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert training.accelerator_of(config) == expected


@pytest.mark.parametrize(
    ("asked", "fast", "dtype", "accelerator", "expected"),
    [
        ("auto", True, np.uint8, "cpu", "bf16-mixed"),
        ("auto", False, np.uint8, "cpu", "32-true"),
        ("auto", True, np.uint8, "mps", "32-true"),
        ("auto", True, np.uint16, "cpu", "32-true"),  # bfloat16 has 8 bits
        ("bf16", False, np.uint16, "cpu", "bf16-mixed"),
        ("32", True, np.uint8, "cpu", "32-true"),
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, asked: str, fast: bool, dtype: type, accelerator: str, expected: str
) -> None:
    monkeypatch.setattr(machine, "has_fast_bf16", lambda: fast)
    known = settings(train__precision=asked).train
    assert training.precision_of(known, accelerator, np.zeros((1, 2, 2, 1), dtype)) == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_that_emulates_bfloat16_is_not_asked_to(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    known = settings(train__precision="auto").train
    assert training.precision_of(known, "cuda", np.zeros((1, 2, 2, 1), np.uint8)) == expected


def test_a_training_is_one_process_whatever_a_cluster_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_NTASKS", "4"), ("SLURM_JOB_NAME", "nightly"), ("SLURM_NODEID", "0")):
        monkeypatch.setenv(name, value)
    assert trained(tmp_path, settings()).device


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_channels_and_depth(tmp_path: Path, channels: int, dtype: type) -> None:
    result = trained(tmp_path, settings(train__precision="auto"), images(channels=channels, dtype=dtype))
    shape = result.network(torch.zeros(2, channels, 32, 32)).reconstruction.shape
    assert shape == (2, channels, 32, 32)


def test_the_low_bits_of_16_reach_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that differ in their low 8 bits alone are different inputs, in training as well."""
    low = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 1)).astype(np.uint16)
    seen: list[torch.Tensor] = []
    real = training.objective

    def spy(network: object, batch: Batch, *arguments: object) -> torch.Tensor:
        seen.append(batch.inputs.detach().clone())
        return real(network, batch, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "objective", spy)
    trained(tmp_path, settings(train__precision="auto"), low + 40000)
    values = torch.cat(seen).unique()
    assert len(values) == 256
    assert torch.allclose(values * 65535, torch.arange(40000, 40256).float(), atol=0.01)


@pytest.mark.parametrize(
    "more",
    [
        {"data__size": 16, "model__partitions": (8, 2)},
        {"data__size": 64, "model__partitions": (64, 1)},
        {"data__size": 24, "model__widths": (4, 8)},  # L = p
        {"model__widths": (3, 5, 7, 9), "model__memory_levels": 1, "model__partitions": (2,), "model__items": (3,)},
        {"model__memory_levels": 0, "model__partitions": (), "model__items": ()},
        {"model__memory": "none"},
        {"model__shrinkage": "soft", "model__renormalise": False},
        {"model__shrinkage": "none", "model__temperature": 0.1},
        {"train__ssim_weight": 0.0},
        {"train__ssim_window": 3, "train__ssim_sigma": 0.5},
    ],
    ids=str,
)
def test_settings_reach_the_network(tmp_path: Path, whole: Trained, more: dict[str, object]) -> None:
    config = settings(**more)
    size = config.data.size
    result = trained(tmp_path, config, images()[:, :size, :size] if size <= 32 else images().repeat(2, 1).repeat(2, 2))
    assert result.network(torch.zeros(1, 3, size, size)).reconstruction.shape == (1, 3, size, size)
    assert result.curve != whole.curve
    memories = [m.partitions for m in result.network.modules() if hasattr(m, "items") and hasattr(m, "partitions")]
    assert memories == ([] if config.model.memory == "none" else list(config.model.partitions))


# whole processes

SCRIPT = """
    import sys, os, signal
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_training import Watch, trained
    from normbank import training

    def at(step):
        if step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    if sys.argv[2] == "write":
        real, writes = os.fsync, []
        def killed(handle):
            writes.append(handle)
            os.kill(os.getpid(), signal.SIGKILL) if len(writes) == 2 else real(handle)
        training.os.fsync = killed
        at = lambda step: None
    trained(Path(sys.argv[1]), progress=Watch(at))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["1", "5", "7", "write"])
def test_kill_9_loses_at_most_the_steps_since_the_checkpoint(tmp_path: Path, whole: Trained, when: str) -> None:
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), when], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    kept = tmp_path / "checkpoint.ckpt"
    held = torch.load(kept, weights_only=True)["global_step"] if kept.exists() else 0
    assert held == {"1": 0, "5": 3, "7": 6, "write": 3}[when]
    assert_same(whole, trained(tmp_path, resume=True))
