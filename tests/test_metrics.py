"""Rank metrics against pair counting, threshold loops, scikit-learn and values worked by hand."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import aupro as slow_aupro
from reference import auroc as slow
from sklearn.metrics import average_precision_score, roc_auc_score

from normbank.errors import MetricError
from normbank.metrics import aupro, auroc, average_precision, f1_max, over_pixels, roc_curve

RANKED = (auroc, average_precision, f1_max, roc_curve)


@st.composite
def tied_scores(draw):
    labels = draw(st.lists(st.booleans(), min_size=2, max_size=25).filter(lambda v: 0 < sum(v) < len(v)))
    values = st.integers(-3, 4).map(lambda v: 250.5 * v)
    return draw(st.lists(values, min_size=len(labels), max_size=len(labels))), labels


def random_maps(seed, *, images=3, side=7, levels=6):
    """Maps of few distinct values, some far outside [0, 1], and ragged masks; the last image is good."""
    rng = np.random.default_rng(seed)
    masks = rng.random((images, side, side)) < 0.3
    masks[-1] = False
    maps = rng.integers(0, levels, masks.shape) + 2.0 * (masks & (rng.random(masks.shape) < 0.5))
    return 10 * maps - 20, masks


# --- image and pixel ranks -------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(tied_scores())
def test_rank_metrics_equal_the_slow_versions(case):
    scores, labels = case
    assert auroc(scores, labels) == pytest.approx(slow.auroc(scores, labels), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(slow.average_precision(scores, labels), abs=1e-12)
    assert f1_max(scores, labels) == pytest.approx(slow.f1_max(scores, labels), abs=1e-12)
    np.testing.assert_allclose(np.stack(roc_curve(scores, labels), axis=1), slow.roc(scores, labels), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_metrics_equal_scikit_learn_with_heavy_ties(scale, dtype):
    rng = np.random.default_rng(3)
    labels = rng.random(5000) < 0.2
    scores = ((rng.integers(0, 12, labels.size) + 3 * labels - 8) * scale).astype(dtype)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_rank_metrics_by_hand():
    scores, labels = [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]
    # Pairs: 0.35 > 0.1, 0.35 < 0.4, 0.8 above both: 3 of 4.
    assert auroc(scores, labels) == 0.75
    # Recall 1/2 at 0.8 with precision 1; recall 1 at 0.35 with precision 2/3: 1/2 + 1/2 * 2/3.
    assert average_precision(scores, labels) == pytest.approx(5 / 6, abs=1e-15)
    # At 0.35: 2 found, 1 false, 0 missed: 4 / (4 + 1).
    assert f1_max(scores, labels) == pytest.approx(0.8, abs=1e-15)
    fpr, tpr = roc_curve(scores, labels)
    assert fpr.tolist() == [0, 0, 0.5, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 0.5, 1, 1]


def test_ties_by_hand():
    # Positives 1 and 2 against the negative 1: one tie, one win.
    assert auroc([1, 1, 2], [0, 1, 1]) == 0.75
    # All equal: one threshold, where 2 of 5 are right; the ROC curve is the diagonal.
    assert auroc([7.0] * 5, [0, 1, 0, 1, 0]) == 0.5
    assert average_precision([7.0] * 5, [0, 1, 0, 1, 0]) == 0.4
    assert f1_max([7.0] * 5, [0, 1, 0, 1, 0]) == pytest.approx(4 / 7, abs=1e-15)
    assert [v.tolist() for v in roc_curve([7.0] * 5, [0, 1, 0, 1, 0])] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("metric", [auroc, average_precision, f1_max])
def test_large_scores_keep_a_perfect_order(metric):
    # A sigmoid would tie all four at 1.
    assert metric([1001.0, 1000.0, 1003.0, 1002.0], [0, 0, 1, 1]) == 1.0


@pytest.mark.parametrize("metric", RANKED)
def test_rank_metrics_know_only_the_order(metric):
    rng = np.random.default_rng(8)
    labels = rng.random(60) < 0.4
    scores = rng.integers(-9, 9, 60).astype(float)
    shuffled = rng.permutation(60)
    for other in (scores**3, np.exp(scores), 1e7 * scores - 3):
        np.testing.assert_array_equal(metric(other, labels), metric(scores, labels))
    np.testing.assert_array_equal(metric(scores[shuffled], labels[shuffled]), metric(scores, labels))


@pytest.mark.parametrize("metric", RANKED)
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([], [], "scores: expected at least one, got none"),
        ([1.0, float("nan")], [0, 1], "scores: expected finite numbers, got 1 of 2 NaN or infinite"),
        ([float("inf"), 1.0], [0, 1], "scores: expected finite numbers, got 1 of 2 NaN or infinite"),
        ([1.0, 2.0, 3.0], [0, 1], r"scores and labels: expected two lists of one length, got shapes \(3,\) and \(2,\)"),
        ([[1.0, 2.0]], [[0, 1]], "scores and labels: expected two lists of one length"),
        ([1.0, 2.0], [1, 1], r"labels: expected both good \(0\) and anomalous \(1\), got 0 good and 2 anomalous"),
        ([1.0, 2.0], [0, 0], "labels: .* got 2 good and 0 anomalous"),
        ([1.0, 2.0], [0, 2], "labels: expected 0 and 1, or False and True"),
        ([1.0, 2.0], ["good", "bad"], "labels: expected 0 and 1, or False and True"),
        (["1", "2"], [0, 1], "scores: expected numbers"),
    ],
)
def test_rank_metrics_refuse_by_name(metric, scores, labels, message):
    with pytest.raises(MetricError, match=f"^{metric.__name__}: {message}"):
        metric(scores, labels)


# --- AUPRO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.05, 0.3, 0.77, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_aupro_equals_the_threshold_loop(seed, limit):
    maps, masks = random_maps(seed)
    assert aupro(maps, masks, limit) == pytest.approx(slow_aupro.aupro(maps, masks, limit), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0]))
def test_aupro_equals_the_threshold_loop_on_anything_small(data, limit):
    size = 18
    bits = data.draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(lambda v: 0 < sum(v) < size))
    values = data.draw(st.lists(st.integers(-2, 3), min_size=size, max_size=size))
    maps, masks = np.array(values, float).reshape(2, 3, 3), np.array(bits).reshape(2, 3, 3)
    assert aupro(maps, masks, limit) == pytest.approx(slow_aupro.aupro(maps, masks, limit), abs=1e-12)


def test_aupro_by_hand():
    # Regions: pixels 0-1 (values 9, 4) and pixel 4 (value 6). Defect-free: 7, 5, 4, 0, 0.
    maps = np.array([[[9.0, 4, 7, 5, 6, 4, 0, 0]]])
    masks = np.array([[[1, 1, 0, 0, 1, 0, 0, 0]]], dtype=bool)
    # threshold   9     7    6    5    4    0
    # overlap    .25  .25  .75  .75    1    1      mean of the two regions' shares
    # fpr          0   .2   .2   .4   .6    1
    # To 0.3: .2 * .25 + .1 * .75 = .125.
    assert aupro(maps, masks) == pytest.approx(0.125 / 0.3, abs=1e-15)
    # To 0.5: .05 + .2 * .75 + .1 * (.75 + .875) / 2 = .28125, the curve being straight from (.4, .75) to (.6, 1).
    assert aupro(maps, masks, 0.5) == pytest.approx(0.28125 / 0.5, abs=1e-15)
    # To 1: .05 + .15 + .2 * .875 + .4 = .775.
    assert aupro(maps, masks, 1.0) == pytest.approx(0.775, abs=1e-15)


def test_aupro_regions_are_8_connected_by_hand():
    maps, masks = np.zeros((2, 3, 3)), np.zeros((2, 3, 3), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[1, 2, 2] = True
    maps[0, 0, 0] = 9
    # Two regions, not three: the overlap at 9 is (1/2 + 0) / 2. All else ties at 0: straight from (0, 1/4) to (1, 1).
    # Mean height to 0.3: 1/4 + 3/4 * 0.3 / 2.
    assert aupro(maps, masks) == pytest.approx(0.3625, abs=1e-15)


def test_aupro_regions_of_neighbouring_images_do_not_touch():
    maps, masks = np.zeros((2, 2, 2)), np.zeros((2, 2, 2), bool)
    masks[0, 1, 1] = masks[1, 1, 1] = True
    maps[0, 1, 1] = 1
    # One of two regions found at rate 0, then a straight line to (1, 1): 1/2 + 1/2 * 1/2.
    assert aupro(maps, masks, 1.0) == 0.75


@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_aupro_of_the_extremes(limit):
    masks = np.zeros((2, 300, 300), bool)
    masks[0, 20:200, 30:270] = True
    assert aupro(masks.astype(np.float32), masks, limit) == 1.0
    assert aupro(-masks.astype(np.float32), masks, limit) == pytest.approx(0.0, abs=1e-15)
    # A constant map has one threshold: the diagonal.
    assert aupro(np.full(masks.shape, 5.0), masks, limit) == pytest.approx(limit / 2, abs=1e-15)


@pytest.mark.parametrize(
    "change",
    [np.exp, np.cbrt, lambda v: v**3, lambda v: 1e6 * v - 7, lambda v: 1 / (1 + np.exp(-v / 10)), np.float32],
    ids=["exp", "cube root", "cube", "affine", "sigmoid", "float32"],
)
def test_aupro_is_not_moved_by_a_monotone_change(change):
    maps, masks = random_maps(11, images=4, side=16, levels=40)
    maps = maps / 10
    assert aupro(change(maps), masks) == aupro(maps, masks)


def test_aupro_with_a_quarter_of_the_pixels_at_exactly_zero():
    rng = np.random.default_rng(5)
    masks = np.zeros((3, 12, 12), bool)
    masks[0, 2:6, 3:8] = masks[1, 8:, 8:] = True
    maps = rng.normal(0.3, 1, masks.shape) + masks
    maps = np.maximum(0, maps - np.quantile(maps, 0.25))
    assert np.mean(maps == 0) >= 0.25
    assert (maps[masks] == 0).any()
    for limit in (0.3, 1.0):
        assert aupro(maps, masks, limit) == pytest.approx(slow_aupro.aupro(maps, masks, limit), abs=1e-12)
    # The order of tied pixels is nobody's business.
    assert aupro(maps[::-1, ::-1, ::-1], masks[::-1, ::-1, ::-1]) == pytest.approx(aupro(maps, masks), abs=1e-12)


def test_aupro_takes_masks_of_zeros_and_ones():
    maps, masks = random_maps(2)
    assert aupro(maps, masks.astype(np.uint8)) == aupro(maps, masks)


def test_aupro_leaves_its_input_alone():
    maps, masks = random_maps(2)
    before = maps.copy(), masks.copy()
    aupro(maps, masks)
    np.testing.assert_array_equal((maps, masks), before)


@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_the_metrics_of_pixels_are_those_that_are_worked_out_one_by_one(levels):
    maps, masks = random_maps(3, levels=levels)
    assert over_pixels(maps, masks) == {
        "pixel_AUROC": auroc(maps.ravel(), masks.ravel()),
        "pixel_AP": average_precision(maps.ravel(), masks.ravel()),
        "AUPRO": aupro(maps, masks),
    }


def test_the_metrics_of_pixels_refuse_by_name():
    with pytest.raises(MetricError, match=r"pixel metrics: masks: expected both .* got 4 defective of 4"):
        over_pixels(GOOD_MAPS, GOOD_MASKS | True)


def test_aupro_is_fast_enough_for_a_test_set():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((100, 128, 128), dtype=np.float32), np.zeros((100, 128, 128), bool)
    masks[:60, 20:50, 20:60] = True
    start = time.process_time()
    aupro(maps, masks)
    assert time.process_time() - start < 3


GOOD_MAPS, GOOD_MASKS = np.zeros((1, 2, 2)), np.array([[[True, False], [False, False]]])


@pytest.mark.parametrize(
    ("maps", "masks", "limit", "message"),
    [
        (GOOD_MAPS[:0], GOOD_MASKS[:0], 0.3, "aupro: maps: expected at least one, got none"),
        (GOOD_MAPS * np.nan, GOOD_MASKS, 0.3, "aupro: maps: expected finite numbers, got 4 of 4 NaN or infinite"),
        (GOOD_MAPS[0], GOOD_MASKS[0], 0.3, r"aupro: maps and masks: expected two arrays \[N, H, W\]"),
        (GOOD_MAPS, GOOD_MASKS[:, :1], 0.3, r"got shapes \(1, 2, 2\) and \(1, 1, 2\)"),
        (GOOD_MAPS, GOOD_MASKS * 255, 0.3, "aupro: masks: expected 0 and 1, or False and True"),
        (GOOD_MAPS, ~GOOD_MASKS & GOOD_MASKS, 0.3, "aupro: masks: expected both .* got 0 defective of 4"),
        (GOOD_MAPS, GOOD_MASKS | True, 0.3, "aupro: masks: expected both .* got 4 defective of 4"),
        (GOOD_MAPS, GOOD_MASKS, 0.0, r"aupro: limit: expected a rate in \(0, 1\], got 0.0"),
        (GOOD_MAPS, GOOD_MASKS, 1.5, r"aupro: limit: expected a rate in \(0, 1\], got 1.5"),
    ],
)
def test_aupro_refuses_by_name(maps, masks, limit, message):
    with pytest.raises(MetricError, match=message):
        aupro(maps, masks, limit)
