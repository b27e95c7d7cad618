"""The report: colours against slow versions and hand-worked values, the page against an HTML parser."""

import base64
import io
import re
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from tiny import without_parts

from normbank.bundle import read_bundle
from normbank.data.open import open_dataset
from normbank.data.samples import Sample, Skipped
from normbank.detector import Detector
from normbank.errors import ImageError, UserError
from normbank.evaluation import Evaluation, Scored, evaluate
from normbank.images import fit_square
from normbank.judging import write_page
from normbank.report import overlays, plots
from normbank.report.page import METRICS, Examined, number, percent, plain, summary, write_report
from normbank.settings import Data, Part

FIRST, MIDDLE, LAST = (27, 2, 80), (222, 53, 73), (255, 250, 171)
HOSTILE = "<script>alert(1)</script>\"'>\n\u202e\udcff& ü漢.png"
SHOWN_HOSTILE = "<script>alert(1)</script>\"'>\\n\\u202e\\udcff& ü漢.png"


def lightness(rgb):
    """CIE L* of an sRGB colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb) / 255]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


# --- overlays


def test_heat_by_hand_and_by_one_scale():
    colours = overlays.heat(np.array([[0.0, 2.0, 4.0, 400.0]]), 4.0)[0]
    assert colours.dtype == np.uint8
    assert tuple(colours[0]) == FIRST
    assert np.abs(colours[1].astype(int) - MIDDLE).max() <= 2
    assert tuple(colours[2]) == tuple(colours[3]) == LAST


def test_a_map_is_not_rescaled_by_itself():
    calm = np.full((4, 4), 0.1)
    spiked = calm.copy()
    spiked[0, 0] = 9.0
    assert np.array_equal(overlays.heat(calm, 1.0)[1:], overlays.heat(spiked, 1.0)[1:])


def test_colours_grow_evenly_lighter():
    steps = [lightness(colour) for colour in overlays.heat(np.linspace(0, 1, 17)[None], 1.0)[0]]
    rises = [b - a for a, b in pairwise(steps)]
    assert min(rises) > 2
    assert max(rises) < 3.5 * np.mean(rises)
    assert steps[0] < 15
    assert steps[-1] > 95


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(UserError, match="colour scale: expected a positive number"):
        overlays.heat(np.zeros((2, 2)), scale)


def test_a_map_must_be_flat_and_finite():
    with pytest.raises(UserError, match=r"anomaly map: expected finite numbers \[H, W\], got shape \(2, 2, 1\)"):
        overlays.heat(np.zeros((2, 2, 1)), 1.0)
    with pytest.raises(UserError, match="got values that are not finite"):
        overlays.heat(np.array([[np.nan]]), 1.0)
    with pytest.raises(UserError, match=r"overlay: expected a map of the image's size \(3, 3\), got \(2, 2\)"):
        overlays.overlay(np.zeros((3, 3, 1), np.uint8), np.zeros((2, 2)), 1.0)


def test_colour_scale_by_hand():
    assert overlays.colour_scale([3.0, 3.0, 3.0]) == 6.0  # the good peak lies at the middle
    assert overlays.colour_scale([0.0, 200.0]) == pytest.approx(2 * 199.0)  # 99.5th percentile of two, linear
    assert overlays.colour_scale([]) == overlays.colour_scale([0.0]) == 1.0


def test_overlay_against_a_slow_version():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    anomaly_map = rng.random((5, 6)) * 3
    drawn = overlays.overlay(image, anomaly_map, 2.0, alpha=0.6)
    for y in range(5):
        for x in range(6):
            red, green, blue = (int(c) for c in image[y, x])
            grey = 0.299 * red + 0.587 * green + 0.114 * blue
            opacity = 0.6 * min(1.0, anomaly_map[y, x] / 2.0)
            colour = overlays.heat(anomaly_map[y : y + 1, x : x + 1], 2.0)[0, 0]
            for channel in range(3):
                wanted = (1 - opacity) * grey + opacity * int(colour[channel])
                assert abs(int(drawn[y, x, channel]) - wanted) <= 0.5 + 1e-9


def test_overlay_of_a_calm_image_is_the_image_in_grey():
    image = np.full((3, 4, 1), 77, np.uint8)
    assert np.array_equal(overlays.overlay(image, np.zeros((3, 4)), 1.0), np.full((3, 4, 3), 77))


@pytest.mark.parametrize("width", [1, 2])
def test_outline_against_a_slow_version(width):
    rng = np.random.default_rng(1)
    mask = rng.random((12, 15)) > 0.96
    mask[0, 3] = True
    ground = np.full((12, 15, 3), 90, np.uint8)
    drawn = overlays.outline(ground, mask, (1, 2, 3), width)
    for y in range(12):
        for x in range(15):
            distance = min(max(abs(y - v), abs(x - u)) for v, u in np.argwhere(mask))
            at_border = min(y, x, 11 - y, 14 - x) < width
            if distance == 0:
                wanted = (1, 2, 3) if at_border else (90, 90, 90)
            else:
                wanted = (1, 2, 3) if distance <= width else (0, 0, 0) if distance <= 2 * width else (90, 90, 90)
            assert tuple(drawn[y, x]) == wanted, (y, x)
    assert (ground == 90).all()


def test_outline_of_everything_and_of_nothing():
    ground = np.full((5, 5, 3), 90, np.uint8)
    everything = overlays.outline(ground, np.ones((5, 5), bool))
    assert (everything[0] == 255).all()
    assert (everything[1:4, 1:4] == 90).all()
    assert np.array_equal(overlays.outline(ground, np.zeros((5, 5), bool)), ground)


def layer(name, values, largest, mask=None):
    return overlays.Layer(name, np.full((6, 6, 3), 90, np.uint8), np.array(values, float), mask, largest)


def test_the_scale_of_each_part_by_hand():
    calm = np.zeros((6, 6))
    layers = [layer("head", calm, 0.25), layer("memory", calm, 0.0), layer("head", calm, 1.5), layer("edge", calm, 3)]
    assert overlays.top_of_each(layers) == {"head": 1.5, "memory": 1.0, "edge": 3}
    assert overlays.top_of_each([]) == {}


def test_a_layer_is_the_overlay_with_the_defect_outlined():
    values, mask = np.full((6, 6), 2.0), np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    bare = layer("head", values, 2.0).drawn(4.0)
    assert np.array_equal(bare, overlays.overlay(np.full((6, 6, 3), 90, np.uint8), values, 4.0))
    drawn = layer("head", values, 2.0, mask).drawn(4.0)
    assert drawn[1, 1].tolist() == [255] * 3
    assert np.array_equal(drawn[mask], bare[mask])
    assert drawn[0, 0].tolist() == [0] * 3


@pytest.mark.parametrize(("channels", "dtype", "most"), [(1, np.uint8, 5), (3, np.uint8, 4), (3, np.uint16, 16)])
def test_large_images_are_shown_in_few_bytes_a_pixel(channels, dtype, most):
    image = np.zeros((500, 400, channels), dtype)
    tracemalloc.start()
    overlays.to_rgb(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= most * 200_000


def test_to_rgb_by_hand():
    assert overlays.to_rgb(np.array([[7]], np.uint8)).tolist() == [[[7, 7, 7]]]
    assert overlays.to_rgb(np.array([[[10, 20]]], np.uint8)).tolist() == [[[15, 15, 15]]]
    assert overlays.to_rgb(np.array([[[1, 2, 3, 4, 5]]], np.uint8)).tolist() == [[[1, 2, 3]]]
    assert overlays.to_rgb(np.array([[[0, 32896, 65535]]], np.uint16)).tolist() == [[[0, 128, 255]]]
    assert overlays.to_rgb(np.array([[[-0.5, 0.5, 1.5]]])).tolist() == [[[0, 128, 255]]]


def test_a_shrunk_mask_keeps_a_lone_pixel():
    mask = np.zeros((100, 100), bool)
    mask[51, 17] = True
    assert overlays.resized(mask, (10, 10)).sum() == 1
    grown = overlays.resized(mask, (200, 300))
    assert grown.dtype == bool
    assert grown.sum() == 6


@pytest.mark.parametrize("size", [(4, 9), (9, 4), (5, 8), (6, 6)])
def test_to_original_undoes_fit_square(size):
    original = np.random.default_rng(2).random(size).astype(np.float32)
    padded = fit_square(original[:, :, None], "pad")[:, :, 0]
    assert np.array_equal(overlays.to_original(padded, size, "pad"), original)
    laid = overlays.to_original(fit_square(original[:, :, None], "crop")[:, :, 0], size, "crop")
    assert np.array_equal(laid[laid > 0], original[laid > 0])
    assert (laid > 0).sum() == min(size) ** 2
    assert overlays.to_original(padded, size).shape == size


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("side", [16, None])
def test_an_overlay_has_the_original_size_and_says_that_it_is_ours(fit, side):
    shape = (20, 33, 3) if side is None else (side, side, 3)
    content = overlays.draw_overlay(np.full(shape, 9, np.uint8), np.ones((16, 16)), 1.0, (20, 33), fit=fit)
    assert b"normbank" in content[: content.index(b"IDAT")]
    with Image.open(io.BytesIO(content)) as drawn:
        assert (drawn.size, drawn.mode, drawn.format) == ((33, 20), "RGB", "PNG")
        assert np.asarray(drawn)[10, 16].tolist() == np.round(0.15 * 9 + 0.85 * np.array(LAST)).tolist()


def test_overlays_load_without_plotting_or_torch():
    code = "import sys, normbank.report.overlays; print({'matplotlib', 'jinja2', 'torch'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# --- figures


def test_figures_wear_the_colours_of_the_page():
    for svg in (
        plots.score_histogram([1, 2, 3], [2, 4, 9], 3.5),
        plots.roc_curve(([0, 0, 1], [0, 0.5, 1]), (0.1, 0.6)),
    ):
        assert svg.startswith('<svg viewBox="')
        assert 'role="img" aria-label="' in svg
        assert not re.search("#01020[3-6]", svg)
        assert {"--ink", "--quiet", "--good", "--bad"} >= set(re.findall(r"var\((--\w+)\)", svg)) >= {"--ink", "--bad"}
        assert "DejaVu" not in svg


def test_bins_by_hand():
    edges, is_log = plots.bin_edges(np.array([0.0, 10.0]), 20.0)
    assert (edges.tolist(), is_log) == ([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20], False)
    edges, is_log = plots.bin_edges(np.array([1.0, 1.0, 1.0, 1024.0]), None)
    assert edges == pytest.approx([2.0**n for n in range(11)])
    assert is_log
    assert len(plots.bin_edges(np.array([3.0]), None)[0]) == 11
    assert len(plots.bin_edges(np.arange(10_000.0), None)[0]) == 41


# --- the page


class Page(HTMLParser):
    """Text, attributes and the balance of tags."""

    VOID = ("meta", "link", "img", "path", "use", "rect", "br")

    def __init__(self, source):
        super().__init__()
        self.texts, self.attributes, self.tags, self.open = [], [], [], []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def values(self, *names):
        return [value for _, name, value in self.attributes if name in names]


def scored(kind, score, *, flagged=None, name=None, mask=None):
    path = f"/data/set/{kind}/{name or f'{score:g}.png'}"
    return Scored(Sample(path, int(kind != "good"), kind, mask), score, 0.5, flagged, 0.5)


def evaluation(images, threshold=None, **changes):
    images = tuple(replace(s, is_anomalous=None if threshold is None else s.score > threshold) for s in images)
    kinds = sorted({s.sample.kind for s in images if s.sample.label})
    values = dict.fromkeys(METRICS, 0.952)
    made = Evaluation(
        metrics=values,
        reasons={},
        kinds={kind: {"count": sum(s.sample.kind == kind for s in images), **values} for kind in kinds},
        scored=images,
        skipped=(),
        threshold=threshold,
        counts={"good": sum(not s.sample.label for s in images), "anomalous": sum(s.sample.label for s in images)},
        curves={"roc": ([0.0, 0.1, 1.0], [0.0, 0.8, 1.0])},
        context={"data_name": "bottle"},
    )
    return replace(made, **changes)


def examiner(channels=3, dtype=np.uint8, size=16, with_mask=True):
    def examine(sample):
        rng = np.random.default_rng(len(sample.path))
        image = rng.integers(0, np.iinfo(dtype).max, (size, size, channels), dtype=dtype)
        mask = np.zeros((size, size), bool)
        mask[2:5, 3:8] = bool(sample.label)
        made, anomaly_map = rng.random((size, size, channels)), rng.random((size, size))
        return Examined(image, made, anomaly_map, mask if with_mask else None)

    return examine


def opened(folder, made, examine=None, scale=2.0):
    path = write_report(made, examine or examiner(), folder / "report", scale=scale)
    assert path == folder / "report" / "index.html"
    assert [one.name for one in path.parent.iterdir()] == ["index.html"]
    source = path.read_bytes()
    assert len(source) < 5_000_000
    page = Page(source.decode("utf-8"))
    check_stands_alone(page, source.decode("utf-8"))
    return page


def check_stands_alone(page, source):
    """Nothing is fetched, nothing runs, every link within the page has its goal, every picture its words."""
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    for value in page.values("src", "srcset", "poster", "action", "data", "xlink:href", "href"):
        assert value.startswith(("data:", "#")), value
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert set(re.findall(r"url\(([^)]*)\)", source)) <= {f"#{one}" for one in page.values("id")}
    assert "@import" not in source
    assert len(page.values("id")) == len(set(page.values("id")))
    assert {value for value in page.values("href", "xlink:href") if value[0] == "#"} <= {
        f"#{one}" for one in page.values("id")
    }
    assert len(page.values("alt")) == page.tags.count("img")
    assert all(page.values("alt"))
    assert page.tags.count("h1") == 1
    assert "width=device-width, initial-scale=1" in page.values("content")


MIXED = [scored("good", s) for s in (1, 2, 3, 6)] + [scored("cut", s) for s in (2.5, 5, 8)] + [scored("dent", 1.5)]


def test_the_page_tells_the_whole(tmp_path):
    context = {
        "data_name": "bottle", "model_name": "bottle.nbk", "preset": "paper-small", "size": 128, "trained_images": 189,
        "held_out": 20, "seed": 7, "version": "0.1.0", "created": "2026-05-02T14:31:07+00:00", "commit": "3f2c1ab",
        "false_alarm_rate": 0.01, "calibration_note": "Few were held out.", "settings": {"a": 1},
    }  # fmt: skip
    page = opened(tmp_path, evaluation(MIXED, 4.0, context=context, skipped=(Skipped("/data/set/x.png", "is empty"),)))
    for words in (
        "4 of 8 images are defective; ranked by score, a random defective image is above a random good one in 95.2 % "
        "of pairs. At the threshold, 1 of 4 good images raises a false alarm and 2 of 4 defective ones are missed.",
        "bottle.nbk · paper-small · 2026-05-02 14:31",
        "upper bound: threshold picked on this set",
        "control: mean brightness alone",
        "Few were held out.",
        "Files to look at 1 of this data set. An image that cannot be used is in none of the numbers; otherwise the "
        "reason says what counts. File Reason x.png is empty",
        "x.png is empty",
        "Target false-alarm rate 1 %",
        "Held out for the threshold 20 good images",
        "128 × 128 pixels",
        "cut 3 2 95.2 %",
        "How to read this",
    ):
        assert words in page.text, words
    assert page.tags.count("svg") == 2


def test_galleries_hold_the_right_images_in_order(tmp_path):
    page = opened(tmp_path, evaluation(MIXED, 4.0))
    most, missed, alarms = sections(page.text, "Most anomalous", "Missed", "False alarms", "How to read this")
    assert re.findall(r"\w+/[\d.]+\.png", most) == [
        "cut/8.png", "good/6.png", "cut/5.png", "good/3.png", "cut/2.5.png", "good/2.png", "dent/1.5.png", "good/1.png",
    ]  # fmt: skip
    assert re.findall(r"\w+/[\d.]+\.png", missed) == ["dent/1.5.png", "cut/2.5.png"]
    assert re.findall(r"\w+/[\d.]+\.png", alarms) == ["good/6.png"]
    assert page.tags.count("img") == 3 * 11 + 1


def sections(text, *titles):
    places = [text.rindex(f"{title} ") for title in titles]
    return [text[a:b] for a, b in pairwise(places)]


def test_at_most_eight_are_shown_and_the_rest_counted(tmp_path):
    images = [scored("good", s) for s in range(3)] + [scored("cut", s) for s in range(40)]
    page = opened(tmp_path, evaluation(images, 30))
    assert "Defective images below the threshold, lowest score first. 8 of 31 shown." in page.text
    assert page.tags.count("img") == 3 * 16 + 1


def test_without_a_threshold(tmp_path):
    page = opened(tmp_path, evaluation(MIXED))
    assert "The detector has no threshold, so no image is called anomalous." in page.text
    low, high = sections(page.text, "Lowest-scored anomalous", "Highest-scored good", "How to read this")
    assert re.findall(r"\w+/[\d.]+\.png", low) == ["dent/1.5.png", "cut/2.5.png", "cut/5.png", "cut/8.png"]
    assert re.findall(r"\w+/[\d.]+\.png", high) == ["good/6.png", "good/3.png", "good/2.png", "good/1.png"]
    assert "Found" not in page.text
    assert "An image is flagged" not in page.text


def test_nothing_missed_no_false_alarm(tmp_path):
    page = opened(tmp_path, evaluation([scored("good", 1), scored("cut", 9)], 4.0))
    assert "None: every defective image is found." in page.text
    assert "None: no good image is flagged." in page.text
    assert "1 of 2 images is defective" in page.text


def test_one_class_only(tmp_path):
    nothing = {"metrics": dict.fromkeys(METRICS), "reasons": {"image_AUROC": "one class <only>"}, "curves": {}}
    good = opened(tmp_path / "a", evaluation([scored("good", s) for s in (1, 9)], 4.0, **nothing))
    assert "All 2 images are good, so nothing can be said of the ranking." in good.text
    assert "At the threshold, 1 of 2 good images raises a false alarm." in good.text
    assert "None: the set has no defective images." in good.text
    assert "Image AUROC – how often a defective image scores above a good one. Not given: one class <only>" in good.text
    assert "Not given: not measured" in good.text
    assert good.tags.count("svg") == 1
    bad = opened(tmp_path / "b", evaluation([scored("cut", s) for s in (1, 9)], 4.0, **nothing))
    assert "All 2 images are defective" in bad.text
    assert "At the threshold, 1 of 2 defective images is missed." in bad.text
    assert "None: the set has no good images." in bad.text


def test_nothing_scored(tmp_path):
    page = opened(tmp_path, evaluation([], skipped=(Skipped("a.png", "is empty"),), context={}, curves={}, metrics={}))
    assert "No image could be scored." in page.text
    assert "unnamed data" in page.text
    assert "About this run" not in page.text
    assert page.tags.count("svg") == 0


@pytest.mark.parametrize(
    "examine",
    [
        examiner(channels=1),
        examiner(channels=2),
        examiner(channels=5),
        examiner(dtype=np.uint16),
        examiner(with_mask=False),
        examiner(size=32),
        examiner(size=300),
        examiner(size=500, channels=1, dtype=np.uint16),
    ],
)
def test_any_image_is_shown(tmp_path, examine):
    page = opened(tmp_path, evaluation(MIXED, 4.0), examine)
    assert page.tags.count("img") == 3 * 11 + 1
    assert any("the true defect outlined" in alt for alt in page.values("alt")) == (
        examine(MIXED[-1].sample).mask is not None
    )


def test_hostile_words_stay_words(tmp_path):
    images = [scored("good", 1), scored("<b>cut</b>\n", 9, name=HOSTILE), scored("good", 2, name="a#{{ 7*7 }}.png")]
    context = dict.fromkeys(("data_name", "model_name", "preset", "commit", "calibration_note", "version"), HOSTILE)
    skipped = (Skipped("/data/set/" + HOSTILE, "<i>bad</i>" + HOSTILE),)
    page = opened(tmp_path, evaluation(images, 4.0, context=context, skipped=skipped))
    assert not {"b", "i", "script"} & set(page.tags)
    assert "".join(page.texts).count(SHOWN_HOSTILE) >= 8
    assert f"Input image <b>cut</b>\\n/{SHOWN_HOSTILE}" in page.values("alt")
    assert "a#{{ 7*7 }}.png" in page.text


def test_an_image_that_went_away_keeps_its_card(tmp_path):
    def examine(sample):
        if sample.kind == "cut" or sample.path.endswith("6.png"):
            raise ImageError(sample.path, "cannot be read: <gone>")
        return examiner()(sample)

    page = opened(tmp_path, evaluation(MIXED, 4.0), examine)
    assert "No pictures: cannot be read: <gone> cut/8.png cut" in page.text


def test_one_scale_for_all_images(tmp_path):
    asked = []

    def examine(sample):
        asked.append(sample.path)
        return examiner()(sample)

    page = opened(tmp_path, evaluation(MIXED, 4.0), examine, scale=3.0)
    assert "3 and above, the same for all images" in page.text
    assert len(asked) == 11  # the cards, and no image more


def with_parts(**parts):
    """Flat maps: each part's value times the length of the kind's name."""

    def examine(sample):
        maps = {name: np.full((16, 16), value * len(sample.kind)) for name, value in parts.items()}
        return replace(examiner(with_mask=False)(sample), image=np.full((16, 16, 3), 100, np.uint8), parts=maps)

    return examine


def picture(page, alt):
    """The first picture of those words, as an array."""
    images = [dict(pair) for pair in zip(*[iter(p[1:] for p in page.attributes if p[0] == "img")] * 2, strict=True)]
    source = next(one["src"] for one in images if one["alt"] == alt)
    assert source.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as file:
        return np.asarray(file.convert("RGB")).astype(int)


def test_the_parts_of_the_map_are_told_on_demand(tmp_path):
    page = opened(tmp_path, evaluation(MIXED, 4.0), with_parts(absolute=0.1, head=0.05))
    assert page.tags.count("details") == page.tags.count("summary") == 11
    assert not page.values("open")
    assert page.text.count("what the detector looked at") == 11
    assert page.tags.count("img") == (3 + 2) * 11 + 1
    assert "absolute largest 0.3 head largest 0.15" in page.text  # cut: three letters
    assert "absolute largest 0.4 head largest 0.2" in page.text  # good and dent: four
    assert "absolute, 0 to 0.4 how far each pixel is from what the model drew" in page.text
    assert "head, 0 to 0.2 how likely a defect is there" in page.text
    assert "#parts" in page.values("href")


def test_a_part_has_one_scale_for_all_images(tmp_path):
    page = opened(tmp_path, evaluation(MIXED, 4.0), with_parts(absolute=0.1, memory=0.0))
    image = np.full((1, 1, 3), 100, np.uint8)
    for name, value in {"good/6.png": 0.4, "cut/8.png": 0.3}.items():
        wanted = overlays.overlay(image, np.full((1, 1), value), 0.4)[0, 0].astype(int)
        found = picture(page, f"Heat map of {name}, absolute alone")
        assert found.shape == (192, 192, 3)
        assert np.abs(found.mean(axis=(0, 1)) - wanted).max() < 6
    calm = picture(page, "Heat map of cut/8.png, memory alone")
    assert np.abs(calm - 100).max() < 6  # nothing is hot: the image itself


@pytest.mark.parametrize(("size", "shown"), [(16, 192), (64, 192), (128, 256), (256, 256), (500, 256)])
def test_parts_are_shown_small(tmp_path, size, shown):
    def examine(sample):
        seen = examiner(size=size)(sample)
        return replace(seen, parts={"head": seen.anomaly_map})

    page = opened(tmp_path, evaluation(MIXED, 4.0), examine)
    assert picture(page, "Heat map of cut/8.png, head alone").shape == (shown, shown, 3)


def test_where_parts_are_not_known_nothing_is_said_of_them(tmp_path):
    page = opened(tmp_path, evaluation(MIXED, 4.0))
    assert not {"details", "summary"} & set(page.tags)
    assert "etector looked at" not in page.text
    assert "parts" not in page.values("id")


def test_every_part_has_its_words(tmp_path):
    parts = get_args(Part)
    page = opened(tmp_path, evaluation(MIXED, 4.0), with_parts(**dict.fromkeys(parts, 0.5)))
    told = page.text.partition("What the detector looked at")[2]
    for name in parts:
        assert re.search(rf"\b{name}, 0 to 2 [a-z][a-z ]{{9}}", told), name


def test_an_image_that_went_away_has_no_parts(tmp_path):
    def examine(sample):
        if sample.kind == "cut":
            raise ImageError(sample.path, "cannot be read")
        return with_parts(head=1.0)(sample)

    page = opened(tmp_path, evaluation(MIXED, 4.0), examine)
    assert page.text.count("No pictures") == 3 + 1  # one is missed, too
    assert page.tags.count("details") == 11 - 4


def test_a_detectors_report_tells_its_parts_if_its_file_does(tmp_path, tiny_model, tiny_data):
    bundle = read_bundle(tiny_model)
    found = evaluate(Detector(bundle), open_dataset(tiny_data, Data()))
    for made, tells in ((bundle, True), (without_parts(bundle), False)):
        source = write_page(Detector(made), found, tmp_path / str(tells)).read_text(encoding="utf-8")
        page = Page(source)
        check_stands_alone(page, source)
        cards = sum(alt.startswith("Input image") for alt in page.values("alt"))
        assert cards >= 8
        assert page.tags.count("details") == cards * tells
        assert page.text.count("absolute largest") == cards * tells


def test_same_evaluation_same_page(tmp_path):
    first, second = (write_report(evaluation(MIXED, 4.0), examiner(), tmp_path / one, scale=1.0) for one in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_report_is_replaced(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("old")
    opened(tmp_path, evaluation(MIXED, 4.0))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/deeper/index\.html' cannot be written"):
        write_report(evaluation(MIXED, 4.0), examiner(), tmp_path / "file" / "deeper", scale=1.0)
    (tmp_path / "taken" / "index.html").mkdir(parents=True)
    with pytest.raises(UserError, match=r"taken/index\.html' cannot be written"):
        write_report(evaluation(MIXED, 4.0), examiner(), tmp_path / "taken", scale=1.0)
    assert [one.name for one in (tmp_path / "taken").iterdir()] == ["index.html"]


def test_words_by_hand():
    shown = {None: "–", 0.0: "0", 0.012344: "0.01234", 12.3456: "12.35", 1234.56: "1235", 1e9: "1e+09"}
    assert {value: number(value) for value in shown} == shown
    assert (percent(0.9516), percent(None)) == ("95.2\u00a0%", "–")
    assert plain("a\tb\u202ec\udcff é") == "a\\tb\\u202ec\\udcff é"
    images = [scored("good", 1), scored("cut", 9)]
    assert summary(evaluation(images, metrics={}))[0] == "1 of 2 images is defective."


@pytest.mark.data
def test_real_images(tmp_path, real_data):
    folder = real_data / "mvtec_ad" / "bottle" / "test"

    def examine(sample):
        with Image.open(sample.path) as file:
            image = np.asarray(file.convert("RGB").resize((256, 256)))
        return Examined(image, image / 255, image.mean(axis=2) / 255)

    paths = sorted(folder.glob("*/*.png"))
    samples = [Sample(str(path), int(path.parent.name != "good"), path.parent.name) for path in paths]
    images = [Scored(sample, place, None, None, 0.5) for place, sample in enumerate(samples)]
    page = opened(tmp_path, evaluation(images, 20), examine)
    assert "broken_large/000.png" in page.text
