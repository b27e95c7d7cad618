"""Error maps, histogram error estimation, smoothing and score against loops, bounds and values worked by hand."""

import io
import logging
import math
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import histogram as slow
from reference import maps as slow_maps

from normbank.residual import (
    ERRORS,
    colour_error,
    correct,
    error_map,
    estimate_by_histogram,
    estimate_exact,
    finish,
    level_free_error,
    pool,
    smooth,
    squared_error,
    ssim_error,
    subtract_estimate,
)
from normbank.settings import Score


def anomaly_map(images, others, *, delta_h, bins=None):
    return finish(error_map(images, others), Score(delta_h=delta_h, bins=bins))[0]


def image_score(maps):
    return pool(maps, "sum")


SHARES = (0.0, 0.07, 0.25, 0.5, 0.75, 0.9, 0.999)


def as_map(values):
    """One map [1, 1, 1, n]."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def random_maps(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def realistic_maps(count=4, size=64):
    """Smooth small errors everywhere, noise on top, and a bright defect in all but the first."""
    rng = np.random.default_rng(31)
    rows, columns = np.mgrid[:size, :size] / size
    maps = []
    for n in range(count):
        smooth = 0.03 * (1 + np.sin(6 * rows + n) * np.cos(9 * columns))
        errors = np.abs(smooth + rng.normal(0, 0.02, (size, size)))
        if n:
            errors[10 : 10 + 5 * n, 20:40] += 0.4
        maps.append(errors)
    return torch.tensor(np.stack(maps)[:, None], dtype=torch.float32)


# --- Eq. 1 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_error_map_equals_the_loops(channels):
    x, y = random_maps(1, 2, channels, 4, 5), random_maps(2, 2, channels, 4, 5)
    expected = [[slow.error_map(a, b)] for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(error_map(x, y).numpy(), expected, atol=1e-6)


def test_error_map_by_hand():
    # Two pixels of three colours: |.5-.2|, |.1-.4|, 0 -> .6 / 3; 1, 0, 0 -> 1 / 3.
    x = torch.tensor([0.5, 1.0, 0.1, 0.0, 0.7, 0.0]).view(1, 3, 1, 2)
    y = torch.tensor([0.2, 0.0, 0.4, 0.0, 0.7, 0.0]).view(1, 3, 1, 2)
    torch.testing.assert_close(error_map(x, y), as_map([0.2, 1 / 3]))


# --- The other error maps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 9), (3, 7, 8), (4, 7, 7)])
@pytest.mark.parametrize("name", ERRORS)
def test_every_error_equals_the_loops(name, channels, height, width):
    x, y = random_maps(20, 2, channels, height, width), random_maps(21, 2, channels, height, width)
    found = ERRORS[name](x, y)
    assert found.shape == (2, 1, height, width)
    expected = [[slow_maps.MAPS[name](a, b)] for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_of_a_perfect_reconstruction_is_zero(name):
    x = random_maps(22, 2, 3, 9, 9)
    assert (ERRORS[name](x, x) == 0).all()
    flat = torch.full_like(x, 0.95)
    assert (ERRORS[name](flat, flat) == 0).all()


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_of_each_image_alone_and_not_negative(name):
    x, y = random_maps(23, 3, 3, 8, 8), random_maps(24, 3, 3, 8, 8)
    y[0] = x[0] + 1e-4 * y[0]
    whole = ERRORS[name](x, y)
    assert (whole >= 0).all()
    torch.testing.assert_close(whole, torch.cat([ERRORS[name](a[None], b[None]) for a, b in zip(x, y, strict=True)]))


@pytest.mark.parametrize("name", ["colour", "level_free", "gradient"])
def test_a_change_of_brightness_does_not_count(name):
    x, y = random_maps(25, 2, 3, 12, 12), random_maps(26, 2, 3, 12, 12)
    torch.testing.assert_close(ERRORS[name](x + 0.05, y), ERRORS[name](x, y), rtol=0, atol=1e-5)
    assert (error_map(x + 0.05, y) - error_map(x, y)).abs().mean() > 0.01


def test_squared_error_by_hand():
    # Differences .3 -.3 0 and 1 0 0: .18 / 3 and 1 / 3.
    x = torch.tensor([0.5, 1.0, 0.1, 0.0, 0.7, 0.0]).view(1, 3, 1, 2)
    y = torch.tensor([0.2, 0.0, 0.4, 0.0, 0.7, 0.0]).view(1, 3, 1, 2)
    torch.testing.assert_close(squared_error(x, y), as_map([0.06, 1 / 3]))


def test_ssim_error_by_hand():
    # Flat .5 and .3: 1 - .3001 / .3401; flat and equal: 0; the mean of the two channels.
    x = torch.full((1, 2, 8, 8), 0.5)
    y = torch.cat([x[:, :1], x[:, 1:] - 0.2], dim=1)
    np.testing.assert_allclose(ssim_error(x, y).numpy(), 0.1176125 / 2, atol=1e-5)


def test_colour_error_by_hand():
    # Everywhere .3 .0 .0 too much, the mean .1: (.2 + .1 + .1) / 3. Of equal size in all channels: 0.
    y = random_maps(27, 1, 3, 6, 6) / 2
    reddish = torch.tensor([0.3, 0.0, 0.0]).view(1, 3, 1, 1)
    np.testing.assert_allclose(colour_error(y + reddish, y).numpy(), 0.4 / 3, atol=1e-6)
    np.testing.assert_allclose(colour_error(y + 0.3, y).numpy(), 0, atol=1e-6)
    # One pixel of 25: the window of its centre holds a 25th.
    x = torch.zeros(1, 3, 9, 9)
    x[0, 0, 4, 4] = 0.75
    assert colour_error(x, torch.zeros_like(x))[0, 0, 4, 4].item() == pytest.approx(0.75 / 25 * 4 / 9, abs=1e-7)


def test_colour_error_needs_colours_and_stays_below_one():
    x, y = random_maps(28, 2, 1, 8, 8), random_maps(29, 2, 1, 8, 8)
    assert (colour_error(x, y) == 0).all()
    for channels in (2, 3, 4, 7):
        opposite = (torch.arange(channels) % 2).float().view(1, -1, 1, 1).expand(1, channels, 8, 8)
        assert 0.8 < colour_error(opposite, 1 - opposite).max() <= 1


def test_level_free_error_by_hand():
    # Differences .1 .1 .1 .5, the median .1; and of an odd number, .1 .2 .9, the median .2.
    zeros = as_map([0.0] * 4)
    torch.testing.assert_close(level_free_error(as_map([0.1, 0.1, 0.5, 0.1]), zeros), as_map([0, 0, 0.4, 0]))
    torch.testing.assert_close(level_free_error(as_map([0.9, 0.1, 0.2]), zeros[..., :3]), as_map([0.7, 0.1, 0]))
    # Of an even number the mean of the middle two: .1 .2 .4 .9 gives .3.
    found = level_free_error(as_map([0.9, 0.1, 0.4, 0.2]), zeros)
    torch.testing.assert_close(found, as_map([0.6, 0.2, 0.1, 0.1]))
    # The level is one for all channels: .3 and .1 differ by .2 from each other, .1 from it.
    x = torch.tensor([0.3, 0.1]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    np.testing.assert_allclose(level_free_error(x, torch.zeros_like(x)).numpy(), 0.1, atol=1e-7)


def test_level_free_error_of_one_pixel():
    assert level_free_error(as_map([0.7]), as_map([0.2])).item() == 0


# --- The estimate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", SHARES)
def test_exact_estimate_equals_the_loops_with_ties(share):
    maps = torch.cat([random_maps(3, 2, 1, 10, 10), (random_maps(4, 2, 1, 10, 10) * 5).floor() / 4])
    expected = [slow.exact_mu(m[0], share) for m in maps]
    assert estimate_exact(maps, share).flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert estimate_exact(maps, share).shape == (4, 1, 1, 1)


@pytest.mark.parametrize("bins", [2, 7, 64, 1024])
@pytest.mark.parametrize("share", SHARES)
def test_binned_estimate_equals_the_loops(share, bins):
    maps = random_maps(5, 3, 1, 10, 10) * torch.tensor([0.01, 1.0, 40.0]).view(3, 1, 1, 1)
    expected = [slow.binned_mu(m[0], share, bins)[0] for m in maps]
    assert estimate_by_histogram(maps, share, bins).flatten().tolist() == pytest.approx(expected, rel=1e-6)
    assert estimate_by_histogram(maps, share, bins).shape == (3, 1, 1, 1)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 64), min_size=1, max_size=40),
    st.sampled_from(SHARES),
    st.sampled_from([2, 4, 16, 64]),
)
def test_both_estimates_equal_the_loops_on_bin_edges(numerators, share, bins):
    values = [1.0, *(n / 64 for n in numerators)]  # the largest is 1: edges and values are exact in binary
    exact, binned = slow.exact_mu([values], share), slow.binned_mu([values], share, bins)[0]
    assert estimate_exact(as_map(values), share).item() == pytest.approx(exact, abs=1e-6)
    assert estimate_by_histogram(as_map(values), share, bins).item() == pytest.approx(binned, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 100, width=32), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.sampled_from([2, 5, 16, 100, 1024]),
)
def test_binned_estimate_keeps_the_documented_bound(values, share, bins):
    exact = estimate_exact(as_map(values), share).item()
    binned = estimate_by_histogram(as_map(values), share, bins).item()
    rounding = 1e-5 * max(values) + 1e-37
    assert binned >= exact - rounding
    # The bins the implementation fills in 32 bits; a value within rounding of an edge may lie on either side.
    largest = max(max(np.float32(v) for v in values), np.finfo(np.float32).tiny)
    bin_of = np.clip(np.floor(np.float32(values) / largest * np.float32(bins)), 0, bins - 1)
    count = math.ceil(share * len(values) - 1e-6)
    last = np.sort(bin_of)[count - 1]
    taken, edge = int((bin_of <= last).sum()), float((last + 1) / bins * largest)
    assert binned - exact <= (edge - exact) * (taken - count) / taken + rounding


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.9])
def test_a_thousand_bins_are_as_good_as_exact_on_error_maps(share):
    maps = realistic_maps()
    width = maps.amax(dim=(1, 2, 3)) / 1024
    exact, binned = estimate_exact(maps, share).flatten(), estimate_by_histogram(maps, share, 1024).flatten()
    assert (binned >= exact - 1e-7).all()
    assert (binned - exact < width).all()
    torch.testing.assert_close(binned, exact, rtol=0.05, atol=0)
    exact_score, binned_score = (image_score(correct(maps, mu[:, None, None, None])) for mu in (exact, binned))
    torch.testing.assert_close(binned_score, exact_score, rtol=0.03, atol=0)


def test_exact_estimate_by_hand():
    # Half of 6 is 3: the smallest are 1, 2, 2; the third 2 ties with the last of them: (1 + 2 + 2 + 2) / 4.
    assert estimate_exact(as_map([2, 9, 1, 2, 5, 2]), 0.5).item() == 1.75
    # A share of 0.4 of 6 is 2.4, rounded up to 3: the same.
    assert estimate_exact(as_map([2, 9, 1, 2, 5, 2]), 0.4).item() == 1.75
    # A share of 0.8 is 4.8, so 5: (1 + 2 + 2 + 2 + 5) / 5.
    assert estimate_exact(as_map([2, 9, 1, 2, 5, 2]), 0.8).item() == pytest.approx(2.4)


def test_binned_estimate_by_hand():
    # Four bins of width 2 to the largest, 8: [0, 2) holds 0 and 1, [2, 4) holds 2 and 3, [4, 6) 4, [6, 8] 7 and 8.
    errors = as_map([0, 1, 2, 3, 4, 7, 8])
    # 0.4 of 7 is 2.8, so 3 pixels: two bins, 4 pixels, (0 + 1 + 2 + 3) / 4. Exact: (0 + 1 + 2) / 3.
    assert estimate_by_histogram(errors, 0.4, 4).item() == 1.5
    assert estimate_exact(errors, 0.4).item() == 1.0
    # The bound: (4 - 1) * (4 - 3) / 4 = .75 >= 1.5 - 1.


@pytest.mark.parametrize(("share", "pixels", "count"), [(0.07, 100, 7), (0.29, 100, 29), (0.55, 100, 55), (0.1, 30, 3)])
def test_the_share_is_counted_in_decimals(share, pixels, count):
    # 0.07 * 100 is 7.000000000000001 in binary: not a reason to take 8.
    errors = as_map(range(pixels))
    assert estimate_exact(errors, share).item() == (count - 1) / 2
    assert estimate_by_histogram(errors, share, 4096).item() == (count - 1) / 2


@pytest.mark.parametrize("bins", [None, 2, 1024])
class TestSpecialMaps:
    def mu(self, errors, share, bins):
        return estimate_exact(errors, share) if bins is None else estimate_by_histogram(errors, share, bins)

    def test_share_zero_is_no_estimate(self, bins):
        images, others = random_maps(6, 2, 3, 8, 8), random_maps(7, 2, 3, 8, 8)
        assert (self.mu(error_map(images, others), 0.0, bins) == 0).all()
        found = anomaly_map(images, others, delta_h=0.0, bins=bins)
        torch.testing.assert_close(found, error_map(images, others), rtol=0, atol=0)

    @pytest.mark.parametrize("share", SHARES[1:])
    def test_constant_map(self, bins, share):
        errors = torch.full((2, 1, 8, 8), 0.375)
        assert (self.mu(errors, share, bins) == 0.375).all()
        assert (correct(errors, self.mu(errors, share, bins)) == 0).all()

    @pytest.mark.parametrize("share", SHARES)
    def test_all_zeros(self, bins, share):
        images = random_maps(8, 2, 3, 8, 8)
        assert (self.mu(torch.zeros(2, 1, 8, 8), share, bins) == 0).all()
        found = anomaly_map(images, images, delta_h=share, bins=bins)
        assert (found == 0).all()
        assert (image_score(found) == 0).all()

    @pytest.mark.parametrize("share", [0.9999, 1.0])
    def test_share_of_the_whole_is_the_mean(self, bins, share):
        errors = random_maps(9, 3, 1, 8, 8)
        torch.testing.assert_close(self.mu(errors, share, bins).flatten(), errors.mean(dim=(1, 2, 3)))

    def test_each_image_alone(self, bins):
        errors = realistic_maps()
        parts = torch.cat([self.mu(m[None], 0.5, bins) for m in errors])
        torch.testing.assert_close(self.mu(errors, 0.5, bins), parts)

    def test_order_of_pixels_does_not_matter(self, bins):
        errors = (realistic_maps() * 100).round() / 100
        torch.testing.assert_close(self.mu(errors.flip(2, 3), 0.5, bins), self.mu(errors, 0.5, bins))

    def test_scales_with_the_errors(self, bins):
        errors = realistic_maps()
        torch.testing.assert_close(self.mu(4 * errors, 0.5, bins), 4 * self.mu(errors, 0.5, bins))

    def test_one_pixel(self, bins):
        assert self.mu(as_map([0.5]), 0.5, bins).item() == 0.5


# --- Eq. 6 and the score ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", [None, 16])
@pytest.mark.parametrize("share", SHARES)
def test_anomaly_map_and_score_equal_the_loops(share, bins):
    x, y = random_maps(10, 2, 3, 6, 7), random_maps(11, 2, 3, 6, 7)
    found = anomaly_map(x, y, delta_h=share, bins=bins)
    assert found.shape == (2, 1, 6, 7)
    for n in range(2):
        errors = slow.error_map(x[n], y[n])
        mu = slow.exact_mu(errors, share) if bins is None else slow.binned_mu(errors, share, bins)[0]
        corrected, score = slow.corrected(errors, mu)
        np.testing.assert_allclose(found[n, 0].numpy(), corrected, atol=2e-6)
        assert image_score(found)[n].item() == pytest.approx(score, abs=1e-4)


def test_correction_and_score_by_hand():
    # mu = (1 + 2) / 2 = 1.5 for half of 4: 0, .5, 2.5, 4.5; the sum is 7.5.
    errors = as_map([1, 2, 4, 6])
    found = correct(errors, estimate_exact(errors, 0.5))
    torch.testing.assert_close(found, as_map([0, 0.5, 2.5, 4.5]))
    assert image_score(found).tolist() == [7.5]


def test_score_is_raw():
    assert image_score(torch.full((1, 1, 64, 64), 2.0)).tolist() == [2.0 * 64 * 64]


# --- Smoothing, pooling, and all of it -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 3, 5, 11])
def test_smoothing_equals_the_loops(side):
    maps = random_maps(30, 2, 1, 6, 7)
    expected = [[slow_maps.smoothed(m[0], side)] for m in maps]
    np.testing.assert_allclose(smooth(maps, side).numpy(), expected, atol=1e-6)


def test_smoothing_by_hand():
    # 9 in the corner of a 3 x 3 map, repeated outwards: four of nine pixels there, two beside it, one in the middle.
    maps = torch.zeros(1, 1, 3, 3)
    maps[..., 0, 0] = 9
    torch.testing.assert_close(smooth(maps, 3)[0, 0], torch.tensor([[4.0, 2, 0], [2, 1, 0], [0, 0, 0]]))
    assert smooth(maps, 1) is maps


@pytest.mark.parametrize("how", ["sum", "mean", "max", "top"])
@pytest.mark.parametrize("share", [1e-9, 0.01, 0.07, 0.5, 1.0])
def test_pooling_equals_the_loops(how, share):
    maps = random_maps(31, 3, 1, 10, 10)
    expected = [slow_maps.pooled(m[0], how, share) for m in maps]
    assert pool(maps, how, share).tolist() == pytest.approx(expected, rel=1e-6)


def test_pooling_by_hand():
    maps = as_map([4, 1, 3, 2])
    assert [pool(maps, how, 0.5).item() for how in ("sum", "mean", "max", "top")] == [10, 2.5, 4, 3.5]
    assert pool(maps, "top", 0.51).item() == 3.0  # three of four
    assert pool(maps, "top").item() == 4.0


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match=r"^how: expected sum, mean, max or top, got 'median'$"):
        pool(as_map([1.0]), "median")


def test_the_default_score_is_the_papers():
    x, y = random_maps(32, 3, 3, 8, 8), random_maps(33, 3, 3, 8, 8)
    for score in (Score(), Score(bins=64), Score(delta_h=0), Score(smooth_first=True)):
        maps, scores = finish(error_map(x, y), score)
        expected = subtract_estimate(error_map(x, y), delta_h=score.delta_h, bins=score.bins)
        torch.testing.assert_close(maps, expected, rtol=0, atol=0)
        torch.testing.assert_close(scores, image_score(expected), rtol=0, atol=0)


@pytest.mark.parametrize("bins", [None, 16])
@pytest.mark.parametrize("smooth_first", [False, True])
@pytest.mark.parametrize("how", ["sum", "top"])
@pytest.mark.parametrize("delta_h", [0.0, 0.5])
def test_finish_equals_the_loops(bins, smooth_first, how, delta_h):
    score = Score(bins=bins, smooth=3, smooth_first=smooth_first, pool=how, top_share=0.1, delta_h=delta_h)
    errors = random_maps(34, 2, 1, 7, 8)
    maps, scores = finish(errors, score)
    for n in range(2):
        expected, value = slow_maps.finished(errors[n, 0], score)
        np.testing.assert_allclose(maps[n, 0].numpy(), expected, atol=2e-6)
        assert scores[n].item() == pytest.approx(value, rel=1e-5)


def test_the_order_of_smoothing_by_hand():
    # One row 0 0 3 0 0 0, half of it 0. Smoothed first: 0 1 1 1 0 0, of which the three smallest, 0 0 0, take nothing.
    # With a share of .9 all six count: before smoothing mu = .5 leaves 2.5, smoothed 2.5 / 3; after it mu = .5
    # leaves .5 three times.
    errors = as_map([0, 0, 3, 0, 0, 0])
    for first, found in ((False, [0, 2.5 / 3, 2.5 / 3, 2.5 / 3, 0, 0]), (True, [0, 0.5, 0.5, 0.5, 0, 0])):
        maps, scores = finish(errors, Score(smooth=3, smooth_first=first, delta_h=0.9))
        torch.testing.assert_close(maps, as_map(found))
        assert scores.item() == pytest.approx(sum(found))


SCORES = (
    Score(),
    Score(smooth=5, pool="top", top_share=0.03),
    Score(smooth=5, smooth_first=True, bins=64, pool="max"),
    Score(smooth=21, delta_h=0, pool="mean"),
)


class Everything(torch.nn.Module):
    """All error maps, then gradient error finished in each way."""

    def forward(self, images, reconstructions):
        maps = {name: error(images, reconstructions) for name, error in ERRORS.items()}
        finished = [finish(maps["gradient"], score) for score in SCORES]
        return *maps.values(), *(tensor for pair in finished for tensor in pair)


@pytest.mark.slow  # the graphs of detectors, which hold the same equations, are compared in test_export
def test_the_exported_graph_agrees():
    shape = (3, 15, 15)  # an odd side is repeated before it is halved
    example = random_maps(35, 2, *shape), random_maps(38, 2, *shape)
    count = {0: torch.export.Dim("N", min=1)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = {"images": count, "reconstructions": count}
        program = torch.onnx.export(Everything(), example, dynamo=True, dynamic_shapes=shapes, verbose=False)
        onnx.save_model(program.model_proto, buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    noise, bright = random_maps(36, 5, *shape), 0.9 + 0.004 * random_maps(37, 1, *shape)
    for x, y in ((noise, noise.flip(3)), (bright, bright.flip(3)), (bright, bright)):
        found = session.run(None, {"images": x.numpy(), "reconstructions": y.numpy()})
        for a, b in zip(found, Everything()(x, y), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)
