"""Figures 5, 6 and 7, from stored models: which images are shown is decided by a rule, never by how they look."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.budgets import settings
from bench.figure_sheet import Block, Column, Tile, sheet
from bench.figure_style import Made, Source, caption
from bench.paper import MNIST, MVTEC, PMB, Cell, cells, short
from bench.runs import data_folder, differences, identity
from normbank import images
from normbank.bundle import read_bundle
from normbank.data.open import open_dataset
from normbank.data.samples import GOOD, Dataset, Sample
from normbank.decoding import Pixels
from normbank.detector import BATCH, Detector
from normbank.errors import ImageError, UserError
from normbank.evaluation import Evaluation, Scored, evaluate
from normbank.judging import examine
from normbank.report.overlays import GOOD_PEAK, Rgb, outline, overlay, resized, to_rgb
from normbank.report.page import Examined
from normbank.settings import Data

METHODS = (PMB, "MemAE")
OBJECTS = (f"{MVTEC}/bottle", f"{MVTEC}/transistor")  # Figure 6: each model is fed the other's images
DIGIT = f"{MNIST}/0"
FED = 100  # Figure 6: images of each class, the first in the data's order
_KINDS = 4  # kinds of defects of a category at most, the first by name
_COLUMNS = 10  # with more categories than fit, each shows fewer images
_TOP_ERROR = 0.25  # Figure 7: the error of the lightest colour, in 0..1
_SIDE = 256  # pixels of a picture on the sheet
_FEW_PIXELS = 64  # images up to this size are shown as the pixels they are


@dataclass(frozen=True)
class Found:
    """A stored model of a cell and the data it was made for."""

    cell: Cell
    slug: str
    detector: Detector
    dataset: Dataset

    @property
    def source(self) -> Source:
        """What a figure says of it."""
        return Source(self.slug, str(self.detector.manifest["commit"]), self.cell.seed)


@dataclass
class Gallery:
    """The stored models of a budget, each opened and evaluated once. `missing` maps what is not shown to the reason."""

    data: Path
    work: Path
    budget: str
    missing: dict[str, str] = field(default_factory=dict)
    _opened: dict[str, Found | str] = field(default_factory=dict)
    _evaluated: dict[str, Evaluation] = field(default_factory=dict)

    def find(self, cell: Cell) -> Found | None:
        """The model of a cell with its data; None, and a word in `missing`, where one of them is not there."""
        slug = identity(cell, self.budget).training.slug
        if slug not in self._opened:
            try:
                self._opened[slug] = self._open(cell, slug)
            except UserError as error:
                self._opened[slug] = str(error)
        found = self._opened[slug]
        if isinstance(found, Found):
            return found
        method = "" if cell.row == PMB else f" ({cell.row})"
        self.missing[short(cell.data) + method] = found
        return None

    def _open(self, cell: Cell, slug: str) -> Found | str:
        """Found, or why not."""
        path = self.work / slug / "model.nbk"
        if not path.is_file():
            return "no model stored"
        bundle = read_bundle(path)
        own = settings(cell, self.budget)
        if changed := differences(bundle.manifest["settings"], own.model_dump(mode="json")):
            return f"the stored model has other settings ({', '.join(name for name, _, _ in changed)})"
        dataset = self.dataset(cell.data, own.data)
        return "data not present" if dataset is None else Found(cell, slug, Detector(bundle), dataset)

    def dataset(self, data: str, own: Data | None = None) -> Dataset | None:
        """The data of that name; None where they are not present."""
        folder = data_folder(self.data, data)
        return None if folder is None else open_dataset(folder, own or Data())

    def scored(self, found: Found) -> Evaluation:
        """The evaluation of a model on its own test images."""
        if found.slug not in self._evaluated:
            self._evaluated[found.slug] = evaluate(found.detector, found.dataset)
        return self._evaluated[found.slug]


def median(scored: Sequence[Scored]) -> Scored:
    """The image with the median score, the lower one of two; of equals the first by name."""
    order = sorted(scored, key=lambda one: (one.score, one.sample.name))
    return order[(len(order) - 1) // 2]


def of_kind(found: Evaluation, kind: str) -> list[Scored]:
    """The images of a kind of defect, or the good ones."""
    return [one for one in found.scored if one.sample.kind == kind]


def defects(found: Evaluation, count: int) -> list[Scored]:
    """The median-scored image of each of the first `count` kinds by name; for a count of 1, of all defective ones."""
    if count == 1:
        return [median([one for one in found.scored if one.sample.label])]
    return [median(of_kind(found, kind)) for kind in sorted(found.kinds)[:count]]


def heat_maps(gallery: Gallery) -> Made | Mapping[str, str]:
    """Figure 5; or what is missing, where no model is stored."""
    known = list(_models(gallery, "fig5"))
    if not known:
        return gallery.missing
    blocks, shown = [], {}
    for one in known:
        chosen, auroc = _chosen(gallery, known, one), gallery.scored(one).metrics["pixel_AUROC"]
        note = "" if auroc is None else f"{'pixel AUROC ' if len(chosen) > 2 else ''}{100 * auroc:.1f}"
        blocks.append(Block(_plain(short(one.cell.data)), tuple(_located(one, c) for c in chosen), note))
        shown[short(one.cell.data)] = {"pixel_AUROC": auroc, "images": _listed(one, chosen)}
    text = (
        f"Shown: {_which(gallery, known)}. Numbers: pixel AUROC of the whole test set, %. Heat maps: one colour scale "
        "for each category, whose lightest colour is the highest value (99.5th percentile) of the normal images that "
        "the detector was made with. White outline: ground truth."
    )
    sources = tuple(one.source for one in known)
    below = caption(text, gallery.budget, sources)
    rows = ("image", "ground\ntruth", "heat map")
    figure = sheet("Where the defect is", below, rows, blocks, scale="0|highest of normal")
    return Made(figure, sources, shown, gallery.missing)


def reconstructions(gallery: Gallery) -> Made | Mapping[str, str]:
    """Figure 7; or what is missing, where no model is stored."""
    known = list(_models(gallery, "fig7"))
    if not known:
        return gallery.missing
    blocks, shown = [], {}
    for one in known:
        chosen = _chosen(gallery, known, one)
        blocks.append(Block(_plain(short(one.cell.data)), tuple(_remade(one, c) for c in chosen)))
        shown[short(one.cell.data)] = {"images": _listed(one, chosen)}
    text = (
        f"Shown: {_which(gallery, known)}. Numbers: mean absolute error of the image in % of the range, in brackets "
        "inside the defect. White outline: ground truth."
    )
    sources = tuple(one.source for one in known)
    below = caption(text, gallery.budget, sources)
    rows = ("image", "recon-\nstruction", "error")
    scale = f"0|{100 * _TOP_ERROR:.0f} % of the range"
    figure = sheet("Normal and defective images, reconstructed", below, rows, blocks, scale=scale)
    return Made(figure, sources, shown, gallery.missing)


def _count(known: Sequence[Found]) -> int:
    """How many defective images of each category there is room for, beside a normal one."""
    return max(1, min(_KINDS, _COLUMNS // len(known) - 1))


def _chosen(gallery: Gallery, known: Sequence[Found], one: Found) -> list[Scored]:
    """The images shown of a category, by the rule that `_which` tells."""
    result = gallery.scored(one)
    return [median(of_kind(result, GOOD)), *defects(result, _count(known))]


def _which(gallery: Gallery, known: Sequence[Found]) -> str:
    count, normal = _count(known), "the median-scored normal image and "
    if count == 1:
        return f"{normal}of all defective ones the median-scored"
    fewer = any(len(gallery.scored(one).kinds) > count for one in known)
    return f"{normal}that of each kind of defect" + (f" (the first {count} kinds by name)" if fewer else "")


def digits_fed(gallery: Gallery) -> Made | Mapping[str, str]:
    """Figure 6, digits: trained on one, fed all; or what is missing."""
    return _others_fed(gallery, [DIGIT], "Trained on one digit, fed all")


def objects_fed(gallery: Gallery) -> Made | Mapping[str, str]:
    """Figure 6, objects: trained on one, fed the other; or what is missing."""
    return _others_fed(gallery, OBJECTS, "Trained on one object, fed another")


def _others_fed(gallery: Gallery, trained: Sequence[str], title: str) -> Made | Mapping[str, str]:
    by_data: dict[str, dict[str, Found]] = {}
    for cell in cells("fig6", seeds=[0]):
        if cell.data in trained and (one := gallery.find(cell)):
            by_data.setdefault(cell.data, {})[cell.row] = one
    pairs = {data: known for data, known in by_data.items() if set(METHODS) <= set(known)}
    blocks, shown = [], {}
    for data, known in pairs.items():
        compared = {name: compare(known, samples) for name, samples in _fed(gallery, data, known[PMB])}
        if short(data) not in compared:
            gallery.missing[short(data)] = "no normal test image"
            continue
        blocks.append(_compared_block(data, compared))
        shown[data] = {name: one.to_dict() for name, one in compared.items()}
    if not blocks:
        return gallery.missing
    sources = tuple(one.source for data in shown for one in pairs[data].values())
    text = (
        "PMB: the paper's memory; MemAE: the traditional one. Shown of each class: the image in the middle of both "
        "models' errors. Numbers: mean absolute error in % of the range, over the first "
        f"{FED} normal test images of each class (all, where there are fewer). Others / own: the error of the classes "
        "that were not learnt over that of the learnt one; it should be high."
    )
    figure = sheet(title, caption(text, gallery.budget, sources), ("image", "PMB", "MemAE"), blocks)
    return Made(figure, sources, shown, gallery.missing)


PICTURES: Mapping[str, Callable[[Gallery], Made | Mapping[str, str]]] = {
    "fig5": heat_maps,
    "fig6-digits": digits_fed,
    "fig6-objects": objects_fed,
    "fig7": reconstructions,
}


def _models(gallery: Gallery, table: str) -> Iterator[Found]:
    """The stored models of a table that can be tested on images of both sorts."""
    for cell in cells(table, seeds=[0]):
        if found := gallery.find(cell):
            try:
                labels = {one.sample.label for one in gallery.scored(found).scored}
            except UserError as error:
                gallery.missing[short(cell.data)] = str(error)
                continue
            if labels == {0, 1}:
                yield found
            else:
                gallery.missing[short(cell.data)] = "the test set has not both good and defective images"


def _located(one: Found, chosen: Scored) -> Column:
    seen = examine(one.detector, chosen.sample)
    image, hot = _shown(seen.image), _shown_map(one.detector, seen)
    mask = np.zeros(image.shape[:2], bool) if seen.mask is None else resized(seen.mask, image.shape[:2])
    truth = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)
    marked = outline(hot, mask, width=2) if mask.any() else hot
    return Column(_label(chosen), (Tile(image), Tile(truth), Tile(marked)))


def _label(chosen: Scored) -> str:
    return "normal" if chosen.sample.kind == GOOD else _plain(chosen.sample.kind)


def _remade(one: Found, chosen: Scored) -> Column:
    seen = examine(one.detector, chosen.sample)
    error = np.abs(_unit(seen.image) - seen.reconstruction).mean(axis=2)
    note = f"{100 * error.mean():.1f}"
    image = _shown(seen.image)
    hot = overlay(image, resized(error, image.shape[:2], _is_smooth(error)), _TOP_ERROR)
    if seen.mask is not None and seen.mask.any():
        note += f" ({100 * error[seen.mask].mean():.1f})"
        hot = outline(hot, resized(seen.mask, image.shape[:2]), width=2)
    return Column(_label(chosen), (Tile(image), Tile(_shown(seen.reconstruction)), Tile(hot, note)))


def _shown(pixels: Pixels) -> Rgb:
    """At the sheet's size: smooth, but small images as the pixels they are."""
    return resized(to_rgb(pixels), (_SIDE, _SIDE), _is_smooth(pixels))


