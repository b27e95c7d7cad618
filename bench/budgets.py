"""How much a run may cost: the preset as it is, or less. The budget is part of what a result is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.paper import MNIST, Cell, short
from normbank.config import Config, override
from normbank.presets import preset


@dataclass(frozen=True)
class Budget:
    """`words` are for the reader of a table; `less(config)` gives the settings that replace the cell's own."""

    words: str
    less: Callable[[Config], dict[str, Any]]


def _nothing(config: Config) -> dict[str, Any]:
    return {}


QUICK_STEPS, QUICK_WIDTH = 300, 16


def _narrow(config: Config) -> dict[str, Any]:
    first = config.model.widths[0]
    if config.model.trunk != "unet" or first <= QUICK_WIDTH:
        return {}
    return {"model.widths": [width * QUICK_WIDTH // first for width in config.model.widths]}


def _quick(config: Config) -> dict[str, Any]:
    return {**_narrow(config), "train.steps": min(QUICK_STEPS, config.train.steps)}


def _tiny(config: Config) -> dict[str, Any]:
    model = config.model
    small = {"data.size": 32} if model.trunk == "unet" else {}  # the other trunk is made for 128
    return {
        **small,
        "model.widths": [4] * model.levels,
        "model.latent": 4,
        "model.partitions": [min(k, 2) for k in model.partitions],
        "model.items": [min(m, 4) for m in model.items],
        "model.head_width": min(model.head_width, 4),
        "model.critic_width": min(model.critic_width, 4),
        "train.steps": 2,
        "train.batch_size": 4,
    }


BUDGETS = {
    "paper": Budget("the preset as it is", _nothing),
    "narrow": Budget(
        f"reduced: channels from {QUICK_WIDTH} on (a quarter of the paper's presets'), all steps of the preset", _narrow
    ),
    "quick": Budget(
        f"reduced: {QUICK_STEPS} steps at most, and channels from {QUICK_WIDTH} on (a quarter of the paper's presets')",
        _quick,
    ),
    "tiny": Budget("two steps at 32 pixels with four channels, to try the runner; the values mean nothing", _tiny),
}


def widths(config: Config) -> str:
    """The channels of the levels, or whose they are where the settings do not say."""
    model = config.model
    return ",".join(map(str, model.widths)) if model.trunk == "unet" else f"own ({model.trunk})"


def settings(cell: Cell, budget: str, device: str = "auto") -> Config:
    """All settings of a cell at a budget. ConfigError where they do not fit together."""
    wanted = preset(cell.preset, {**cell.overrides, **cell.score, "train.seed": cell.seed, "train.device": device})
    if cell.data.startswith(f"{MNIST}/"):
        wanted = override(wanted, {"data.normal_class": int(short(cell.data))})
    return override(wanted, BUDGETS[budget].less(wanted))
