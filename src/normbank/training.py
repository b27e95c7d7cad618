"""The optimisation of a network on images in memory. Lightning does loop, device, precision and checkpoints."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import DataLoader

from . import machine
from .batches import StepSampler, batches_of
from .config import Config
from .decoding import Pixels
from .errors import TrainingError, problem
from .identity import ORDER, Identity, OtherRunError, as_of_today, difference, of_training
from .model.network import Network, build
from .model.objective import Batch, objective
from .progress import Progress
from .settings import Train

Precision = Literal["bf16-mixed", "32-true"]
AVERAGED = ("running_mean", "running_var")  # buffers that average as weights do
CROWD = 8  # threads for each processor: results are of their number, so some more than there are have their use


class Task(pl.LightningModule):
    """The network with its loss and optimiser."""

    def __init__(self, network: Network, settings: Train) -> None:
        super().__init__()
        self.network, self.settings = network, settings

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch."""
        known = self.settings
        loss = objective(self.network, batch, known)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.global_step}: expected a finite number. "
                f"{_calmer(known, str(self.trainer.precision))}"
            )
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at the paper's rate, cosine to zero over the budget."""
        known = self.settings
        optimiser = torch.optim.Adam(self.network.parameters(), lr=known.learning_rate, weight_decay=known.weight_decay)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, known.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


