"""The terms of the loss against loops and by hand, and which weights each of them reaches."""

from __future__ import annotations

import math

import pytest
import torch
from reference import objective as slow
from tiny import tiny_config
from torch import Tensor, nn

from normbank.model.losses import total_loss
from normbank.model.memory import Recall
from normbank.model.network import Critic, Network, build
from normbank.model.objective import (
    Batch,
    addressing_entropy,
    adversarial_loss,
    focal_loss,
    memory_penalty,
    objective,
)
from normbank.model.unet import Reading
from normbank.settings import Train

RESTORING = {"train__corrupt": 0.5, "model__head_width": 2}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def reading(*weights: Tensor | None, penalties: tuple[Tensor | None, ...] = ()) -> Reading:
    """A reading whose memories answered with these weights and penalties."""
    features = torch.zeros(1, 1, 2, 2)
    told = penalties or (None,) * len(weights)
    recalls = tuple(Recall(features, w, features, p) for w, p in zip(weights, told, strict=True))
    return Reading(features, (features,) * len(recalls), recalls)


def batch(channels: int = 3, size: int = 32) -> Batch:
    """Images of which the upper left quarter was changed."""
    targets, masks = drawn(1, 2, channels, size, size), torch.zeros(2, 1, size, size)
    masks[..., : size // 2, : size // 2] = 1
    return Batch((targets * (1 - masks) + 0.9 * masks).contiguous(), targets, masks)


def network(**settings: object) -> tuple[Network, Train]:
    torch.manual_seed(0)
    config = tiny_config(**settings)
    return build(config, 3), config.train


def gradients(module: nn.Module | None) -> list[Tensor | None]:
    assert module is not None
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def assert_equal(ones: list[Tensor | None], others: list[Tensor | None]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


# focal loss


def test_focal_loss_by_hand() -> None:
    # p = .5 of what is there: .25 * .6931472 = .1732868. Logit log 3 where nothing is: p = .25, .5625 * 1.3862944 =
    # .7797906. Their mean is .4765387.
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2)
    assert focal_loss(logits, torch.tensor([[[[1.0, 0.0]]]])).item() == pytest.approx(0.4765387, abs=1e-6)


def test_focal_loss_equals_the_loop() -> None:
    logits, masks = 8 * drawn(2, 3, 1, 7, 5) - 4, (drawn(3, 3, 1, 7, 5) > 0.6).float()
    expected = slow.focal(logits.flatten().tolist(), masks.flatten().tolist())
    assert focal_loss(logits, masks).item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_of_sure_logits_is_finite_and_in_32_bits() -> None:
    logits = torch.tensor([[[[200.0, -200.0, 200.0]]]], dtype=torch.bfloat16, requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[[[1.0, 0.0, 0.0]]]]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(200 / 3)  # right, right, and as wrong as can be
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


# entropy of the addressing


def test_entropy_by_hand() -> None:
    # Two queries, (.5, .5) and (1, 0): (log 2 + 0) / 2 = .3465736; a second memory with (.25, .75): .5623351.
    one, other = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]), torch.tensor([[[0.25, 0.75]]])
    assert addressing_entropy(reading(one)).item() == pytest.approx(0.3465736, abs=1e-6)
    assert addressing_entropy(reading(one, None, other)).item() == pytest.approx(0.9089087, abs=1e-6)
    assert addressing_entropy(reading(None, None)).item() == 0
    assert addressing_entropy(reading()).item() == 0


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 9, 7)])
def test_entropy_equals_the_loop(shape: tuple[int, ...]) -> None:
    weights = torch.softmax(5 * drawn(4, *shape), dim=-1)
    weights = torch.where(weights > 0.1, weights, 0.0)
    expected = slow.entropy(weights.flatten(0, -2).tolist())
    assert addressing_entropy(reading(weights)).item() == pytest.approx(expected, rel=1e-5)


