"""A whole configuration: the four groups of `settings.py`, what must fit across them, and how one is changed.

The named ones stand in `presets.py`.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import Field, ValidationError, model_validator

from .errors import ConfigError, problem
from .settings import COLDEST, READING, SSIM_WINDOW, Data, Frozen, Model, Score, Train

GROUPS = ("data", "model", "train", "score")  # of the settings
SIZES = range(16, 1025, 16)  # of which one that goes is named
LEAST_SPOILT = 8  # pixels a side, of an image that defects are made in
_PART_NEEDS: dict[str, tuple[str, ...]] = {
    "head": ("head_width",),
    "latent": ("critic_width",),
    "memory": ("memory_levels",),
    "bank": ("bank",),
    "marked": ("head_width", "bank"),
}


class Config(Frozen):
    """Everything that decides what a training run makes."""

    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    score: Score = Score()
    preset: str | None = Field(None, description="the preset these settings started from")

    @property
    def network_size(self) -> int:
        """Side at which all but the bank see an image."""
        return self.model.network_size or self.data.size

    @property
    def reduction(self) -> int:
        """How many pixels of an image, along a side, are one of the network's: 1, 2, 4, ..."""
        return self.data.size // self.network_size

    @model_validator(mode="after")
    def _groups_fit(self) -> Config:
        if self.model.network_size >= self.data.size:  # said in one way, so that equal settings are equal
            object.__setattr__(self, "model", self.model.model_copy(update={"network_size": 0}))
        for check in (_parts_can_be_made, _sizes_fit, _trunk_fits, _memories_can_read, _companions_can_learn):
            check(self)
        return self


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a manifest of any version holds them, those younger than it at their defaults.

    A new setting's default leaves everything as it was before there was one, so that finished models stay what they
    are.
    """
    whole = Config().model_dump(mode="json")
    return {name: {**whole[name], **value} if name in GROUPS else value for name, value in settings.items()}


def _expect(holds: bool, field: str, expected: str, came: object) -> None:
    if not holds:
        raise ValueError(f"{field}: expected {expected}, got {came}")


def _parts_can_be_made(config: Config) -> None:
    for part in config.score.parts:
        for field in _PART_NEEDS.get(part, ()):
            _expect(getattr(config.model, field) > 0, "score.parts", f"model.{field} above 0 for the part {part!r}", 0)
    told = "a memory for the part 'memory'"
    _expect("memory" not in config.score.parts or config.model.has_memory, "model.memory", told, "'none'")


def _size_name(config: Config) -> str:
    return "model.network_size" if config.model.network_size else "data.size"


def _sizes_fit(config: Config) -> None:
    whole, size, name = config.data.size, config.network_size, _size_name(config)
    model, train, halved = config.model, config.train, config.reduction
    told = f"model.network_size ({size}) times 2, 4, 8, ..., or at most that (0 there shows the network all)"
    _expect(size * halved == whole and halved.bit_count() == 1, "data.size", told, whole)
    window, smooth = train.ssim_window, config.score.smooth
    told = f"less than twice {name} ({size})"
    _expect(window // 2 < size or not train.ssim_weight, "train.ssim_window", told, window)
    _expect(size > SSIM_WINDOW // 2 or "ssim" not in config.score.parts, name, "6 or more for the part 'ssim'", size)
    _expect(size >= LEAST_SPOILT or not train.corrupt, name, f"{LEAST_SPOILT} or more for train.corrupt above 0", size)
    _expect(smooth <= whole, "score.smooth", f"at most data.size ({whole})", smooth)
    if model.trunk == "unet":
        deepest, told = 2 ** (model.levels - 1), f"({model.levels} levels halve it)"
        _expect(size % deepest == 0, name, f"a multiple of {deepest} {told}", size)
        told = f"2 or more where the lowest of {model.levels} levels is a single pixel ({name} {size})"
        _expect(size > deepest or train.batch_size > 1, "train.batch_size", told, train.batch_size)
    for level, k in zip(model.memory_places, model.partitions, strict=True):
        side = size >> (level - 1)
        told = f"numbers that divide the heights of their levels; level {level} is {side} high"
        _expect(side % k == 0, "model.partitions", told, k)
        told = f"numbers that divide the widths of their levels; level {level} is {side} wide"
        _expect(side % model.columns_at(level) == 0, "model.columns", told, model.columns_at(level))


def _trunk_fits(config: Config) -> None:
    size, name, model = config.network_size, _size_name(config), config.model
    if model.trunk == "bergmann":
        told = "0 for model.trunk=bergmann, which has no place for memories (the preset ae-l2 is set so)"
        _expect(model.memory_levels == 0, "model.memory_levels", told, model.memory_levels)
        _expect(size % 16 == 0, name, "a multiple of 16 for model.trunk=bergmann", size)
        _expect(model.output == "linear", "model.output", "linear for model.trunk=bergmann", repr(model.output))
    if model.head_width:
        _expect(size % 8 == 0, name, "a multiple of 8 for model.head_width above 0", size)
        told = f"2 or more where the lowest of the head's 4 levels is a single pixel ({name} 8)"
        _expect(size > 8 or config.train.batch_size > 1, "train.batch_size", told, config.train.batch_size)
    if model.bank:
        _expect(size % 4 == 0, name, "a multiple of 4 for model.bank above 0", size)
    _expect(bool(model.bank) or not model.patches, "model.patches", "0 where model.bank is 0", model.patches)
    if model.critic_width:
        _expect(size % 16 == 0, name, "a multiple of 16 for model.critic_width above 0", size)


def _memories_can_read(config: Config) -> None:
    model, train = config.model, config.train
    fewest = min(model.items, default=2)
    if model.memory == "mnad":
        _expect(fewest > 1, "model.items", "2 or more for model.memory=mnad, which asks for a second nearest", fewest)
    elif model.has_memory and model.shrinkage != "none" and model.shrink_threshold is None:
        told = f"2 or more for model.shrinkage={model.shrinkage}, since a single item's weight is its threshold 1/m"
        _expect(fewest > 1, "model.items", told, fewest)
    banked = model.memory == "pmb" and model.has_memory
    _expect(banked or model.columns is None, "model.columns", "none unless model.memory=pmb stands", model.columns)
    _expect(banked or not model.gate, "model.gate", "false unless model.memory=pmb stands", model.gate)
    learns = model.has_memory and model.memory != "mnad"
    told = "false where no memory stands, and for model.memory=mnad, whose temperature is fixed"
    _expect(learns or not model.learn_temperature, "model.learn_temperature", told, model.learn_temperature)
    told = f"{COLDEST} or more for model.learn_temperature, which does not fall below"
    _expect(not model.learn_temperature or model.temperature >= COLDEST, "model.temperature", told, model.temperature)
    moved = model.has_memory and model.memory == "mnad"
    told = "0 for model.memory=mnad, whose items are moved, not learnt: their average is none"
    _expect(not moved or not train.average, "train.average", told, train.average)
    for name in ("entropy_weight", "penalty_weight"):
        weight = getattr(train, name)
        told = "0 where no memory stands (model.memory, model.memory_levels)"
        _expect(model.has_memory or not weight, f"train.{name}", told, weight)


def _companions_can_learn(config: Config) -> None:
    model, train = config.model, config.train
    if model.head_width:
        _expect(train.corrupt > 0, "train.corrupt", "above 0 for model.head_width above 0: defects to learn from", 0)
        _expect(train.head_weight > 0, "train.head_weight", "above 0 for model.head_width above 0", 0)
    if train.adversarial_weight:
        told = "above 0 for train.adversarial_weight above 0: a discriminator to fool"
        _expect(model.critic_width > 0, "model.critic_width", told, 0)


def override(config: Config, overrides: Mapping[str, Any] | Sequence[str]) -> Config:
    """`config` with dotted fields replaced; text values are read as JSON where they are JSON, `a,b,c` as a list."""
    values = config.model_dump()
    for dotted, value in overrides_of(overrides).items():
        group, field = _locate(dotted)
        values[group][field] = _parse(value, dotted) if isinstance(value, str) else value
    try:
        return from_dict(values)
    except ConfigError as error:
        told = _sizes_that_go(values)
        raise ConfigError(f"{str(error).rstrip('.')}. {told}" if told else str(error)) from None


def _sizes_that_go(values: Mapping[str, Any]) -> str:
    """The nearest `data.size` on both sides that all other values go with, in words; nothing where none does."""
    asked = values["data"]["size"]
    if not isinstance(asked, int):
        return ""
    sizes = [size for size in SIZES if takes_size(values, size)]
    near = [*[size for size in sizes if size < asked][-1:], *[size for size in sizes if size > asked][:1]]
    return f"With all else as it is, data.size={' or '.join(map(str, near))} goes." if near else ""


def takes_size(values: Mapping[str, Any], size: int) -> bool:
    """Whether a Config's values go with this `data.size`."""
    try:
        Config.model_validate({**values, "data": {**values["data"], "size": size}})
    except ValidationError:
        return False
    return True