class Journal(pl.Callback):
    """The loss curve and the seconds spent, kept through interruptions; shows progress as it goes."""

    def __init__(self, identity: Identity, settings: Train, progress: Progress) -> None:
        self.identity, self.settings, self.progress = dict(identity), settings, progress
        self.curve: list[tuple[int, float]] = []
        self.seconds, self._since = 0.0, time.monotonic()
        self._losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep the loss on its device (reading it would wait for the device) until a point of the curve is due."""
        step, known = trainer.global_step, self.settings
        self._losses.append(outputs["loss"].detach())
        if self.progress.due() or step == known.steps:
            self.progress.update(step, f"loss {float(self._losses[-1]):.4f}  rate {_rate(trainer):.1e}")
        if step % known.checkpoint_every == 0 or step == known.steps:
            self.curve.append((step, float(torch.stack(self._losses).mean())))
            self._losses.clear()

    def state_dict(self) -> dict[str, Any]:
        """What travels in the checkpoint beside Lightning's own state."""
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        pending = [float(loss) for loss in self._losses]
        return {"curve": self.curve, "pending": pending, "seconds": self.seconds, "identity": self.identity}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was."""
        self.curve = [(int(step), float(loss)) for step, loss in state_dict["curve"]]
        self._losses = [torch.tensor(loss) for loss in state_dict["pending"]]
        self.seconds = float(state_dict["seconds"])


class SaveAfterStretch(pl.Callback):
    """Writes the checkpoint when everything else of a stretch is done (it stands last among the callbacks)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the checkpoint before."""
        trainer.save_checkpoint(self.path)


class WholeFiles(CheckpointIO):
    """Writes beside the old checkpoint, then renames: a kill or a full disk leaves one of the two whole.

    Lightning's own way goes through the system's folder for temporary files, which may be small, and where a kill
    leaves its part.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`."""
        content = io.BytesIO()  # PyTorch's own writer tells a full disk in words of its own
        torch.save(checkpoint, content)
        fresh = Path(path).with_suffix(".new")  # one name: what a kill leaves is written over
        try:
            fresh.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            do = "The one before it, if there is one, is whole: make room, and go on with --resume."
            raise TrainingError(f"checkpoint {str(path)!r} cannot be written: {error.strerror}. {do}") from None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """What `path` holds, tensors on the CPU; plain types and tensors only, whatever the file asks for."""
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def remove_checkpoint(self, path: Any) -> None:
        """Delete `path`."""
        Path(path).unlink(missing_ok=True)


class KeptAverage(WeightAveraging):
    """Lightning's own: trains as without, and puts the averaged weights in place at the end.

    At the end of a run that was resumed with no step left, too: Lightning's end of training does not come there. Of the
    buffers only the statistics of batch norms are averaged: a mean of indices, equal as they are, is cut to other ones.
    """

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put them in place."""
        fixed = [(one, one.clone()) for name, one in pl_module.named_buffers() if not name.endswith(AVERAGED)]
        super().on_train_end(trainer, pl_module)
        for one, before in fixed:
            one.copy_(before)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put them in place."""
        self.on_train_end(trainer, pl_module)


def _averaging(known: Train) -> list[pl.Callback]:
    return [KeptAverage(avg_fn=get_ema_avg_fn(known.average))] if known.average else []  # type: ignore[no-untyped-call]


def _rate(trainer: pl.Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


@dataclass(frozen=True)
class Trained:
    """A trained network, its loss curve (step, mean loss since the point before), and what it took."""

    network: Network
    curve: tuple[tuple[int, float], ...]
    seconds: float
    device: str
    precision: str
    threads: int
    machine: Mapping[str, Any]


def optimise(
    config: Config, pixels: Pixels, checkpoint: Path, *, identity: Identity, resume: bool = False, progress: Progress
) -> Trained:
    """Train the network `config` describes on `pixels` [N, S, S, C] for `config.train.steps` steps.

    Writes `checkpoint` every `config.train.checkpoint_every` steps; `resume` goes on from it, provided that it was
    made with the same `identity`, whatever the score (OtherRunError). On a CPU the result is a function of the
    settings, the images and the number of threads, to the last bit, however often it was interrupted. Raises
    TrainingError, and KeyboardInterrupt after Ctrl-C or SIGTERM.
    """
    known = config.train
    accelerator = accelerator_of(known)
    precision = precision_of(known, accelerator, pixels)
    identity = _of_this_machine(identity, known, pixels)
    resume_from = _resume_from(checkpoint, identity, resume)
    journal = Journal(identity, known, progress)
    with torch_of_ours(known):
        network = build(config, pixels.shape[3]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        callbacks = [journal, *_averaging(known), SaveAfterStretch(checkpoint)]
        trainer = _trainer(known, accelerator, precision, callbacks)
        _run(trainer, Task(network, known), _loader(pixels, known, trainer), resume_from)
    _check_finite(network, known, precision)
    made_on = device_name(accelerator), precision, threads_of(known), machine.describe()
    return Trained(network, tuple(journal.curve), journal.seconds, *made_on)


def check_resumable(checkpoint: Path, identity: Identity, known: Train, pixels: Pixels) -> None:
    """Whether `optimise` can go on from `checkpoint`, where there is one; raises what it would raise."""
    _resume_from(checkpoint, _of_this_machine(identity, known, pixels), resume=True)


def _of_this_machine(identity: Identity, known: Train, pixels: Pixels) -> Identity:
    """With what "auto" came to, which is part of a run: going on with something else would be another run's numbers."""
    accelerator = accelerator_of(known)
    precision, threads = precision_of(known, accelerator, pixels), threads_of(known)
    return {**identity, "train.device": accelerator, "train.precision": precision, "train.threads": threads}


@contextlib.contextmanager
def torch_of_ours(known: Train) -> Iterator[None]:
    """PyTorch's own settings as the run asks, and afterwards as the caller had them."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    deterministic: Any = torch.utils.deterministic  # its stub does not know what can be set
    filled = deterministic.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(known.seed)
        torch.set_num_threads(threads_of(known))
        # "Deterministic" would write over all fresh memory: 3 % of a step, for what nothing reads before it is written.
        deterministic.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)
            deterministic.fill_uninitialized_memory = filled


def _calmer(known: Train, precision: str) -> str:
    """What to do where numbers run away."""
    other = "" if precision == "32-true" else " or set train.precision=32"
    return f"Lower train.learning_rate (now {known.learning_rate}){other}."


def _check_finite(network: nn.Module, known: Train, precision: Precision) -> None:
    """The loss of a step judges the weights before it, so the last step's are judged here."""
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
        raise TrainingError(f"the last step left weights that are not finite numbers. {_calmer(known, precision)}")


def _loader(pixels: Pixels, known: Train, trainer: pl.Trainer) -> DataLoader[Batch]:
    sampler = StepSampler(lambda: trainer.global_step, known.checkpoint_every, known.steps)
    return DataLoader(batches_of(pixels, known), batch_size=None, sampler=sampler)


def accelerator_of(known: Train) -> str:
    """The accelerator to use, in Lightning's words."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if known.device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(known.device):
        names = ", ".join(name for name, there in available.items() if there)
        raise TrainingError(f"train.device: expected auto or one this machine has ({names}), got {known.device!r}.")
    return known.device


def device_name(accelerator: str) -> str:
    """What the device is sold as."""
    return torch.cuda.get_device_name() if accelerator == "cuda" else machine.cpu_name()


def threads_of(known: Train) -> int:
    """The threads to train with; TrainingError for so many that they would wait for one another for ever."""
    processors = machine.cpu_count()
    if (known.threads or 0) > CROWD * processors:
        expected, do = f"at most {CROWD * processors}, for {processors} processors", "Without it there is one for each."
        raise TrainingError(problem("train.threads", expected=expected, came=f"{known.threads}", do=do))
    return known.threads or processors


def precision_of(known: Train, accelerator: str, pixels: Pixels) -> Precision:
    """bfloat16 holds 8 bits of a value, so images of 16 bits are trained on in 32 unless bf16 is asked for."""
    if known.precision == "auto":
        on_gpu = accelerator == "cuda"  # older ones emulate it, slowly
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else machine.has_fast_bf16()
        return "bf16-mixed" if fast and accelerator != "mps" and pixels.dtype == np.uint8 else "32-true"
    return "bf16-mixed" if known.precision == "bf16" else "32-true"


def _trainer(known: Train, accelerator: str, precision: Precision, callbacks: list[pl.Callback]) -> pl.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_steps=known.steps,
        max_epochs=-1,
        callbacks=callbacks,
        plugins=[WholeFiles(), LightningEnvironment()],  # one process, whatever a cluster's variables say
        deterministic=accelerator == "cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _run(trainer: pl.Trainer, task: Task, batches: DataLoader[Batch], resume_from: Path | None) -> None:
    with warnings.catch_warnings(), _terminable():
        warnings.filterwarnings("ignore", module="lightning")  # advice on loaders and loggers
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        try:
            trainer.fit(task, batches, ckpt_path=resume_from, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C and SIGTERM
            raise KeyboardInterrupt from None


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends training at once, as Ctrl-C does (Lightning alone finishes the step). A caller's handler stays."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _resume_from(checkpoint: Path, identity: Identity, resume: bool) -> Path | None:
    if not resume or not checkpoint.exists():
        return None
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        found = dict(state["callbacks"]["Journal"]["identity"])
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise TrainingError(
            f"checkpoint {str(checkpoint)!r} cannot be read: expected what an interrupted training wrote, "
            f"got {type(error).__name__}: {reason}. Delete it, or start again with --overwrite."
        ) from None
    found, asked = of_training(as_of_today(found, identity)), of_training(identity)
    if ORDER in asked:
        found.setdefault(ORDER, asked[ORDER])
    if found != asked:
        raise OtherRunError(
            f"checkpoint {str(checkpoint)!r} was made with other settings or images ({difference(found, asked)}). "
            f"Go on with those, start again with --overwrite, or name another --out."
        )
    return checkpoint
