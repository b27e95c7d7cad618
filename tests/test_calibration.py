"""Conformal threshold and p-value against their formulas, values worked by hand, and simulated promises."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normbank.calibration import Calibration
from normbank.errors import BundleError, ConfigError, MetricError

RATES = (0.001, 0.01, 0.05, 0.07, 0.1, 0.2, 0.29, 0.3, 0.5, 0.58, 0.9, 0.99)


def test_by_hand():
    calibration = Calibration((3, 1, 2, 6, 5, 4, 9, 8, 7), 0.2)
    assert calibration.scores == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    # k = ceil(10 * 0.8) = 8, and (n + 1 - k) / (n + 1) = 2 / 10.
    assert calibration.threshold == 8
    assert calibration.promised_rate == 0.2
    assert calibration.note is None
    # Above 8.5 lies 9 alone: (1 + 1) / 10. At or above 8 lie 8 and 9: (1 + 2) / 10.
    assert (calibration.p_value(8.5), calibration.is_anomalous(8.5)) == (0.2, True)
    assert (calibration.p_value(8), calibration.is_anomalous(8)) == (0.3, False)
    assert (calibration.p_value(100), calibration.p_value(-100)) == (0.1, 1.0)


def test_too_few_held_out_by_hand():
    calibration = Calibration((1, 2, 3, 4), 0.1)
    # k = ceil(5 * 0.9) = 5 > 4. The least rate of 4 images is 1 / 5; ceil((n + 1) * 0.9) <= n from n = 9 on.
    assert calibration.threshold == 4
    assert calibration.promised_rate == 0.2
    assert calibration.note == (
        "The 4 good images held out can promise no less than 20 % false alarms; the threshold is the largest of their "
        "scores. A rate of 10 % takes at least 9 held-out good images."
    )
    assert (calibration.is_anomalous(4), calibration.is_anomalous(4.1)) == (False, True)


def test_a_score_that_stands_apart_by_hand():
    # 10 is 5 from 5, which is 2 from the median, 3; 9 is 4 from it, no more than twice as far.
    assert Calibration((1, 2, 3, 5, 10), 0.01).lone == (5, 3)
    assert Calibration((1, 2, 3, 5, 9), 0.01).lone is None
    # At 1 in 5 of nine the threshold is the second largest: the largest alone does not matter.
    assert Calibration((1, 2, 3, 4, 5, 6, 7, 8, 90), 0.2).lone is None
    assert Calibration((1, 2, 3, 4, 5, 6, 7, 80, 90), 0.2).lone == (7, 5)
    assert Calibration((1, 90), 0.01).lone is Calibration((), 0.01).lone is Calibration((1, 1, 1, 2), 0.01).lone is None


def test_hardly_any_threshold_of_good_images_stands_apart():
    rng = np.random.default_rng(0)
    alone = [Calibration(tuple(rng.normal(size=20)), 0.01).lone is not None for _ in range(2000)]
    assert 0.001 < np.mean(alone) < 0.05


def test_none_held_out():
    calibration = Calibration((), 0.01)
    assert calibration.threshold is None
    assert calibration.promised_rate is None
    assert calibration.p_value(1.0) is None
    assert calibration.is_anomalous(1.0) is None
    assert calibration.note == (
        "No good images were held out, so there is no threshold and no p-value. "
        "A rate of 1 % takes at least 99 held-out good images."
    )


@pytest.mark.parametrize("rate", RATES)
def test_threshold_is_the_kth_score_whatever_binary_fractions_do(rate):
    for n in range(1, 320):
        calibration = Calibration(tuple(range(1, n + 1)), rate)
        k = math.ceil((n + 1) * (1 - Fraction(repr(rate))))
        assert calibration.threshold == min(k, n), (n, rate)
        assert calibration.promised_rate == pytest.approx((n + 1 - min(k, n)) / (n + 1), abs=1e-15)
        assert (calibration.note is None) == (k <= n)


def test_a_hundredth_of_99_is_the_99th():
    assert Calibration(tuple(range(1, 100)), 0.01).threshold == 99
    assert Calibration(tuple(range(1, 100)), 0.01).note is None
    assert Calibration(tuple(range(1, 99)), 0.01).note is not None


@pytest.mark.parametrize("rate", [*RATES, 1 / 3, 2 / 3, 1 / 7, 1e-9])
def test_note_names_the_smallest_sufficient_number(rate):
    needed = int(Calibration((), rate).note.split("at least ")[1].split()[0])
    exact = Fraction(repr(rate)) if rate in RATES else Fraction(rate).limit_denominator(10**9)
    assert math.ceil((needed + 1) * (1 - exact)) <= needed
    assert needed == 1 or math.ceil(needed * (1 - exact)) > needed - 1


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=40),
    st.one_of(st.sampled_from([*RATES, 1 / 3, 2 / 3, 3 / 7]), st.floats(0.001, 0.999)),
    st.integers(-1, 26),
)
def test_verdict_and_p_value_agree(scores, rate, doubled):
    calibration, score = Calibration(tuple(scores), rate), doubled / 2
    p = calibration.p_value(score)
    assert p == (1 + sum(s >= score for s in scores)) / (len(scores) + 1)
    assert calibration.is_anomalous(score) == (p <= calibration.promised_rate)
    if calibration.note is None:
        assert calibration.promised_rate <= rate
        assert calibration.is_anomalous(score) == (p <= rate)
    else:
        assert p > rate


@pytest.mark.parametrize("sign", [1, -1])
def test_what_rounding_moves_gets_the_same_verdict(sign):
    """A score differs in its seventh digit with the images that are scored beside it."""
    scores = tuple(sign * score for score in (1.0, 2.0, 3.0, 4.0))
    calibration = Calibration(scores, 0.2)
    highest = max(scores)
    for moved in (highest, highest * (1 + 9e-6), highest * (1 - 9e-6)):
        assert (calibration.is_anomalous(moved), calibration.p_value(moved)) == (False, 0.4)
    above = highest + 1.1e-5 * abs(highest)
    assert (calibration.is_anomalous(above), calibration.p_value(above)) == (True, 0.2)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.1), (99, 0.01), (30, 0.25)])
def test_promised_rate_is_kept_on_average(n, rate):
    rng = np.random.default_rng(17)
    draws = rng.lognormal(size=(4000, n + 1))
    calibrations = [Calibration(tuple(row[:-1]), rate) for row in draws]
    alarms = np.mean([c.is_anomalous(row[-1]) for c, row in zip(calibrations, draws, strict=True)])
    promised = calibrations[0].promised_rate
    # Without ties the promise is exact; four standard deviations of a mean of 4000.
    assert abs(alarms - promised) < 4 * math.sqrt(promised * (1 - promised) / 4000)
    assert promised <= rate


def test_p_values_of_normal_images_are_valid_with_ties():
    rng = np.random.default_rng(23)
    draws = rng.integers(0, 6, size=(4000, 25)).astype(float)
    p = np.array([Calibration(tuple(row[:-1]), 0.05).p_value(row[-1]) for row in draws])
    for u in (0.1, 0.3, 0.5, 0.9):
        assert np.mean(p <= u) <= u + 4 * math.sqrt(u * (1 - u) / 4000)


def test_goes_through_json_unchanged():
    scores = tuple(float(s) for s in np.random.default_rng(1).normal(1e4, 3, 50).astype(np.float32))
    calibration = Calibration(scores, 0.05)
    written = json.loads(json.dumps(calibration.to_dict(), allow_nan=False))
    assert Calibration.from_dict(written) == calibration
    assert written["threshold"] == calibration.threshold
    assert json.loads(json.dumps(Calibration((), 0.01).to_dict()))["threshold"] is None


def test_numpy_scores_become_plain_numbers():
    calibration = Calibration(tuple(np.float32([2.5, 1.5])), 0.5)
    assert [type(s) for s in calibration.scores] == [float, float]
    assert calibration.is_anomalous(np.float32(3.0)) is True


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_must_be_finite(bad):
    with pytest.raises(MetricError, match="calibration: a held-out score: expected a finite number, got"):
        Calibration((1.0, bad), 0.1)
    with pytest.raises(MetricError, match="p_value: score: expected a finite number"):
        Calibration((1.0,), 0.1).p_value(bad)
    with pytest.raises(MetricError, match="is_anomalous: score: expected a finite number"):
        Calibration((), 0.1).is_anomalous(bad)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan"), "often", None, True, 10**400])
def test_rate_must_be_a_rate(rate):
    with pytest.raises(ConfigError, match="false_alarm_rate: expected a rate between 0 and 1, got"):
        Calibration((1.0,), rate)


@pytest.mark.parametrize(
    "values",
    [{}, {"scores": [1.0]}, {"scores": "12", "false_alarm_rate": 0.1}, {"scores": [None], "false_alarm_rate": 0.1}],
)
def test_damaged_manifest_is_named(values):
    with pytest.raises(BundleError, match="calibration: expected a list of numbers `scores`"):
        Calibration.from_dict(values)


@pytest.mark.parametrize("rate", [np.float32(0.25), np.float64(0.25), "0.25"])
def test_a_rate_is_a_plain_number(rate):
    assert Calibration((1.0,), rate) == Calibration((1.0,), 0.25)
    assert type(Calibration((1.0,), rate).false_alarm_rate) is float
    assert "A rate of 25 %" in (Calibration((1.0,), rate).note or "")
