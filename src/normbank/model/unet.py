"""The U-Net-like autoencoder (section III-A, Figure 3): encoder, decoder and their wiring on one screen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import ConfigError
from .memory import MEMORIES, NoMemory


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

    Input [B, channels, S, S] in [0, 1]; output of the same shape, in [0, 1] with `output` "sigmoid", not bounded with
    "linear". Level l works at S / 2**(l-1). Level l < L feeds the decoder through
    `memories[l-1]` on its lateral link (a read for l <= p, the raw link above); level L is the bottleneck and
    passes through `memories[L-1]` on its way to the decoder, which is a raw link unless p = L.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], memories: Sequence[nn.Module], output: str = "linear"
    ) -> None:
        super().__init__()
        inner = list(widths[:-1])
        self.encoders = nn.ModuleList(block(a, b) for a, b in zip([channels, *inner], widths, strict=True))
        self.memories = nn.ModuleList(memories)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(inner, widths[1:], strict=True))
        self.decoders = nn.ModuleList(block(2 * a, a) for a in inner)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(widths[0], channels, 1)
        self.output = nn.Sigmoid() if output == "sigmoid" else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction of a batch."""
        recalled = self.recall(images)
        features = recalled.pop()
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            features = decoder(torch.cat([recalled.pop(), up(features)], dim=1))
        with torch.autocast(images.device.type, enabled=False):  # in bfloat16 white would come in steps of 1/256
            reconstruction: Tensor = self.output(self.head(features.float()))
            return reconstruction

    def recall(self, images: Tensor) -> list[Tensor]:
        """The encoder's F_1..F_L, each as its memory recalls it."""
        features, recalled = images, []
        for level, (encoder, memory) in enumerate(zip(self.encoders, self.memories, strict=True)):
            features = encoder(self.pool(features) if level else features)
            recalled.append(memory(features).features)
        return recalled


def build(config: Config, channels: int) -> UNet:
    """The network `config` describes, for images of that many channels."""
    return UNet(channels, config.model.widths, _memories(config), config.model.output)


def _memories(config: Config) -> list[nn.Module]:
    settings = config.model
    if settings.memory not in MEMORIES:
        raise ConfigError(f"model.memory: expected one of {', '.join(MEMORIES)}, got {settings.memory!r}")
    make = MEMORIES[settings.memory]
    with_memory = [
        make(settings, level, config.data.size >> (level - 1)) for level in range(1, settings.memory_levels + 1)
    ]
    return with_memory + [NoMemory() for _ in range(settings.levels - settings.memory_levels)]
