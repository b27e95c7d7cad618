"""The figures: which images and cells they take, what they leave out and say so, and that the files are fit for use."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cells import put_cell
from PIL import Image
from tiny import make_tiny

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))  # bench stands outside the package

from bench import __main__ as command  # noqa: E402
from bench import figure_charts, figure_pictures, figure_sheet, figure_style, figures, paper  # noqa: E402
from bench.budgets import settings  # noqa: E402
from bench.runner import Places  # noqa: E402
from bench.runs import identity, read_cells  # noqa: E402

HELD = [("bottle", paper.PMB), ("bottle", "MemAE"), ("transistor", paper.PMB)]


def make_data(root):
    """Data of bottle and transistor, and room for models and results."""
    for number, name in enumerate(("bottle", "transistor")):
        make_tiny(root / "data" / "mvtec_ad" / name, train=10, test=4 + number, each_kind=3)
    return Places(root / "data", root / "work", root / "results")


def held_cells():
    return [cell for cell in paper.cells("fig6", seeds=[0]) if (paper.short(cell.data), cell.row) in HELD]


def model_file(places, cell):
    return places.work / identity(cell, "tiny").training.slug / "model.nbk"


@pytest.fixture(scope="module")
def copied(tmp_path_factory, tiny_model):
    """In place of three models, one of other settings."""
    places = make_data(tmp_path_factory.mktemp("figures"))
    for cell in held_cells():
        model_file(places, cell).parent.mkdir(parents=True)
        shutil.copy(tiny_model, model_file(places, cell))
    return places


@pytest.fixture
def stored(copied, monkeypatch):
    """The copies pass for what they stand for."""
    monkeypatch.setattr(figure_pictures, "differences", lambda found, own: ())
    return copied


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three models of budget tiny: bottle by both methods, transistor by the paper's."""
    from normbank.data.open import open_dataset
    from normbank.fitting import fit

    places = make_data(tmp_path_factory.mktemp("trained"))
    for cell in held_cells():
        config = settings(cell, "tiny", "cpu")
        fit(config, open_dataset(places.data / cell.data, config.data), model_file(places, cell).parent, quiet=True)
    return places


def draw(names, places, out, budget="tiny"):
    said = []
    paths = figures.figures(names, budget, places, out, said.append)
    return {path.name: path for path in paths}, said


def content(path):
    return json.loads(path.read_text(encoding="utf-8"))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def some_scored(*scores, kind="spot"):
    names = [f"{number}.png" for number in range(len(scores))]
    samples = [SimpleNamespace(name=name, kind=kind, label=int(kind != "good")) for name in names]
    return [SimpleNamespace(score=score, sample=sample) for score, sample in zip(scores, samples, strict=True)]


@pytest.mark.parametrize(
    ("scores", "place"), [((3.0, 1.0, 2.0), 2), ((4.0, 1.0, 3.0, 2.0), 3), ((5.0,), 0), ((1.0, 1.0, 1.0), 1)]
)
def test_the_median_is_shown_and_the_lower_of_two(scores, place):
    assert figure_pictures.median(some_scored(*scores)).sample.name == f"{place}.png"


def test_the_median_is_what_sorting_says():
    scores = np.random.default_rng(0).normal(size=21)
    assert figure_pictures.median(some_scored(*scores)).score == np.median(scores)


def test_the_first_kinds_by_name_are_shown_or_the_median_of_all():
    scored = [*some_scored(1.0, 2.0, 9.0, kind="b"), *some_scored(5.0, kind="a"), *some_scored(7.0, kind="c")]
    scored += some_scored(100.0, kind="good")
    found = SimpleNamespace(scored=tuple(scored), kinds={"c": {}, "b": {}, "a": {}})
    assert [(one.sample.kind, one.score) for one in figure_pictures.defects(found, 2)] == [("a", 5.0), ("b", 2.0)]
    assert [one.score for one in figure_pictures.defects(found, 1)] == [5.0]


