"""The presets: every setting of a run under a name, as plain code that one can read.

Each opens with its source, what it should reach, in what time, and the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .config import Config, override, unknown
from .errors import ConfigError
from .settings import Data, Model, Score, Train

_BANK = 1_000_000  # cells: 976 images of 32 x 32
_PATCHES = 20_000
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

    Source: section III with widths of a quarter. Eq. 4 as printed leaves weights that sum to a few hundredths, so
    the read here keeps weights above 1/m as they are and divides them by their sum (docs/ingredients.md says why).
    The score is the paper's. A tenth of the good images, at least 20, is held out for the threshold.
    Expected: MVTec bottle 89 to 92 / 85 to 87 (image / pixel AUROC, %; bench/README.md).
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


def _ours(name: str, widths: tuple[int, ...], head_width: int, steps: int, batch_size: int) -> Config:
    """The paper's memory and residual, trained to restore made defects; judged by head and bank."""
    return Config(
        preset=name,
        data=Data(size=256),
        model=Model(
            network_size=128,
            widths=widths,
            memory_levels=4,
            partitions=_OBJECT_K,
            items=(150, 200, 200, 200),
            shrinkage="hard",
            renormalise=True,
            temperature=0.1,
            head_width=head_width,
            bank=_BANK,
            patches=_PATCHES,
            upright="auto",
            steady="auto",
        ),
        train=Train(
            steps=steps,
            batch_size=batch_size,
            learning_rate=0.002,
            gradient_weight=0.3,
            corrupt=0.5,
            jitter=0.1,
            flips="auto",
            shifts="auto",
        ),
        score=Score(parts=("head", "bank"), weights=(1.0, 2.0), smooth=5, pool="max", delta_h=0),
    )


def standard() -> Config:
    """Ours, beyond the paper: half the paper's channels, made defects, a segmentation head, a bank of good images.

    Source: docs/method.md, "Beyond the paper". Choices were made on defects made on held-out good images;
    bench/README.md lists those that were not blind.
    Expected: MVTec bottle 99.9 / 99.0, transistor 99.8 / 97.5 (image / pixel AUROC, %; three seeds; bench/README.md).
    Time: 1,000 steps of 20 images and the bank: under 3 minutes on an H200; `normbank train` says beforehand how long
    the steps take on your machine.
    Command: normbank train mvtec_ad/bottle --out runs/bottle --preset standard
    """
    return _ours("standard", (32, 64, 128, 256, 256), head_width=32, steps=1000, batch_size=20)


def small() -> Config:
    """Ours for two CPU cores: as `standard`, with a quarter of the paper's channels and of the training of `standard`.

    Source: docs/method.md, "Beyond the paper". Choices were made on defects made on held-out good images;
    bench/README.md lists those that were not blind.
    Expected: MVTec bottle 99.9 / 98.8, transistor 99.3 / 97.6 (image / pixel AUROC, %; three seeds; bench/README.md).
    Time: 600 steps of 8 images and the bank: 14 to 15 minutes on two CPU cores without bfloat16 and AVX-512,
    5 with them.
    Command: normbank train mvtec_ad/bottle --out runs/bottle --preset small
    """
    return _ours("small", (16, 32, 64, 128, 128), head_width=16, steps=600, batch_size=8)


def fast() -> Config:
    """Ours in a minute: the bank of good images alone, beside a narrow autoencoder for the eye.

    Source: docs/method.md, "Beyond the paper". The score is the bank's; the reconstruction is a sketch.
    Expected: MVTec bottle 99.7 / 98.2, transistor 98.0 / 97.0 (image / pixel AUROC, %; bench/README.md).
    Time: 60 steps of 4 images and the bank: half a minute for 200 images on one CPU core with bfloat16.
    Command: normbank train mvtec_ad/bottle --out runs/bottle --preset fast
    """
    return Config(
        preset="fast",
        data=Data(size=256),
        model=Model(
            network_size=128,
            widths=(8, 16, 32, 64, 64),
            memory_levels=4,
            partitions=_OBJECT_K,
            items=(50, 50, 50, 50),
            shrinkage="hard",
            renormalise=True,
            bank=_BANK,
            patches=_PATCHES,
            upright="auto",
            steady="auto",
        ),
        train=Train(steps=60, batch_size=4, learning_rate=0.002),
        score=Score(parts=("bank",), smooth=5, pool="max", delta_h=0),
    )


