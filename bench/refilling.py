"""A trained detector's bank filled again by the rules of today, its network left as it is.

For when what a bank keeps has changed and what a network learns has not: training, which never sees the bank, would
give the same network again. `python -m bench run TABLE --refill` does it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from normbank.bundle import read_bundle
from normbank.config import Config
from normbank.data.samples import Dataset
from normbank.errors import BundleError


def refill(config: Config, dataset: Dataset, out: Path) -> None:
    """Replace the finished model in `out`, of these settings and images.

    Seconds, threads and machine stay those of the training. BundleError for a network of another version, or one
    whose images were laid otherwise.
    """
    from normbank.export import weights_of
    from normbank.fitting import MODEL_FILE, RUN_FILE, fill, finish
    from normbank.model.network import build
    from normbank.preparing import prepare
    from normbank.rescoring import load
    from normbank.training import Trained

    before = read_bundle(out / MODEL_FILE)
    curve = json.loads((out / RUN_FILE).read_bytes())["curve"]
    prepared = prepare(config, dataset)
    laid = {"turned": prepared.pose.is_turned, "moved": prepared.pose.is_moved}
    for name, is_so in laid.items():
        if before.manifest.get(name, False) != is_so:
            raise BundleError(f"{out}: its network saw these images {name} otherwise. Train it again.")
    network = build(config, prepared.spec.channels)
    empty, network.bank = network.bank, None  # the old one's weights may be of another kind
    weights = weights_of(before, network.state_dict())
    load(network, {name: value for name, value in weights.items() if not name.startswith("bank.")})
    network.bank = empty
    known = before.manifest
    made_on = (known[name] for name in ("device", "precision", "threads", "machine"))
    trained = Trained(network, curve, known["training_seconds"], *made_on)
    filled, shares = fill(config, prepared, trained)
    finish(config, dataset, prepared, replace(filled, seconds=trained.seconds), shares, out)
