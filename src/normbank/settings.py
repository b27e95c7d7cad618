"""The four groups of settings, frozen and validated: `Data`, `Model`, `Train`, `Score`.

Each default names where it comes from: "paper" is a value printed in Xing & Li (2023), "field" the habit of its close
relatives, "ours" our choice. What fits together across groups is checked in `config.py`.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Part = Literal[
    "absolute", "squared", "ssim", "gradient", "colour", "level_free", "memory", "latent", "head", "bank", "marked"
]


COLDEST = 0.005  # a learnt temperature does not fall below: the softmax would be a choice, and learn no more
HEAVIEST = 1e6  # weight of a part or of a term of the loss: sums of 32 bits lose the others far below that
MOST = 10**6  # channels, items, images at once: no machine has room for more
SSIM_WINDOW = 11  # of the loss unless set, and of the part `ssim`


class Frozen(BaseModel):
    """Settings that cannot be changed, and know every name they are given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        """Pydantic takes true for 1."""
        for name, value in values.items() if isinstance(values, dict) else ():
            kind = cls.model_fields[name].annotation if name in cls.model_fields else bool
            held = value if isinstance(value, (list, tuple)) else (value,)
            if bool not in (kind, *get_args(kind)) and any(isinstance(one, bool) for one in held):
                raise ValueError(f"{cls.__name__.lower()}.{name}: expected neither true nor false, got {value}")
        return values


# What decides which files are read as what, and may be another for each folder a detector meets.
READING = (
    *("data.format", "data.normal_dir", "data.abnormal_dir", "data.normal_test_dir", "data.mask_dir"),
    *("data.test_share", "data.split_seed", "data.normal_class"),
)


class Data(Frozen):
    """How images become arrays, and which good images are held out."""

    size: int = Field(128, ge=8, le=4096, description="side of the square that images become, in pixels (paper)")
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


