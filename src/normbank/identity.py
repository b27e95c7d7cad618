"""Whether two trainings are one: of the same settings and the same images. No PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from .config import GROUPS, completed
from .data.loading import Loaded
from .data.splits import fingerprint
from .errors import TrainingError

Identity = Mapping[str, Any]  # what two runs must share to be one: names of settings and images, values of plain types
ORDER = "order of the images, by their names"  # one of those names; earlier versions' checkpoints have it not


class OtherRunError(TrainingError):
    """What lies in the folder was made with other settings or images."""


def identity_of(settings: dict[str, Any], images: Mapping[str, Any]) -> Identity:
    """What has to be equal for a run to be the same: settings and images, not the folder they lie in.

    `settings` as a Config dumps them, `images` as `images_record` gives them: what a manifest holds too.
    """
    seen = hashlib.sha256(" ".join(images["seen"]).encode()).hexdigest()
    trained_on = images["fingerprint"][:12]
    return {**_told(settings), "fingerprint of the images": seen[:12], "fingerprint of those trained on": trained_on}


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    whole = completed(settings)
    told = {f"{group}.{name}": value for group in GROUPS for name, value in whole[group].items()}
    del told["train.checkpoint_every"]
    return told


def as_of_today(known: Identity, asked: Identity) -> dict[str, Any]:
    """An identity of any version, with those settings that are `asked` and younger than it at their defaults."""
    defaults = _told({group: {} for group in GROUPS})
    return {**{name: defaults[name] for name in asked if name in defaults}, **known}


def of_training(identity: Identity) -> dict[str, Any]:
    """What an unfinished run has to share: the score is made of what was trained, and may be another one then."""
    return {name: value for name, value in identity.items() if not name.startswith("score.")}


def images_record(train: Loaded, held_out: Loaded, copies: Sequence[str]) -> dict[str, Any]:
    """The images by their content: those trained on as one fingerprint, all that were seen one by one.

    `copies` are the digests of copies of held-out images: seen, where their files hold other bytes than those.
    """
    seen = [digest[:16] for part in (train, held_out) for digest in part.digests]
    seen = sorted([*seen, *{digest[:16] for digest in copies} - {*seen}])
    digests = {sample.name: digest for sample, digest in zip(train.samples, train.digests, strict=True)}
    return {"fingerprint": fingerprint(train.samples, digests), "seen": seen}


def order_of(train: Loaded) -> Identity:
    """What an unfinished run has to share beside: batches are drawn from the images in the order of their names."""
    digest = hashlib.sha256("".join(train.digests).encode()).hexdigest()
    return {ORDER: digest[:12]}


def difference(before: Identity, now: Identity) -> str:
    """What two identities differ in, in words; the first three of it."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    told = [f"{name} was {before.get(name)} and is {now.get(name)}" for name in names[:3]]
    return "; ".join([*told, f"and {len(names) - 3} more"] if len(names) > 3 else told)
