"""What several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real images: NORMBANK_DATA, or ../shared/data beside the repository; else the test skips."""
    named = os.environ.get("NORMBANK_DATA")
    folder = Path(named) if named else REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images are absent: {folder} is no folder (set NORMBANK_DATA to where they are)")
    return folder
