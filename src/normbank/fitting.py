"""`fit`: from a data set of good images to a detector file and the record of how it was made."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import machine, timing
from .advice import Outlook, plan
from .bundle import ensure_writable, read_bundle, write_atomically, write_bundle
from .calibration import Calibration
from .config import Config
from .data.cache import Cache
from .data.files import below, ensure_no_loss
from .data.samples import Dataset
from .decoding import Pixels
from .detector import BATCH, Detector
from .errors import ParityError, TrainingError, problem
from .export import PROBED, make_bundle
from .identity import Identity, OtherRunError, difference, identity_of, images_record, order_of
from .images import reduced
from .model.bank import Shares
from .model.memories import check_name
from .model.pose import Pose
from .preparing import Prepared, prepare
from .progress import Progress, note
from .remembering import remember
from .report.overlays import colour_scale
from .symmetry import mirrors, shifts
from .training import (
    Trained,
    accelerator_of,
    check_resumable,
    device_name,
    optimise,
    precision_of,
    threads_of,
    torch_of_ours,
)

MODEL_FILE, RUN_FILE, CHECKPOINT_FILE = "model.nbk", "run.json", "checkpoint.ckpt"
UNFINISHED = b'{"unfinished": true}\n'  # run.json, from the start of --overwrite on
RUN_START = b'{\n "created": '  # of a run.json of ours: what begins otherwise is not replaced
BELOW_ONE = {"bank", "head", "marked"}  # parts of a map, which are nowhere more
RATE = "score.false_alarm_rate"  # of a finished model it can be another without training
MEASURED = 50  # steps left, above which it is worth measuring how long one takes


def fit(
    config: Config,
    dataset: Dataset,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    cache: Cache | None = None,
    quiet: bool = False,
) -> Path:
    """Train on `dataset.train` and write `out/model.nbk` and `out/run.json`; returns the path of the model.

    `resume` goes on from the last checkpoint in `out`, or returns the model where it is finished already; both must be
    of the same settings and images (OtherRunError), but a checkpoint may be of another `score`. What `out` holds is
    replaced only with `overwrite`. Broken images are skipped and recorded; with `strict` the first is an error. Raises
    the classes of `errors`.
    """
    machine.commit()  # remembered now: the checkout may move on while this runs
    out = Path(out)
    check_name(config.model.memory)
    _check_target(out, resume, overwrite)
    prepared = prepare(config, dataset, strict=strict, cache=cache, quiet=quiet)
    for remark in prepared.remarks:
        _say(remark, quiet)
    identity = identity_of(config.model_dump(mode="json"), _images(prepared))
    for name in (MODEL_FILE, RUN_FILE, CHECKPOINT_FILE):
        ensure_writable(out / name)
    with machine.alone_in(out) as free:
        if not free:
            do = "Wait for it, end it, or name another folder."
            came = "another training at work in it"
            raise TrainingError(problem(f"--out {str(out)!r}", expected="it free", came=came, do=do))
        _check_target(out, resume, overwrite)  # decoding takes minutes, in which another may have finished
        return _train(config, dataset, prepared, identity, out, resume, quiet)


def _train(
    config: Config, dataset: Dataset, prepared: Prepared, identity: Identity, out: Path, resume: bool, quiet: bool
) -> Path:
    if resume and is_finished(out):
        _check_same_run(out / MODEL_FILE, identity)
        _say(f"{out / MODEL_FILE} is finished, with these settings and images: nothing is left to do", quiet)
        return out / MODEL_FILE
    if resume and not (out / CHECKPOINT_FILE).exists():
        _say(f"no checkpoint in {out}: training starts from the beginning", quiet)
    seen = reduced(prepared.train.pixels, config.reduction)
    identity = {**identity, **order_of(prepared.train), **_laying(prepared.pose)}
    if resume:
        check_resumable(out / CHECKPOINT_FILE, identity, config.train, seen)
    if not quiet:
        _say_plan(config, prepared, seen, out, resume)
    if not resume:  # what is to be replaced is from here on not this run's
        (out / CHECKPOINT_FILE).unlink(missing_ok=True)
        if (out / MODEL_FILE).exists():
            write_atomically(out / RUN_FILE, UNFINISHED)
    with Progress("training", config.train.steps, quiet=quiet) as progress:
        trained = optimise(config, seen, out / CHECKPOINT_FILE, identity=identity, resume=resume, progress=progress)
    if trained.network.bank is not None:
        _say("filling the bank", quiet)
    trained, shares = fill(config, prepared, trained)
    _say(f"writing {out / MODEL_FILE}, and comparing what it computes with the network", quiet)
    return finish(config, dataset, prepared, trained, shares, out)


def _laying(pose: Pose) -> Identity:
    """What an unfinished run has to share where its images are laid; others' checkpoints do not know of it."""
    found = {"images turned upright": pose.is_turned, "images moved": pose.is_moved}
    return {name: True for name, is_so in found.items() if is_so}