class Model(Frozen):
    """The network (paper, section III; docs/method.md, docs/ingredients.md)."""

    widths: tuple[int, ...] = Field((64, 128, 256, 512, 512), description="channels of levels 1..L (field)")
    trunk: Literal["unet", "bergmann"] = Field(
        "unet", description="unet: the paper's; bergmann: the autoencoder of AE-L2 and AE-SSIM, which ignores widths"
    )
    latent: int = Field(100, ge=1, le=MOST, description="bergmann: values of the bottleneck (field: 100, objects 500)")
    lateral: bool = Field(
        True,
        description="raw lateral links; false: cut, so that the decoder sees reads and the bottleneck alone (MemAE)",
    )
    memory: str = Field("pmb", description="what stands on the links of the memory's levels: a name in MEMORIES")
    memory_levels: int = Field(4, ge=0, description="p, levels that carry a memory, from 1 on (paper)")
    memory_at: tuple[int, ...] | None = Field(
        None, description="the levels that carry a memory, p of them; none: 1..p (paper)"
    )
    partitions: tuple[int, ...] = Field((16, 16, 16, 8), description="k of levels 1..p, along the height (paper)")
    columns: tuple[int, ...] | None = Field(
        None, description="pmb: partitions of levels 1..p along the width, too; none: the width is whole (paper)"
    )
    items: tuple[int, ...] = Field((150, 200, 200, 200), description="m of levels 1..p, items a memory unit (paper)")
    shrinkage: Literal["soft", "hard", "none"] = Field(
        "soft", description="soft: max(0, w - t), Eq. 4 (paper); hard: w where w > t (a step of 1 %); none: w"
    )
    shrink_threshold: float | None = Field(None, ge=0, lt=1, description="delta_m; none: 1/m (paper)")
    renormalise: bool = Field(False, description="divide the shrunk weights by their sum (ours; the paper does not)")
    output: Literal["linear", "sigmoid"] = Field(
        "linear", description="last step of the decoder; a sigmoid reaches black and white only slowly (ours)"
    )
    temperature: float = Field(
        1.0, ge=1e-4, le=100, description="the cosines are divided by it before the softmax (paper: 1)"
    )
    learn_temperature: bool = Field(
        False, description="the temperature of each memory is learnt, from model.temperature on (ours)"
    )
    gate: bool = Field(
        False, description="pmb: a learnt share of the raw features joins the read on each memory's link (ours)"
    )
    upright: Literal["none", "auto", "always"] = Field(
        "none",
        description="each image is turned about its middle until it lies as the good ones do, its map turned back; "
        "auto: where they lie at any angle (ours)",
    )
    steady: Literal["none", "auto", "always"] = Field(
        "none",
        description="each image is moved until it lies where the good ones do, by a fifth of its side at most (what is "
        "turned, too, by less than half), its map moved back; auto: where they lie at different places (ours)",
    )
    edges: bool = Field(False, description="the network sees the image's edges, not the image (field: EdgRec)")
    head_width: int = Field(0, ge=0, le=MOST, description="channels of the segmentation head; 0: none (field: DRAEM)")
    network_size: int = Field(
        0,
        ge=0,
        description="side at which all but the bank see the image: data.size halved once or more; 0, or no less than "
        "data.size: as it is (ours)",
    )
    bank: int = Field(
        0,
        ge=0,
        description="cells of 4 x 4 pixels of the network's size remembered at most, each at its place, for the part "
        "bank: a million are 976 images of 32 x 32 cells, and it holds one in any case; fewer where many channels "
        "make them long; 0: none (ours; field: PatchCore)",
    )
    patches: int = Field(
        0,
        ge=0,
        description="patches of 3 x 3 cells remembered at most beside them for the part bank, wherever they were; "
        "fewer where many channels make them long; 0: none (ours; field: PatchCore)",
    )
    critic_width: int = Field(
        0, ge=0, le=MOST, description="channels of the discriminator's first level; 0: none (field: DAAD+)"
    )

    @property
    def levels(self) -> int:
        """L, the number of levels of the encoder."""
        return len(self.widths)

    @property
    def has_memory(self) -> bool:
        """Whether a memory stands on any level."""
        return self.memory != "none" and self.memory_levels > 0

    @property
    def memory_places(self) -> tuple[int, ...]:
        """The levels that carry a memory, counted from 1."""
        return tuple(range(1, self.memory_levels + 1)) if self.memory_at is None else self.memory_at

    def partitions_at(self, level: int) -> int:
        """k of a level that carries a memory."""
        return self.partitions[self.memory_places.index(level)]

    def columns_at(self, level: int) -> int:
        """Partitions along the width of a level that carries a memory."""
        return 1 if self.columns is None else self.columns[self.memory_places.index(level)]

    def items_at(self, level: int) -> int:
        """m of a level that carries a memory."""
        return self.items[self.memory_places.index(level)]

    @model_validator(mode="after")
    def _numbers_fit_a_machine(self) -> Model:
        for name in ("widths", "items"):
            if max(values := getattr(self, name), default=0) > MOST:
                raise ValueError(f"model.{name}: expected numbers up to {MOST}, got {values}")
        return self

    @model_validator(mode="after")
    def _levels_fit(self) -> Model:
        if not 2 <= self.levels <= 8 or min(self.widths) < 1:
            raise ValueError(f"model.widths: expected 2 to 8 positive channel counts, got {self.widths}")
        if self.memory_levels > self.levels:
            raise ValueError(
                f"model.memory_levels: expected at most {self.levels} (the levels), got {self.memory_levels}"
            )
        places = self.memory_places
        if (
            sorted(set(places)) != list(places)
            or len(places) != self.memory_levels
            or not set(places) <= set(range(1, self.levels + 1))
        ):
            raise ValueError(
                f"model.memory_at: expected {self.memory_levels} rising levels (model.memory_levels) of 1 to "
                f"{self.levels}, got {places}"
            )
        for name in ("partitions", "items", "columns"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != self.memory_levels or any(v < 1 for v in values):
                raise ValueError(
                    f"model.{name}: expected {self.memory_levels} positive numbers (model.memory_levels), got {values}"
                )
        return self


class Train(Frozen):
    """The optimisation (paper, section IV-A, and docs/method.md, docs/ingredients.md)."""

    steps: int = Field(2000, ge=1, description="optimiser steps; the budget, never chosen on test images (ours)")
    batch_size: int = Field(20, ge=1, le=MOST, description="images a step (paper)")
    learning_rate: float = Field(0.002, gt=0, description="Adam's rate at the start (paper), cosine to zero (field)")
    weight_decay: float = Field(0.0, ge=0, description="Adam's L2 term on the weights (field: AE-L2 has 1e-5)")
    mse_weight: float = Field(1.0, ge=0, le=HEAVIEST, description="weight of L_MSE in Eq. 9 (paper: 1)")
    ssim_weight: float = Field(0.1, ge=0, le=HEAVIEST, description="lambda_SSIM, Eq. 9 (paper)")
    gradient_weight: float = Field(
        0.0, ge=0, le=HEAVIEST, description="weight of the gradient similarity of image and reconstruction"
    )
    entropy_weight: float = Field(
        0.0, ge=0, le=HEAVIEST, description="weight of the entropy of the memory's weights (field: MemAE 2e-4)"
    )
    penalty_weight: float = Field(
        0.0, ge=0, le=HEAVIEST, description="weight of the memory's own terms (field: MNAD 0.1)"
    )
    adversarial_weight: float = Field(
        0.0, ge=0, le=HEAVIEST, description="weight of the discriminator's term (field: DAAD+)"
    )
    head_weight: float = Field(
        1.0, ge=0, le=HEAVIEST, description="weight of the segmentation head's focal loss (field: DRAEM)"
    )
    corrupt: float = Field(
        0.0, ge=0, le=1, description="share of images corrupted with made defects, the target staying clean"
    )
    jitter: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="largest change of brightness in training, of full scale, asked back as it is (ours)",
    )
    exposure: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest change of exposure in training, a share of an image's values, asked back as it is (ours)",
    )
    flips: Literal["none", "auto", "left-right", "up-down", "both"] = Field(
        "none", description="mirrors put before half of the images; auto: those that leave the good images alike (ours)"
    )
    shifts: Literal["none", "auto", "left-right", "up-down", "both"] = Field(
        "none",
        description="images are shown shifted by up to half their side, mirrored at the border; "
        "auto: in the ways that leave the good images alike (ours)",
    )
    average: float = Field(
        0.0, ge=0, lt=1, description="decay of a running average of the weights, which is what is kept; 0: none (ours)"
    )
    ssim_window: int = Field(SSIM_WINDOW, ge=3, description="side of the SSIM window, odd (field)")
    ssim_sigma: float = Field(
        1.5, ge=0.01, le=1000, description="standard deviation of the Gaussian SSIM window, pixels (field)"
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="seeds the weights, the order of the images and the held-out choice"
    )
    precision: Literal["auto", "32", "bf16"] = Field("auto", description="auto: bf16 where the device computes in it")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints: what a kill can lose")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; none: all the process may use")
    device: str = Field("auto", description="auto, cpu, cuda or mps")

    @model_validator(mode="after")
    def _window_is_odd(self) -> Train:
        if self.ssim_window % 2 == 0:
            raise ValueError(f"train.ssim_window: expected an odd number, got {self.ssim_window}")
        return self

    @model_validator(mode="after")
    def _something_is_learnt(self) -> Train:
        if not (self.mse_weight or self.ssim_weight or self.gradient_weight):
            raise ValueError(
                "train.mse_weight: expected one of mse_weight, ssim_weight and gradient_weight above 0, got 0 for all"
            )
        return self


