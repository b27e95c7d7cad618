"""The same weights with another score: for the parts of a method that need no new training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from .bundle import Bundle
from .calibration import Calibration
from .config import from_dict, override
from .errors import BundleError, ConfigError
from .export import PROBED, make_bundle, weights_of
from .images import ImageSpec
from .model.network import Network, build


def rescore(bundle: Bundle, overrides: Mapping[str, Any]) -> Bundle:
    """A new bundle of `bundle`'s weights, made with other `score.*` settings.

    It has no threshold: the held-out images' scores were those of the old score. The colour scale of its heat maps is
    the old score's, too. ConfigError for a setting of another group, BundleError for weights of another version of the
    network; ParityError as in `export.make_bundle`.
    """
    foreign = [name for name in overrides if not name.startswith("score.")]
    if foreign:
        raise ConfigError(
            f"{foreign[0]}: expected a setting of the score, since nothing is trained again. Leave it out."
        )
    config = override(from_dict(bundle.manifest["settings"]), overrides)
    spec = ImageSpec(**bundle.manifest["image"])
    network = build(config, spec.channels)
    load(network, weights_of(bundle, network.state_dict()))
    uncalibrated = Calibration((), config.score.false_alarm_rate).to_dict()
    manifest = {**bundle.manifest, "settings": config.model_dump(mode="json"), "calibration": uncalibrated}
    return make_bundle(network, config, spec, manifest, _probe(spec))


def load(network: Network, weights: Mapping[str, Tensor]) -> None:
    """Put a detector's weights into the network; BundleError where they are another's."""
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise BundleError(
            "the detector's weights: expected those of the network its settings describe, got others: it was made by "
            "another version of normbank. Train it again."
        ) from None


def _probe(spec: ImageSpec) -> Any:
    """Smooth images to compare graph and network on, where the training images are not at hand."""
    coarse = np.random.default_rng(1).random((PROBED, 8, 8, spec.channels))
    fine = np.repeat(np.repeat(coarse, -(-spec.size // 8), axis=1), -(-spec.size // 8), axis=2)
    return (fine[:, : spec.size, : spec.size] * np.iinfo(spec.dtype).max).astype(spec.dtype)
