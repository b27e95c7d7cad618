"""Figures of our own presets that are written by hand: each is the mean over the seeds of the committed cells."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from normbank.presets import PRESETS

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench.ablation import rows as ingredients  # noqa: E402
from bench.comparison import ELSEWHERE  # noqa: E402
from bench.figures import CHARTS  # noqa: E402
from bench.lines import Line, all_lines, seed_means  # noqa: E402
from bench.peers import read_peers  # noqa: E402
from bench.runs import Stored, current, read_cells  # noqa: E402
from bench.text import mean  # noqa: E402

PHOTOGRAPHS = ("bottle", "transistor", "magnetic_tile")
OWN = ("standard", "small", "fast")
FINDINGS = (REPO / "docs" / "findings.md").read_text(encoding="utf-8")


@cache
def known_cells() -> dict[str, Stored]:
    return current(read_cells(REPO / "bench" / "results" / "cells"))


@cache
def own_lines() -> list[Line]:
    return all_lines("own", "paper", known_cells())


@cache
def measured() -> dict[tuple[str, str, str], str]:
    """Preset, data and metric to the mean over seeds in percent, as it is written."""
    found = {}
    for line in own_lines():
        for metric in ("image_AUROC", "pixel_AUROC", "AUPRO"):
            values = [value for value in line.by_seed(metric).values() if value is not None]
            if values:
                found[line.cell.row, line.data, metric] = f"{100 * mean(values):.1f}"
    return found


def pair(name: str, data: str) -> str:
    return " / ".join(measured()[name, data, metric] for metric in ("image_AUROC", "pixel_AUROC"))


@pytest.mark.parametrize("name", OWN)
def test_presets_expect_what_was_measured(name):
    text = " ".join((PRESETS[name].__doc__ or "").split())
    expected = dict(re.findall(r"(bottle|transistor) (\d+\.\d / \d+\.\d)", text))
    assert expected == {data: pair(name, data) for data in ("bottle", "transistor")}


def test_ours_score_in_at_most_twice_the_time_of_the_papers_method():
    files = sorted((REPO / "bench" / "results" / "costs").glob("*.json"))
    assert files
    for file in files:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        papers = {row["size"]: row["milliseconds"] for row in rows if row["preset"] == "paper-mvtec-object"}
        ours = [row for row in rows if row["preset"] in OWN]
        assert {row["preset"] for row in ours} == set(OWN)
        for row in ours:
            for threads, milliseconds in row["milliseconds"].items():
                assert milliseconds <= 2 * papers[row["size"]][threads], row


def test_standard_is_trained_in_less_than_five_minutes_on_a_gpu():
    known = [one.values["context"] for line in own_lines() if line.cell.row == "standard" for one in line.stored]
    on_gpu = [one["training_seconds"] for one in known if one["training_device"].startswith("NVIDIA")]
    assert len(on_gpu) >= 9
    assert max(on_gpu) < 300


def section(heading: str) -> str:
    """The text below a heading of docs/findings.md that begins like this, up to the next, in one line."""
    (found,) = re.findall(rf"^#+ {re.escape(heading)}.*?\n(.*?)(?=^#|\Z)", FINDINGS, re.DOTALL | re.MULTILINE)
    return " ".join(found.split())


def on_photographs(text: str) -> list[tuple[str, str]]:
    return re.findall(r"(\d+\.\d / \d+\.\d) on (bottle|transistor|magnetic tile)", text)


@pytest.mark.parametrize("name", OWN)
def test_findings_say_what_was_measured(name):
    said = on_photographs(section(f"`{name}`, three seeds"))
    assert said == [(pair(name, data), data.replace("_", " ")) for data in PHOTOGRAPHS]


LEFT_OUT = (
    "no memory",
    "gate",
    "no head, the gradient in its place",
    "no made defects, the gradient in the head's place",
)
AGAIN = "`small` itself, trained again in bfloat16, seeds 1 and 2"
LITTLE_ON_TILE = (
    "no gradient term in the loss",
    "no jitter",
    "soft read",
    "temperature 1",
    "learnt temperature",
    "partitions in both directions",
    "exposure",
)
MORE_ON_TILE = (
    "finer partitions above, whole below",
    "averaged weights",
    "edges input",
    "128 pixels",
    "twice the steps",
)
ANEW = ("with absolute error", "with colour", "pool sum", "the head weighs the bank")  # of a training of their own
REST = (*LITTLE_ON_TILE, *MORE_ON_TILE)


@cache
def ablation(data: str) -> dict[str, Line]:
    """The rows of the ablation on these data."""
    return {line.cell.row: line for line in all_lines("ablation", "paper", known_cells()) if line.data == data}


def by_seed(row: str, data: str) -> list[dict[int, float]]:
    """Of a row of the ablation, or of `small` trained once more, what each seed has: image and pixel AUROC, AUPRO."""
    if row != AGAIN:
        return [ablation(data)[row].by_seed(metric) for metric in THREE]
    files = {seed: REPO / "bench" / "results" / f"small-{data}-seed{seed}.json" for seed in (1, 2)}
    made = {seed: json.loads(file.read_text(encoding="utf-8"))["metrics"] for seed, file in files.items()}
    return [{seed: metrics[metric] for seed, metrics in made.items()} for metric in THREE]


def losses(row: str, data: str) -> list[tuple[float, ...]]:
    """By how many points a row is behind `small`, seed by seed: image and pixel AUROC, AUPRO."""
    have, whole = by_seed(row, data), by_seed("small", data)
    return [
        tuple(100 * (own[seed] - of[seed]) for of, own in zip(have, whole, strict=True)) for seed in sorted(have[0])
    ]


def told(row: str, data: str) -> str:
    return "; ".join(" / ".join(f"{round(points, 1) + 0:.1f}" for points in seed) for seed in losses(row, data))


@pytest.mark.parametrize("row", [*LEFT_OUT, AGAIN])
def test_findings_say_what_is_lost_without_it(row):
    tile = "-" if row == AGAIN else told(row, "magnetic_tile")
    lost = (told(row, "transistor"), told(row, "bottle"), tile)
    assert f"| {row} | {' | '.join(lost)} |" in section("What each ingredient of `small` is worth")


@pytest.mark.parametrize("row", REST)
def test_the_rest_moves_image_AUROC_by_no_more_than_findings_say(row):
    """By less than a point with each seed, on bottle by 0.4 at most, in the mean by 0.3 at most, to a tenth."""
    for data, most in (("transistor", 1.0), ("bottle", 0.45)):
        lost = [image for image, *_ in losses(row, data)]
        assert len(lost) == 3
        assert max(abs(points) for points in lost) < most
        assert abs(mean(lost)) < 0.35


@pytest.mark.parametrize("row", LITTLE_ON_TILE)
def test_the_rest_moves_magnetic_tile_by_no_more_than_findings_say(row):
    lost = losses(row, "magnetic_tile")
    assert len(lost) == 3
    assert max(abs(image) for image, *_ in lost) < 0.75
    for metric in (0, 1):
        assert abs(mean([seed[metric] for seed in lost])) < 0.35


@pytest.mark.parametrize("row", MORE_ON_TILE)
def test_findings_say_what_the_others_lose_on_magnetic_tile(row):
    assert len(losses(row, "magnetic_tile")) == 3
    assert f"| {row} | {told(row, 'magnetic_tile')} |" in section("What each ingredient of `small` is worth")


def test_findings_tell_of_every_row_that_was_trained_otherwise():
    trained = [one.row for one in ingredients() if one.preset == "small" and one.overrides]
    assert sorted([*LEFT_OUT, *REST]) == sorted(trained)


def networks_of(row: str, data: str) -> dict[int, float]:
    """What tells one training from another: its seconds, to a thousandth. By seed."""
    return {one.identity.seed: one.values["context"]["training_seconds"] for one in ablation(data)[row].stored}


@pytest.mark.parametrize("data", ["bottle", "transistor", "magnetic_tile"])
def test_the_method_says_which_rows_score_the_very_networks_of_small(data):
    own, its_own = networks_of("small", data), (0,) if data == "magnetic_tile" else (0, 1, 2)
    for ingredient in ingredients():
        on_its_own = ingredient.preset == "small" and ingredient.score and not ingredient.overrides
        if on_its_own and ingredient.row in ablation(data):  # there is no row with colour of one channel
            again = ingredient.row in ANEW
            for seed, trained in networks_of(ingredient.row, data).items():
                assert (trained == own[seed]) == (seed in its_own and not again), (ingredient.row, seed)


def test_findings_in_short():
    said = on_photographs(section("In short"))
    assert said[-3:] == [(pair("small", data), data.replace("_", " ")) for data in PHOTOGRAPHS]


def test_findings_say_what_standard_covers():
    covered = ", ".join(measured()["standard", data, "AUPRO"] for data in PHOTOGRAPHS)
    assert f"(AUPRO {covered})" in section("`standard`")


def test_findings_say_what_digits_gave():
    said = dict(re.findall(r"`(fast|small|standard)` (\d+\.\d)", section("Ours on MNIST")))
    assert set(said) == set(OWN)
    for name, value in said.items():
        digits = [
            line.by_seed("image_AUROC")
            for line in own_lines()
            if line.cell.row == name and line.cell.data.startswith("mnist/")
        ]
        assert len(digits) == 10
        assert value == f"{100 * mean(seed_means(digits)):.1f}"  # of the seeds that all digits have, as in the tables


TEXTURES, THREE = ("brick", "gravel", "grass"), ("image_AUROC", "pixel_AUROC", "AUPRO")


def on_textures(row: str) -> list[tuple[str, str]]:
    """Image and pixel AUROC and AUPRO of a row on each texture, means of three seeds, as they are written."""
    lines = all_lines("textures", "paper", known_cells())
    found = {line.data: line for line in lines if line.cell.row == row}
    assert all(len(line.stored) == 3 for line in found.values())
    return [
        (" / ".join(f"{100 * mean(list(found[texture].by_seed(one).values())):.1f}" for one in THREE), texture)
        for texture in TEXTURES
    ]


def test_findings_say_what_textures_gave():
    said = re.findall(rf"(\d+\.\d / \d+\.\d / \d+\.\d) on ({'|'.join(TEXTURES)})", section("On textures"))
    rows = ("small", "fast", "neither shifts nor mirrors", "the head weighs the bank")
    assert said == [one for row in rows for one in on_textures(row)]


def test_findings_say_what_turned_and_moved_things_gave():
    lines = all_lines("displaced", "paper", known_cells())
    told = re.findall(r"(\d+\.\d / \d+\.\d / \d+\.\d)\s+`([^`]+)`", section("Things that lie at any angle or place"))
    assert {len(line.stored) for line in lines} == {3}
    known = {
        (line.data, line.cell.row): " / ".join(f"{100 * mean(list(line.by_seed(one).values())):.1f}" for one in THREE)
        for line in lines
    }
    data = ("turned", "moved", "both", "moved_bottle")
    rows = ("small", "fast", "small, as they lie", "fast, as they lie")
    assert told == [(known[one, row], row) for one in data for row in rows]
    assert len(told) == len(lines)


def test_findings_say_what_the_peer_has_there():
    peers = {one.data: one for one in read_peers(REPO / "bench" / "results" / "peers") if one.values["size"] == 128}
    has = {data: " / ".join(f"{100 * peer.metrics[one]:.1f}" for one in THREE) for data, peer in peers.items()}
    told = (
        f"has {has['turned']} turned, {has['moved']} moved and {has['both']} turned and moved at 128 pixels, "
        f"{has['moved_bottle']} on moved bottles"
    )
    assert told in " ".join(section("Things that lie at any angle or place").split())


def test_the_readme_has_every_data_set_that_the_paper_has_not():
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    header = r"^\| data \| `small` \| `fast` \| PaDiM, 128 px \| PaDiM, 256 px \|\n"
    (found,) = re.findall(rf"{header}(.*?)\n\n", readme, re.DOTALL | re.MULTILINE)
    told = {
        name: values
        for name, *values in ([one.strip() for one in row.strip("|").split("|")] for row in found.splitlines()[1:])
    }
    assert list(told) == list(ELSEWHERE.values())
    for line in [one for name in ("textures", "displaced") for one in all_lines(name, "paper", known_cells())]:
        if line.cell.row in ("small", "fast"):
            assert len(line.stored) == 3
            values = " / ".join(f"{100 * mean(list(line.by_seed(one).values())):.1f}" for one in THREE)
            assert told[ELSEWHERE[line.data]][line.cell.row == "fast"] == values
    for peer in read_peers(REPO / "bench" / "results" / "peers"):
        if peer.data in ELSEWHERE:
            values = " / ".join(f"{100 * peer.metrics[one]:.1f}" for one in THREE)
            assert told[ELSEWHERE[peer.data]][2 + (peer.values["size"] == 256)] == values


def test_findings_say_how_long_fast_takes():
    taken = {
        line.data: [one.values["context"]["training_seconds"] for one in line.stored]
        for line in own_lines()
        if line.cell.row == "fast"
    }
    things = [*taken["bottle"], *taken["transistor"]]
    spans = [f"{min(seconds):.0f} to {max(seconds):.0f} s" for seconds in (things, taken["magnetic_tile"])]
    text = section("`fast`, three seeds")
    assert f"trained in {spans[0]} on one CPU core" in text
    assert f"the tile's 684 images in {spans[1]}" in text


@pytest.mark.parametrize("name", CHARTS)
def test_charts_show_what_the_cells_say(name):
    files = sorted((REPO / "bench" / "figures").glob(f"{name}.*.json"))
    assert files
    for file in files:
        told = json.loads(file.read_text(encoding="utf-8"))
        made = CHARTS[name](told["budget"], known_cells())
        assert told["values"] == json.loads(json.dumps(made.values))
        assert {run["slug"]: run["commit"] for run in told["runs"]} == {one.slug: one.commit for one in made.sources}
        assert told["missing"] == made.missing
        assert file.with_suffix(".svg").exists()
        assert file.with_suffix(".png").exists()