def _images(prepared: Prepared) -> dict[str, Any]:
    return images_record(prepared.train, prepared.held_out, prepared.copies)


def _check_target(out: Path, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise TrainingError("--resume and --overwrite: expected one of them, got both. Go on, or start again.")
    if out.exists() and not out.is_dir():
        raise TrainingError(f"--out {str(out)!r}: expected a folder, got a file. Name another.")
    if (out / MODEL_FILE).exists() and not (resume or overwrite):
        raise TrainingError(
            f"--out {str(out)!r} holds a finished model, which is not replaced unasked. "
            f"Name another folder, or use --overwrite."
        )
    if (out / CHECKPOINT_FILE).exists() and not (resume or overwrite):
        raise TrainingError(
            f"--out {str(out)!r} holds an unfinished run. Go on with --resume, or start again with --overwrite."
        )
    if not (overwrite or (out / MODEL_FILE).exists() or _is_replaced(out)):
        ensure_no_loss(out / RUN_FILE, RUN_START)


def is_finished(out: Path) -> bool:
    """Whether `out` holds the model of a training that ended; not one being replaced, which stays until then."""
    return (out / MODEL_FILE).exists() and not (out / CHECKPOINT_FILE).exists() and not _is_replaced(out)


def _is_replaced(out: Path) -> bool:
    return (out / RUN_FILE).is_file() and (out / RUN_FILE).read_bytes() == UNFINISHED


def _check_same_run(model: Path, identity: Identity) -> None:
    manifest = read_bundle(model).manifest
    found = identity_of(manifest["settings"], manifest["data"])
    if found != identity:
        do = "Name another --out, or start again with --overwrite."
        if found == {**identity, RATE: found[RATE]} and manifest["calibration"]["scores"]:
            do = "Nothing need be trained for another rate: predict, evaluate, export and info take --false-alarm-rate."
        told = f"made with other settings or images ({difference(found, identity)})"
        raise OtherRunError(f"{str(model)!r} is finished, and was {told}. {do}")


def _say_plan(config: Config, prepared: Prepared, seen: Pixels, out: Path, resume: bool) -> None:
    """What is about to be done; how long a step takes is measured only where there are many."""
    known, spec = config.train, prepared.spec
    accelerator = accelerator_of(known)
    precision = precision_of(known, accelerator, seen)
    done = _steps_done(out / CHECKPOINT_FILE) if resume else 0
    many = known.steps - done > MEASURED
    seconds = timing.seconds_per_step(config, spec.channels, spec.bits) if many else None
    counts = len(prepared.train.samples), len(prepared.held_out.samples)
    device, threads = device_name(accelerator), threads_of(known)
    shown = mirrors(seen, known.flips), shifts(seen, known.shifts)
    laid = prepared.pose.is_turned, prepared.pose.is_moved
    outlook = Outlook(spec, *counts, device, precision, threads, done, seconds, *shown, prepared.tested, *laid)
    _say(plan(config, outlook, out), quiet=False)


def _steps_done(checkpoint: Path) -> int:
    """0 too where it cannot be read: `optimise` says why."""
    try:
        return int(torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)["global_step"])
    except Exception:
        return 0


