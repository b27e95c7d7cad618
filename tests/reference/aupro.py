"""AUPRO by its definition: every distinct value a threshold, components by flood fill."""

from itertools import pairwise


def aupro(maps, masks, limit):
    regions = [(n, pixels) for n, mask in enumerate(masks) for pixels in components(mask)]
    normal = [
        (n, y, x)
        for n, mask in enumerate(masks)
        for y in range(len(mask))
        for x in range(len(mask[0]))
        if not mask[y][x]
    ]
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for image in maps for row in image for v in row}, reverse=True):
        shares = [sum(maps[n][y][x] >= threshold for y, x in pixels) / len(pixels) for n, pixels in regions]
        rate = sum(maps[n][y][x] >= threshold for n, y, x in normal) / len(normal)
        points.append((rate, sum(shares) / len(shares)))
    return _area(points, limit) / limit


def components(mask):
    """The 8-connected regions of one mask [H][W], each a list of (y, x)."""
    waiting = {(y, x) for y in range(len(mask)) for x in range(len(mask[0])) if mask[y][x]}
    regions = []
    while waiting:
        front, region = [waiting.pop()], []
        while front:
            y, x = front.pop()
            region.append((y, x))
            for place in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if place in waiting:
                    waiting.remove(place)
                    front.append(place)
        regions.append(region)
    return regions


def _area(points, limit):
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            height = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + height) / 2
    return area
