"""Section III-C and Eq. 6, for one error map [H, W]."""

import math
from fractions import Fraction


def count_of(share, pixels):
    """The pixels in that share, rounded up, with the share read as the decimal it was written as."""
    return math.ceil(Fraction(repr(share)) * pixels)


def exact_mu(errors, share):
    """The mean of the smallest errors; all that equal the largest of them belong to them."""
    values = sorted(float(v) for row in errors for v in row)
    count = count_of(share, len(values))
    if count == 0:
        return 0.0
    chosen = [v for v in values if v <= values[count - 1]]
    return sum(chosen) / len(chosen)


def binned_mu(errors, share, bins):
    """Whole bins from the left until they hold the share: (mean, pixels in them, right edge of the last)."""
    values = [float(v) for row in errors for v in row]
    count = count_of(share, len(values))
    if count == 0:
        return 0.0, 0, 0.0
    width = max(values) / bins
    held = [[] for _ in range(bins)]
    for v in values:
        b = 0
        while b < bins - 1 and v >= (b + 1) * width and width > 0:
            b += 1
        held[b].append(v)
    chosen = []
    for b in range(bins):
        chosen += held[b]
        if len(chosen) >= count:
            return sum(chosen) / len(chosen), len(chosen), (b + 1) * width
    raise AssertionError("all bins together hold all pixels")


def corrected(errors, mu):
    """Eq. 6, and the score: the sum of A'."""
    result = [[float(v) - mu if v > mu else 0.0 for v in row] for row in errors]
    return result, sum(sum(row) for row in result)


def error_map(image, reconstruction):
    """Eq. 1 over [C, H, W]: the mean over channels of |X - X_R|."""
    channels, height, width = image.shape
    return [
        [
            sum(abs(float(image[c, y, x]) - float(reconstruction[c, y, x])) for c in range(channels)) / channels
            for x in range(width)
        ]
        for y in range(height)
    ]
