"""Structural and gradient similarity against loops, scikit-image and values worked by hand."""

import numpy as np
import pytest
import torch
from reference import similarity as slow
from reference import ssim as slow_ssim
from skimage.metrics import structural_similarity

from normbank.similarity import (
    edge_image,
    gaussian_window,
    gradient_differences,
    gradient_error,
    gradient_magnitude,
    ssim_difference,
)


def ssim_map(x, y, **more):
    return 1 - ssim_difference(x, y, **more)


def gradient_similarity(x, y, scales=3):
    return [1 - difference for difference in gradient_differences(x, y, scales)]


def pair(*shape, seed=0):
    """An image batch in [0, 1] and a noisy copy."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator)
    return x, (x + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)


def step(height, width, low=0.0, high=1.0):
    """[1, 1, height, width]: `low` in the left half, `high` in the right."""
    x = torch.full((1, 1, height, width), float(low))
    x[..., width // 2 :] = high
    return x


# --- SSIM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (3, 1.0), (7, 5.0)])
def test_ssim_equals_the_loops_at_every_pixel(window, sigma):
    x, y = pair(2, 2, 9, 12)
    found = ssim_map(x, y, window=window, sigma=sigma)
    assert found.shape == x.shape
    for n, c in np.ndindex(2, 2):
        expected = slow_ssim.ssim_map(x[n, c].numpy(), y[n, c].numpy(), window=window, sigma=sigma)
        np.testing.assert_allclose(found[n, c].numpy(), expected, atol=2e-6)


def test_ssim_equals_scikit_image_away_from_the_border():
    x, y = pair(1, 1, 40, 40)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, expected = structural_similarity(x[0, 0].double().numpy(), y[0, 0].double().numpy(), full=True, **settings)
    np.testing.assert_allclose(ssim_map(x, y)[0, 0, 5:-5, 5:-5].numpy(), expected[5:-5, 5:-5], atol=2e-6)


def test_gaussian_window_by_hand():
    # e^-1/2 = .6065307 at distance 1; the sum is 2.2130613.
    assert gaussian_window(3, 1.0).tolist() == pytest.approx([0.2740686, 0.4518628, 0.2740686], abs=1e-6)
    assert gaussian_window(11, 1.5).sum().item() == pytest.approx(1, abs=1e-6)


def test_ssim_of_two_flat_images_by_hand():
    # No variance: (2 * .5 * .3 + .0001) / (.25 + .09 + .0001) = .3001 / .3401.
    x, y = torch.full((1, 1, 8, 8), 0.5), torch.full((1, 1, 8, 8), 0.3)
    np.testing.assert_allclose(ssim_map(x, y).numpy(), 0.3001 / 0.3401, atol=1e-5)


def test_ssim_at_one_pixel_by_hand():
    # A 3x3 image with 1 in the middle against 0, under a flat window: mean 1/9, mean of squares 1/9, variance 8/81.
    # SSIM at the middle = .0001 / (1/81 + .0001) * .0009 / (8/81 + .0009) = .00803491 * .00903022.
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 1
    found = ssim_map(x, torch.zeros_like(x), window=3, sigma=1e4)[0, 0, 1, 1].item()
    assert found == pytest.approx(0.00803491 * 0.00903022, abs=1e-7)


def test_ssim_is_symmetric_and_at_most_1():
    x, y = pair(2, 1, 16, 16, seed=2)
    torch.testing.assert_close(ssim_map(x, y), ssim_map(y, x))
    assert (ssim_map(x, y) <= 1 + 1e-5).all()
    assert (ssim_map(x, 1 - x) < 0.5).any()


@pytest.mark.parametrize(("base", "contrast"), [(0.99, 0.002), (0.9, 0.02), (0.4, 0.002), (0.9, 0.0)])
def test_ssim_keeps_its_digits_in_bright_flat_images(base, contrast):
    x, y = (base + contrast * image for image in pair(1, 1, 12, 12, seed=5))
    expected = slow_ssim.ssim_map(x[0, 0].double().numpy(), y[0, 0].double().numpy(), window=11, sigma=1.5)
    np.testing.assert_allclose(ssim_map(x, y)[0, 0].numpy(), expected, atol=1e-5)


def test_an_image_does_not_differ_from_itself():
    x, _ = pair(2, 3, 10, 11)
    assert (ssim_difference(x, x) == 0).all()


# --- Edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (2, 3)])
def test_magnitude_equals_the_loops(height, width):
    x, _ = pair(2, 3, height, width)
    expected = [[slow.magnitudes(channel) for channel in image.tolist()] for image in x]
    np.testing.assert_allclose(gradient_magnitude(x).numpy(), expected, atol=2e-6)


def test_magnitude_by_hand():
    # A step of .6 between columns 1 and 2 is seen from both: neighbours 0 and .6. Down nothing changes.
    row = torch.tensor([0, 0.6, 0.6, 0])
    torch.testing.assert_close(gradient_magnitude(step(3, 4, 0, 0.6))[0, 0], row.expand(3, 4), rtol=0, atol=2e-6)
    # One white pixel in a corner, seen from the middle: 1/3 across, 1/3 down, sqrt(2)/3 together.
    x = torch.zeros(1, 1, 3, 3)
    x[..., 2, 2] = 1
    assert gradient_magnitude(x)[0, 0, 1, 1].item() == pytest.approx(0.4714045, abs=1e-6)


def test_the_strongest_edge():
    # Right 1 1 1 and left 0 0 0: 1 across. Below 0 1 1 and above 0 0 1: 1/3 down. Together sqrt(10)/3, and no image
    # of black and white has more.
    x = torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 1, 1]])[None, None]
    assert gradient_magnitude(x)[0, 0, 1, 1].item() == pytest.approx(np.sqrt(10) / 3, abs=1e-6)
    every = torch.tensor(list(np.ndindex(*[2] * 9)), dtype=torch.float32).view(-1, 1, 3, 3)
    assert gradient_magnitude(every).max().item() == pytest.approx(np.sqrt(10) / 3, abs=1e-6)


def test_the_border_is_no_edge():
    flat = torch.full((1, 3, 8, 8), 0.9)
    assert edge_image(flat).max() < 1e-5
    edges = edge_image(step(8, 8, 0.2, 0.9))
    assert edges[..., [0, 1, 2, 5, 6, 7]].max() < 1e-5


def test_edge_image_by_hand():
    # Steps of .1 and .25 are doubled; one of .5 and one of .9 are both 1.
    steps = torch.cat([step(4, 4, 0, height) for height in (0.1, 0.25, 0.5, 0.9)], dim=1)
    found = edge_image(steps)
    assert found.shape == steps.shape
    assert found[0, :, 2, 1].tolist() == pytest.approx([0.2, 0.5, 1, 1], abs=1e-5)


def test_edges_forget_the_level_and_keep_the_channels_apart():
    x, y = pair(1, 2, 8, 8)
    torch.testing.assert_close(edge_image(x * 0.5 + 0.3), edge_image(x * 0.5), rtol=0, atol=1e-5)
    mixed = torch.cat([x[:, :1], y[:, 1:]], dim=1)
    torch.testing.assert_close(edge_image(mixed)[:, 0], edge_image(x)[:, 0])


# --- Gradient similarity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width", "scales"), [(8, 12, 3), (9, 7, 3), (8, 8, 1), (5, 6, 4)])
def test_gradient_error_equals_the_loops(channels, height, width, scales):
    x, y = pair(2, channels, height, width, seed=1)
    found = gradient_error(x, y, scales=scales)
    assert found.shape == (2, 1, height, width)
    expected = [[slow.gradient_error(a, b, scales)] for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_gradient_similarity_equals_the_loops():
    x, y = pair(2, 3, 10, 7, seed=2)
    maps = gradient_similarity(x, y, scales=3)
    assert [tuple(m.shape) for m in maps] == [(2, 1, 10, 7), (2, 1, 5, 4), (2, 1, 3, 2)]
    for n in range(2):
        a, b = x[n].tolist(), y[n].tolist()
        for found in maps:
            np.testing.assert_allclose(found[n, 0].numpy(), slow.similarity(a, b), atol=2e-6)
            a, b = [slow.halved(c) for c in a], [slow.halved(c) for c in b]


def test_gradient_similarity_by_hand():
    # Edges of 1 and 0: c / (1 + c). Edges of 1 and .5: (1 + c) / (1.25 + c).
    whole, half, none = step(4, 4), step(4, 4, 0.25, 0.75), torch.full((1, 1, 4, 4), 0.5)
    c = 0.0026
    (found,) = gradient_similarity(whole, none, scales=1)
    assert found[0, 0, 1].tolist() == pytest.approx([1, c / (1 + c), c / (1 + c), 1], abs=1e-5)
    (found,) = gradient_similarity(whole, half, scales=1)
    assert found[0, 0, 1].tolist() == pytest.approx([1, (1 + c) / (1.25 + c), (1 + c) / (1.25 + c), 1], abs=1e-5)


def test_gradient_error_by_hand():
    # 0000 1111 against grey, k = 1 / 1.0026. Full size: 000k k000. Half: 0011, so 0kk0, which between the centres is
    # 0, k/4, 3k/4, k, k, 3k/4, k/4, 0. The mean of both:
    k = 1 / 1.0026
    expected = [0, k / 8, 3 * k / 8, k, k, 3 * k / 8, k / 8, 0]
    found = gradient_error(step(8, 8), torch.full((1, 1, 8, 8), 0.5), scales=2)
    np.testing.assert_allclose(found[0, 0].numpy(), np.tile(expected, (8, 1)), atol=1e-5)


def test_equal_images_have_no_error_and_none_leaves_the_range():
    x, y = pair(3, 3, 16, 16, seed=3)
    assert (gradient_error(x, x) == 0).all()
    assert (gradient_error(x, x * 0 + 0.3) <= 1).all()
    torch.testing.assert_close(gradient_error(x, y), gradient_error(y, x))
    extreme = (x > 0.5).float()
    assert 0 <= gradient_error(extreme, 1 - extreme.flip(3)).min() <= gradient_error(extreme, y).max() <= 1


def test_gradient_error_does_not_see_brightness():
    x, y = pair(1, 3, 16, 16, seed=4)
    torch.testing.assert_close(gradient_error(x, y + 0.2), gradient_error(x, y), rtol=0, atol=1e-5)


def test_each_image_and_channel_alone():
    x, y = pair(3, 3, 9, 9, seed=6)
    whole = gradient_error(x, y)
    torch.testing.assert_close(whole, torch.cat([gradient_error(a[None], b[None]) for a, b in zip(x, y, strict=True)]))
    channels = [gradient_error(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]
    torch.testing.assert_close(whole, torch.stack(channels).mean(dim=0))


def test_the_mean_error_is_that_of_the_scales():
    # So a loss needs no enlarging where the size can be halved: linear interpolation keeps the mean.
    x, y = pair(2, 3, 16, 24, seed=7)
    scales = torch.stack([1 - m.mean() for m in gradient_similarity(x, y)])
    torch.testing.assert_close(gradient_error(x, y).mean(), scales.mean())


@pytest.mark.parametrize("case", ["both flat", "flat reconstruction", "equal", "different"])
def test_the_gradient_is_finite(case):
    x, y = pair(1, 3, 12, 12, seed=8)
    flat = torch.full_like(x, 0.5)
    x, y = {"both flat": (flat, flat), "flat reconstruction": (x, flat), "equal": (x, x), "different": (x, y)}[case]
    y = y.clone().requires_grad_()
    gradient_error(x, y).mean().backward()
    assert torch.isfinite(y.grad).all()
    assert (y.grad.abs().max() > 0) == (case == "different")


def test_the_gradient_is_that_of_differences():
    x, y = (image.double() for image in pair(1, 1, 6, 5, seed=9))
    torch.autograd.gradcheck(lambda z: gradient_error(x, z), y.requires_grad_())


def test_following_the_gradient_helps():
    x, y = pair(1, 1, 16, 16, seed=10)
    y = y.requires_grad_()
    before = gradient_error(x, y).mean()
    before.backward()
    assert gradient_error(x, y.detach() - 0.5 * y.grad).mean() < before
