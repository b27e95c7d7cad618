"""The U-Net-like autoencoder (section III-A, Figure 3): encoder, decoder and their wiring on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .memory import Memory, Recall


class Reading(NamedTuple):
    """What an autoencoder makes of images [B, C, S, S].

    Their reconstruction, of the same shape, and for each level what was asked of its memory and what that answered
    (nothing for an autoencoder without levels).
    """

    reconstruction: Tensor
    queries: tuple[Tensor, ...]
    recalls: tuple[Recall, ...]


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """(3x3 convolution, batch norm, ReLU) twice (field: MNAD, DRAEM)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Autoencoder over `len(widths)` levels with one memory a level.

    Input [B, channels, S, S] in [0, 1]; output [B, gives, S, S] (`gives` none: as many channels), in [0, 1] with
    `output` "sigmoid", not bounded with "linear". Level l works at S / 2**(l-1). Level l < L feeds the decoder through
    `memories[l-1]` on its lateral link (a read where a memory stands, else the raw link, or nothing); level L is the
    bottleneck and passes through `memories[L-1]` on its way to the decoder, a raw link unless a memory stands there.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        memories: Sequence[Memory],
        output: str = "linear",
        gives: int | None = None,
    ) -> None:
        super().__init__()
        inner = list(widths[:-1])
        below = [*inner[1:], memories[-1].gives(widths[-1])]  # what comes up into each level's transposed convolution
        links = [memory.gives(width) for memory, width in zip(memories, inner, strict=False)]
        self.encoders = nn.ModuleList(block(a, b) for a, b in zip([channels, *inner], widths, strict=True))
        self.memories = nn.ModuleList(memories)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(inner, below, strict=True))
        self.decoders = nn.ModuleList(block(link + a, a) for link, a in zip(links, inner, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(widths[0], gives or channels, 1)
        self.output = nn.Sigmoid() if output == "sigmoid" else nn.Identity()

    def forward(self, images: Tensor) -> Reading:
        """The reconstruction of a batch, and what was asked of the memories and answered on the way."""
        queries, recalls = self.recall(images)
        features = recalls[-1].features
        links = [recall.features for recall in recalls[:-1]]
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            features = decoder(_join(links.pop(), up(features)))
        with torch.autocast(images.device.type, enabled=False):  # in bfloat16 white would come in steps of 1/256
            reconstruction: Tensor = self.output(self.head(features.float()))
        return Reading(reconstruction, tuple(queries), tuple(recalls))

    def recall(self, images: Tensor) -> tuple[list[Tensor], list[Recall]]:
        """The encoder's F_1..F_L, and each as its memory recalls it."""
        features, queries, recalls = images, [], []
        for level, (encoder, memory) in enumerate(zip(self.encoders, self.memories, strict=True)):
            features = encoder(self.pool(features) if level else features)
            queries.append(features)
            recalls.append(memory(features))
        return queries, recalls


def _join(link: Tensor, features: Tensor) -> Tensor:
    """Concatenated channels; a cut link has none, which ONNX would not take."""
    return torch.cat([link, features], dim=1) if link.shape[1] else features
