"""Eq. 2 to 5, one query at a time, in 64 bits."""

import math

import numpy as np


def recall(features, items, *, shrinkage, threshold, renormalise, temperature):
    """features [B, C, H, W], items [k, m, (H/k)*W] -> read [B, C, H, W], weights [B, C, k, m]."""
    batch, channels, height, width = features.shape
    partitions, count, _ = items.shape
    rows = height // partitions
    read = np.zeros(features.shape)
    weights = np.zeros((batch, channels, partitions, count))
    for b in range(batch):
        for i in range(partitions):
            for c in range(channels):
                top = i * rows
                query = [float(features[b, c, top + y, x]) for y in range(rows) for x in range(width)]
                unit = [[float(v) for v in item] for item in items[i]]
                w = _address(query, unit, shrinkage, threshold, renormalise, temperature)
                answer = _read(w, unit)
                for y in range(rows):
                    for x in range(width):
                        read[b, c, top + y, x] = answer[y * width + x]
                weights[b, c, i] = w
    return read, weights


def _address(query, unit, shrinkage, threshold, renormalise, temperature):
    cosines = [_dot(_normalised(query), _normalised(item)) for item in unit]  # Eq. 2
    exponentials = [math.exp(cosine / temperature) for cosine in cosines]  # Eq. 3
    weights = [e / sum(exponentials) for e in exponentials]
    if shrinkage == "soft":
        weights = [max(0.0, w - threshold) for w in weights]  # Eq. 4
    if shrinkage == "hard":
        step = 0.01 * threshold  # w from there on, rising to it from 0 at the threshold
        weights = [
            0.0 if w <= threshold else w if w >= threshold + step else w * (w - threshold) / step for w in weights
        ]
    if renormalise and sum(weights) > 0:
        weights = [w / sum(weights) for w in weights]
    return weights


def _read(weights, unit):
    answer = [0.0] * len(unit[0])
    for weight, item in zip(weights, unit, strict=True):  # Eq. 5
        for position, value in enumerate(item):
            answer[position] += weight * value
    return answer


def _normalised(vector):
    length = math.sqrt(_dot(vector, vector))
    return vector if length == 0 else [v / length for v in vector]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def rounding(shrinkage):
    """How far the last digits may differ: hard shrinkage rises over a hundredth of its threshold, a slope of 100."""
    return 5e-5 if shrinkage == "hard" else 2e-6
