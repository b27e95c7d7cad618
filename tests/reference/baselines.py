"""The memories of MemAE, DAAD and MNAD, one query at a time, in 64 bits."""

import math

import numpy as np

from .memory import _address, _dot, _normalised, _read


def recall_vectors(features, items, **addressing):
    """features [B, C, H, W], items [m, C] -> read [B, C, H, W], weights [B, H*W, m]."""
    batch, _, height, width = features.shape
    unit = _rows(items)
    read, weights = np.zeros(features.shape), np.zeros((batch, height * width, len(unit)))
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                w = _address(_rows(features[b, :, y, x]), unit, *_in_order(addressing))
                read[b, :, y, x], weights[b, y * width + x] = _read(w, unit), w
    return read, weights


def recall_blocks(features, items, grid, **addressing):
    """features [B, C, H, W], items [m, C*(H/k)*(W/k)] -> read [B, C, H, W], weights [B, k*k, m]; k = `grid`."""
    batch, channels, height, width = features.shape
    rows, columns, unit = height // grid, width // grid, _rows(items)
    read, weights = np.zeros(features.shape), np.zeros((batch, grid * grid, len(unit)))
    for b in range(batch):
        for i in range(grid):
            for j in range(grid):
                places = [
                    (c, i * rows + y, j * columns + x)
                    for c in range(channels)
                    for y in range(rows)
                    for x in range(columns)
                ]
                w = _address([float(features[b][place]) for place in places], unit, *_in_order(addressing))
                for place, value in zip(places, _read(w, unit), strict=True):
                    read[b][place] = value
                weights[b, i * grid + j] = w
    return read, weights


def unit_queries(features):
    """features [B, C, H, W] -> the vectors at each position, at length 1, in a list of B*H*W."""
    batch, _, height, width = features.shape
    return [_normalised(_rows(features[b, :, y, x])) for b in range(batch) for y in range(height) for x in range(width)]


def moved(features, items):
    """items [m, C] of length 1 after MNAD's step, by the softmax over all queries itself."""
    queries, before = unit_queries(features), _rows(items)
    owners = [_by_distance(query, before)[0] for query in queries]
    after = []
    for number, item in enumerate(before):
        exponentials = [math.exp(_dot(query, item)) for query in queries]
        shares = [e / sum(exponentials) for e in exponentials]
        own = [place for place, owner in enumerate(owners) if owner == number]
        total = list(item)
        for place in own:
            weight = shares[place] / max(shares[other] for other in own)
            total = [t + weight * q for t, q in zip(total, queries[place], strict=True)]
        after.append(_normalised(total))
    return np.array(after)


def penalty(features, items, margin=1.0):
    """Mean of |q - p1|^2 plus mean of max(0, |q - p1|^2 - |q - p2|^2 + margin)."""
    queries, unit = unit_queries(features), _rows(items)
    compactness = separateness = 0.0
    for query in queries:
        first, second = _by_distance(query, unit)[:2]
        near, far = _squared_distance(query, unit[first]), _squared_distance(query, unit[second])
        compactness += near
        separateness += max(0.0, near - far + margin)
    return (compactness + separateness) / len(queries)


def _by_distance(query, items):
    return sorted(range(len(items)), key=lambda number: _squared_distance(query, items[number]))


def _squared_distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def _in_order(addressing):
    return [addressing[name] for name in ("shrinkage", "threshold", "renormalise", "temperature")]


def _rows(values):
    return np.asarray(values, dtype=np.float64).tolist()
