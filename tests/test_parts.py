"""What the anomaly map is made of: each part against loops and by hand, and their sum in the detector's graph."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from reference import maps as slow_maps
from reference import parts as slow
from tiny import tiny_config
from torch import Tensor, nn

from normbank import residual
from normbank.export import DetectorGraph
from normbank.images import ImageSpec
from normbank.model.memory import NoMemory, Recall
from normbank.model.network import Network, build
from normbank.model.parts import PARTS, View, latent_distance, memory_distance
from normbank.model.unet import Reading
from normbank.settings import Part

EVERY = {
    "model__head_width": 2,
    "train__corrupt": 0.5,
    "model__critic_width": 2,
    "model__bank": 192,
    "model__patches": 50,
}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def network(**settings: object) -> Network:
    torch.manual_seed(0)
    net = build(tiny_config(**settings), 3).eval()
    if net.bank is not None:
        net.bank.learn([drawn(7, 4, 3, 32, 32)], 4)
    return net


def view(net: Network | None = None, seed: int = 1, size: int = 32) -> View:
    """Random images and what the network makes of them; another random image as reconstruction."""
    images = drawn(seed, 2, 3, size, size)
    with torch.no_grad():
        reading = (net or network())(images)
    return View(images, drawn(seed + 100, 2, 3, size, size), reading, net or network(), images)


def remembered(size: int, *levels: tuple[Tensor, Tensor, bool]) -> View:
    """A view of size x size images with these (query, read, whether a memory stands there)."""
    recalls = tuple(Recall(read, torch.ones(1) if stands else None, read) for _, read, stands in levels)
    images = torch.zeros(len(levels[0][0]), 1, size, size)
    return View(
        images, images, Reading(images, tuple(q for q, _, _ in levels), recalls), Network(nn.Identity()), images
    )


def test_the_parts_are_those_that_settings_can_name() -> None:
    assert list(PARTS) == list(get_args(Part))
    assert set(residual.ERRORS) <= set(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_one_map_an_image_of_its_own(name: str) -> None:
    net = network(**EVERY)
    whole = view(net)
    with torch.no_grad():
        maps = PARTS[name](whole)
        alone = [
            PARTS[name](View(x[None], y[None], net(x[None]), net, x[None]))
            for x, y in zip(whole.images, whole.reconstructions, strict=True)
        ]
    assert maps.shape == (2, 1, 32, 32)
    assert maps.dtype == torch.float32
    assert (maps >= 0).all()
    assert torch.isfinite(maps).all()
    torch.testing.assert_close(maps, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", residual.ERRORS)
def test_error_parts_are_those_of_image_and_reconstruction(name: str) -> None:
    seen = view()
    found = PARTS[name](seen)
    torch.testing.assert_close(found, residual.ERRORS[name](seen.images, seen.reconstructions), rtol=0, atol=0)
    expected = slow_maps.MAPS[name](seen.images[1], seen.reconstructions[1])
    np.testing.assert_allclose(found[1, 0].numpy(), np.array(expected), atol=5e-5)


# --- The distance from the memory ------------------------------------------------------------------------------------


def test_memory_distance_by_hand() -> None:
    # Cosines of (3, 4) with (6, 8), (4, -3), (-3, -4) and (5, 0): 1, 0, -1 and .6.
    query = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    read = torch.tensor([[[6.0, 4.0], [-3.0, 5.0]], [[8.0, -3.0], [-4.0, 0.0]]])[None]
    found = memory_distance(remembered(2, (query, read, True)))
    assert found.flatten().tolist() == pytest.approx([0, 1, 2, 0.4], abs=1e-6)
    # A second level of one pixel, cosine .6: .4 everywhere, and the mean of both. One without a memory does not count.
    low = (torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1), torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1), True)
    raw = (query, 7 - read, False)
    found = memory_distance(remembered(2, (query, read, True), raw, low))
    assert found.flatten().tolist() == pytest.approx([0.2, 0.7, 1.2, 0.4], abs=1e-6)


def test_memory_distance_equals_the_loops() -> None:
    levels = [(drawn(s, 2, 3, 16 >> s, 16 >> s) - 0.3, drawn(s + 9, 2, 3, 16 >> s, 16 >> s) - 0.3) for s in range(3)]
    found = memory_distance(remembered(16, *((q, r, s != 1) for s, (q, r) in enumerate(levels))))
    for image in range(2):
        queries, reads = ([levels[s][side][image] for s in (0, 2)] for side in (0, 1))
        np.testing.assert_allclose(found[image, 0].numpy(), slow.memory_distance(queries, reads, 16), atol=2e-6)


def test_memory_distance_asks_the_network_s_own_memories() -> None:
    net = network(model__memory_at=(1, 3), model__partitions=(4, 2))
    seen = view(net)
    assert isinstance(net.autoencoder.memories[1], NoMemory)
    places = [0, 2]
    queries = [seen.reading.queries[place] for place in places]
    with torch.no_grad():
        reads = [net.autoencoder.memories[place](q).read for place, q in zip(places, queries, strict=True)]
    found = memory_distance(seen)
    for image in range(2):
        expected = slow.memory_distance([q[image] for q in queries], [r[image] for r in reads], 32)
        np.testing.assert_allclose(found[image, 0].numpy(), expected, atol=2e-6)


def test_a_read_of_nothing_is_one_away_and_one_s_own_features_are_not_below_0() -> None:
    query = drawn(3, 1, 50, 8, 8)
    assert torch.equal(memory_distance(remembered(8, (query, torch.zeros_like(query), True))), torch.ones(1, 1, 8, 8))
    same = memory_distance(remembered(8, (query, query, True)))
    assert same.min() >= 0
    assert same.max() < 1e-6
    assert torch.equal(memory_distance(remembered(8, (0 * query, 0 * query, True))), torch.ones(1, 1, 8, 8))


# --- The critic's distance, the head's probability -------------------------------------------------------------------


class Doubled(nn.Module):
    """A critic whose features are the means of 2 x 2 pixels, once as they are and once times three."""

    def features(self, images: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(images, 2)
        return torch.cat([small, 3 * small], dim=1)


def test_latent_distance_by_hand() -> None:
    # One pixel of the features is .5 apart, three times as much in the second channel: (.5 + 1.5) / 2 = 1 there, 0 in
    # the other. Full size, linearly between the centres at .5 and 2.5: 1, .75, .25, 0 along the row.
    net = Network(nn.Identity(), critic=Doubled())  # type: ignore[arg-type]
    image, other = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    image[..., :2] = 0.5
    found = latent_distance(View(image, other, Reading(image, (), ()), net, image))
    assert found.shape == (1, 1, 2, 4)
    assert found[0, 0].flatten().tolist() == pytest.approx([1, 0.75, 0.25, 0] * 2, abs=1e-6)


def test_latent_distance_equals_the_loops() -> None:
    net = network(**EVERY)
    seen = view(net)
    assert net.critic is not None
    with torch.no_grad():
        a, b = net.critic.features(seen.images), net.critic.features(seen.reconstructions)
        found = latent_distance(seen)
    for image in range(2):
        np.testing.assert_allclose(found[image, 0].numpy(), slow.latent_distance(a[image], b[image], 32), atol=2e-6)
    same = View(seen.images, seen.images, seen.reading, net, seen.images)
    assert (latent_distance(same) == 0).all()


def test_head_probability_by_hand() -> None:
    net = network(**EVERY)
    assert net.head is not None
    with torch.no_grad():
        net.head.network.head.weight.zero_()
        net.head.network.head.bias.fill_(math.log(3))
        assert view(net).head.flatten().tolist() == pytest.approx([0.75] * 2048, abs=1e-6)


def test_head_probability_is_of_the_head_s_logits_on_image_and_reconstruction() -> None:
    net = network(**EVERY)
    seen = view(net)
    assert net.head is not None
    with torch.no_grad():
        logits = net.head(seen.images, seen.reconstructions)
        expected = [1 / (1 + math.exp(-value)) for value in logits.flatten().tolist()]
        assert seen.head.flatten().tolist() == pytest.approx(expected, abs=1e-6)
        other = replace(seen, reconstructions=seen.images).head
    assert not torch.equal(other, seen.head)


# --- Head and bank together ------------------------------------------------------------------------------------------


def test_marked_is_the_product_of_head_and_bank_by_hand() -> None:
    torch.manual_seed(0)
    net = build(tiny_config(data__size=64, model__network_size=32, **EVERY), 3).eval()
    assert net.bank is not None
    net.bank.learn([drawn(7, 4, 3, 64, 64)], 4)
    whole = drawn(3, 2, 3, 64, 64)
    small = whole.reshape(2, 3, 32, 2, 32, 2).mean(dim=(3, 5))
    with torch.no_grad():
        seen = View(small, drawn(4, 2, 3, 32, 32), net(small), net, whole)
        found, head, bank = (PARTS[name](seen) for name in ("marked", "head", "bank"))
    assert (found.shape, head.shape, bank.shape) == ((2, 1, 64, 64), (2, 1, 32, 32), (2, 1, 64, 64))
    for image, row, column in ((0, 0, 0), (1, 17, 40), (1, 63, 63)):
        expected = slow.value_at(head[image, 0].tolist(), 2, row, column) * bank[image, 0, row, column].item()
        assert found[image, 0, row, column].item() == pytest.approx(expected, abs=1e-6)


def test_what_two_parts_look_at_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, asked = network(**EVERY), []
    seen = view(net)
    monkeypatch.setattr(net.bank, "forward", lambda images: asked.append("bank") or torch.ones(2, 1, 8, 8))
    monkeypatch.setattr(net.head, "forward", lambda *_: asked.append("head") or torch.zeros(2, 1, 32, 32))
    maps = [PARTS[name](seen) for name in ("head", "bank", "marked")]
    assert asked == ["head", "bank"]
    assert [one.unique().tolist() for one in maps] == [[0.5], [0.5], [0.25]]


# --- Their sum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_the_graph_adds_weighted_parts_of_the_clamped_reconstruction(output: str) -> None:
    names, weights = ("squared", "level_free", "memory", "latent", "head"), (2.0, 0.5, 0.25, 3.0, 0.0)
    config = tiny_config(
        **EVERY, model__output=output, score__parts=names, score__weights=weights, score__smooth=3, score__pool="max"
    )
    torch.manual_seed(0)
    net = build(config, 3).eval()
    pixels = (255 * drawn(5, 2, 32, 32, 3)).to(torch.uint8)
    with torch.no_grad():
        graph = DetectorGraph(net, config, ImageSpec(32, 3, 8, "stretch")).eval()
        score, finished, reconstruction, parts = graph(pixels)
        x = pixels.permute(0, 3, 1, 2) / 255
        reading = net(x)
        seen = View(x, reading.reconstruction.clamp(0, 1), reading, net, x)
        expected = [weight * PARTS[name](seen) for name, weight in zip(names, weights, strict=True)]
    assert torch.equal(reconstruction, seen.reconstructions.permute(0, 2, 3, 1))
    if output == "linear":
        assert reading.reconstruction.min() < 0  # so that the clamping shows
    torch.testing.assert_close(parts, torch.cat(expected, dim=1))
    total, pooled = residual.finish(sum(expected, torch.zeros(2, 1, 32, 32)), config.score)
    torch.testing.assert_close(finished, total)
    torch.testing.assert_close(score, pooled)
    for image in range(2):
        added = sum(part[image, 0].double().numpy() for part in expected)
        map_, number = slow_maps.finished(added.tolist(), config.score)
        np.testing.assert_allclose(finished[image, 0].numpy(), map_, atol=1e-5)
        assert score[image].item() == pytest.approx(number, abs=1e-5)


def test_a_network_that_sees_half_gives_maps_of_the_whole() -> None:
    """By hand but for the parts: the network sees means of 2 x 2 pixels, the bank every pixel."""
    names, weights = ("squared", "bank"), (2.0, 0.5)
    config = tiny_config(
        data__size=64, model__network_size=32, model__bank=192, score__parts=names, score__weights=weights
    )
    torch.manual_seed(0)
    net = build(config, 3).eval()
    assert net.bank is not None
    net.bank.learn([drawn(7, 4, 3, 64, 64)], 4)
    pixels = (255 * drawn(5, 2, 64, 64, 3)).to(torch.uint8)
    with torch.no_grad():
        graph = DetectorGraph(net, config, ImageSpec(64, 3, 8, "stretch")).eval()
        score, finished, reconstruction, parts = graph(pixels)
        whole = pixels.permute(0, 3, 1, 2) / 255
        x = whole.reshape(2, 3, 32, 2, 32, 2).mean(dim=(3, 5))
        made = net(x).reconstruction.clamp(0, 1)
        squared = nn.functional.interpolate(((x - made) ** 2).mean(dim=1, keepdim=True), size=(64, 64), mode="bilinear")
        far = net.bank(whole)
    assert far.shape == (2, 1, 8, 8)
    bank = nn.functional.interpolate(far / (1 + far), size=(64, 64), mode="bilinear")
    torch.testing.assert_close(parts, torch.cat([2 * squared, 0.5 * bank], dim=1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(finished, residual.finish(2 * squared + 0.5 * bank, config.score)[0])
    assert score.shape == (2,)
    expected = nn.functional.interpolate(made, size=(64, 64), mode="bilinear").permute(0, 2, 3, 1)
    torch.testing.assert_close(reconstruction, expected, rtol=1e-4, atol=1e-6)
