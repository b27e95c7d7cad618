"""Which memory of a bank tells defects best, places or patches, and what `remember` chooses: on made defects alone.

    python -m bench.memories DATA [--as-is] [--shifted] [--turned]

`DATA` is a data set, as `normbank train` takes it; its good images alone are used. Each set is judged as it is, and
again with every image shifted or turned by chance, so that nothing keeps its place; a set a JSON in
`bench/results/memories`. `--as-is` and so on leave those of the named kinds only. No network is trained.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench import selection
from bench.ablation import AS_THEY_LIE
from bench.measures import measure
from bench.runs import CHOSEN_BY
from bench.stored import made_on, read_result, write_result
from bench.text import percent, table
from normbank import machine, symmetry
from normbank.config import Config
from normbank.data.open import open_dataset
from normbank.errors import UserError
from normbank.presets import preset

if TYPE_CHECKING:
    from normbank.model.bank import Bank, Shares

Pixels = NDArray[Any]
FOLDER = Path("bench/results/memories")
FARTHEST = 3 / 32  # of the side, of a shift: 12 pixels of 128
SHARES = {"places": (1.0, 0.0), "patches": (0.0, 1.0), "both": (0.5, 0.5)}
METRICS = CHOSEN_BY


def shifted(pixels: Pixels, seed: int = 0) -> Pixels:
    """The images [N, S, S, C], each moved by whole pixels, at most 3/32 of S along each side; borders are mirrored."""
    reach = round(FARTHEST * pixels.shape[1])
    moves = np.random.default_rng(seed).integers(0, 2 * reach, (len(pixels), 2), endpoint=True) - reach
    each = zip(pixels, moves, strict=True)
    return np.stack([symmetry.shifted(symmetry.shifted(image, 0, y), 1, x) for image, (y, x) in each])


def turned(pixels: Pixels, seed: int = 0) -> Pixels:
    """The images [N, S, S, C], each turned about its middle by any angle; borders are mirrored."""
    from scipy.ndimage import rotate

    angles = np.random.default_rng(seed).uniform(0, 360, len(pixels))
    each = zip(pixels, angles, strict=True)
    return np.stack([rotate(image, angle, reshape=False, order=1, mode="mirror") for image, angle in each])


MOVES: dict[str, Callable[[Pixels], Pixels]] = {"as-is": lambda pixels: pixels, "shifted": shifted, "turned": turned}


def compare(train: Pixels, held_out: Pixels, config: Config) -> dict[str, Any]:
    """The metrics of the selection set for each of SHARES, and which of them `remember` chooses.

    Images [N, S, S, C] uint8 or uint16 to remember, and others that the made defects are put on. The score is that of
    the preset's part `bank` alone. Each memory counts by its mean distance on the good ones of the held-out images.
    """
    from normbank.batches import as_batches
    from normbank.model.network import build_bank
    from normbank.remembering import remember

    made = selection.make(held_out)
    pixels = np.concatenate([held_out, [one.pixels for one in made]])
    masks = [*np.zeros((len(held_out), *held_out.shape[1:3]), bool), *(one.mask for one in made)]
    labels = np.repeat([0, 1], [len(held_out), len(made)])

    def fresh() -> Bank:
        return build_bank(config, train.shape[3])

    bank = fresh()
    bank.learn(as_batches(train, config.train.batch_size), len(train), config.train.seed)
    found = _judged(bank, pixels, len(held_out), config)
    chosen = remember(fresh(), train, config.train)
    return {
        "found": {name: measure(*judged, labels, masks, METRICS) for name, judged in found},
        "chosen": _named(chosen),
        "counts": {"trained": len(train), "good": len(held_out), "defective": len(made)},
    }


def _named(shares: Shares) -> str:
    return next(name for name, known in SHARES.items() if known == tuple(shares))


def _judged(
    bank: Bank, pixels: Pixels, good: int, config: Config
) -> Iterator[tuple[str, tuple[NDArray[Any], NDArray[Any]]]]:
    """Scores [N] and maps [N, S, S] of the images, of which the first `good` are so, by each of SHARES."""
    import torch
    from torch.nn.functional import interpolate

    from normbank.batches import as_batches
    from normbank.model.bank import USUAL
    from normbank.residual import finish

    assert bank.patches is not None
    with torch.no_grad():
        seen = [bank.describe(batch) for batch in as_batches(pixels, config.train.batch_size)]
        each = [torch.cat([memory(one) for one in seen]) for memory in (bank.places, bank.patches)]
        of_one = [distances * USUAL / distances[:good].mean() for distances in each]
        for name, shares in SHARES.items():
            distance = shares[0] * of_one[0] + shares[1] * of_one[1]
            maps = interpolate(distance / (1 + distance), size=pixels.shape[1:3], mode="bilinear", align_corners=False)
            maps, scores = finish(maps, config.score)
            yield name, (scores.numpy(), maps[:, 0].numpy())


def judge(root: Path, name: str) -> dict[str, Any]:
    """All of a file of FOLDER: the data at `root`, its images moved as `name` says. Raises the classes of `errors`."""
    from normbank.fitting import prepare

    since, config = time.monotonic(), preset("fast", AS_THEY_LIE)  # the question is what a bank can do
    dataset = open_dataset(root, config.data)
    prepared = prepare(config, dataset)
    parts = prepared.train.pixels, prepared.held_out.pixels
    moved = MOVES[name](np.concatenate(parts))
    made = compare(moved[: len(parts[0])], moved[len(parts[0]) :], config)
    return {
        "data_name": dataset.name,
        "moved": name,
        **made,
        "seed": selection.SEED,
        "settings": {key: config.model_dump(mode="json")[key] for key in ("data", "model", "score")},
        "seconds": round(time.monotonic() - since, 1),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


@dataclass(frozen=True)
class Judged:
    """A file of FOLDER: `found` maps a name of SHARES to METRICS, which are shares in 0..1."""

    data: str
    moved: str
    chosen: str
    found: Mapping[str, Mapping[str, float]]
    made: str

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """All of them, by the memory's name and their own."""
        return {f"{name} {metric}": value for name, known in self.found.items() for metric, value in known.items()}


