"""Every cell of the paper's Tables I to VIII and Figures 5 to 9, what is needed to run it, and what the paper prints.

Beside them what the paper has not: its methods on magnetic tiles, the presets of our own, whole and in parts, and
what keeps its method from the printed value on MNIST.

Xing and Li, IEEE TCSVT 33(8), 2023, arXiv 2209.12441. The printed values are in printed.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from bench import ablation, digits
from normbank.config import Config
from normbank.presets import preset

Settings = Mapping[str, Any]  # dotted names to JSON values

_FILE: dict[str, Any] = json.loads((Path(__file__).parent / "printed.json").read_text(encoding="utf-8"))
CATEGORIES: tuple[str, ...] = tuple(_FILE["categories"])
TEXTURES: frozenset[str] = frozenset(_FILE["textures"])
DIGITS = tuple(str(digit) for digit in range(10))
_VALUES: dict[str, dict[str, dict[str, dict[str, float | None]]]] = _FILE["tables"]
_OTHER_DATA: dict[str, list[str]] = _FILE["with_other_data"]

MVTEC, MNIST, OCT, TILE = "mvtec_ad", "mnist", "oct", "magnetic_tile"
TEXTURE, OBJECT = "paper-mvtec-texture", "paper-mvtec-object"
PMB, WITHOUT_H = "PMB-AE", "PMB-AE without histogram"
BASELINES = {
    "AE-SSIM": "ae-ssim",
    "AE-L2": "ae-l2",
    "AE+skip": "ae-skip",
    "MemAE": "memae",
    "MNAD": "mnad",
    "DAAD": "daad",
    "DAAD+": "daad-plus",
}
OWN = ("standard", "small", "fast")
DEMONSTRATED = ("demo/data/brick", "demo/data/gravel", "demo/data/grass")  # as `make demo` leaves them
DISPLACED = (  # as `python -m bench.displaced` leaves them
    "turned/transistor",
    "moved/transistor",
    "both/transistor",
    "moved_bottle/bottle",
)
SHARES = (0, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Cell:
    """One trained and scored detector of a table.

    `data` is "mvtec_ad/bottle", "mnist/3", "oct", "magnetic_tile" or "demo/data/brick". `overrides` are the preset's
    settings that training needs otherwise, `score` those that need no new training; both hold nothing the preset has
    anyway. `printed` maps a metric to the paper's value in percent, None where it prints none.
    """

    table: str
    row: str
    data: str
    preset: str
    overrides: Settings = field(default_factory=dict)
    score: Settings = field(default_factory=dict)
    seed: int = 0
    printed: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """`metrics` are those shown; `one_seed` says that a picture needs no more than one; `costs` adds those columns.

    `wide` says that the data are columns, with no other columns than their metrics and the seeds.
    """

    title: str
    metrics: tuple[str, ...]
    make: Callable[[], Iterator[Cell]]
    costs: bool = False
    one_seed: bool = False
    wide: bool = False


def printed(metric: str, data_format: str, name: str) -> float | None:
    """The paper's value in percent for its own method on a category of MVTec AD; None where it prints none."""
    table = {"image_AUROC": "I", "pixel_AUROC": "IV"}.get(metric)
    if data_format != "mvtec" or table is None:
        return None
    return _VALUES[table][PMB][metric].get(name)


def printed_in(table: str, row: str, metric: str, data: str) -> float | None:
    """The value printed in a table's row for "mean", a category or "oct"; None where there is none."""
    return _VALUES.get(table, {}).get(row, {}).get(metric, {}).get(data.rpartition("/")[2])


def others(table: str) -> list[tuple[str, float, bool]]:
    """(method, printed mean, whether it learnt from other data too) of a table's rows that are not run here."""
    own = {cell.row for cell in cells(table)}
    shown = ((row, values) for row, values in _VALUES.get(table, {}).items() if row not in own)
    means = ((row, next(iter(values.values()))) for row, values in shown)
    found = ((row, value.get("mean", value.get("oct"))) for row, value in means)
    return [(row, value, row in _OTHER_DATA.get(table, [])) for row, value in found if value is not None]


def cells(table: str, categories: Sequence[str] = (), seeds: Sequence[int] = (0, 1, 2)) -> list[Cell]:
    """The cells of a table, row by row, each with every seed (a picture's with the first alone).

    `categories` leaves those of the named data only: "bottle", "3", "oct", "magnetic_tile". ValueError for a table
    or category that there is none of.
    """
    if table not in TABLES:
        raise ValueError(f"table {table!r}: expected one of {', '.join(TABLES)}")
    made = _all(table)
    known = list(dict.fromkeys(short(cell.data) for cell in made))
    if unknown := [name for name in categories if name not in known]:
        raise ValueError(f"--categories {unknown[0]}: table {table} has {', '.join(known)}")
    chosen = seeds[:1] if TABLES[table].one_seed else seeds
    wanted = [cell for cell in made if not categories or short(cell.data) in categories]
    return [replace(cell, seed=seed) for cell in wanted for seed in chosen]