def _baseline(name: str, model: Model, train: Train, score: Score) -> Config:
    return Config(preset=name, data=Data(size=128, held_out=0, held_out_min=0), model=model, train=train, score=score)


_WIDTHS = (64, 128, 256, 512, 512)
_NO_MEMORY = {"memory": "none", "memory_levels": 0, "partitions": (), "items": ()}
_BERGMANN = Model(widths=_WIDTHS, trunk="bergmann", **_NO_MEMORY)
_AT_THE_BOTTLENECK = {
    "widths": _WIDTHS,
    "lateral": False,
    "memory_levels": 1,
    "memory_at": (5,),
    "partitions": (1,),
}
_ERROR_SUM = Score(parts=("squared",), delta_h=0)  # what a reconstruction error is, where a source says no more


def ae_l2() -> Config:
    """AE-L2: the plain convolutional autoencoder, squared error.

    Source: Bergmann et al. 2018 (arXiv 1807.02011), row AE-L2 of Table V. For objects set model.latent=500. Their
    length of training is given in epochs; the steps and the cosine are ours.
    Expected: the paper prints 80 / 71 for bottle / transistor, which is no AUROC (bench/README.md).
    Time: 2,000 steps of 20 images, 2 to 3 minutes on two CPU cores with bfloat16.
    Command: normbank train mvtec_ad/bottle --out runs/ae-l2 --preset ae-l2 --set model.latent=500
    """
    return _baseline(
        "ae-l2",
        _BERGMANN,
        Train(steps=2000, learning_rate=2e-4, weight_decay=1e-5, ssim_weight=0),
        _ERROR_SUM,
    )


def ae_ssim() -> Config:
    """AE-SSIM: the same autoencoder, structural similarity as loss and as error.

    Source: Bergmann et al. 2018, row AE-SSIM of Table V. For objects set model.latent=500.
    Expected: the paper prints 88 / 52 for bottle / transistor, which is no AUROC (bench/README.md).
    Time: 2,000 steps of 20 images, about 4 minutes on two CPU cores with bfloat16.
    Command: normbank train mvtec_ad/bottle --out runs/ae-ssim --preset ae-ssim --set model.latent=500
    """
    return _baseline(
        "ae-ssim",
        _BERGMANN,
        Train(steps=2000, learning_rate=2e-4, weight_decay=1e-5, mse_weight=0, ssim_weight=1),
        Score(parts=("ssim",), delta_h=0),
    )


def ae_skip() -> Config:
    """AE+skip: our trunk with raw lateral links, squared error alone.

    Source: row AE+skip of Table V, which takes it from DAAD (Hou et al. 2021).
    Expected: the paper prints 71.3 / 74.9 for bottle / transistor.
    Time: 2,000 steps of 20 images; hours on two CPU cores.
    Command: normbank train mvtec_ad/bottle --out runs/ae-skip --preset ae-skip
    """
    return _baseline(
        "ae-skip",
        Model(widths=_WIDTHS, **_NO_MEMORY),
        Train(steps=2000, ssim_weight=0),
        _ERROR_SUM,
    )


def memae() -> Config:
    """MemAE: no lateral links, one memory of channel vectors at the bottleneck.

    Source: Gong et al. 2019 (arXiv 1904.02639), row MemAE of Table V: hard shrinkage at 1/N, renormalised, entropy of
    the weights x 2e-4; N = 500 of the 500 to 2,000 they use.
    Expected: the paper prints 95.4 / 79.3 for bottle / transistor.
    Time: 2,000 steps of 20 images; hours on two CPU cores.
    Command: normbank train mvtec_ad/bottle --out runs/memae --preset memae
    """
    return _baseline(
        "memae",
        Model(memory="memae", items=(500,), shrinkage="hard", renormalise=True, **_AT_THE_BOTTLENECK),
        Train(steps=2000, ssim_weight=0, entropy_weight=2e-4),
        _ERROR_SUM,
    )


