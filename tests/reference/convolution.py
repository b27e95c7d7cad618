"""Convolutions of one image [C, H, W], one place at a time, in 64 bits."""

import numpy as np


def convolved(image, weight, bias, *, stride, padding):
    """weight [O, C, k, k] -> [O, H', W']."""
    image, weight = np.asarray(image, np.float64), np.asarray(weight, np.float64)
    _, height, width = image.shape
    side = weight.shape[-1]
    rows, columns = ((length + 2 * padding - side) // stride + 1 for length in (height, width))
    result = np.zeros((len(weight), rows, columns)) + np.asarray(bias, np.float64)[:, None, None]
    for y in range(rows):
        for x in range(columns):
            for j in range(side):
                for i in range(side):
                    row, column = y * stride + j - padding, x * stride + i - padding
                    if 0 <= row < height and 0 <= column < width:
                        result[:, y, x] += weight[:, :, j, i] @ image[:, row, column]
    return result


def spread(image, weight, bias, *, stride, padding):
    """The transposed convolution: each value is spread over k x k places. weight [C, O, k, k] -> [O, H', W']."""
    image, weight = np.asarray(image, np.float64), np.asarray(weight, np.float64)
    _, height, width = image.shape
    side = weight.shape[-1]
    rows, columns = ((length - 1) * stride + side - 2 * padding for length in (height, width))
    result = np.zeros((weight.shape[1], rows, columns)) + np.asarray(bias, np.float64)[:, None, None]
    for y in range(height):
        for x in range(width):
            for j in range(side):
                for i in range(side):
                    row, column = y * stride + j - padding, x * stride + i - padding
                    if 0 <= row < rows and 0 <= column < columns:
                        result[:, row, column] += weight[:, :, j, i].T @ image[:, y, x]
    return result


def leaky(values, slope):
    return np.where(values > 0, values, slope * values)