@cache
def _all(table: str) -> tuple[Cell, ...]:
    """Made once: a report asks for the same cells again and again, and each of them validates its settings."""
    return tuple(TABLES[table].make())


def short(data: str) -> str:
    """ "bottle" of "mvtec_ad/bottle", "turned" of "turned/transistor"."""
    first, _, last = data.rpartition("/")
    return first if data in DISPLACED else last


def _cell(
    table: str,
    row: str,
    data: str,
    preset_name: str,
    overrides: Settings | None = None,
    score: Settings | None = None,
) -> Cell:
    """A cell whose settings are valid and say only what differs from its preset."""
    own = preset(preset_name)
    changed = preset(preset_name, {**(overrides or {}), **(score or {})})
    metrics = _VALUES.get(table, {}).get(row, {})
    values = {metric: value for metric in metrics if (value := printed_in(table, row, metric, data)) is not None}
    trained, scored = (
        {name: _value(changed, name) for name in given or () if _value(changed, name) != _value(own, name)}
        for given in (overrides, score)
    )
    return Cell(table, row, data, preset_name, trained, scored, printed=values)


def _value(config: Config, dotted: str) -> Any:
    """A setting as JSON has it."""
    group, name = dotted.split(".")
    return config.model_dump(mode="json")[group][name]


def _of(category: str) -> str:
    return f"{MVTEC}/{category}"


def _paper_preset(category: str) -> str:
    """The paper's preset for a category of MVTec AD, or for magnetic tiles, which are a surface."""
    return TEXTURE if category in TEXTURES or category == TILE else OBJECT


def _with_k(k: Sequence[int]) -> tuple[str, Settings]:
    """The preset that has these partitions, or the objects' with them."""
    textures = preset(TEXTURE).model.partitions == tuple(k)
    return (TEXTURE, {}) if textures else (OBJECT, {"model.partitions": list(k)})


def _main(table: str) -> Iterator[Cell]:
    for category in CATEGORIES:
        yield _cell(table, PMB, _of(category), _paper_preset(category))


def _digits(table: str) -> Iterator[Cell]:
    for digit in DIGITS:
        yield _cell(table, PMB, f"{MNIST}/{digit}", "paper-mnist")


def _retina() -> Iterator[Cell]:
    yield _cell("III", PMB, OCT, "paper-oct")


def _methods(table: str, data: str, category: str) -> Iterator[Cell]:
    """The rows of Table V on one data set."""
    for row, name in BASELINES.items():
        latent = {"model.latent": 100 if _paper_preset(category) == TEXTURE else 500}
        yield _cell(table, row, data, name, latent if preset(name).model.trunk == "bergmann" else None)
    yield _cell(table, WITHOUT_H, data, _paper_preset(category), score={"score.delta_h": 0})
    yield _cell(table, PMB, data, _paper_preset(category))


def _compared() -> Iterator[Cell]:
    for category in CATEGORIES:
        yield from _methods("V", _of(category), category)


def _shares(table: str) -> Iterator[Cell]:
    for share in SHARES:
        for category in CATEGORIES:
            score = {"score.delta_h": share}
            yield _cell(table, f"delta_h {share:g}", _of(category), _paper_preset(category), score=score)


def _partitions() -> Iterator[Cell]:
    for row in _VALUES["VII"]:
        preset_name, overrides = _with_k(_numbers(row))
        for category in CATEGORIES:
            yield _cell("VII", row, _of(category), preset_name, overrides)


def _numbers(row: str) -> list[int]:
    """The k of a row "k0 = 2,2,2,2"."""
    return [int(part) for part in row.partition("= ")[2].split(",")]


def _small_partitions() -> Iterator[Cell]:
    for row in _VALUES["VIII"]:
        overrides = {"model.partitions": _numbers(row)}
        for digit in DIGITS:
            yield _cell("VIII", row, f"{MNIST}/{digit}", "paper-mnist", overrides)
        if printed_in("VIII", row, "image_AUROC", OCT) is not None:
            yield _cell("VIII", row, OCT, "paper-oct", overrides)


def _pictured() -> Iterator[Cell]:
    """Figure 6: the partition memory and the traditional one, each trained on one class."""
    for data in (f"{MNIST}/0", *map(_of, CATEGORIES)):
        is_digit = data.startswith(MNIST)
        yield _cell("fig6", PMB, data, "paper-mnist" if is_digit else _paper_preset(short(data)))
        yield _cell("fig6", "MemAE", data, "memae", for_digits(preset("memae")) if is_digit else None)


# Figure 9: (L, p) of each setting. Of fewer levels, the last keeps the width it has in the whole network.
DEPTHS = {"A": (3, 3), "B": (5, 3), "C": (4, 4), "D": (5, 4), "E": (5, 5)}
_FIFTH_K, _FIFTH_M = 8, 200