def fill(config: Config, prepared: Prepared, trained: Trained) -> tuple[Trained, Shares | None]:
    """Fill the bank, where there is one; the seconds it takes are training's."""
    bank = trained.network.bank
    if bank is None:
        return trained, None
    since = time.monotonic()
    with torch_of_ours(config.train):
        shares = remember(bank.to("cpu"), prepared.train.pixels, config.train)
    return replace(trained, seconds=trained.seconds + time.monotonic() - since), shares


def finish(
    config: Config, dataset: Dataset, prepared: Prepared, trained: Trained, shares: Shares | None, out: Path
) -> Path:
    """Export and calibrate what was trained, and write both files of `out`; returns the model's path."""
    trained.network.take(prepared.pose)
    record = _record(config, dataset, prepared, trained)
    if shares is not None:
        record["bank"] = shares._asdict()
    unknown = Calibration((), config.score.false_alarm_rate).to_dict()
    probe = np.concatenate([prepared.held_out.pixels[:PROBED], prepared.train.pixels[:PROBED]])
    try:
        bundle = make_bundle(trained.network, config, prepared.spec, {**record, "calibration": unknown}, probe)
    except ParityError as error:
        kept = (
            "The checkpoint is kept: where scores or maps alone differ, --resume may end with another score (score.*)."
        )
        raise ParityError(f"{error} {kept}") from None
    scores, scale = _calibrate(Detector(bundle, config.train.threads or 0), config, prepared)
    calibration = Calibration(tuple(scores), config.score.false_alarm_rate)
    bundle.manifest.update({"calibration": calibration.to_dict(), "map_scale": scale})
    bundle.manifest["data"]["held_out_scores"] = scores
    path = out / MODEL_FILE
    write_bundle(path, bundle)
    run = {**bundle.manifest, "curve": trained.curve, "model_bytes": path.stat().st_size}
    write_atomically(out / RUN_FILE, json.dumps(run, indent=1, allow_nan=False).encode())
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return path


def _calibrate(detector: Detector, config: Config, prepared: Prepared) -> tuple[list[float], float]:
    """The scores of the held-out images, and the colour scale of heat maps from them, or else from training images.

    A bank knows these by heart: with one, the scale is then what its map can reach at most. So it is where the held-out
    images would have it beyond that.
    """
    scores, peaks = _judge(detector, prepared.held_out.pixels)
    parts, most = {*config.score.parts}, sum(config.score.weights)
    if not peaks and {"bank", "marked"} & parts:
        return scores, most
    scale = colour_scale(peaks or _judge(detector, prepared.train.pixels[:100])[1])
    return scores, min(scale, most) if parts <= BELOW_ONE else scale


def _judge(detector: Detector, pixels: Pixels) -> tuple[list[float], list[float]]:
    """Scores of images [N, S, S, C], and the largest value of each map, by the graph that will be used."""
    scores: list[float] = []
    peaks: list[float] = []
    for start in range(0, len(pixels), BATCH):
        found = detector.run(pixels[start : start + BATCH])
        scores += found.scores.tolist()
        peaks += found.anomaly_maps.max(axis=(1, 2)).tolist()
    return scores, peaks


def _record(config: Config, dataset: Dataset, prepared: Prepared, trained: Trained) -> dict[str, Any]:
    spec = prepared.spec
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": config.model_dump(mode="json"),
        "image": {"size": spec.size, "channels": spec.channels, "bits": spec.bits, "fit": spec.fit},
        "data": {
            "name": dataset.name,
            "format": dataset.format,
            **_images(prepared),
            "stored": prepared.stored,
            "seen_pixels": sorted(content[:16] for content in prepared.contents),
            "trained_on": len(prepared.train.samples),
            "held_out": [below(sample.name, dataset.root) for sample in prepared.held_out.samples],
            "skipped": [[name, reason] for name, reason in (*dataset.skipped, *prepared.train.skipped)],
        },
        "turned": prepared.pose.is_turned,
        "moved": prepared.pose.is_moved,
        "remarks": list(prepared.remarks),
        "parameters": sum(p.numel() for p in trained.network.parameters()),
        "training_seconds": round(trained.seconds, 3),
        "device": trained.device,
        "precision": trained.precision,
        "threads": trained.threads,
        "machine": trained.machine,
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        note(text)