def override_reading(config: Config, overrides: Mapping[str, Any] | Sequence[str]) -> Config:
    """`override` of a detector's settings; ConfigError for one that training has fixed, which would change nothing."""
    asked = overrides_of(overrides)
    chosen = override(config, asked)
    if other := next((name for name in asked if name not in READING), None):
        expected = f"a setting of how the data are read ({', '.join(READING)})"
        do = "All others were fixed when the detector was trained: train another."
        if other == "score.false_alarm_rate":
            do = "For another rate there is --false-alarm-rate."
        raise ConfigError(problem("--set", expected=expected, came=repr(other), do=do))
    return chosen


def overrides_of(overrides: Mapping[str, Any] | Sequence[str]) -> Mapping[str, Any]:
    """Values by dotted field, of a mapping as it is or of texts like "train.steps=100"; ConfigError without an "="."""
    if isinstance(overrides, Mapping):
        return overrides
    return dict(_split_assignment(text) for text in overrides)


def from_dict(values: Mapping[str, Any]) -> Config:
    """A validated Config; ConfigError names the field, what was expected and what came."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_validation_message(error)) from None


def fields() -> dict[str, str]:
    """Every dotted field with its description: what `--set` can reach."""
    return {
        f"{group}.{field}": info.description or ""
        for group, model in _groups().items()
        for field, info in model.model_fields.items()
    }


def _groups() -> dict[str, type[Frozen]]:
    return {"data": Data, "model": Model, "train": Train, "score": Score}


def _locate(dotted: str) -> tuple[str, str]:
    if dotted not in fields():
        raise ConfigError(unknown("setting", dotted, fields()))
    group, field = dotted.split(".")
    return group, field


def unknown(kind: str, name: str, known: Mapping[str, Any]) -> str:
    """The message for a name that is not among `known`, with the nearest that is."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0) or sorted(known)
    return f"unknown {kind} {name!r}: the nearest there is is {near[0]!r}. Known: {', '.join(known)}."


def _split_assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: expected group.field=value, got no '='. For example: --set train.steps=500")
    return name.strip(), value.strip()


def _parse(text: str, dotted: str) -> Any:
    """JSON where it is JSON; `none` is null where the field may be null; `8,4,2` is a list; else the text itself."""
    group, field = dotted.split(".")
    kind = _groups()[group].model_fields[field].annotation
    choices = get_args(kind)
    if text.lower() == "none" and type(None) in choices:
        return None
    if tuple in (kind, get_origin(kind), *map(get_origin, choices)):
        return _parse_list(text)
    if text in choices or str in (kind, *choices):  # "32" may name a precision, and "2024" a folder
        return text
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text)
    return text


def _parse_list(text: str) -> list[Any]:
    inner = text.strip("[](), ")
    with contextlib.suppress(json.JSONDecodeError):
        return list(json.loads(f"[{inner}]"))
    return [part.strip(" \"'") for part in inner.split(",")]


def _validation_message(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"][:2])
    if first["type"] == "extra_forbidden":
        return unknown("setting", where, fields())
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    told = fields().get(where)
    return f"{where}: {message}, got {first['input']!r}" + (f" ({told})." if told else ".")
