"""What `normbank evaluate` does around the measuring: words, JSON and the report. No PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import images
from .bundle import ensure_writable, write_atomically
from .data.files import ensure_no_loss
from .data.samples import Dataset, Sample
from .decoding import Pixels
from .detector import Detector
from .errors import ImageError, UserError, problem
from .evaluation import METRICS, NOTES, Evaluation, evaluate, to_test
from .progress import Progress, printable

if TYPE_CHECKING:
    from .report.page import Examined

# How our files begin, and hardly any other: what begins otherwise is not replaced.
JSON_START = b'{\n "metrics": {'
PAGE_START = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" """


def judge(
    detector: Detector,
    dataset: Dataset,
    *,
    json_file: Path | None = None,
    report: Path | None = None,
    model_name: str = "model",
    strict: bool = False,
    quiet: bool = False,
) -> Iterator[str]:
    """Evaluate, write what was asked for, and tell the result in lines. BundleError where a file cannot be written."""
    if str(json_file) == "-":
        raise UserError(problem("--json", expected="a file", came="'-'", do="Name one."))
    if json_file and report and os.path.realpath(json_file) == os.path.realpath(report / "index.html"):
        do, came = "Name another for one of them.", f"{str(json_file)!r} for both"
        raise UserError(problem("--json and --report", expected="two files", came=came, do=do))
    for target, start in ((json_file, JSON_START), (report and report / "index.html", PAGE_START)):
        if target:
            ensure_no_loss(target, start)
            ensure_writable(target, through_link=target == json_file)
    with Progress("scoring", len(to_test(dataset)), quiet=quiet) as progress:
        found = evaluate(detector, dataset, strict=strict, progress=progress.update)
    found.context["model_name"] = model_name
    if json_file:
        content = json.dumps(found.to_dict(dataset.root), indent=1, allow_nan=False).encode() + b"\n"
        write_atomically(json_file, content, through_link=True)
    yield from table(found)
    if report:
        yield f"report: {write_page(detector, found, report)}"


def write_page(detector: Detector, evaluation: Evaluation, out: Path) -> Path:
    """The HTML report in the folder `out`, its heat maps in the detector's own colour scale."""
    from .report.page import write_report

    return write_report(evaluation, lambda sample: examine(detector, sample), out, scale=detector.manifest["map_scale"])


def examine(detector: Detector, sample: Sample) -> Examined:
    """One image with all the detector makes of it."""
    from .report.page import Examined

    spec = detector.spec
    pixels = images.load(sample.path, spec, sample.frame)
    outputs = detector.run(pixels[None])
    parts = {name: maps[0] for name, maps in detector.parts(pixels[None]).items()} if detector.has_parts else {}
    return Examined(pixels, outputs.reconstructions[0], outputs.anomaly_maps[0], _mask(detector, sample), parts)


def _mask(detector: Detector, sample: Sample) -> Pixels | None:
    spec = detector.spec
    if not (sample.mask and sample.label):  # that of a good image is passed over, as in the figures
        return None
    try:
        return images.read_mask(sample.mask, spec.size, spec.fit, sample.path)
    except ImageError:  # told in the list of skipped files
        return None


def table(found: Evaluation) -> Iterator[str]:
    """The figures as lines: the whole set first, then each kind of defect."""
    counts = found.counts
    yield (
        f"{counts['good']} good, {counts['anomalous']} anomalous ({counts['with_mask']} with a mask), "
        f"{len(found.skipped)} files to look at, {counts['left_out']} left out as seen in training"
    )
    if counts["anomalous"]:
        yield from _figures(found)
    else:
        yield "no figures: how well good and anomalous images are told apart takes anomalous ones, too"
    yield from _verdicts(found)
    for path, reason in found.skipped:
        yield f"look at {path!r}: {reason}"


def _figures(found: Evaluation) -> Iterator[str]:
    whole: dict[str, float | int | None] = {**found.metrics, "count": found.counts["anomalous"]}
    kinds = [("all", whole), *((printable(kind), values) for kind, values in found.kinds.items())]
    width = max(len(kind) for kind, _ in kinds)
    yield f"{'':{width}}  count  " + "  ".join(METRICS)
    for kind, values in kinds:
        cells = (f"{_cell(values[name]):>{len(name)}}" for name in METRICS)
        yield f"{kind:{width}}  {values['count']:5}  " + "  ".join(cells)
    for name, reason in found.reasons.items():
        yield f"{name}: {reason}"


def _cell(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _verdicts(found: Evaluation) -> Iterator[str]:
    yield from (found.context[name] for name in NOTES if found.context[name])
    if found.threshold is None:
        return
    alarms = sum(bool(one.is_anomalous) for one in found.scored if one.sample.label == 0)
    caught = sum(bool(one.is_anomalous) for one in found.scored if one.sample.label == 1)
    yield (
        f"at the threshold {found.threshold:.6g}: {alarms} of {found.counts['good']} good raise a false alarm, "
        f"{caught} of {found.counts['anomalous']} anomalous are found"
    )
