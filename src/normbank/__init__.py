"""normbank: what normal looks like, from normal images alone.

`load(path)` gives a `Detector`; `normbank.fitting.fit` trains one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before anything imports it: ONNX Runtime would leave a number for this machine in the user's home, and call its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .detector import Detector as Detector
    from .detector import Prediction as Prediction
    from .detector import load as load

__version__ = "0.1.0"
__all__ = ["Detector", "Prediction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the detector when it is first asked for: `normbank --help` and training do not need it."""
    if name in ("Detector", "Prediction", "load"):
        from . import detector

        return getattr(detector, name)
    raise AttributeError(f"module 'normbank' has no attribute {name!r}")