def mnad() -> Config:
    """MNAD: ten items at the bottleneck, moved by rule, the read beside the query.

    Source: Park et al. 2020 (arXiv 2003.13228), reference [19] of the paper: compactness and separateness x 0.1.
    Lateral links are cut, as in its reconstruction variant; the score adds the distance from the read to the error.
    Expected: the paper prints no row for it.
    Time: 2,000 steps of 20 images; hours on two CPU cores.
    Command: normbank train mvtec_ad/bottle --out runs/mnad --preset mnad
    """
    return _baseline(
        "mnad",
        Model(memory="mnad", items=(10,), shrinkage="none", **_AT_THE_BOTTLENECK),
        Train(steps=2000, ssim_weight=0, penalty_weight=0.1),
        Score(parts=("squared", "memory"), weights=(1.0, 0.1), delta_h=0),
    )


_BLOCKS = {"memory": "blocks", "memory_levels": 4, "partitions": (8, 8, 8, 8), "items": (500, 500, 500, 500)}


def daad() -> Config:
    """DAAD-style: memories of whole blocks, a grid of 8 x 8 on each lateral link.

    Source: Hou et al. 2021 (arXiv 2108.11368), which has no public code: row DAAD of Table V. Cosine, hard shrinkage
    at 1/m, renormalised; 500 items of blocks of all channels (ours: their number is not told).
    Expected: the paper prints 97.5 / 81.4 for bottle / transistor.
    Time: 2,000 steps of 20 images; hours on two CPU cores.
    Command: normbank train mvtec_ad/bottle --out runs/daad --preset daad
    """
    return _baseline(
        "daad",
        Model(widths=_WIDTHS, shrinkage="hard", renormalise=True, **_BLOCKS),
        Train(steps=2000, ssim_weight=0),
        _ERROR_SUM,
    )


def daad_plus() -> Config:
    """DAAD+-style: DAAD-style with a discriminator, whose latent distance joins the score.

    Source: Hou et al. 2021, row DAAD+ of Table V. Weights of the two terms are ours.
    Expected: the paper prints 97.6 / 87.6 for bottle / transistor.
    Time: 2,000 steps of 20 images; hours on two CPU cores.
    Command: normbank train mvtec_ad/bottle --out runs/daad-plus --preset daad-plus
    """
    return _baseline(
        "daad-plus",
        Model(widths=_WIDTHS, shrinkage="hard", renormalise=True, critic_width=32, **_BLOCKS),
        Train(steps=2000, ssim_weight=0, adversarial_weight=0.01),
        Score(parts=("squared", "latent"), weights=(1.0, 0.1), delta_h=0),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "paper-mvtec-texture": paper_mvtec_texture,
    "paper-mvtec-object": paper_mvtec_object,
    "paper-mnist": paper_mnist,
    "paper-oct": paper_oct,
    "paper-small": paper_small,
    "standard": standard,
    "small": small,
    "fast": fast,
    "ae-l2": ae_l2,
    "ae-ssim": ae_ssim,
    "ae-skip": ae_skip,
    "memae": memae,
    "mnad": mnad,
    "daad": daad,
    "daad-plus": daad_plus,
}
DEFAULT_PRESET, PRESET_FOR_GPU = "small", "standard"  # of `normbank train`, on a processor and on a GPU


def preset(name: str = DEFAULT_PRESET, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Config:
    """The preset of that name with `overrides` applied: `{"train.steps": 100}` or `["train.steps=100"]`.

    Without a name it is `small`, on a GPU too: only the command `train` looks for one.

    Raises ConfigError for an unknown preset or field, naming the nearest there is.
    """
    if name not in PRESETS:
        raise ConfigError(unknown("preset", name, PRESETS))
    return override(PRESETS[name](), overrides)
