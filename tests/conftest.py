"""What several test files need."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import make_tiny, tiny_config

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real images: NORMBANK_DATA, or ../shared/data beside the repository; else the test skips."""
    named = os.environ.get("NORMBANK_DATA")
    folder = Path(named) if named else REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images are absent: {folder} is no folder (set NORMBANK_DATA to where they are)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests leave the user's cache of decoded images alone, and so do the processes they start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORMBANK_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """The command line takes the signals of the process that it runs in; here that is every later test's, too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 good images to train on, and a test set of good ones and two kinds of defects with masks. Read only."""
    return make_tiny(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A detector trained for three steps on `tiny_data`, run.json beside it. Read only."""
    from normbank.data.open import open_dataset
    from normbank.fitting import fit

    config = tiny_config()
    return fit(config, open_dataset(tiny_data, config.data), tmp_path_factory.mktemp("model"), quiet=True)