def test_the_middle_of_two_methods():
    # ranks 0 2 1 3 and 1 3 0 2: sums 1 5 1 5; the second of four in order, of equals the first
    assert figure_pictures.middle([[0.1, 0.3, 0.2, 0.4], [2.0, 4.0, 1.0, 3.0]]) == 2
    assert figure_pictures.middle([[3.0, 1.0, 2.0], [30.0, 10.0, 20.0]]) == 2


def test_heat_maps_show_what_is_stored_and_name_the_rest(stored, tmp_path):
    made, said = draw(["fig5"], stored, tmp_path)
    assert sorted(made) == ["fig5.tiny.json", "fig5.tiny.png", "fig5.tiny.svg"]
    values = content(made["fig5.tiny.json"])
    slugs = [f"mvtec_ad-{name}.paper-mvtec-object.tiny.seed0" for name in ("bottle", "transistor")]
    assert [run["slug"] for run in values["runs"]] == slugs
    assert all(run["seed"] == 0 and run["commit"] for run in values["runs"])
    assert (values["figure"], values["budget"]) == ("fig5", "tiny")
    assert values["missing"]["carpet"] == "no model stored"
    assert {"bottle", "transistor"}.isdisjoint(values["missing"])
    assert said[0].startswith("fig5: fig5.tiny.png")
    assert "no model stored: " in said[1]
    assert "hazelnut; " in said[1]
    shown = values["values"]["bottle"]["images"]
    assert [one["kind"] for one in shown] == ["good", "scratch", "spot"]
    texts = [made[name].read_text(encoding="utf-8") for name in made if not name.endswith("png")]
    assert not any(str(stored.data) in text for text in texts)


