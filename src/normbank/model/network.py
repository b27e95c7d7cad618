"""The whole of what is trained: the autoencoder, and where asked for a segmentation head, critic and bank."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ..config import Config
from ..similarity import edge_image, gradient_error
from .bank import Bank
from .bergmann import ConvolutionalAutoencoder
from .memories import make_memories
from .memory import NoMemory
from .middle import Middle
from .pose import Pose
from .steady import Steady
from .unet import Reading, UNet
from .upright import Upright


class Head(nn.Module):
    """Segmentation head (DRAEM, Zavrtanik et al. 2021): from image, reconstruction and their differences to logits.

    A U-Net of four levels, `width` channels at the first. It sees the absolute error and the gradient error too, so
    that it need not learn to compare.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.network = UNet(3 * channels + 1, widths, [NoMemory() for _ in widths], gives=1)

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Images and reconstructions [B, C, S, S] in [0, 1] -> logits [B, 1, S, S], > 0 where a defect is likelier."""
        with torch.autocast(images.device.type, enabled=False):
            images, reconstructions = images.float(), reconstructions.float()
            errors = (images - reconstructions).abs()
            seen = torch.cat([images, reconstructions, errors, gradient_error(images, reconstructions)], dim=1)
        reading: Reading = self.network(seen)
        return reading.reconstruction


class Critic(nn.Module):
    """Discriminator of DAAD+ (Hou et al. 2021): strided convolutions, a verdict for each patch.

    `features` [B, 8 * width, S/16, S/16] is the latent space in which image and reconstruction are compared.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.verdict = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, S, S] -> logits [B, 1, S/16, S/16], > 0 where a patch seems to be of a real image."""
        logits: Tensor = self.verdict(self.features(images))
        return logits


class Network(nn.Module):
    """An autoencoder with its optional companions, None where not asked for.

    `middle`, `upright` and `steady` have no part in `forward`: they lay images before anything looks at them (`pose`).
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        head: Head | None = None,
        critic: Critic | None = None,
        edges: bool = False,
        bank: Bank | None = None,
        pose: Pose | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder, self.head, self.critic, self.edges, self.bank = autoencoder, head, critic, edges, bank
        self.middle, self.upright, self.steady = pose or Pose()

    @property
    def pose(self) -> Pose:
        """What lays images before the network sees them."""
        return Pose(self.middle, self.upright, self.steady)

    def take(self, pose: Pose) -> None:
        """Lay images as `pose` does, as far as the network was built to lay them."""
        for name in Pose._fields:
            if getattr(self, name) is not None:
                setattr(self, name, getattr(pose, name))

    def forward(self, images: Tensor) -> Reading:
        """The autoencoder's reading of images [B, C, S, S] in [0, 1]."""
        reading: Reading = self.autoencoder(edge_image(images) if self.edges else images)
        return reading


def build(config: Config, channels: int) -> Network:
    """The network `config` describes, for images of that many channels."""
    known = config.model
    return Network(
        _autoencoder(config, channels),
        Head(channels, known.head_width) if known.head_width else None,
        Critic(channels, known.critic_width) if known.critic_width else None,
        known.edges,
        build_bank(config, channels) if known.bank else None,
        _pose(config, channels),
    )


def size_in_graph(config: Config, channels: int, images: int) -> int:
    """Bytes of the numbers that the graph of `build`'s network holds, with a bank of `images`; makes none of them."""
    known, parts = config.model, {*config.score.parts}
    with torch.device("meta"):
        looked_at = [_autoencoder(config, channels)]
        looked_at += [Head(channels, known.head_width)] if parts & {"head", "marked"} else []
        looked_at += [Critic(channels, known.critic_width)] if "latent" in parts else []
    numbers: int = sum(one.nbytes for member in looked_at for one in member.state_dict().values())
    return numbers + (build_bank(config, channels).size_of(images) if parts & {"bank", "marked"} else 0)


def _pose(config: Config, channels: int) -> Pose:
    shape, known = (channels, config.data.size), config.model
    turns, moves = known.upright != "none", known.steady != "none"
    return Pose(
        Middle(*shape) if turns and moves else None,
        Upright(*shape) if turns else None,
        Steady(*shape) if moves else None,
    )


def build_bank(config: Config, channels: int) -> Bank:
    """The bank `config` describes, empty, for images of that many channels."""
    known = config.model
    return Bank(channels, config.data.size, known.bank, known.patches, config.reduction)


def _autoencoder(config: Config, channels: int) -> nn.Module:
    known = config.model
    if known.trunk == "unet":
        return UNet(channels, known.widths, make_memories(config), known.output)
    return ConvolutionalAutoencoder(channels, config.network_size, known.latent)
