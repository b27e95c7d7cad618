"""Frozen, validated settings and the presets.

Four groups: `Data`, `Model`, `Train`, `Score`; together a `Config`. Each default names where it comes from:
"paper" is a value printed in Xing & Li (2023), "field" the habit of its close relatives, "ours" our choice.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(_Frozen):
    """How images become arrays, and which good images are held out."""

    size: int = Field(128, ge=8, le=4096, description="side of the square the network sees, in pixels (paper)")
    channels: int | None = Field(
        None, ge=1, le=1024, description="image channels; none: what most training images have"
    )
    bits: Literal[8, 16] | None = Field(None, description="bits a value; none: what most training images have")
    fit: Literal["stretch", "pad", "crop"] = Field(
        "stretch", description="non-square images: stretch to the square (paper), pad by the edge, or crop the centre"
    )
    format: Literal["auto", "mvtec", "folder", "csv", "mnist", "oct"] = Field(
        "auto", description="layout of the data; auto: found from what is there"
    )
    normal_dir: str = Field("good", description="folder layout: the good images, relative to the data")
    abnormal_dir: str = Field("defect", description="folder layout: defective images, one sub-folder a kind")
    normal_test_dir: str | None = Field(
        None, description="folder layout: good images kept for testing; none: split off"
    )
    mask_dir: str = Field("mask", description="folder layout: ground truth, <mask_dir>/<kind>/<stem>.png")
    test_share: float = Field(
        0.2, ge=0, le=0.9, description="folder layout: share of good images split off for testing"
    )
    split_seed: int = Field(0, ge=0, description="folder layout: seeds that split")
    normal_class: int = Field(0, ge=0, le=9, description="MNIST: the digit that is normal")
    held_out: float = Field(0.1, ge=0, le=0.5, description="share of good images held out for the threshold (ours)")
    held_out_min: int = Field(20, ge=0, description="held-out images at least, as long as that is at most half (ours)")


class Model(_Frozen):
    """The network (paper, section III; docs/method.md)."""

    widths: tuple[int, ...] = Field((64, 128, 256, 512, 512), description="channels of levels 1..L (field)")
    memory: str = Field("pmb", description="what stands on the lateral links of levels 1..p: a name in MEMORIES")
    memory_levels: int = Field(4, ge=0, description="p, levels that carry a memory (paper)")
    partitions: tuple[int, ...] = Field((16, 16, 16, 8), description="k of levels 1..p, along the height (paper)")
    items: tuple[int, ...] = Field((150, 200, 200, 200), description="m of levels 1..p, items a memory unit (paper)")
    shrinkage: Literal["soft", "hard", "none"] = Field(
        "soft", description="soft: max(0, w - t), Eq. 4 (paper); hard: w where w > t (a step of 1 %); none: w"
    )
    shrink_threshold: float | None = Field(None, ge=0, lt=1, description="delta_m; none: 1/m (paper)")
    renormalise: bool = Field(False, description="divide the shrunk weights by their sum (ours; the paper does not)")
    output: Literal["linear", "sigmoid"] = Field(
        "linear", description="last step of the decoder; a sigmoid reaches black and white only slowly (ours)"
    )
    temperature: float = Field(1.0, gt=0, description="the cosines are divided by it before the softmax (paper: 1)")

    @property
    def levels(self) -> int:
        """L, the number of levels of the encoder."""
        return len(self.widths)

    @model_validator(mode="after")
    def _levels_fit(self) -> Model:
        if not 2 <= self.levels <= 8 or min(self.widths) < 1:
            raise ValueError(f"model.widths: expected 2 to 8 positive channel counts, got {self.widths}")
        if self.memory_levels > self.levels:
            raise ValueError(
                f"model.memory_levels: expected at most {self.levels} (the levels), got {self.memory_levels}"
            )
        for name in ("partitions", "items"):
            values = getattr(self, name)
            if len(values) != self.memory_levels or any(v < 1 for v in values):
                raise ValueError(
                    f"model.{name}: expected {self.memory_levels} positive numbers (model.memory_levels), got {values}"
                )
        return self


class Train(_Frozen):
    """The optimisation (paper, section IV-A, and docs/method.md)."""

    steps: int = Field(2000, ge=1, description="optimiser steps; the budget, never chosen on test images (ours)")
    batch_size: int = Field(20, ge=1, description="images a step (paper)")
    learning_rate: float = Field(0.002, gt=0, description="Adam's rate at the start (paper), cosine to zero (field)")
    ssim_weight: float = Field(0.1, ge=0, description="lambda_SSIM, Eq. 9 (paper)")
    ssim_window: int = Field(11, ge=3, description="side of the SSIM window, odd (field)")
    ssim_sigma: float = Field(1.5, gt=0, description="standard deviation of the Gaussian SSIM window, pixels (field)")
    seed: int = Field(0, ge=0, description="seeds the weights, the order of the images and the held-out choice")
    precision: Literal["auto", "32", "bf16"] = Field("auto", description="auto: bf16 where the device computes in it")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints: what a kill can lose")
    threads: int | None = Field(None, ge=1, description="CPU threads; none: all the process may use")
    device: str = Field("auto", description="auto, cpu, cuda or mps")

    @model_validator(mode="after")
    def _window_is_odd(self) -> Train:
        if self.ssim_window % 2 == 0:
            raise ValueError(f"train.ssim_window: expected an odd number, got {self.ssim_window}")
        return self


class Score(_Frozen):
    """From the error map to the score and the verdict (paper, section III-C)."""

    delta_h: float = Field(
        0.5, ge=0, lt=1, description="share of smallest errors averaged into mu (paper); 0: no histogram step"
    )
    bins: int | None = Field(None, ge=2, le=65536, description="bins of the error histogram; none: exact")
    false_alarm_rate: float = Field(
        0.01, gt=0, lt=1, description="target share of normal images called anomalous (ours)"
    )


class Config(_Frozen):
    """Everything that decides what a training run makes."""

    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    score: Score = Score()
    preset: str | None = Field(None, description="the preset these settings started from")

    @model_validator(mode="after")
    def _size_divides(self) -> Config:
        size, model = self.data.size, self.model
        deepest = 2 ** (model.levels - 1)
        if self.train.ssim_window // 2 >= size:
            raise ValueError(
                f"train.ssim_window: expected less than twice data.size ({size}), got {self.train.ssim_window}"
            )
        if size % deepest:
            raise ValueError(
                f"data.size: expected a multiple of {deepest} ({model.levels} levels halve it), got {size}"
            )
        for level, k in enumerate(model.partitions, start=1):
            height = size >> (level - 1)
            if height % k:
                raise ValueError(
                    f"model.partitions: expected numbers that divide the heights of their levels; "
                    f"level {level} is {height} high, got {k}"
                )
        return self


_TEXTURE_K, _OBJECT_K = (32, 16, 16, 8), (16, 16, 16, 8)


def _paper_mvtec(partitions: tuple[int, ...], name: str) -> Config:
    return Config(
        preset=name,
        data=Data(size=128, held_out=0, held_out_min=0),
        model=Model(
            widths=(64, 128, 256, 512, 512), memory_levels=4, partitions=partitions, items=(150, 200, 200, 200)
        ),
        train=Train(steps=2000, batch_size=20, learning_rate=0.002, ssim_weight=0.1),
        score=Score(delta_h=0.5),
    )


def paper_mvtec_texture() -> Config:
    """Textures of MVTec AD, as the paper sets them.

    Source: section IV-A; k3 of Table VII. Widths, steps and the last step of the decoder are ours (docs/method.md).
    Expected: the paper prints 96.4 / 92.1 (image / pixel AUROC, %, mean of five textures, Tables I and IV).
    What we measured stands in bench/README.md.
    Time: 2,000 steps; hours on two CPU cores, so a GPU is meant. Steps and seconds of our runs: bench/README.md.
    Command: normbank train mvtec_ad/carpet --out runs/carpet --preset paper-mvtec-texture
    """
    return _paper_mvtec(_TEXTURE_K, "paper-mvtec-texture")


def paper_mvtec_object() -> Config:
    """Objects of MVTec AD, as the paper sets them.

    Source: section IV-A; k2 of Table VII. Widths, steps and the last step of the decoder are ours (docs/method.md).
    Expected: the paper prints 89.6 / 92.1 (image / pixel AUROC, %, mean of ten objects, Tables I and IV); bottle 95.2 /
    93.7, transistor 92.4 / 80.8. What we measured stands in bench/README.md.
    Time: 2,000 steps; hours on two CPU cores, so a GPU is meant. Steps and seconds of our runs: bench/README.md.
    Command: normbank train mvtec_ad/bottle --out runs/bottle --preset paper-mvtec-object
    """
    return _paper_mvtec(_OBJECT_K, "paper-mvtec-object")


def paper_mnist() -> Config:
    """One MNIST digit against the rest, as the paper sets it.

    Source: section IV-A; Table VIII, k = (1, 1, 1). 32 x 32, since 28 cannot be cut as Table VIII cuts it; p = L, so
    the bottleneck passes through a memory, too.
    Expected: the paper prints 98.1 (AUROC, %, mean of ten digits, Table II).
    Time: 2,000 steps of 64 images.
    Command: normbank train mnist --out runs/digit3 --preset paper-mnist --set data.normal_class=3
    """
    return Config(
        preset="paper-mnist",
        data=Data(size=32, held_out=0, held_out_min=0),
        model=Model(widths=(64, 128, 256), memory_levels=3, partitions=(1, 1, 1), items=(10, 10, 10)),
        train=Train(steps=2000, batch_size=64, learning_rate=0.002, ssim_weight=0.1),
        score=Score(delta_h=0.5),
    )


def paper_oct() -> Config:
    """Retinal OCT images, as the paper sets them.

    Source: section IV-A; Table VIII, k = (2, 2, 2). The data are OCT2017 (Kermany et al.), trained on NORMAL.
    Expected: the paper prints 98.0 (AUROC, %, Table III).
    Time: 4,000 steps of 20 images.
    Command: normbank train OCT2017 --out runs/oct --preset paper-oct
    """
    return Config(
        preset="paper-oct",
        data=Data(size=128, held_out=0, held_out_min=0),
        model=Model(widths=(64, 128, 256, 512), memory_levels=3, partitions=(2, 2, 2), items=(10, 10, 10)),
        train=Train(steps=4000, batch_size=20, learning_rate=0.002, ssim_weight=0.1),
        score=Score(delta_h=0.5),
    )


def paper_small() -> Config:
    """The paper's method for two CPU cores: a quarter of the channels, 400 steps, a read that reads.

    Source: section III with widths of a quarter. Eq. 4 as printed leaves weights that sum to a few hundredths, so the
    read here keeps weights above 1/m as they are and divides them by their sum (docs/method.md says why). The score is
    the paper's. A tenth of the good images, at least 20, is held out for the threshold.
    Expected: MVTec bottle 92 / 87 (image / pixel AUROC, %, one seed; bench/README.md).
    Time: about 5 minutes on two CPU cores with bfloat16.
    Command: normbank train mvtec_ad/bottle --out runs/bottle --preset paper-small
    """
    return Config(
        preset="paper-small",
        data=Data(size=128),
        model=Model(
            widths=(16, 32, 64, 128, 128),
            memory_levels=4,
            partitions=_OBJECT_K,
            items=(150, 200, 200, 200),
            shrinkage="hard",
            renormalise=True,
        ),
        train=Train(steps=400, batch_size=20, learning_rate=0.002, ssim_weight=0.1),
        score=Score(delta_h=0.5),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "paper-mvtec-texture": paper_mvtec_texture,
    "paper-mvtec-object": paper_mvtec_object,
    "paper-mnist": paper_mnist,
    "paper-oct": paper_oct,
    "paper-small": paper_small,
}
DEFAULT_PRESET = "paper-small"


def preset(name: str = DEFAULT_PRESET, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Config:
    """The preset of that name with `overrides` applied: `{"train.steps": 100}` or `["train.steps=100"]`.

    Raises ConfigError for an unknown preset or field, naming the nearest there is.
    """
    if name not in PRESETS:
        raise ConfigError(_unknown("preset", name, PRESETS))
    return override(PRESETS[name](), overrides)


def override(config: Config, overrides: Mapping[str, Any] | Sequence[str]) -> Config:
    """`config` with dotted fields replaced; text values are read as JSON where they are JSON, `a,b,c` as a list."""
    if not isinstance(overrides, Mapping):
        overrides = dict(_split_assignment(text) for text in overrides)
    values = config.model_dump()
    for dotted, value in overrides.items():
        group, field = _locate(dotted)
        values[group][field] = _parse(value, dotted) if isinstance(value, str) else value
    return from_dict(values)


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


def _groups() -> dict[str, type[_Frozen]]:
    return {"data": Data, "model": Model, "train": Train, "score": Score}


def _locate(dotted: str) -> tuple[str, str]:
    if dotted not in fields():
        raise ConfigError(_unknown("setting", dotted, fields()))
    group, field = dotted.split(".")
    return group, field


def _unknown(kind: str, name: str, known: Mapping[str, Any]) -> str:
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
    if text in choices or str in (kind, *choices):  # "32" may name a precision, and "2024" a folder
        return text
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(f"[{text.strip('[](), ')}]" if get_origin(kind) is tuple else text)
    return text


def _validation_message(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"][:2])
    if first["type"] == "extra_forbidden":
        return _unknown("setting", where, fields())
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    told = fields().get(where)
    return f"{where}: {message}, got {first['input']!r}" + (f" ({told})." if told else ".")
