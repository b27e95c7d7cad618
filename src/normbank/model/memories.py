"""`MEMORIES`: what `model.memory` can name, and the memories of a whole network.

To add one: a class behind the contract of `memory.py`, a function here that makes it, a line in the dict.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config import Config
from ..errors import ConfigError
from ..settings import Model
from .baselines import block_memory, moved_memory, vector_memory
from .memory import CutLink, Memory, NoMemory, PartitionMemoryBank, addressing


def partition_memory_bank(settings: Model, level: int, size: int) -> Memory:
    """The Partition Memory Bank of level `level` (from 1), where feature maps are `size` x `size`."""
    return PartitionMemoryBank(
        (size, size),
        settings.partitions_at(level),
        settings.items_at(level),
        columns=settings.columns_at(level),
        gated=settings.gate,
        **addressing(settings),
    )


def no_memory(settings: Model, level: int, size: int) -> Memory:
    """A raw lateral link, or none; to the decoder below the bottleneck there is no other way."""
    return NoMemory() if settings.lateral or level == settings.levels else CutLink()


MEMORIES: dict[str, Callable[[Model, int, int], Memory]] = {
    "pmb": partition_memory_bank,
    "none": no_memory,
    "memae": vector_memory,
    "blocks": block_memory,
    "mnad": moved_memory,
}


def check_name(memory: str) -> None:
    """ConfigError unless it is in MEMORIES: the settings know no names, for those who add one."""
    if memory not in MEMORIES:
        raise ConfigError(f"model.memory: expected one of {', '.join(MEMORIES)}, got {memory!r}")


def make_memories(config: Config) -> list[Memory]:
    """The memory of each level 1..L: what `config` says, a raw link or none elsewhere."""
    settings = config.model
    check_name(settings.memory)
    return [_memory(config, level) for level in range(1, settings.levels + 1)]


def _memory(config: Config, level: int) -> Memory:
    settings = config.model
    make = MEMORIES[settings.memory] if level in settings.memory_places else no_memory
    return make(settings, level, config.network_size >> (level - 1))
