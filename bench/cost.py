"""What scoring one image costs: milliseconds of the exported graph, our presets beside the paper's at the same size.

    python -m bench.cost [--presets small fast] [--sizes 128 256] [--threads 1 2]

Nothing is trained and no image is read: weights and good images are random, which changes no time. A bank is measured
with places alone, and with places and patches, the most that it comes to. A machine a JSON in `bench/results/costs`.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.memories import SHARES
from bench.stored import made_on, read_result, write_result
from bench.text import table
from normbank import machine
from normbank.config import Config
from normbank.detector import open_session
from normbank.errors import UserError, problem
from normbank.presets import preset

FOLDER = Path("bench/results/costs")
PAPER = "paper-mvtec-object"
PRESETS = (PAPER, "standard", "small", "fast")
SIZES, THREADS = (128, 256), (1, 2)
GOOD, CHANNELS = 200, 3  # images in the bank
WARM_UP, TIMED = 2, 15
NO_BANK = "none"


def measure(config: Config, bank: str, threads: Sequence[int]) -> dict[str, float]:
    """Median milliseconds for an image by the number of threads, of `config` with one of its `banks`."""
    graph = _graph(config, bank)
    image = np.random.default_rng(0).integers(0, 256, (1, config.data.size, config.data.size, CHANNELS), np.uint8)
    return {str(count): round(1000 * _median(open_session(graph, count), image), 2) for count in threads}


def _graph(config: Config, bank: str) -> bytes:
    import torch

    from normbank.export import DetectorGraph, to_onnx
    from normbank.images import ImageSpec
    from normbank.model.bank import Shares
    from normbank.model.network import build

    torch.manual_seed(0)
    network, size = build(config, CHANNELS).eval(), config.data.size
    if network.bank is not None:
        network.bank.settle(Shares(*SHARES[bank]), Shares(1.0, 1.0))
        network.bank.learn((torch.rand(20, CHANNELS, size, size) for _ in range(GOOD // 20)), GOOD)
    spec = ImageSpec(size, CHANNELS, 8)
    return to_onnx(DetectorGraph(network, config, spec).eval(), spec)


def _median(session: Any, image: Any) -> float:
    seconds = []
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        session.run(None, {"image": image})
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[WARM_UP:]))


def banks(config: Config) -> list[str]:
    """What a preset's bank may come to, by the names of SHARES; patches alone cost less than both."""
    if not config.model.bank:
        return [NO_BANK]
    return ["places", "both"] if config.model.patches else ["places"]


def cost(presets: Sequence[str], sizes: Sequence[int], threads: Sequence[int]) -> dict[str, Any]:
    """All of a file of FOLDER. Raises the classes of `errors`."""
    rows = []
    for name in presets:
        for size in sizes:
            config = preset(name, {"data.size": size})
            for bank in banks(config):
                found = measure(config, bank, threads)
                rows.append({"preset": name, "size": size, "bank": bank, "milliseconds": found})
                print(f"{name}, {size} pixels, bank {bank}: {found}", flush=True)
    return {
        "rows": rows,
        "good": GOOD,
        "channels": CHANNELS,
        "machine": machine.describe(),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


@dataclass(frozen=True)
class Row:
    """Milliseconds for an image by the number of threads."""

    preset: str
    size: int
    bank: str
    milliseconds: Mapping[str, float]


@dataclass(frozen=True)
class Costs:
    """A file of FOLDER."""

    rows: Sequence[Row]
    made: str

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """None: no value is a share."""
        return {}


def read(folder: Path) -> list[Costs]:
    """Every file of the folder; ValueError names one that is none of ours."""
    return [read_result(path, "python -m bench.cost", _costs_of) for path in sorted(folder.glob("*.json"))]


def _costs_of(values: Mapping[str, Any]) -> Costs:
    rows = [
        Row(row["preset"], int(row["size"]), row["bank"], {k: float(v) for k, v in row["milliseconds"].items()})
        for row in values["rows"]
    ]
    return Costs(rows, made_on(values))


def section(known: Sequence[Costs]) -> str:
    """The tables of bench/README.md, one a machine."""
    return "\n".join([_OPENING, *(f"{_table(one)}\n\nMade on {one.made}.\n" for one in known)])


def _table(one: Costs) -> str:
    counts = list(one.rows[0].milliseconds)
    header = ["preset", "size", "bank"]
    header += [title for count in counts for title in (f"ms, {count} {_threads(count)}", "of the paper's time")]
    return table(header, ([*_texts(row, one, counts)] for row in one.rows))


def _threads(count: str) -> str:
    return "thread" if count == "1" else "threads"


def _texts(row: Row, one: Costs, counts: Sequence[str]) -> Iterator[str]:
    paper = next((known for known in one.rows if (known.preset, known.size) == (PAPER, row.size)), None)
    yield from (f"`{row.preset}`", str(row.size), row.bank)
    for count in counts:
        yield f"{row.milliseconds[count]:.0f}"
        yield "-" if paper is None else f"{row.milliseconds[count] / paper.milliseconds[count]:.2f}"


_OPENING = f"""
## What scoring an image costs

Milliseconds for one image of three channels through the exported graph on a processor, decoding not counted; the median
of {TIMED}. "Of the paper's time": against `{PAPER}` at the same size and threads. The networks of ours see 128 pixels
at either size; the bank holds {GOOD} good images. `python -m bench.cost` makes it.
"""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 done, 2 a mistake told on standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=PRESETS, metavar="PRESET")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="PIXELS")
    parser.add_argument("--threads", nargs="+", type=int, metavar="N")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder of the JSON ({FOLDER})")
    asked = parser.parse_args(arguments)
    cores = machine.cpu_count()
    threads = asked.threads or [count for count in THREADS if count <= cores]
    try:
        if max(threads) > cores:  # it would be measured with fewer, and called by more
            came, do = str(max(threads)), "Ask for that many at most."
            raise UserError(problem("--threads", expected=f"{cores} or less, as there are cores", came=came, do=do))
        values = cost(asked.presets, asked.sizes, threads)
    except UserError as error:
        print(f"bench.cost: {error}", file=sys.stderr)
        return 2
    name = re.sub(r"[^a-z0-9]+", "-", values["machine"]["processor"].lower()).strip("-")
    target = asked.out / f"{name}-{values['machine']['processors']}.json"
    write_result(target, values)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
