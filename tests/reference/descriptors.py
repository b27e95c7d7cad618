"""What a place looks like, cell by cell, and the distance to the nearest of a bank: slow and obvious."""

import math

WEIGHTS = {-1: 1 / 4, 0: 2 / 4, 1: 1 / 4}


def at(plane, y, x):
    """The value of [H, W] there; beyond the border the nearest inside."""
    return float(plane[min(max(y, 0), len(plane) - 1)][min(max(x, 0), len(plane[0]) - 1)])


def edges(grey):
    """Ten planes of [H, W]."""
    places = [(y, x) for y in range(len(grey)) for x in range(len(grey[0]))]
    planes = [[[0.0] * len(grey[0]) for _ in grey] for _ in range(10)]
    for y, x in places:
        along = (at(grey, y, x + 1) - at(grey, y, x - 1)) / 2
        down = (at(grey, y + 1, x) - at(grey, y - 1, x)) / 2
        around = at(grey, y, x + 1) + at(grey, y, x - 1) + at(grey, y + 1, x) + at(grey, y - 1, x)
        for number in range(8):
            angle = math.radians(45 * number)
            planes[number][y][x] = max(0.0, math.cos(angle) * along + math.sin(angle) * down)
        planes[8][y][x] = max(0.0, 4 * at(grey, y, x) - around)
        planes[9][y][x] = max(0.0, around - 4 * at(grey, y, x))
    return planes


def means(plane, side):
    """Means of side x side pixels."""
    return [
        [
            sum(float(plane[y + j][x + i]) for j in range(side) for i in range(side)) / side**2
            for x in range(0, len(plane[0]), side)
        ]
        for y in range(0, len(plane), side)
    ]


def spread(plane):
    """The binomial filter over 3 x 3 cells."""
    return [
        [
            sum(a * b * at(plane, y + j, x + i) for j, a in WEIGHTS.items() for i, b in WEIGHTS.items())
            for x in range(len(plane[0]))
        ]
        for y in range(len(plane))
    ]


def describe(image, floor, contrast_gain, colour_gain, cell=4):
    """[C, S, S] -> D planes of [S / cell, S / cell]."""
    channels, height, width = len(image), len(image[0]), len(image[0][0])
    grey = [
        [sum(float(image[c][y][x]) for c in range(channels)) / channels for x in range(width)] for y in range(height)
    ]
    found = []
    for scale in range({4: 3, 8: 4, 16: 5}[cell]):
        if scale:
            grey = means(grey, 2)
        cells = [spread(means(plane, cell >> scale)) for plane in edges(grey)]
        rows, columns = range(len(cells[0])), range(len(cells[0][0]))
        contrast = spread([[sum(cells[n][y][x] for n in range(8)) / 8 for x in columns] for y in rows])
        found += [[[plane[y][x] / (contrast[y][x] + floor) for x in columns] for y in rows] for plane in cells]
        found.append([[contrast_gain * math.log(contrast[y][x] + floor) for x in columns] for y in rows])
    if channels > 1:
        colours = [spread(means(plane, cell)) for plane in image]
        rows, columns = range(len(colours[0])), range(len(colours[0][0]))
        middle = [[sum(plane[y][x] for plane in colours) / channels for x in columns] for y in rows]
        found += [[[colour_gain * (plane[y][x] - middle[y][x]) for x in columns] for y in rows] for plane in colours]
    return found


def window(image, item):
    """Planes [D][G][G] of both -> [G][G]: the mean over 3 x 3 cells of mean squares."""
    side = range(len(image[0]))
    plane = [
        [sum((a[y][x] - b[y][x]) ** 2 for a, b in zip(image, item, strict=True)) / len(image) for x in side]
        for y in side
    ]
    near = (-1, 0, 1)
    return [[sum(at(plane, y + j, x + i) for j in near for i in near) / 9 for x in side] for y in side]


def distances(image, items, scales):
    """Planes [D][G][G], a list of such and one of planes [G][G] -> [G][G]: the least of scale times window."""
    planes = [window(image, item) for item in items]
    side = range(len(image[0]))
    return [[min(s[y][x] * p[y][x] for s, p in zip(scales, planes, strict=True)) for x in side] for y in side]


def radii(items):
    """Of each of items [D][G][G] the least window to another of them at each place: [m][G][G]."""
    side = range(len(items[0][0]))
    each = []
    for item in items:
        planes = [window(item, other) for other in items if other is not item]
        each.append([[min(plane[y][x] for plane in planes) for x in side] for y in side])
    return each


def scale(radius, usual, near, faint):
    """How much a distance from an item of that radius counts, where `usual` is the mean radius."""
    return ((usual + faint) / (radius + near * usual + faint)) ** 0.5


def nearest_patch(patch, items, spread, scales=None):
    """Patches of D planes of 3 x 3: the least squared difference to an item, each of the D in units of its spread.

    Times the item's scale, where there are some.
    """
    return min(
        factor
        * sum(
            ((a - b) / unit) ** 2
            for plane, other, unit in zip(patch, item, spread, strict=True)
            for row, another in zip(plane, other, strict=True)
            for a, b in zip(row, another, strict=True)
        )
        for item, factor in zip(items, scales or [1] * len(items), strict=True)
    )
