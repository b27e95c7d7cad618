"""Reading a stored result of whichever kind: what is wrong with a file is said the same way for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from normbank.bundle import write_atomically


class Measured(Protocol):
    """A result: its metrics are shares in 0..1, or None where one could not be measured."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Value by name."""


Result = TypeVar("Result", bound=Measured)


def read_result(path: Path, writer: str, build: Callable[[Any], Result]) -> Result:
    """What `build` makes of the file's JSON; ValueError names the file unless it is what the command `writer` writes.

    `build` may fail with KeyError, TypeError, AttributeError or ValueError where something is missing or amiss.
    """
    expected = f"expected what `{writer}` writes"
    try:
        result = build(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {expected}, got {type(error).__name__} {error}") from None
    for name, value in result.metrics.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{path}: {expected}, got {name} {value}, which is not in 0..1")
    return result


def made_on(values: Mapping[str, Any]) -> str:
    """What a result's JSON says of where and by what it was made."""
    return f"{values['machine']['processor']}, commit {values['commit']}"


def write_result(path: Path, values: Mapping[str, Any]) -> None:
    """Write the values as JSON, whole or not at all; the folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(values, indent=1, allow_nan=False).encode() + b"\n")
