"""Eq. 7 to 9 against loops, scikit-image and values worked by hand."""

import numpy as np
import pytest
import torch
from reference import loss as slow
from reference import ssim as slow_ssim
from skimage.metrics import structural_similarity

from normbank.model.losses import gaussian_window, mse_loss, ssim_loss, ssim_map, total_loss


def pair(*shape, seed=0):
    """An image batch in [0, 1] and a noisy copy."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (3, 1.0), (7, 5.0)])
def test_ssim_equals_the_loops_at_every_pixel(window, sigma):
    x, y = pair(2, 2, 9, 12)
    found = ssim_map(x, y, window=window, sigma=sigma)
    assert found.shape == x.shape
    for n, c in np.ndindex(2, 2):
        expected = slow_ssim.ssim_map(x[n, c].numpy(), y[n, c].numpy(), window=window, sigma=sigma)
        np.testing.assert_allclose(found[n, c].numpy(), expected, atol=2e-4)


def test_ssim_equals_scikit_image_away_from_the_border():
    x, y = pair(1, 1, 40, 40)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, expected = structural_similarity(x[0, 0].double().numpy(), y[0, 0].double().numpy(), full=True, **settings)
    np.testing.assert_allclose(ssim_map(x, y)[0, 0, 5:-5, 5:-5].numpy(), expected[5:-5, 5:-5], atol=1e-4)


def test_gaussian_window_by_hand():
    # e^-1/2 = .6065307 at distance 1; the sum is 2.2130613.
    assert gaussian_window(3, 1.0).tolist() == pytest.approx([0.2740686, 0.4518628, 0.2740686], abs=1e-6)
    assert gaussian_window(11, 1.5).sum().item() == pytest.approx(1, abs=1e-6)


def test_ssim_of_two_flat_images_by_hand():
    # No variance: (2 * .5 * .3 + .0001) / (.25 + .09 + .0001) = .3001 / .3401.
    x, y = torch.full((1, 1, 8, 8), 0.5), torch.full((1, 1, 8, 8), 0.3)
    np.testing.assert_allclose(ssim_map(x, y).numpy(), 0.3001 / 0.3401, atol=1e-4)


def test_ssim_at_one_pixel_by_hand():
    # A 3x3 image with 1 in the middle against 0, under a flat window: mean 1/9, mean of squares 1/9, variance 8/81.
    # SSIM at the middle = .0001 / (1/81 + .0001) * .0009 / (8/81 + .0009) = .00803491 * .00903022.
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 1
    found = ssim_map(x, torch.zeros_like(x), window=3, sigma=1e4)[0, 0, 1, 1].item()
    assert found == pytest.approx(0.00803491 * 0.00903022, rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_losses_equal_the_loops(channels):
    x, y = pair(2, channels, 8, 10, seed=4)
    a, b = x.numpy(), y.numpy()
    assert mse_loss(x, y).item() == pytest.approx(slow.mse(a, b), abs=1e-6)
    assert ssim_loss(x, y).item() == pytest.approx(slow.ssim_term(a, b, window=11, sigma=1.5), abs=1e-5)
    for weight in (0.0, 0.1, 2.0):
        settings = {"ssim_weight": weight, "window": 7, "sigma": 1.0}
        assert total_loss(x, y, **settings).item() == pytest.approx(slow.total(a, b, **settings), abs=1e-5)


def test_total_loss_by_hand():
    # (.5 - .3)^2 = .04; 1 - .3001 / .3401 = .1176125; .04 + .1 * .1176125.
    x, y = torch.full((2, 3, 8, 8), 0.5), torch.full((2, 3, 8, 8), 0.3)
    assert mse_loss(x, y).item() == pytest.approx(0.04, abs=1e-7)
    assert total_loss(x, y, ssim_weight=0.1, window=11, sigma=1.5).item() == pytest.approx(0.05176125, abs=1e-5)


def test_a_perfect_reconstruction_costs_nothing():
    x, _ = pair(2, 3, 16, 16)
    torch.testing.assert_close(ssim_map(x, x), torch.ones_like(x))
    assert total_loss(x, x, ssim_weight=0.1, window=11, sigma=1.5).item() == pytest.approx(0, abs=1e-6)


def test_ssim_is_symmetric_and_at_most_1():
    x, y = pair(2, 1, 16, 16, seed=2)
    torch.testing.assert_close(ssim_map(x, y), ssim_map(y, x))
    assert (ssim_map(x, y) <= 1 + 1e-5).all()
    assert (ssim_map(x, 1 - x) < 0.5).any()


def test_batch_and_channels_are_averaged():
    x, y = pair(4, 3, 12, 12, seed=3)
    settings = {"ssim_weight": 0.1, "window": 11, "sigma": 1.5}
    whole = total_loss(x, y, **settings)
    images = [total_loss(a[None], b[None], **settings) for a, b in zip(x, y, strict=True)]
    channels = [total_loss(x[:, c : c + 1], y[:, c : c + 1], **settings) for c in range(3)]
    torch.testing.assert_close(whole, torch.stack(images).mean())
    torch.testing.assert_close(whole, torch.stack(channels).mean())


def test_total_loss_is_32_bit_under_autocast_and_has_a_gradient():
    x, y = pair(1, 3, 16, 16)
    y = y.requires_grad_()
    settings = {"ssim_weight": 0.1, "window": 11, "sigma": 1.5}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = total_loss(x, y, **settings)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, total_loss(x, y, **settings), rtol=0, atol=0)
    inside.backward()
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().max() > 0
    assert total_loss(x.bfloat16(), y.bfloat16(), **settings).dtype == torch.float32


def test_the_gradient_of_ssim_points_towards_the_image():
    x, y = pair(1, 1, 16, 16, seed=6)
    y = y.requires_grad_()
    before = ssim_loss(x, y)
    before.backward()
    assert ssim_loss(x, y.detach() - 0.5 * y.grad) < before
