"""One training in a process of its own: train unless it is done, score each way that is missing, store each result.

Started by `bench.children` with a job as JSON on standard input. A process of its own, so that the peak of memory is
this training's.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.budgets import settings
from bench.measures import under_shift
from bench.refilling import refill
from bench.runs import SHIFTED, Identity, data_folder
from bench.selection import select
from normbank import images
from normbank.bundle import Bundle, read_bundle, write_atomically
from normbank.config import Config, completed
from normbank.data.open import open_dataset
from normbank.data.samples import Dataset
from normbank.detector import Detector
from normbank.errors import DataError, ImageError, UserError, problem
from normbank.evaluation import Evaluation, evaluate
from normbank.machine import alone_in, cpu_count, tune_for_training
from normbank.settings import Score

if TYPE_CHECKING:
    from normbank.images import Pixels

COST_FILE = "cost.json"
LATENCIES = 20  # images judged one at a time
_WARM_UP = 2


def main() -> int:
    """Exit code 0 done, 2 a mistake told on standard error, 130 interrupted."""
    job = json.load(sys.stdin)
    try:
        run(job, Path(job["data"]), Path(job["work"]), Path(job["results"]))
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def run(job: Mapping[str, Any], data: Path, work: Path, results: Path) -> None:
    """Train `job["training"]` and store its result for each of `job["scores"]` (changes to `score.*`) in `results`."""
    training = Identity(**job["training"])
    config = settings(training.cell, training.budget, job["device"])
    dataset = _open(data, training.data, config)
    out = work / training.slug
    # Left to itself, ONNX Runtime takes every core of the machine, this process's or not.
    threads = cpu_count() if job.get("shared") else 0
    with _alone(out):
        bundle, cost = train(config, dataset, out, again=bool(job.get("refill")))
        for score in job["scores"]:
            own = Identity(**{**training.to_dict(), "score": score})
            store(results / f"{own.slug}.json", own, bundle, cost, dataset, threads)


def _open(root: Path, data: str, config: Config) -> Dataset:
    folder = data_folder(root, data)
    if folder is None:
        do = "See what `--dry-run` lists."
        raise DataError(problem(f"{data!r} in the data's folder", expected="a folder", came="none", do=do))
    return open_dataset(folder, config.data)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """No other process trains into this folder meanwhile; DataError where one does."""
    out.mkdir(parents=True, exist_ok=True)
    lock = out / "lock"  # the folder itself is for `fit` to hold
    lock.touch()
    with alone_in(lock) as free:
        if not free:
            do = "Wait for it, or end it."
            came = "another process at work in it"
            raise DataError(problem(f"the work folder {out.name!r}", expected="it free", came=came, do=do))
        yield


def train(config: Config, dataset: Dataset, out: Path, *, again: bool = False) -> tuple[Bundle, dict[str, Any]]:
    """The detector in `out`, trained or gone on with where it is not finished; and what its training took.

    A finished one's bank is filled `again` where that is asked for.

    A model or checkpoint of other settings or images is a leftover of this folder's earlier use, and is replaced.
    """
    tune_for_training()
    from normbank.fitting import CHECKPOINT_FILE, MODEL_FILE, fit, is_finished
    from normbank.identity import OtherRunError

    finished, left = is_finished(out), any((out / name).exists() for name in (CHECKPOINT_FILE, MODEL_FILE))
    known = _as_before(config, out / MODEL_FILE) if finished else config
    try:
        fit(known, dataset, out, resume=left)
    except OtherRunError as error:
        print(f"trained again: {error}", file=sys.stderr)
        finished = False
        (out / COST_FILE).unlink(missing_ok=True)  # of what is replaced
        fit(config, dataset, out, overwrite=True)
    if not finished:
        write_atomically(out / COST_FILE, json.dumps({"peak_memory_bytes": peak_memory()}).encode())
    elif again and config.model.bank:
        _refill(known, dataset, out)
    bundle = read_bundle(out / MODEL_FILE)
    return bundle, {"peak_memory_bytes": None, **_noted(out), "model_bytes": (out / MODEL_FILE).stat().st_size}


def _refill(config: Config, dataset: Dataset, out: Path) -> None:
    """The commit of the network is noted first, that of the first time stays: afterwards the model names today's."""
    from normbank.fitting import MODEL_FILE

    noted = {"network_commit": read_bundle(out / MODEL_FILE).manifest["commit"], **_noted(out)}
    write_atomically(out / COST_FILE, json.dumps(noted).encode())
    refill(config, dataset, out)


