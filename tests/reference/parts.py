"""Maps from features, one place at a time: [size, size]."""

import math

from .similarity import value_at


def memory_distance(queries, reads, size):
    """Pairs of features [C, h, w], one pair a level -> mean over the levels of 1 - cosine at full size."""
    maps = [_cosine_distance(query.tolist(), read.tolist()) for query, read in zip(queries, reads, strict=True)]
    return _mean_of_enlarged(maps, size)


def latent_distance(features, others, size):
    """Features [C, h, w] twice -> mean over channels of the absolute difference, at full size."""
    channels = list(zip(features.tolist(), others.tolist(), strict=True))
    rows, columns = range(len(channels[0][0])), range(len(channels[0][0][0]))
    small = [[sum(abs(a[y][x] - b[y][x]) for a, b in channels) / len(channels) for x in columns] for y in rows]
    return _mean_of_enlarged([small], size)


def _cosine_distance(query, read):
    rows, columns = range(len(query[0])), range(len(query[0][0]))
    return [[1 - _cosine([c[y][x] for c in query], [c[y][x] for c in read]) for x in columns] for y in rows]


def _cosine(a, b):
    lengths = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(p * q for p, q in zip(a, b, strict=True)) / lengths if lengths else 0.0


def _mean_of_enlarged(maps, size):
    return [
        [sum(value_at(one, size // len(one), y, x) for one in maps) / len(maps) for x in range(size)]
        for y in range(size)
    ]
