"""What training makes small: Eq. 9, and beside it the terms of the baselines and of our additions, by weight."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from ..settings import Train
from .losses import total_loss
from .network import Critic, Network
from .unet import Reading

FOCUS = 2.0  # gamma of the focal loss (Lin et al. 2017)


class Batch(NamedTuple):
    """What the network is shown and what it should answer.

    `inputs` and `targets` [B, C, S, S] in [0, 1], the same where nothing is corrupted; `masks` [B, 1, S, S] in {0, 1}
    says where the inputs were.
    """

    inputs: Tensor
    targets: Tensor
    masks: Tensor


def objective(network: Network, batch: Batch, known: Train) -> Tensor:
    """The loss of one batch, a scalar in 32 bits."""
    reading = network(batch.inputs)
    loss = total_loss(batch.targets, reading.reconstruction, known)
    if known.entropy_weight:
        loss = loss + known.entropy_weight * addressing_entropy(reading)
    if known.penalty_weight:
        loss = loss + known.penalty_weight * memory_penalty(reading)
    if network.head is not None:
        seen = reading.reconstruction.detach().clamp(0, 1)  # the head judges; it must not make errors for itself to see
        loss = loss + known.head_weight * focal_loss(network.head(batch.inputs, seen), batch.masks)
    if network.critic is not None:
        loss = loss + adversarial_loss(network.critic, batch.targets, reading.reconstruction, known.adversarial_weight)
    return loss


def addressing_entropy(reading: Reading) -> Tensor:
    """Mean over the queries of -sum w log w, summed over the memories (MemAE, Gong et al. 2019, Eq. 9)."""
    known = [recall.weights for recall in reading.recalls if recall.weights is not None]
    terms = [-(w * torch.log(w.clamp_min(1e-12))).sum(dim=-1).mean() for w in known]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def memory_penalty(reading: Reading) -> Tensor:
    """The sum of what the memories add to the loss themselves."""
    terms = [recall.penalty for recall in reading.recalls if recall.penalty is not None]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def focal_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean of (1 - p_t)^2 times the cross-entropy (Lin et al. 2017): logits and masks [B, 1, S, S] -> scalar."""
    cross = functional.binary_cross_entropy_with_logits(logits.float(), masks, reduction="none")
    return ((1 - torch.exp(-cross)) ** FOCUS * cross).mean()


def adversarial_loss(critic: Critic, images: Tensor, reconstructions: Tensor, weight: float) -> Tensor:
    """The critic's loss on images against reconstructions, and `weight` times what fooling it is worth.

    The two pull at different weights in one backward pass: the critic judges a reconstruction cut off from the
    autoencoder, and the autoencoder is judged by a critic whose weights are cut off.
    """
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    fooled = _cross(functional_call(critic, frozen, (reconstructions,)), real=True)
    learning = _cross(critic(images), real=True) + _cross(critic(reconstructions.detach()), real=False)
    return weight * fooled + learning / 2


def _cross(logits: Tensor, *, real: bool) -> Tensor:
    target = torch.full_like(logits, float(real), dtype=torch.float32)
    return functional.binary_cross_entropy_with_logits(logits.float(), target)
