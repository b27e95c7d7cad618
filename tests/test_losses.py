"""Eq. 7 to 9 against loops and values worked by hand."""

import pytest
import torch
from reference import loss as slow

from normbank.model.losses import mse_loss, ssim_loss, total_loss
from normbank.settings import Train
from normbank.similarity import gradient_error, ssim_difference

PAPER = Train(mse_weight=1, ssim_weight=0.1, ssim_window=11, ssim_sigma=1.5, gradient_weight=0)


def pair(*shape, seed=0):
    """An image batch in [0, 1] and a noisy copy."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_losses_equal_the_loops(channels):
    x, y = pair(2, channels, 8, 10, seed=4)
    a, b = x.numpy(), y.numpy()
    assert mse_loss(x, y).item() == pytest.approx(slow.mse(a, b), abs=1e-6)
    assert ssim_loss(x, y).item() == pytest.approx(slow.ssim_term(a, b, window=11, sigma=1.5), abs=1e-5)
    for weight in (0.0, 0.1, 2.0):
        known = Train(ssim_weight=weight, ssim_window=7, ssim_sigma=1.0)
        expected = slow.total(a, b, ssim_weight=weight, window=7, sigma=1.0)
        assert total_loss(x, y, known).item() == pytest.approx(expected, abs=1e-5)


def test_total_loss_by_hand():
    # (.5 - .3)^2 = .04; 1 - .3001 / .3401 = .1176125; .04 + .1 * .1176125.
    x, y = torch.full((2, 3, 8, 8), 0.5), torch.full((2, 3, 8, 8), 0.3)
    assert mse_loss(x, y).item() == pytest.approx(0.04, abs=1e-7)
    assert total_loss(x, y, PAPER).item() == pytest.approx(0.05176125, abs=1e-5)


def test_every_term_has_its_weight():
    x, y = pair(2, 3, 16, 16, seed=5)
    terms = [mse_loss(x, y).item(), ssim_loss(x, y).item(), gradient_error(x, y).mean().item()]
    for a, b, c in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.2, 0.3)):
        known = Train(mse_weight=a, ssim_weight=b, gradient_weight=c)
        expected = a * terms[0] + b * terms[1] + c * terms[2]
        assert total_loss(x, y, known).item() == pytest.approx(expected, abs=1e-6)


def test_a_perfect_reconstruction_costs_nothing():
    x, _ = pair(2, 3, 16, 16)
    assert (ssim_difference(x, x) == 0).all()
    assert total_loss(x, x, PAPER).item() == pytest.approx(0, abs=1e-6)


def test_batch_and_channels_are_averaged():
    x, y = pair(4, 3, 12, 12, seed=3)
    whole = total_loss(x, y, PAPER)
    images = [total_loss(a[None], b[None], PAPER) for a, b in zip(x, y, strict=True)]
    channels = [total_loss(x[:, c : c + 1], y[:, c : c + 1], PAPER) for c in range(3)]
    torch.testing.assert_close(whole, torch.stack(images).mean())
    torch.testing.assert_close(whole, torch.stack(channels).mean())


def test_total_loss_is_32_bit_under_autocast_and_has_a_gradient():
    x, y = pair(1, 3, 16, 16)
    y = y.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = total_loss(x, y, PAPER)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, total_loss(x, y, PAPER), rtol=0, atol=0)
    inside.backward()
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().max() > 0
    assert total_loss(x.bfloat16(), y.bfloat16(), PAPER).dtype == torch.float32


def test_the_gradient_of_ssim_points_towards_the_image():
    x, y = pair(1, 1, 16, 16, seed=6)
    y = y.requires_grad_()
    before = ssim_loss(x, y)
    before.backward()
    assert ssim_loss(x, y.detach() - 0.5 * y.grad) < before
