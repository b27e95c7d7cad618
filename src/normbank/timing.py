"""How long a training would take on this machine: measured, not guessed."""

from __future__ import annotations

import time

import numpy as np
import torch

from .batches import batches_of
from .config import Config
from .model.network import build
from .model.objective import objective
from .training import accelerator_of, precision_of, torch_of_ours

WARM_UP, TIMED = 1, 2


def seconds_per_step(config: Config, channels: int, bits: int = 8) -> float:
    """Seconds of an optimiser step as `config` trains: the mean of two real steps on noise, after one to warm up.

    The caller's random numbers and thread count are left as they were. TrainingError for a device that is not there.
    """
    known = config.train
    accelerator = accelerator_of(known)
    dtype = np.uint8 if bits == 8 else np.uint16
    shape = (known.batch_size, config.network_size, config.network_size, channels)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    batches = batches_of(pixels, known)
    half = precision_of(known, accelerator, pixels) == "bf16-mixed"
    device = torch.device(accelerator)
    with torch_of_ours(known):
        network = build(config, channels).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(network.parameters())
        started = 0.0
        for step in range(WARM_UP + TIMED):
            started = time.perf_counter() if step == WARM_UP else started
            batch = batches[step]
            moved = type(batch)(*(part.to(device) for part in batch))
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                loss = objective(network, moved, known)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            loss.item()  # waits for the device
        return (time.perf_counter() - started) / TIMED