def test_the_image_shown_has_the_median_score_of_its_kind(stored, tmp_path):
    from normbank import load
    from normbank.data.samples import GOOD

    values = content(draw(["fig5"], stored, tmp_path)[0]["fig5.tiny.json"])
    detector = load(stored.work / values["runs"][0]["slug"] / "model.nbk")
    for one in values["values"]["bottle"]["images"]:
        folder = stored.data / "mvtec_ad" / "bottle" / "test" / one["kind"]
        scores = sorted(detector.predict(path).score for path in folder.glob("*.png"))
        assert one["score"] == pytest.approx(scores[(len(scores) - 1) // 2], rel=1e-5)
    assert values["values"]["bottle"]["images"][0]["kind"] == GOOD


@pytest.mark.slow
def test_pictures_are_sharp_small_and_the_same_every_time(stored, tmp_path):
    first, _ = draw(["fig7"], stored, tmp_path / "a")
    second, _ = draw(["fig7"], stored, tmp_path / "b")
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes()
    with Image.open(first["fig7.tiny.png"]) as image:
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert image.size == (2000, 1125)
    assert first["fig7.tiny.png"].stat().st_size < 600_000
    assert first["fig7.tiny.svg"].read_text(encoding="utf-8").startswith("<?xml")


def test_a_class_that_lacks_a_method_is_named_and_the_other_object_is_fed(stored, tmp_path):
    made, said = draw(["fig6"], stored, tmp_path)
    assert {name.partition(".")[0] for name in made} == {"fig6-objects"}
    assert "fig6-digits: left out, nothing is stored at budget tiny" in said
    assert "  no model stored: 0; 0 (MemAE)" in said
    assert "  no model stored: transistor (MemAE)" in said
    values = content(made["fig6-objects.tiny.json"])
    assert list(values["values"]) == ["mvtec_ad/bottle"]
    fed = values["values"]["mvtec_ad/bottle"]
    assert {name: one["images"] for name, one in fed.items()} == {"bottle": 4, "transistor": 5}


@pytest.mark.slow
def test_the_errors_are_means_of_each_method(trained, tmp_path):
    from normbank import images, load

    values = content(draw(["fig6"], trained, tmp_path)[0]["fig6-objects.tiny.json"])
    fed = values["values"]["mvtec_ad/bottle"]
    for run, method in zip(values["runs"], (paper.PMB, "MemAE"), strict=True):
        detector = load(trained.work / run["slug"] / "model.nbk")
        errors = []
        for path in sorted((trained.data / "mvtec_ad" / "transistor" / "test" / "good").glob("*.png")):
            batch = images.load(path, detector.spec)[None]
            errors.append(np.abs(batch / 255.0 - detector.run(batch).reconstructions).mean())
        assert fed["transistor"]["mean_absolute_error"][method] == pytest.approx(np.mean(errors), abs=2e-6)


def test_a_model_of_other_settings_is_named_and_not_shown(copied):
    gallery = figure_pictures.Gallery(copied.data, copied.work, "tiny")
    assert gallery.find(paper.cells("fig5", ["bottle"], [0])[0]) is None
    assert gallery.missing["bottle"].startswith("the stored model has other settings (data.held_out, ")


def test_without_its_data_or_with_a_broken_file_a_model_is_named(stored, tmp_path):
    cell = paper.cells("fig5", ["bottle"], [0])[0]
    gallery = figure_pictures.Gallery(tmp_path / "none", stored.work, "tiny")
    assert (gallery.find(cell), gallery.missing) == (None, {"bottle": "data not present"})
    broken = tmp_path / "work" / identity(cell, "tiny").slug / "model.nbk"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no zip")
    gallery = figure_pictures.Gallery(stored.data, tmp_path / "work", "tiny")
    assert gallery.find(cell) is None
    assert "model.nbk" in gallery.missing["bottle"]


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "data", tmp_path / "work", tmp_path / "results")


def put_table(places, table, categories, seeds, metrics, skip=()):
    """Every cell of a table at budget quick; `metrics(cell, number of its row)` gives its metrics."""
    rows = list(dict.fromkeys(cell.row for cell in paper.cells(table)))
    for cell in paper.cells(table, categories, seeds):
        if (cell.row, paper.short(cell.data), cell.seed) not in skip:
            put_cell(places.results, cell, metrics=metrics(cell, rows.index(cell.row)))


def test_lines_take_seeds_that_have_every_share(places, tmp_path):
    skip = {("delta_h 0.5", "bottle", 1), *((f"delta_h {share:g}", "cable", 0) for share in (0, 0.9))}

    def metrics(cell, row):
        return {"pixel_AUROC": 0.7 + 0.05 * row + 0.02 * cell.seed}

    put_table(places, "fig8", ["bottle"], [0, 1], metrics, skip)
    put_table(places, "fig8", ["transistor"], [0, 1], metrics)
    put_table(places, "fig8", ["cable"], [0], metrics, skip)
    made, said = draw(["fig8"], places, tmp_path / "out", "quick")
    values = content(made["fig8.quick.json"])
    lines = values["values"]["pixel_AUROC_percent_by_seed"]
    assert lines["bottle"]["delta_h 0.25"] == [75.0]
    assert lines["transistor"]["delta_h 0.9"] == [90.0, 92.0]
    assert list(lines) == ["bottle", "transistor"]
    assert values["missing"]["bottle, seed 1"] == "left out without delta_h 0.5"
    assert values["missing"]["cable, seed 0"] == "left out without delta_h 0, delta_h 0.9"
    assert "  left out without delta_h 0.5: bottle, seed 1" in said
    assert len(values["runs"]) == 15
    assert {run["commit"] for run in values["runs"]} == {"abc123"}


def test_bars_are_means_over_the_same_categories_and_seeds(places, tmp_path):
    def metrics(cell, row):
        base = {"bottle": 0.8, "cable": 0.6, "wood": 0.9}[paper.short(cell.data)]
        return {"image_AUROC": base + 0.01 * row, "pixel_AUROC": base - 0.1 * cell.seed}

    put_table(places, "fig9", ["bottle", "wood"], [0, 1], metrics)
    put_table(places, "fig9", ["cable"], [0], metrics)
    values = content(draw(["fig9"], places, tmp_path / "out", "quick")[0]["fig9.quick.json"])
    objects, textures = values["values"]["objects"], values["values"]["textures"]
    assert objects["image_AUROC_percent_by_seed"]["A: L=3, p=3"] == [70.0]  # cable has seed 0 alone
    assert objects["image_AUROC_percent_by_seed"]["E: L=5, p=5"] == [74.0]
    assert textures["pixel_AUROC_percent_by_seed"]["B: L=5, p=3"] == [90.0, 80.0]
    assert len(values["runs"]) == 20  # 5 settings: bottle 0, cable 0, wood 0 and 1


def test_a_setting_that_no_category_has_is_named(places):
    skip = {("E: L=5, p=5", "bottle", 0)}
    put_table(places, "fig9", ["bottle"], [0], lambda cell, row: {}, skip)
    made = figure_charts.depths("quick", read_cells(places.results))
    assert made.missing["E: L=5, p=5"] == "no cell stored"
    assert list(made.values["objects"]["image_AUROC_percent_by_seed"]) == [
        "A: L=3, p=3", "B: L=5, p=3", "C: L=4, p=4", "D: L=5, p=4",
    ]  # fmt: skip


def test_cells_of_other_budgets_and_settings_are_not_drawn(places, tmp_path, capsys):
    put_table(places, "fig8", ["bottle"], [0], lambda cell, row: {})
    with pytest.raises(ValueError, match=r"(?s)budget paper.*bench run fig8 --budget paper.*--budget quick"):
        draw(["fig8"], places, tmp_path / "out", "paper")
    for path in places.results.glob("*.json"):
        values = content(path)
        values["settings"]["train"]["steps"] = 7
        path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match="nothing is stored of fig8 at budget quick"):
        draw(["fig8"], places, tmp_path / "out", "quick")
    assert not (tmp_path / "out").exists()