def read(folder: Path) -> list[Judged]:
    """Every file of the folder, by data and how it was moved; ValueError names one that is none of ours."""
    found = [read_result(path, "python -m bench.memories", _judged_of) for path in folder.glob("*.json")]
    return sorted(found, key=lambda one: (one.data, list(MOVES).index(one.moved)))


def _judged_of(values: Mapping[str, Any]) -> Judged:
    found = {name: {metric: float(values["found"][name][metric]) for metric in METRICS} for name in SHARES}
    return Judged(values["data_name"], values["moved"], values["chosen"], found, made_on(values))


def section(judged: Sequence[Judged]) -> str:
    """The table of bench/README.md."""
    header = ["good images", "moved", *(f"{name}: image / pixel AUROC / AUPRO" for name in SHARES), "chosen"]
    rows = (
        [one.data, one.moved, *(" / ".join(map(percent, one.found[name].values())) for name in SHARES), one.chosen]
        for one in judged
    )
    made = "; ".join(sorted({one.made for one in judged}))
    return f"{_OPENING}\n{table(header, rows)}\n\nMade on {made}.\n"


_OPENING = """
## Places or patches

Which memory of the bank tells made defects on held-out good images best, by itself and together, one seed, no network;
and which of them `normbank train` chooses, by made defects on other images. `python -m bench.memories` makes it.
shifted: each image moved by up to 3/32 of its side. turned: by any angle.
"""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 done, 2 a mistake told on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.memories", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="a data set, as `normbank train` takes it")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder of the JSON ({FOLDER})")
    for name in MOVES:
        parser.add_argument(f"--{name}", action="append_const", dest="moves", const=name, help=f"the images {name}")
    asked = parser.parse_args(arguments)
    machine.tune_for_training()
    try:
        for name in asked.moves or MOVES:
            values = judge(asked.data, name)
            target = asked.out / f"{values['data_name']}-{name}.json"
            write_result(target, values)
            print(f"{target}: {values['chosen']} of {values['found']}", flush=True)
    except UserError as error:
        print(f"bench.memories: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
