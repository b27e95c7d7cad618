"""`Steady`: images moved until they lie where the good ones do, and maps moved back; nothing is trained.

Things that lie at any place are compared with good ones that lie in theirs. How far an image has to be moved is found
on a coarse image of it: where it differs least from the mean of the good ones, over what both show, each less its own
mean there. All of that in 64 bits, and of moves that are level but for rounding the shortest is taken: the network and
its exported graph have to choose the same one. What is kept is of 32 bits, for devices that have no others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..data.splits import evenly
from .cells import LEVEL, Learnt, cells_of_side, moved, nearest_first, shortest_of_least, sums_of_cells

REACH = 5  # a fifth of the side is the farthest that an image is moved, either way
STARTS, ROUNDS = 3, 6  # good images that the others are moved to at first, and how often all are moved again at most
AT_ONCE = 8  # images


class Steady(Learnt):
    """Images of `size` pixels a side and `channels`; does nothing until `learn`.

    `common` [C, G, G] is the mean of the good images, each moved to the others, in sums of cells; it is empty at first,
    and where moving does not help.
    """

    under: Tensor
    columns: Tensor
    diagonals: Tensor
    nearest_first: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.cells, self.width = cells_of_side(size)
        self.reach = self.cells // REACH
        moves, line = torch.arange(-self.reach, self.reach + 1), torch.arange(self.cells)
        sought = moves[:, None] + line  # [moves, cells]: the cell that comes to lie at each
        constants = {
            "under": ((sought >= 0) & (sought < self.cells)).float(),
            "columns": sought + self.reach,
            "diagonals": (sought + self.reach) * self.cells + line,
            "nearest_first": nearest_first(self.reach),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def learn(self, images: Tensor) -> None:
        """Find what moved good images [N, C, S, S], of whole numbers, have in common."""
        self.common = self._settled(self._all_cells(images))

    def moves_of(self, images: Tensor) -> Tensor:
        """By how many pixels, down and right, what images [N, C, S, S] show at each place is sought: [N, 2], whole."""
        return self._pixels(self._apart(self._cells_of(images), self.common))

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

    def _cells_of(self, images: Tensor) -> Tensor:
        return sums_of_cells(images, self.cells, self.width)

    def _all_cells(self, images: Tensor) -> Tensor:
        """Of many images a few at a time: in 64 bits they are large."""
        return torch.cat([self._cells_of(some) for some in torch.split(images, AT_ONCE)])

    def _all_apart(self, cells: Tensor, common: Tensor) -> Tensor:
        return torch.cat([self._apart(some, common) for some in torch.split(cells, AT_ONCE)])

    def _apart(self, cells: Tensor, common: Tensor) -> Tensor:
        """How far images [N, C, G, G] are from `common` [C, G, G] at each move: [N, moves down, moves right].

        The mean over what both show of the squared difference, less the square of the mean difference of each channel,
        as a share of how bright both are, squared.
        """
        common, under = common.double(), self.under.double()
        over = under.flip(0)  # what of the image comes to lie within the picture
        count = under.sum(dim=1)
        counts = count[:, None] * count
        squares = _summed(cells.square().sum(dim=1), over) + _summed(common.square().sum(dim=0), under)
        lighter = (_summed(cells, over) - _summed(common, under)) / counts
        apart = (squares - 2 * self._products(cells, common)) / counts - lighter.square().sum(dim=1)
        bright = (cells.square().mean(dim=(1, 2, 3)) + common.square().mean()).clamp_min(1)  # black on black is level
        return apart / bright[:, None, None]

    def _products(self, cells: Tensor, common: Tensor) -> Tensor:
        """Sums of the products of [N, C, G, G] with [C, G, G] at each move, over what both show: [N, down, right]."""
        n, moves = cells.shape[0], self.columns.shape[0]  # `len` would fix the graph to one batch
        wide = functional.pad(cells, (self.reach, self.reach))
        all_moved = wide[:, :, :, self.columns.flatten()].reshape(n, self.channels, self.cells * moves, self.cells)
        rows = (all_moved @ common.transpose(1, 2)).sum(dim=1).reshape(n, self.cells, moves, self.cells)
        by_move = functional.pad(rows.transpose(1, 2), (0, 0, self.reach, self.reach)).flatten(2)
        return by_move[:, :, self.diagonals.flatten()].reshape(n, moves, moves, self.cells).sum(dim=3).transpose(1, 2)

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


def _summed(cells: Tensor, over: Tensor) -> Tensor:
    """Sums of [..., G, G] over what of rows and columns each move [M, G] has in it: [..., M, M]."""
    return over @ cells @ over.T