def test_nothing_stored_ends_with_2_and_the_command_to_run(tmp_path, capsys):
    where = [f"--{name}={tmp_path / name}" for name in ("data", "work", "results", "out")]
    assert command.main(["figures", "fig5", "fig9", "--budget", "tiny", *where]) == 2
    told = capsys.readouterr()
    assert "fig5: left out, nothing is stored at budget tiny" in told.out
    assert "  python -m bench run fig5 --budget tiny\n  python -m bench run fig9 --budget tiny" in told.err
    assert command.main(["figures", "fig4", *where]) == 2
    assert "figure 'fig4': expected one of fig5, fig6, fig7, fig8, fig9" in capsys.readouterr().err


def test_the_command_writes_where_it_is_told(places, tmp_path, capsys):
    put_table(places, "fig8", ["bottle"], [0], lambda cell, row: {})
    where = [f"--{name}={getattr(places, name)}" for name in ("data", "work", "results")]
    assert command.main(["figures", "fig8", "--budget", "quick", *where, f"--out={tmp_path / 'out'}"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"fig8.quick.{s}" for s in ("png", "svg", "json")}
    assert "fig8: fig8.quick.png, fig8.quick.svg, fig8.quick.json from 5 runs" in capsys.readouterr().out


def test_the_caption_tells_budget_seeds_and_commits():
    sources = [figure_style.Source("a", "c2", 1), figure_style.Source("b", "c1", 0), figure_style.Source("c", "c1", 0)]
    told = figure_style.caption("Shown: x.", "quick", sources)
    assert told.startswith("Shown: x. Budget quick: reduced: 300 steps at most")
    assert told.endswith("Seeds 0, 1. Commits c1, c2.")


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([1.0, 5.0], [1.0, 5.0]),
        ([5.0, 5.0], [4.5, 5.5]),  # moved apart around 5
        ([3.0, 2.9, 9.0], [3.45, 2.45, 9.0]),  # around 2.95, in their own order
        ([0.0, 0.9, 1.8], [-0.1, 0.9, 1.9]),
    ],
)
def test_labels_do_not_overlap(places, expected):
    assert figure_style.spread_labels(places, 1.0) == pytest.approx(expected)