class Score(Frozen):
    """From the error map to the score and the verdict (paper, section III-C)."""

    parts: tuple[Part, ...] = Field(
        ("absolute",), min_length=1, description="maps that are added up (docs/ingredients.md); absolute: Eq. 1 (paper)"
    )
    weights: tuple[float, ...] = Field((1.0,), min_length=1, description="the factor of each part")
    smooth: int = Field(1, ge=1, description="side of the mean filter over the map, odd pixels; 1: none (paper)")
    smooth_first: bool = Field(False, description="smooth before the histogram step, not after it")
    pool: Literal["sum", "max", "mean", "top"] = Field(
        "sum", description="from map to score: sum (paper), largest, mean, or mean of the top share"
    )
    top_share: float = Field(0.01, gt=0, le=1, description="top: the share of largest values that is averaged")
    delta_h: float = Field(
        0.5, ge=0, lt=1, description="share of smallest errors averaged into mu (paper); 0: no histogram step"
    )
    bins: int | None = Field(None, ge=2, le=65536, description="bins of the error histogram; none: exact")
    false_alarm_rate: float = Field(
        0.01, gt=0, lt=1, description="target share of normal images called anomalous (ours)"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Score:
        if len(set(self.parts)) < len(self.parts):
            raise ValueError(f"score.parts: expected each part once, got {self.parts}")
        if len(self.weights) != len(self.parts) or min(self.weights) < 0:
            raise ValueError(
                f"score.weights: expected {len(self.parts)} numbers of 0 or more (score.parts), got {self.weights}"
            )
        if max(self.weights) > HEAVIEST:
            raise ValueError(f"score.weights: expected numbers up to {HEAVIEST:g}, got {self.weights}")
        if not max(self.weights):
            raise ValueError(f"score.weights: expected one at least above 0, got {self.weights}")
        if self.smooth % 2 == 0:
            raise ValueError(f"score.smooth: expected an odd number, got {self.smooth}")
        return self