def _noted(out: Path) -> dict[str, Any]:
    noted: dict[str, Any] = json.loads((out / COST_FILE).read_bytes()) if (out / COST_FILE).exists() else {}
    return noted


def _as_before(config: Config, model: Path) -> Config:
    """On which device a finished model was trained, and for which score, is no reason to train it again."""
    before = read_bundle(model).manifest["settings"]
    same = {name: before["train"][name] for name in ("device", "precision", "threads")}
    score = Score.model_validate(completed(before)["score"])
    return config.model_copy(update={"train": config.train.model_copy(update=same), "score": score})


def peak_memory() -> int:
    """The most memory that training took, in bytes: the GPU's where there is one, else this process's."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def store(
    path: Path, own: Identity, trained: Bundle, cost: Mapping[str, Any], dataset: Dataset, threads: int = 0
) -> None:
    """Score the test images of `dataset` and write the result in one piece."""
    bundle = _rescored(trained, settings(own.cell, own.budget))
    detector = Detector(bundle, threads)
    found = evaluate(detector, dataset)
    values = {**record(own, found), **_costs(detector, trained, cost, dataset)}
    asked = [name for name in SHIFTED if found.metrics[name] is not None]
    values["metrics"] = {**found.metrics, **under_shift(detector, dataset, asked)}
    if (selection := select(detector, dataset)) is not None:
        values["selection"] = selection
    write_atomically(path, _as_text(values).encode())


def _rescored(bundle: Bundle, wanted: Config) -> Bundle:
    """The detector with the score that is wanted, whichever it was trained for."""
    known = bundle.manifest["settings"]["score"]
    score = wanted.model_dump(mode="json")["score"]
    changes = {f"score.{name}": value for name, value in score.items() if value != known.get(name)}
    if not changes:
        return bundle
    from normbank.rescoring import rescore

    return rescore(bundle, changes)


def record(own: Identity, found: Evaluation) -> dict[str, Any]:
    """What is stored of an evaluation: everything but the images one by one, of which the raw scores stay, by kind."""
    context = {name: value for name, value in found.context.items() if name != "settings"}
    scores: dict[str, list[float]] = {}
    for one in found.scored:
        scores.setdefault(one.sample.kind, []).append(float(f"{one.score:.6g}"))
    return {
        "cell": own.to_dict(),
        "budget": own.budget,
        "settings": found.context["settings"],
        "metrics": found.metrics,
        "reasons": found.reasons,
        "kinds": found.kinds,
        "counts": found.counts,
        "skipped": len(found.skipped),
        "context": context,
        "scores": scores,
    }


def _costs(detector: Detector, trained: Bundle, cost: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    made = trained.manifest
    return {
        "peak_memory_bytes": cost["peak_memory_bytes"],
        **({"network_commit": cost["network_commit"]} if "network_commit" in cost else {}),  # the bank is of another
        "seconds_per_training_step": round(made["training_seconds"] / made["settings"]["train"]["steps"], 6),
        "seconds_per_image": latency(detector, dataset),
        "parameters": made["parameters"],
        "model_bytes": cost["model_bytes"],
        "threads": made["threads"],
    }


def latency(detector: Detector, dataset: Dataset) -> float | None:
    """Median seconds of the detector for one image, by the graph on the processor, decoding not counted."""
    seconds = []
    for pixels in _first(detector, dataset):
        started = time.perf_counter()
        detector.run(pixels[None])
        seconds.append(time.perf_counter() - started)
    known = sorted(seconds[_WARM_UP:])
    return round(known[len(known) // 2], 6) if known else None


def _first(detector: Detector, dataset: Dataset) -> Iterator[Pixels]:
    for sample in (*dataset.test, *dataset.train)[: LATENCIES + _WARM_UP]:
        with contextlib.suppress(ImageError):
            yield images.load(sample.path, detector.spec, sample.frame)


def _as_text(values: Mapping[str, Any]) -> str:
    """JSON with a line for each entry of the first level, and for each kind's scores: short, and told apart by diff."""
    scores = ",\n".join(f"  {json.dumps(kind)}: {json.dumps(known)}" for kind, known in values["scores"].items())
    lines = [
        f' "{name}": {{\n{scores}\n }}' if name == "scores" else f' "{name}": {json.dumps(value, allow_nan=False)}'
        for name, value in values.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
