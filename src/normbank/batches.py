"""What training is shown: batches, each a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from .decoding import Pixels
from .defects import Defects, full_scale
from .model.objective import Batch
from .settings import Train
from .symmetry import MIRRORS, SHIFTS, Mirror, mirrors, shifted, shifts

APART = 40  # bits that a step does not reach


class Light(NamedTuple):
    """A change of light of each image: values times `gains` plus `offsets`, both [B, 1, 1, 1], cut at `white`.

    Full scale is 1; where a camera's 10 or 12 bits lie in files of 16, `white` is what those bits can hold of it.
    """

    gains: NDArray[np.float64]
    offsets: NDArray[np.float64]
    white: float = 1.0

    @property
    def is_none(self) -> bool:
        """Whether it changes nothing."""
        return bool((self.gains == 1).all() and not self.offsets.any())


class Batches(Dataset[Batch]):
    """Batch number `step` of a run: a pure function of the seed and the step, so that resuming needs no memory.

    A share `corrupt` of the images is shown with made defects, and asked back without. With `jitter` each is made
    darker or brighter by up to that share of full scale (of the bits in use), and with `exposure` its values are
    multiplied by up to that share more or less, input and target alike: another light is no defect. Each of `mirrors`
    (names of `symmetry.MIRRORS`) is put before half of the images, defects and all. Along each of `shifts` (names of
    `symmetry.SHIFTS`) each is moved by up to half its side: few images of a texture become many.
    """

    def __init__(
        self,
        pixels: Pixels,
        batch_size: int,
        seed: int,
        *,
        corrupt: float = 0.0,
        jitter: float = 0.0,
        exposure: float = 0.0,
        mirrors: Sequence[str] = (),
        shifts: Sequence[str] = (),
    ) -> None:
        self.pixels, self.batch_size, self.seed = pixels, batch_size, seed
        self.corrupt, self.jitter, self.exposure, self.mirrors = corrupt, jitter, exposure, mirrors
        self.shifts = shifts
        self.white = full_scale(pixels) / float(np.iinfo(pixels.dtype).max)
        self.defects = Defects(pixels, seed) if corrupt else None

    def __getitem__(self, step: int) -> Batch:
        places = self.indices(step)
        clean = self.pixels[places]
        shown, masks = self._corrupted(clean, places, step)
        for number, mirror in enumerate(self.mirrors):
            turned = self._rng(step, 3 + number).random(len(places)) < 0.5
            shown, clean, masks = (_mirrored(values, MIRRORS[mirror], turned) for values in (shown, clean, masks))
        for shift in self.shifts:  # purposes 5 and 6: the mirrors have 3 and 4
            half = clean.shape[1] // 2
            moves = self._rng(step, 4 + SHIFTS[shift]).integers(-half, half, len(places), endpoint=True)
            shown, clean, masks = (_moved(values, SHIFTS[shift], moves) for values in (shown, clean, masks))
        light = self._light(step)
        targets = _to_tensor(clean, light)
        inputs = targets if self.defects is None else _to_tensor(shown, light)
        return Batch(inputs, targets, _as_planes(masks))

    def _light(self, step: int) -> Light:
        """Of each image of a batch; the offsets are drawn as they were before there were gains."""
        shape, rng = (self.batch_size, 1, 1, 1), self._rng(step, 1)
        offsets = self.white * rng.uniform(-self.jitter, self.jitter, shape)
        return Light(1 + rng.uniform(-self.exposure, self.exposure, shape), offsets, self.white)

    def _corrupted(self, clean: Pixels, places: NDArray[np.int64], step: int) -> tuple[Pixels, NDArray[np.float32]]:
        masks = np.zeros((*clean.shape[:3], 1), np.float32)
        if self.defects is None:
            return clean, masks
        shown = clean.copy()
        chosen = self._rng(step, 2).random(len(places)) < self.corrupt
        earlier = [int((places[:row] == place).sum()) for row, place in enumerate(places)]  # of few images, copies
        for row in np.flatnonzero(chosen):
            made = self.defects.make(int(places[row]), step + (earlier[row] << APART))
            shown[row], masks[row, :, :, 0] = made.pixels, made.mask
        return shown, masks

    def _rng(self, step: int, purpose: int) -> np.random.Generator:
        """Draws of a step, one stream a purpose, from 1 on.

        0 would be that of `Defects`, and at step 0 that of `indices`: missing numbers of a seed count as 0.
        """
        return np.random.default_rng([self.seed, step, 0, purpose])

    def indices(self, step: int) -> NDArray[np.int64]:
        """Positions of the images in batch `step`: one long row of seeded shuffles, cut into batches."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        rounds, offsets = np.divmod(places, len(self.pixels))
        shuffles = {r: np.random.default_rng([self.seed, r]).permutation(len(self.pixels)) for r in np.unique(rounds)}
        return np.array([shuffles[r][o] for r, o in zip(rounds, offsets, strict=True)])


def as_batches(pixels: Pixels, batch_size: int, places: NDArray[Any] | None = None) -> Iterator[Tensor]:
    """Images [N, S, S, C] (or those at `places`) as they are, once, in order: [B, C, S, S] in [0, 1] a batch."""
    places = np.arange(len(pixels)) if places is None else places
    for start in range(0, len(places), batch_size):
        yield _as_planes(_unit(pixels[places[start : start + batch_size]]))


def _mirrored(values: NDArray[Any], mirror: Mirror, turned: NDArray[np.bool_]) -> NDArray[Any]:
    """Images or masks [B, S, S, C], those `turned` in the mirror."""
    return np.where(turned[:, None, None, None], mirror(values), values)


def _moved(values: NDArray[Any], axis: int, moves: NDArray[np.int64]) -> NDArray[Any]:
    """Images or masks [B, S, S, C], each moved along the axis by its own number of pixels."""
    return np.stack([shifted(one, axis - 1, int(move)) for one, move in zip(values, moves, strict=True)])


def _to_tensor(pixels: Pixels, light: Light) -> Tensor:
    """Values in [0, 1] in another light; what would leave that range is cut, as a camera does."""
    values = _unit(pixels)
    if light.is_none:
        return _as_planes(values)
    lit = values * light.gains.astype(np.float32) + light.offsets.astype(np.float32)
    return _as_planes(np.clip(lit, 0, light.white))


def _unit(pixels: Pixels) -> NDArray[np.float32]:
    """Values in [0, 1]."""
    return pixels.astype(np.float32) / float(np.iinfo(pixels.dtype).max)


def _as_planes(values: NDArray[np.float32]) -> Tensor:
    """[B, S, S, C] -> [B, C, S, S], channels last in memory."""
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def batches_of(pixels: Pixels, known: Train) -> Batches:
    """The batches that training with these settings sees."""
    return Batches(
        pixels,
        known.batch_size,
        known.seed,
        corrupt=known.corrupt,
        jitter=known.jitter,
        exposure=known.exposure,
        mirrors=mirrors(pixels, known.flips),
        shifts=shifts(pixels, known.shifts),
    )


class StepSampler(Sampler[int]):
    """The steps up to the next checkpoint: what Lightning calls an epoch here.

    It starts where the trainer's own count of steps stands, so a resumed run goes on with the very next batch.
    """

    def __init__(self, done: Callable[[], int], every: int, steps: int) -> None:
        self.done, self.every, self.steps = done, every, steps

    def __len__(self) -> int:
        return min(self.every, self.steps)

    def __iter__(self) -> Iterator[int]:
        start = self.done()
        return iter(range(start, min(start - start % self.every + self.every, self.steps)))