def test_entropy_has_a_finite_gradient_at_weights_of_0_and_falls_as_addressing_gets_sharper() -> None:
    weights = torch.tensor([[0.0, 0.4, 0.6]], requires_grad=True)
    addressing_entropy(reading(weights)).backward()
    assert weights.grad is not None
    assert torch.isfinite(weights.grad).all()
    # d/dw of -w log w is -(log w + 1).
    assert weights.grad[0, 1:].tolist() == pytest.approx([-math.log(0.4) - 1, -math.log(0.6) - 1], abs=1e-6)


# the memory's own terms


def test_penalty_is_the_sum_of_what_the_memories_add() -> None:
    asked = reading(None, None, None, penalties=(torch.tensor(0.25), None, torch.tensor(0.5)))
    assert memory_penalty(asked).item() == 0.75
    assert memory_penalty(reading(None)).item() == 0


# the adversarial term


class Scale(Critic):
    """A critic of one weight: its verdict on a value v is weight * v."""

    def __init__(self, weight: float) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * images


def test_adversarial_loss_by_hand() -> None:
    # a = 2, x = .5, y = .25, weight .1: softplus(-a y) = log(1 + e^-.5) = .4740770, softplus(-a x) = log(1 + e^-1) =
    # .3132617, softplus(a y) = log(1 + e^.5) = .9740770. The sum: .1 * .4740770 + (.3132617 + .9740770) / 2 = .6910770.
    critic, image = Scale(2.0), torch.tensor([[[[0.5]]]], requires_grad=True)
    reconstruction = torch.tensor([[[[0.25]]]], requires_grad=True)
    loss = adversarial_loss(critic, image, reconstruction, 0.1)
    assert loss.item() == pytest.approx(0.6910770, abs=1e-6)
    loss.backward()
    # The reconstruction is moved by the fooling alone: -.1 a sigmoid(-a y) = -.2 * .3775407. Of the critic's part
    # a sigmoid(a y) / 2 = .6224593 would come, were it not cut off.
    assert reconstruction.grad is not None
    assert reconstruction.grad.item() == pytest.approx(-0.0755081, abs=1e-6)
    # The critic by its own part alone: (-x sigmoid(-a x) + y sigmoid(a y)) / 2 = (-.1344707 + .1556148) / 2. Of the
    # fooling -.1 y sigmoid(-a y) = -.0094385 would come.
    assert critic.weight.grad is not None
    assert critic.weight.grad.item() == pytest.approx(0.0105721, abs=1e-6)


def test_adversarial_loss_equals_the_loops() -> None:
    torch.manual_seed(0)
    critic, x, y = Critic(2, 3), drawn(5, 2, 2, 32, 32), drawn(6, 2, 2, 32, 32)
    seen, other = (critic(images).flatten().tolist() for images in (x, y))
    expected = 0.3 * slow.cross(other, True) + (slow.cross(seen, True) + slow.cross(other, False)) / 2
    assert adversarial_loss(critic, x, y, 0.3).item() == pytest.approx(expected, abs=1e-5)


def test_the_two_parts_reach_their_own_weights_alone() -> None:
    """Each in one backward pass as if it were alone: by separate losses with the other side cut off by hand."""
    torch.manual_seed(0)
    critic, x, y = Critic(3, 2), drawn(7, 2, 3, 16, 16), drawn(8, 2, 3, 16, 16).requires_grad_()
    adversarial_loss(critic, x, y, 0.5).backward()
    found, on_image = gradients(critic), y.grad
    critic.zero_grad()
    logits = nn.functional.softplus
    ((logits(-critic(x)).mean() + logits(critic(y.detach())).mean()) / 2).backward()
    for one, other in zip(found, gradients(critic), strict=True):
        torch.testing.assert_close(one, other)
    (expected,) = torch.autograd.grad(0.5 * logits(-critic(y)).mean(), y)
    torch.testing.assert_close(on_image, expected)


def test_a_weight_of_0_leaves_the_reconstruction_alone() -> None:
    torch.manual_seed(0)
    y = drawn(9, 1, 3, 16, 16).requires_grad_()
    critic = Critic(3, 2)
    adversarial_loss(critic, drawn(10, 1, 3, 16, 16), y, 0.0).backward()
    assert y.grad is not None
    assert (y.grad == 0).all()
    assert all(g is not None and g.abs().max() > 0 for g in gradients(critic))


