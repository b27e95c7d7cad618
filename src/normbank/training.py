"""The optimisation of a network on images in memory. Lightning does loop, device, precision and checkpoints."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from . import machine
from .config import Config, Train
from .errors import TrainingError
from .images import Pixels
from .model.losses import total_loss
from .model.unet import build
from .progress import Progress


class Task(pl.LightningModule):
    """The network with its loss and optimiser."""

    def __init__(self, network: nn.Module, settings: Train) -> None:
        super().__init__()
        self.network, self.settings = network, settings

    def training_step(self, images: Tensor, index: int) -> Tensor:
        """Eq. 9 on one batch [B, C, S, S] in [0, 1]."""
        known = self.settings
        loss = total_loss(
            images,
            self.network(images),
            ssim_weight=known.ssim_weight,
            window=known.ssim_window,
            sigma=known.ssim_sigma,
        )
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.global_step}: expected a finite number. "
                f"Lower train.learning_rate (now {known.learning_rate}) or set train.precision=32."
            )
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at the paper's rate, cosine to zero over the budget."""
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.settings.learning_rate)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.settings.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


class Batches(Dataset[Tensor]):
    """Batch number `step` of a run: a pure function of the seed and the step, so that resuming needs no memory."""

    def __init__(self, pixels: Pixels, batch_size: int, seed: int) -> None:
        self.pixels, self.batch_size, self.seed = pixels, batch_size, seed

    def __getitem__(self, step: int) -> Tensor:
        chosen = self.pixels[self.indices(step)]
        white = float(np.iinfo(chosen.dtype).max)
        return torch.from_numpy(chosen.astype(np.float32) / white).permute(0, 3, 1, 2)

    def indices(self, step: int) -> NDArray[np.int64]:
        """Positions of the images in batch `step`: one long row of seeded shuffles, cut into batches."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        rounds, offsets = np.divmod(places, len(self.pixels))
        shuffles = {r: np.random.default_rng([self.seed, r]).permutation(len(self.pixels)) for r in np.unique(rounds)}
        return np.array([shuffles[r][o] for r, o in zip(rounds, offsets, strict=True)])


class StepSampler(Sampler[int]):
    """The steps up to the next checkpoint: what Lightning calls an epoch here.

    It starts where the trainer's own count of steps stands, so a resumed run goes on with the very next batch.
    """

    def __init__(self, done: Callable[[], int], every: int, steps: int) -> None:
        self.done, self.every, self.steps = done, every, steps

    def __len__(self) -> int:
        return self.every

    def __iter__(self) -> Iterator[int]:
        start = self.done()
        return iter(range(start, min(start - start % self.every + self.every, self.steps)))


class Journal(pl.Callback):
    """The loss curve and the seconds spent, kept through interruptions; shows progress as it goes."""

    def __init__(self, identity: str, settings: Train, progress: Progress) -> None:
        self.identity, self.settings, self.progress = identity, settings, progress
        self.curve: list[tuple[int, float]] = []
        self.seconds, self._since = 0.0, time.monotonic()
        self._losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Keep the loss on its device (reading it would wait for the device) until a point of the curve is due."""
        step, known = trainer.global_step, self.settings
        self._losses.append(outputs["loss"].detach())
        if self.progress.due():
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
        """Write beside the old one, then rename: a kill leaves one of the two whole."""
        fresh = self.path.with_suffix(".new")
        trainer.save_checkpoint(fresh)
        os.replace(fresh, self.path)


def _rate(trainer: pl.Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


@dataclass(frozen=True)
class Trained:
    """A trained network, its loss curve (step, mean loss since the point before), and what it took."""

    network: nn.Module
    curve: tuple[tuple[int, float], ...]
    seconds: float
    device: str
    precision: str


def optimise(
    config: Config, pixels: Pixels, checkpoint: Path, *, identity: str, resume: bool = False, progress: Progress
) -> Trained:
    """Train the network `config` describes on `pixels` [N, S, S, C] for `config.train.steps` steps.

    Writes `checkpoint` every `config.train.checkpoint_every` steps; `resume` goes on from it, provided that it was
    made with the same `identity`. On a CPU the result is a function of the settings, the images and the
    number of threads, to the last bit, however often it was interrupted. Raises TrainingError, and KeyboardInterrupt after
    Ctrl-C.
    """
    known = config.train
    torch.set_num_threads(known.threads or machine.cpu_count())
    torch.manual_seed(known.seed)
    network = build(config, pixels.shape[3]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    accelerator, precision = _device(known), _precision(known)
    journal = Journal(identity, known, progress)
    trainer = _trainer(known, accelerator, precision, [journal, SaveAfterStretch(checkpoint)])
    _run(trainer, Task(network, known), _loader(pixels, known, trainer), _resume_from(checkpoint, identity, resume))
    device = torch.cuda.get_device_name() if accelerator == "cuda" else machine.cpu_name()
    return Trained(network, tuple(journal.curve), journal.seconds, device, precision)


def _loader(pixels: Pixels, known: Train, trainer: pl.Trainer) -> DataLoader[Tensor]:
    sampler = StepSampler(lambda: trainer.global_step, known.checkpoint_every, known.steps)
    return DataLoader(Batches(pixels, known.batch_size, known.seed), batch_size=None, sampler=sampler)


def _device(known: Train) -> str:
    """The accelerator to use, in Lightning's words."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if known.device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(known.device):
        names = ", ".join(name for name, there in available.items() if there)
        raise TrainingError(f"train.device: expected auto or one this machine has ({names}), got {known.device!r}.")
    return known.device


def _precision(known: Train) -> Literal["bf16-mixed", "32-true"]:
    fast = torch.cuda.is_bf16_supported() if _device(known) == "cuda" else machine.has_fast_bf16()
    wanted = known.precision == "bf16" or (known.precision == "auto" and fast and _device(known) != "mps")
    return "bf16-mixed" if wanted else "32-true"


def _trainer(
    known: Train, accelerator: str, precision: Literal["bf16-mixed", "32-true"], callbacks: list[pl.Callback]
) -> pl.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_steps=known.steps,
        max_epochs=-1,
        callbacks=callbacks,
        deterministic=accelerator == "cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _run(trainer: pl.Trainer, task: Task, batches: DataLoader[Tensor], resume_from: Path | None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on loaders and loggers
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
        try:
            trainer.fit(task, batches, ckpt_path=resume_from, weights_only=True)
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None


def _resume_from(checkpoint: Path, identity: str, resume: bool) -> Path | None:
    if not resume or not checkpoint.exists():
        return None
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        found = state["callbacks"]["Journal"]["identity"]
    except Exception as error:
        raise TrainingError(
            f"checkpoint {str(checkpoint)!r} cannot be read ({error}). Delete it and train again without --resume."
        ) from None
    if found != identity:
        raise TrainingError(
            f"checkpoint {str(checkpoint)!r} was made with other settings or other images, and --resume cannot mix them. "
            f"Use the same as then (run.json beside it lists them), or another --out."
        )
    return checkpoint