def _is_smooth(pixels: Pixels) -> bool:
    return bool(max(pixels.shape[:2]) > _FEW_PIXELS)


def _shown_map(detector: Detector, seen: Examined) -> Rgb:
    hot = resized(seen.anomaly_map, (_SIDE, _SIDE), _is_smooth(seen.anomaly_map))
    return overlay(_shown(seen.image), hot, detector.manifest["map_scale"] * GOOD_PEAK)


def _unit(pixels: Pixels) -> Pixels:
    """uint8 or uint16 as floats in [0, 1]."""
    return pixels.astype(np.float32) / np.iinfo(pixels.dtype).max


@dataclass(frozen=True)
class Compared:
    """Two methods on the images of one class: the one shown, and each method's reconstruction and mean error."""

    name: str
    image: Pixels
    made: Mapping[str, Pixels]
    errors: Mapping[str, float]
    count: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: errors as shares of the range."""
        errors = {name: round(value, 6) for name, value in self.errors.items()}
        return {"shown": self.name, "images": self.count, "mean_absolute_error": errors}


def compare(known: Mapping[str, Found], samples: Sequence[Sample]) -> Compared:
    """Both methods on samples of one class, at least one of them readable."""
    by_name = {name: _errors(known[name].detector, samples) for name in METHODS}
    both = [one for one in samples if all(one.name in by_name[name] for name in METHODS)]
    errors = {name: [by_name[name][one.name] for one in both] for name in METHODS}
    shown = both[middle(list(errors.values()))]
    seen = {name: examine(known[name].detector, shown) for name in METHODS}
    return Compared(
        shown.name.rpartition("/")[2],
        seen[PMB].image,
        {name: one.reconstruction for name, one in seen.items()},
        {name: float(np.mean(values)) for name, values in errors.items()},
        len(both),
    )


def middle(errors: Sequence[Sequence[float]]) -> int:
    """Which image is in the middle when each method's errors are ranked and the ranks added; the first of equals."""
    ranks = sum(np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in errors)
    return int(np.argsort(ranks, kind="stable")[(len(errors[0]) - 1) // 2])


def _errors(detector: Detector, samples: Sequence[Sample]) -> dict[str, float]:
    """The mean absolute error of the reconstruction, in 0..1, of each readable image, by its name."""
    loaded: list[tuple[str, Pixels]] = []
    for sample in samples:
        with contextlib.suppress(ImageError):
            loaded.append((sample.name, images.load(sample.path, detector.spec, sample.frame)))
    found: dict[str, float] = {}
    for start in range(0, len(loaded), BATCH):
        batch = loaded[start : start + BATCH]
        pixels = np.stack([one for _, one in batch])
        gaps = np.abs(_unit(pixels) - detector.run(pixels).reconstructions).mean(axis=(1, 2, 3))
        found.update({name: float(gap) for (name, _), gap in zip(batch, gaps, strict=True)})
    return found


def _fed(gallery: Gallery, data: str, one: Found) -> Iterator[tuple[str, list[Sample]]]:
    """The learnt class first, then the others: the first test images of each. A class without any is left out."""
    test = one.dataset.test
    by_kind: dict[str, list[Sample]] = {short(data): [sample for sample in test if sample.kind == GOOD]}
    if data.startswith(MNIST):
        for kind in sorted({sample.kind for sample in test} - {GOOD}):
            by_kind[kind.rpartition("_")[2]] = [sample for sample in test if sample.kind == kind]
    else:
        for other in OBJECTS:
            dataset = gallery.dataset(other) if other != data else None
            if other != data and dataset is None:
                gallery.missing[short(other)] = "data not present"
            by_kind.setdefault(short(other), [s for s in (dataset.test if dataset else ()) if s.kind == GOOD])
    yield from ((name, samples[:FED]) for name, samples in by_kind.items() if samples)


def _compared_block(data: str, compared: Mapping[str, Compared]) -> Block:
    own = compared[short(data)]
    columns = [
        Column(
            _plain(fed),
            (Tile(_shown(one.image)), *(Tile(_shown(one.made[n]), f"{100 * one.errors[n]:.1f}") for n in METHODS)),
        )
        for fed, one in compared.items()
    ]
    others = [one for one in compared.values() if one is not own]
    if others and all(own.errors.values()):
        factors = [float(np.mean([one.errors[name] for one in others])) / own.errors[name] for name in METHODS]
        columns.append(Column("others / own", (Tile(None), *(Tile(None, f"{factor:.1f}\u00d7") for factor in factors))))
    return Block(f"learnt: {_plain(short(data))}", tuple(columns))


def _listed(one: Found, chosen: Sequence[Scored]) -> list[dict[str, Any]]:
    root = Path(one.dataset.root)
    return [{"image": _below(root, c.sample), "kind": c.sample.kind, "score": float(f"{c.score:.6g}")} for c in chosen]


def _below(root: Path, sample: Sample) -> str:
    path = Path(sample.path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _plain(name: str) -> str:
    return name.replace("_", " ")