# all of it


def test_the_objective_is_the_sum_of_its_terms() -> None:
    weights = {"entropy_weight": 0.3, "penalty_weight": 0.2, "head_weight": 0.7, "adversarial_weight": 0.4}
    settings = {f"train__{name}": value for name, value in weights.items()}
    memory = {"model__memory": "mnad", "model__memory_levels": 1, "model__partitions": (1,), "model__items": (4,)}
    net, known = network(**settings, **memory, **RESTORING, model__critic_width=2, train__gradient_weight=0.5)
    given = batch()
    twin, _ = network(**settings, **memory, **RESTORING, model__critic_width=2)  # a forward moves MNAD's items
    answer = twin(given.inputs)
    assert twin.head is not None
    assert twin.critic is not None
    (recall, *_) = answer.recalls
    seen = answer.reconstruction.clamp(0, 1)
    verdicts = [twin.critic(images).flatten().tolist() for images in (given.targets, answer.reconstruction)]
    expected = total_loss(given.targets, answer.reconstruction, known).item()
    expected += 0.3 * slow.entropy(recall.weights.flatten(0, -2).tolist()) + 0.2 * recall.penalty.item()
    logits = twin.head(given.inputs, seen)
    expected += 0.7 * slow.focal(logits.flatten().tolist(), given.masks.flatten().tolist())
    expected += 0.4 * slow.cross(verdicts[1], True)
    expected += (slow.cross(verdicts[0], True) + slow.cross(verdicts[1], False)) / 2
    assert objective(net, given, known).item() == pytest.approx(expected, rel=1e-5)


def test_without_companions_and_weights_it_is_eq_9_of_the_target() -> None:
    net, known = network()
    given = batch()
    expected = total_loss(given.targets, net(given.inputs).reconstruction, known)
    torch.testing.assert_close(objective(net, given, known), expected, rtol=0, atol=0)
    assert objective(net, Batch(given.inputs, given.inputs, given.masks), known) != expected


def test_the_head_s_loss_does_not_reach_the_autoencoder() -> None:
    found = []
    for weight in (1.0, 50.0):
        net, known = network(**RESTORING, train__head_weight=weight)
        objective(net, batch(), known).backward()
        found.append((gradients(net.autoencoder), gradients(net.head)))
    alone, known = network()
    objective(alone, batch(), known).backward()
    (one, head), (other, stronger) = found
    assert_equal(one, other)
    assert_equal(one, gradients(alone.autoencoder))
    for a, b in zip(head, stronger, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(50 * a, b, rtol=1e-3, atol=1e-5)
    assert any(g is not None and g.abs().max() > 0 for g in head)


def test_the_critic_s_own_loss_does_not_reach_the_autoencoder_and_fooling_it_does() -> None:
    plain, known = network()
    objective(plain, batch(), known).backward()
    idle, known = network(model__critic_width=2)
    objective(idle, batch(), known).backward()
    assert_equal(gradients(plain.autoencoder), gradients(idle.autoencoder))
    fooling, known = network(model__critic_width=2, train__adversarial_weight=0.5)
    objective(fooling, batch(), known).backward()
    assert_equal(gradients(idle.critic), gradients(fooling.critic))
    changed = zip(gradients(plain.autoencoder), gradients(fooling.autoencoder), strict=True)
    assert any(not torch.equal(a, b) for a, b in changed if a is not None and b is not None)


def test_the_critic_compares_with_the_clean_image() -> None:
    net, known = network(model__critic_width=2)
    seen: list[Tensor] = []
    assert net.critic is not None
    net.critic.register_forward_hook(lambda module, given, answer: seen.append(given[0].detach()))
    given = batch()
    objective(net, given, known)
    assert sum(torch.equal(images, given.targets) for images in seen) == 1
    assert not any(torch.equal(images, given.inputs) for images in seen)


def test_it_is_32_bit_and_finite_under_autocast() -> None:
    net, known = network(**RESTORING, model__critic_width=2, train__adversarial_weight=0.1, train__entropy_weight=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(net, batch(), known)
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
