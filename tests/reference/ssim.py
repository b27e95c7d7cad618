"""Structural similarity of two images [H, W] in [0, 1], one window at a time, mirrored at the border."""

import math

import numpy as np


def ssim_map(x, y, *, window, sigma):
    height, width = x.shape
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            result[row, column] = _ssim_at(x, y, row, column, window // 2, sigma)
    return result


def _ssim_at(x, y, row, column, reach, sigma):
    triples = []
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            place = _mirrored(row + down, x.shape[0]), _mirrored(column + right, x.shape[1])
            weight = math.exp(-(down**2 + right**2) / (2 * sigma**2))
            triples.append((weight, float(x[place]), float(y[place])))
    total = sum(w for w, _, _ in triples)
    mean_x = sum(w * a for w, a, _ in triples) / total
    mean_y = sum(w * b for w, _, b in triples) / total
    var_x = sum(w * (a - mean_x) ** 2 for w, a, _ in triples) / total
    var_y = sum(w * (b - mean_y) ** 2 for w, _, b in triples) / total
    cov = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in triples) / total
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def _mirrored(index, size):
    """-1 is 1, -2 is 2; size is size - 2: the border pixel itself is not repeated."""
    if index < 0:
        return -index
    return 2 * (size - 1) - index if index >= size else index
