"""Silence that threads can share: Pillow remarks on odd metadata, which is no one's trouble."""

from __future__ import annotations

import threading
import warnings


class Quiet:
    """Silences Pillow's remarks on odd metadata while any thread decodes.

    `warnings.catch_warnings` is not made for threads: the last to leave would restore what another had silenced.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


QUIET = Quiet()