def test_many_labels_keep_their_distance_and_order():
    places = list(np.random.default_rng(3).uniform(0, 5, 15))
    moved = figure_style.spread_labels(places, 0.3)
    assert np.argsort(moved).tolist() == np.argsort(places).tolist()
    assert np.diff(sorted(moved)).min() >= 0.3 - 1e-9


def noisy_png(side=400):
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG")
    return noise, buffer.getvalue()


def test_a_large_png_loses_bits_and_no_colours_it_could_keep():
    noise, content = noisy_png()
    kept = np.asarray(Image.open(io.BytesIO(figure_style.small_png(content, 10**7))))
    assert (kept == noise).all()
    small = figure_style.small_png(content, 450_000)
    coarse = np.asarray(Image.open(io.BytesIO(small))).astype(int)
    assert len(small) <= 450_000
    assert len(np.unique(coarse)) == 64  # 6 bits, which is enough
    assert np.abs(coarse - noise).max() == 2


def test_a_large_svg_has_its_pictures_as_jpeg():
    import base64

    _, content = noisy_png(64)
    text = f'<svg><image xlink:href="data:image/png;base64,\n{base64.b64encode(content).decode()}"/></svg>'
    assert figure_style.small_svg(text) == text
    small = figure_style.small_svg(text, 100)
    assert small.startswith('<svg><image xlink:href="data:image/jpeg;base64,')
    data = small.partition("base64,")[2].partition('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 64)


def block(title, columns, label="defect"):
    tile = figure_sheet.Tile(np.full((8, 8, 3), 90, np.uint8), "1.2")
    return figure_sheet.Block(title, tuple(figure_sheet.Column(label, (tile, tile)) for _ in range(columns)))


def test_blocks_are_set_in_bands():
    blocks = [block(name, count) for name, count in (("a", 4), ("b", 4), ("c", 4), ("d", 9), ("e", 1))]
    assert [[one.title for one in band] for band in figure_sheet.bands(blocks, 8)] == [["a", "b"], ["c"], ["d"], ["e"]]


@pytest.mark.parametrize(("count", "size"), [(2, (10, 5.625)), (15, (10, 9.5))])
def test_nothing_stands_outside_the_sheet_or_over_something_else(count, size):
    blocks = [block(f"name{number}", 2, "a long name") for number in range(count)]
    figure = figure_sheet.sheet("A title", "What it is. " * 30, ("image", "two\nlines"), blocks)
    assert figure.get_size_inches()[0] == size[0]
    assert size[1] <= figure.get_size_inches()[1] <= size[1] + 1
    figure.canvas.draw()
    inside = figure.bbox
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in boxes)
    pictures = [axes.get_window_extent() for axes in figure.axes]
    assert len(pictures) == 4 * count
    assert not any(b.overlaps(picture) for b in boxes for picture in pictures)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.data
def test_real_digits_are_fed_to_a_model_of_one(real_data, tmp_path):
    from normbank.data.open import open_dataset
    from normbank.fitting import fit

    if not (real_data / "mnist").is_dir():
        pytest.skip("MNIST is absent")
    for cell in paper.cells("fig6", ["0"], [0]):
        config = settings(cell, "tiny", "cpu")
        dataset = open_dataset(real_data / "mnist", config.data)
        dataset = type(dataset)(**{**vars(dataset), "train": dataset.train[:40]})
        fit(config, dataset, tmp_path / "work" / identity(cell, "tiny").training.slug, quiet=True)
    made, _ = draw(["fig6-digits"], Places(real_data, tmp_path / "work", tmp_path / "none"), tmp_path / "out")
    fed = content(made["fig6-digits.tiny.json"])["values"]["mnist/0"]
    assert list(fed) == list("0123456789")
    assert {one["images"] for one in fed.values()} == {100}