def _depths() -> Iterator[Cell]:
    for name, (levels, depth) in DEPTHS.items():
        for category in CATEGORIES:
            model = preset(_paper_preset(category)).model
            overrides = {
                "model.widths": [*model.widths[: levels - 1], model.widths[-1]],
                "model.memory_levels": depth,
                "model.partitions": [*model.partitions, _FIFTH_K][:depth],
                "model.items": [*model.items, _FIFTH_M][:depth],
            }
            yield _cell("fig9", f"{name}: L={levels}, p={depth}", _of(category), _paper_preset(category), overrides)


_PHOTOGRAPHS = (_of("bottle"), _of("transistor"), TILE)


def _ours() -> Iterator[Cell]:
    for name in OWN:
        for data in _PHOTOGRAPHS:
            yield _cell("own", name, data, name)
        for digit in DIGITS:
            yield _cell("own", name, f"{MNIST}/{digit}", name, for_digits(preset(name)))


def _ablated() -> Iterator[Cell]:
    for row, name, overrides, score in ablation.rows():
        for data in _PHOTOGRAPHS:
            if not (data == TILE and "colour" in score.get("score.parts", ())):  # its images have one channel
                yield _cell("ablation", row, data, name, overrides, score)


def _on_textures() -> Iterator[Cell]:
    for row, name, overrides, score in ablation.on_textures():
        for texture in DEMONSTRATED:
            yield _cell("textures", row, texture, name, overrides, score)


def _on_displaced() -> Iterator[Cell]:
    for row, name, overrides, score in ablation.on_displaced():
        for data in DISPLACED:
            yield _cell("displaced", row, data, name, overrides, score)


def _causes() -> Iterator[Cell]:
    for row, name, overrides, score in digits.rows():
        for digit in DIGITS:
            yield _cell("mnist", row, f"{MNIST}/{digit}", name, overrides, score)


def for_digits(config: Config) -> Settings:
    """What a preset for photographs needs on digits: 32 x 32, its first three levels, no partitions, batches of 64.

    A memory below the third level stands on the third.
    """
    model = config.model
    places = dict(zip((min(place, 3) for place in model.memory_places), model.items, strict=True))
    at = None if list(places) == list(range(1, len(places) + 1)) else list(places)
    return {
        "data.size": 32,
        "model.widths": list(model.widths[:3]),
        "model.memory_levels": len(places),
        "model.memory_at": at,
        "model.partitions": [1] * len(places),
        "model.items": list(places.values()),
        "train.batch_size": 64,
    }


_CHOICE = ("image_AUROC", "pixel_AUROC", "AUPRO", "selection_image_AUROC", "image_AUROC_shifted")
_IMAGE, _PIXEL, _BOTH = ("image_AUROC",), ("pixel_AUROC",), ("image_AUROC", "pixel_AUROC")
_ALL = ("image_AUROC", "image_AP", "pixel_AUROC", "pixel_AP", "AUPRO")
TABLES = {
    "I": Table("Table I: MVTec AD, detection", _IMAGE, lambda: _main("I")),
    "II": Table("Table II: MNIST, one digit against the rest", _IMAGE, lambda: _digits("II")),
    "III": Table("Table III: Retinal OCT", _IMAGE, _retina),
    "IV": Table("Table IV: MVTec AD, localisation", _PIXEL, lambda: _main("IV")),
    "V": Table("Table V: the methods compared, MVTec AD", _ALL, _compared, costs=True),
    "VI": Table("Table VI: delta_H, MVTec AD", _BOTH, lambda: _shares("VI")),
    "VII": Table("Table VII: partitions k, MVTec AD", _BOTH, _partitions),
    "VIII": Table("Table VIII: partitions k, MNIST and Retinal OCT", _IMAGE, _small_partitions),
    "fig5": Table("Figure 5: heat maps", _PIXEL, lambda: _main("fig5"), one_seed=True),
    "fig6": Table("Figure 6: trained on one class, fed others", _IMAGE, _pictured, one_seed=True),
    "fig7": Table("Figure 7: reconstructions", _IMAGE, lambda: _main("fig7"), one_seed=True),
    "fig8": Table("Figure 8: delta_H and localisation, MVTec AD", _PIXEL, lambda: _shares("fig8")),
    "fig9": Table("Figure 9: levels L and memories p, MVTec AD", _BOTH, _depths),
    "tile": Table("Table V's methods on magnetic tiles", _ALL, lambda: _methods("tile", TILE, TILE), costs=True),
    "own": Table("Presets of our own", (*_ALL, "image_AUROC_shifted"), _ours, costs=True),
    "ablation": Table("The ingredients of small", _CHOICE, _ablated, wide=True),
    "textures": Table("The demonstration's textures", _CHOICE, _on_textures, wide=True),
    "displaced": Table("Things that lie at any angle or place", _CHOICE, _on_displaced, wide=True),
    "mnist": Table("What keeps MNIST from the printed value", _IMAGE, _causes, wide=True),
}
