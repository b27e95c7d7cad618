"""`Steady`: images moved until they lie where the good ones do, and maps moved back; nothing is trained.

Things that lie at any place are compared with good ones that lie in theirs. How far an image has to be moved is found
on a coarse image of it: where it differs least from the mean of the good ones, each less its own mean. All of that in
64 bits, and of moves that are level but for rounding the shortest is taken: the network and its exported graph have to
choose the same one. What is kept is of 32 bits, for devices that have no others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..data.splits import evenly
from .cells import AT_ONCE, LEVEL, Learnt, moved, nearest_first, shortest_of_least

REACH = 5  # a fifth of the side is the farthest that an image is moved, either way
STARTS, ROUNDS = 3, 6  # good images that the others are moved to at first, and how often all are moved again at most


class Steady(Learnt):
    """Images of `size` pixels a side and `channels`; does nothing until `learn`.

    `common` [C, G, G] is the mean of the good images, each moved to the others, in sums of cells; it is empty at first,
    and where moving does not help.
    """

    rows: Tensor
    columns: Tensor
    diagonals: Tensor
    counts: Tensor
    nearest_first: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, size)
        self.reach = self.cells // REACH
        moves, line = torch.arange(-self.reach, self.reach + 1), torch.arange(self.cells)
        below = (line - moves[:, None]).clamp(0, self.cells - 1)  # [moves, cells]: what of `common` is beneath
        rows = len(line) + 2 * self.reach
        self.hold(
            {
                "rows": torch.arange(-self.reach, len(line) + self.reach).clamp(0, self.cells - 1),
                "columns": below,
                "diagonals": line * rows + line - moves[:, None] + self.reach,
                "counts": functional.one_hot(below, self.cells).sum(dim=1).float(),
                "nearest_first": nearest_first(self.reach),
            }
        )

    def learn(self, images: Tensor) -> None:
        """Find what moved good images [N, C, S, S], have in common."""
        self.common = self._settled(torch.cat([self.cells_of(some) for some in torch.split(images, AT_ONCE)]))

    def moves_of(self, cells: Tensor) -> Tensor:
        """By how many pixels, down and right, what images show at each place is sought: whole, [N, 2].

        By their `cells_of`, [N, C, G, G].
        """
        return self._pixels(self._apart(cells, self.common))

    def least_apart(self, cells: Tensor) -> Tensor:
        """How far cells [N, C, G, G] are from `common` where they are least so: [N]."""
        return self._apart(cells, self.common).amin(dim=(1, 2))

    def _settled(self, cells: Tensor) -> Tensor:
        """What images [N, C, G, G] have in common: moved to one of them, then to the mean of all so moved.

        From several starts; the one counts after which they differ least.
        """
        found = []
        for start in evenly(len(cells), STARTS):
            common, before = cells[start], None
            for _ in range(ROUNDS):
                moves = self._best(self._all_apart(cells, common))
                moves = moves - moves.median(dim=0).values  # where most of them lie, all shall
                if before is not None and torch.equal(moves, before):
                    break
                common, before = moved(cells, moves).mean(dim=0), moves
            found.append((float(self._all_apart(cells, common).amin(dim=(1, 2)).mean()), common))
        return min(found, key=lambda one: one[0])[1].float()

    def _all_apart(self, cells: Tensor, common: Tensor) -> Tensor:
        return torch.cat([self._apart(some, common) for some in torch.split(cells, AT_ONCE)])

    def _apart(self, cells: Tensor, common: Tensor) -> Tensor:
        """How far images [N, C, G, G] are from `common` [C, G, G] at each move: [N, moves down, moves right].

        Each channel less its mean. The squared difference of every cell of the image from what lies beneath it, which
        goes on beyond the border as it ends there: what comes to lie out of sight counts as if it were not, or a defect
        at the border would be least where it cannot be seen. So do the squares of what has no image above it. Summed,
        as a share of how bright the image is, squared.
        """
        image, known = _without_mean(cells), _without_mean(common.double())
        squares, counts = known.square().sum(dim=0), self.counts.double()
        seen = counts.clamp(max=1)
        beneath = counts @ squares @ counts.T + squares.sum() - seen @ squares @ seen.T
        apart = image.square().sum(dim=(1, 2, 3))[:, None, None] + beneath - 2 * self._products(image, known)
        return apart / (cells.square().sum(dim=(1, 2, 3)) + 1)[:, None, None]  # black on black is level

    def _products(self, image: Tensor, known: Tensor) -> Tensor:
        """Sums of the products of [N, C, G, G] with what of [C, G, G] lies beneath at each move: [N, down, right]."""
        beneath = known[:, self.rows][:, :, self.columns]  # [C, rows, moves right, G]
        products = (image @ beneath.flatten(1, 2).transpose(1, 2)).sum(dim=1)  # [N, G, rows * moves right]
        by_row = products.reshape(image.shape[0], -1, self.columns.shape[0])  # `len` would fix the graph to one batch
        chosen = by_row[:, self.diagonals.flatten()].reshape(image.shape[0], *self.diagonals.shape, -1)
        return chosen.sum(dim=2)

    def _best(self, apart: Tensor) -> Tensor:
        """The move, down and right, in cells, at which [N, moves, moves] is least: [N, 2]."""
        return shortest_of_least(apart, self.nearest_first)

    def _pixels(self, apart: Tensor) -> Tensor:
        """That move in pixels, between cells by a parabola through the least and its neighbours: [N, 2], whole."""
        moves = self._best(apart)
        down, right = (moves + self.reach).unbind(dim=1)
        lines = (_at(apart.transpose(1, 2), right), _at(apart, down))  # [N, moves] down through the least, and right
        between = torch.stack([_between(*one) for one in zip(lines, (down, right), strict=True)], dim=1)
        return ((moves + between) * self.width).round().long()


def _at(lines: Tensor, places: Tensor) -> Tensor:
    """Of each of [N, M, L] the line at its place [N]: [N, L]."""
    wanted = places[:, None, None].expand(-1, 1, lines.shape[2])
    return lines.gather(1, wanted)[:, 0]


def _between(line: Tensor, places: Tensor) -> Tensor:
    """How far beyond its place [N] the least of a line [N, M] lies, in -0.5..0.5; 0 at the line's ends: [N]."""
    last = line.shape[1] - 1
    before, least, after = (line.gather(1, (places + step).clamp(0, last)[:, None])[:, 0] for step in (-1, 0, 1))
    bend = before - 2 * least + after
    known = (places > 0) & (places < last) & (bend > LEVEL)
    return torch.where(known, (before - after) / (2 * bend.clamp_min(LEVEL)), 0.0).clamp(-0.5, 0.5)


def _without_mean(cells: Tensor) -> Tensor:
    """Cells [..., G, G] less their mean, each channel of each image."""
    return cells - cells.mean(dim=(-2, -1), keepdim=True)
