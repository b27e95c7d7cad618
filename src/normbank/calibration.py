"""From raw scores of held-out good images to a threshold and p-values (split conformal).

The promise rests on one assumption: the held-out images and the new one are drawn alike (exchangeable), and none of
them was trained on. It is a promise over draws of the held-out images too, not for one set of them.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .errors import BundleError, ConfigError, MetricError, problem

LONE = 2  # of 20 good images alone one threshold in 20 to 100 stands apart by more
ROUNDING = 1e-5  # of a score: what the images that are scored beside it may change, and ten times as much


@dataclass(frozen=True)
class Calibration:
    """Raw scores of n held-out good images and the false-alarm rate aimed at, in (0, 1).

    `scores` may be given in any order and is kept ascending. An image is anomalous if its score is above `threshold` by
    more than ROUNDING; that is so exactly where its `p_value` is at most `promised_rate`. Raises MetricError for scores
    that are not finite, ConfigError for a rate outside (0, 1).
    """

    scores: tuple[float, ...]
    false_alarm_rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "false_alarm_rate", _rate(self.false_alarm_rate))
        scores = sorted(_finite("calibration: a held-out score", score) for score in self.scores)
        object.__setattr__(self, "scores", tuple(scores))

    @property
    def threshold(self) -> float | None:
        """The k-th smallest held-out score, k = ceil((n + 1)(1 - rate)); the largest if k > n; None without scores."""
        return self.scores[-max(self._allowed, 1)] if self.scores else None

    @property
    def promised_rate(self) -> float | None:
        """The false-alarm rate the threshold promises, (n + 1 - k) / (n + 1) and at least 1 / (n + 1).

        Above `false_alarm_rate` only where too few images are held out; `note` then says so. None without scores.
        """
        return max(self._allowed, 1) / (len(self.scores) + 1) if self.scores else None

    @property
    def note(self) -> str | None:
        """What cannot be promised, in plain words; None where the rate aimed at is promised."""
        n, rate = len(self.scores), self.false_alarm_rate
        needed = f"A rate of {_percent(rate)} takes at least {self._needed} held-out good images."
        if n == 0:
            return f"No good images were held out, so there is no threshold and no p-value. {needed}"
        if self._allowed:
            return None
        return (
            f"The {n} good images held out can promise no less than {_percent(1 / (n + 1))} false alarms; "
            f"the threshold is the largest of their scores. {needed}"
        )

    @property
    def lone(self) -> tuple[float, float] | None:
        """The next lower score and the median, where the threshold is a score that stands apart from these; else None.

        That is where it is farther from the next than LONE times as far as that is from the median.
        """
        if self.threshold is None or len(self.scores) < 3:
            return None
        lower = self.scores[: len(self.scores) - max(self._allowed, 1)]
        following, median = lower[-1] if lower else self.threshold, statistics.median(self.scores)
        return (following, median) if self.threshold - following > LONE * (following - median) > 0 else None

    def p_value(self, score: float) -> float | None:
        """(1 + held-out scores >= `score`) / (n + 1), in (0, 1]; None without scores. MetricError if not finite.

        Scores that ROUNDING may have put in this order count as equal.
        """
        score = _finite("p_value: score", score)
        if not self.scores:
            return None
        at_least = len(self.scores) - bisect_left(self.scores, _lowered(score))
        return (1 + at_least) / (len(self.scores) + 1)

    def is_anomalous(self, score: float) -> bool | None:
        """Whether `score` is above the threshold by more than ROUNDING.

        That is whether its p-value is at most `promised_rate`. None without scores. MetricError if `score` is not
        finite.
        """
        score = _finite("is_anomalous: score", score)
        threshold = self.threshold
        return None if threshold is None else _lowered(score) > threshold

    def to_dict(self) -> dict[str, Any]:
        """For the manifest, as JSON can hold it. `threshold` and `promised_rate` are there to be read by others."""
        return {
            "scores": list(self.scores),
            "false_alarm_rate": self.false_alarm_rate,
            "threshold": self.threshold,
            "promised_rate": self.promised_rate,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The calibration `to_dict` wrote, from its scores and rate; BundleError if they are not there."""
        scores: Any = values.get("scores")
        rate: Any = values.get("false_alarm_rate")
        if not isinstance(scores, list) or not all(_is_number(value) for value in [*scores, rate]):
            expected = "a list of numbers `scores` and a number `false_alarm_rate`"
            do = "The detector file was changed or cut: export it again."
            raise BundleError(problem("calibration", expected=expected, came=f"{dict(values)!r:.80}", do=do))
        return cls(tuple(scores), float(rate))

    @property
    def _allowed(self) -> int:
        """n + 1 - k: the largest j for which j / (n + 1) <= rate.

        Found by the division that makes the p-value, so that both round alike: in binary 100 * 0.07 is more than 7.
        """
        total = len(self.scores) + 1
        j = math.floor(total * self.false_alarm_rate) + 1
        while j / total > self.false_alarm_rate:
            j -= 1
        return j

    @property
    def _needed(self) -> int:
        """The smallest n for which 1 / (n + 1) <= rate."""
        n = math.ceil(1 / Fraction(self.false_alarm_rate)) - 1
        return n - 1 if n > 1 and 1 / n <= self.false_alarm_rate else n


def _lowered(score: float) -> float:
    """By what rounding may have added: the same image gets the same verdict alone and in a folder."""
    return score - ROUNDING * abs(score)


def _rate(value: Any) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError, OverflowError):
        rate = math.nan
    if not 0 < rate < 1:
        do = "For example 0.01: one false alarm in a hundred good images."
        raise ConfigError(problem("false_alarm_rate", expected="a rate between 0 and 1", came=f"{value}", do=do))
    return rate


def _finite(subject: str, value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        do = "Find out where it comes from: it cannot be ranked."
        raise MetricError(problem(subject, expected="a finite number", came=f"{number}", do=do))
    return number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
