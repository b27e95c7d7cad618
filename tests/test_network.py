"""The parts of the network and their wiring, and every baseline from its preset to the detector file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import convolution as slow
from reference.similarity import gradient_error, magnitudes
from test_batches import images
from tiny import SETTINGS
from torch import Tensor, nn

from normbank.batches import as_batches
from normbank.calibration import Calibration
from normbank.config import Config, override
from normbank.detector import Detector
from normbank.export import DetectorGraph, make_bundle
from normbank.images import ImageSpec
from normbank.model.baselines import BlockMemory, MovedMemory, VectorMemory
from normbank.model.bergmann import ConvolutionalAutoencoder
from normbank.model.memories import make_memories
from normbank.model.memory import CutLink, NoMemory, PartitionMemoryBank
from normbank.model.network import Critic, Head, Network, build, size_in_graph
from normbank.presets import preset
from normbank.progress import Progress
from normbank.training import Trained, optimise

TINY = {name: value for name, value in SETTINGS.items() if name.partition(".")[0] == "train"} | {
    "data.size": 32,
    "train.steps": 2,
}
WIDTHS = (4, 6, 6, 8, 10)
BASELINES: dict[str, dict[str, Any]] = {
    "ae-l2": {"model.latent": 6},
    "ae-ssim": {"model.latent": 6},
    "ae-skip": {},
    "memae": {"model.items": (7,)},
    "mnad": {"model.items": (5,)},
    "daad": {"model.partitions": (8, 4, 2, 2), "model.items": (6, 6, 6, 6)},
    "daad-plus": {"model.partitions": (8, 4, 2, 2), "model.items": (6, 6, 6, 6), "model.critic_width": 4},
}
PAPER = {"model.partitions": (8, 4, 2, 2), "model.items": (5, 5, 5, 5)}
BANKED = {"data.size": 64, "model.network_size": 32, "model.partitions": (1, 1, 1, 1)}  # `small`'s
WHOLE = {  # everything that can be switched on, on the paper's memory
    "model.memory_levels": 2,
    "model.partitions": (4, 4),
    "model.items": (5, 5),
    "model.edges": True,
    "model.head_width": 4,
    "train.corrupt": 0.5,
    "train.jitter": 0.05,
    "train.gradient_weight": 0.3,
    "score.parts": ("absolute", "gradient", "colour", "level_free", "memory", "head"),
    "score.weights": (1.0, 0.5, 1.0, 0.5, 0.2, 0.3),
    "score.smooth": 5,
    "score.pool": "top",
}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def small(name: str, **more: Any) -> Config:
    """A preset with its methods but few channels, items and pixels."""
    changes = {"model.widths": WIDTHS, **BASELINES.get(name, PAPER), **TINY}
    return override(preset(name), {**changes, **{key.replace("__", "."): value for key, value in more.items()}})


def made(config: Config, channels: int = 3) -> Network:
    torch.manual_seed(0)
    return build(config, channels).eval()


# --- The autoencoder of AE-L2 and AE-SSIM ----------------------------------------------------------------------------

# Their table for 128 pixels: kernel, stride, channels; then 8 x 8 without padding to the latent values.
TABLE = [(4, 2, 32), (4, 2, 32), (3, 1, 32), (4, 2, 64), (3, 1, 64), (4, 2, 128), (3, 1, 64), (3, 1, 32)]


def shape_of(layer: nn.Module) -> tuple[int, ...]:
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    return (layer.in_channels, layer.out_channels, *layer.kernel_size, *layer.stride, *map(int, layer.padding))


@pytest.mark.parametrize(("latent", "channels"), [(100, 3), (500, 1)])
def test_the_layers_are_those_of_the_source(latent: int, channels: int) -> None:
    before = [channels, *(width for _, _, width in TABLE)]
    down = [(a, width, k, k, s, s, 1, 1) for a, (k, s, width) in zip(before, TABLE, strict=False)]
    up = [(width, a, k, k, s, s, 1, 1) for a, (k, s, width) in zip(before, TABLE, strict=False)]
    net = ConvolutionalAutoencoder(channels, 128, latent)
    coding, decoding = list(net.encoder), list(net.decoder)
    assert [shape_of(layer) for layer in coding[::2]] == [*down, (32, latent, 8, 8, 1, 1, 0, 0)]
    assert [shape_of(layer) for layer in decoding[::2]] == [(latent, 32, 8, 8, 1, 1, 0, 0), *reversed(up)]
    between = [*coding[1::2], *decoding[1::2]]
    assert len(between) == 16  # between the 18 convolutions, but for the latent values and the image themselves
    assert all(isinstance(layer, nn.LeakyReLU) and layer.negative_slope == 0.2 for layer in between)
    assert net.encoder(torch.zeros(1, channels, 128, 128)).shape == (1, latent, 1, 1)


def test_its_weights_by_hand() -> None:
    # Down, with one bias a channel: 3*32*16+32 = 1,568; 32*32*16+32 = 16,416; 32*32*9+32 = 9,248; 32*64*16+64 =
    # 32,832; 64*64*9+64 = 36,928; 64*128*16+128 = 131,200; 128*64*9+64 = 73,792; 64*32*9+32 = 18,464; 320,448 in all,
    # and 32*100*64+100 = 204,900. Up the same weights, biases of 3 + 32+32+32+64+64+128+64 and 32: 3 fewer than down
    # in the sum 448 -> 419 + 32 = 451 of 448 + 100.
    net = ConvolutionalAutoencoder(3, 128, 100)
    assert sum(p.numel() for p in net.encoder.parameters()) == 320_448 + 204_900
    assert sum(p.numel() for p in net.decoder.parameters()) == 320_448 + 204_900 - (448 + 100) + 451


def test_it_equals_the_loops() -> None:
    torch.manual_seed(1)
    net, image = ConvolutionalAutoencoder(1, 16, 5).eval(), drawn(2, 1, 1, 16, 16)
    values = image[0].numpy()
    for number, layer in enumerate(net.encoder[::2]):
        stride, padding = (TABLE[number][1], 1) if number < 8 else (1, 0)
        weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
        values = slow.convolved(values, weight, bias, stride=stride, padding=padding)
        values = slow.leaky(values, 0.2) if number < 8 else values
    for number, layer in enumerate(net.decoder[::2]):
        stride, padding = (TABLE[8 - number][1], 1) if number else (1, 0)
        weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
        values = slow.spread(values, weight, bias, stride=stride, padding=padding)
        values = slow.leaky(values, 0.2) if number < 8 else values
    with torch.no_grad():
        reading = net(image)
    np.testing.assert_allclose(reading.reconstruction[0].numpy(), values, atol=1e-5)
    assert (reading.queries, reading.recalls) == ((), ())


def test_it_gives_the_inputs_shape_and_its_last_step_in_32_bits() -> None:
    for channels, size in ((1, 16), (3, 48), (5, 64)):
        net = ConvolutionalAutoencoder(channels, size, 4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            reconstruction = net(drawn(3, 2, channels, size, size)).reconstruction
        assert reconstruction.shape == (2, channels, size, size)
        assert reconstruction.dtype == torch.float32
        assert len(reconstruction.unique()) > reconstruction.numel() / 4  # in bfloat16 most would coincide


def test_it_is_made_for_multiples_of_16() -> None:
    with pytest.raises(ValueError, match=r"data\.size: expected a multiple of 16 for model\.trunk=bergmann, got 40"):
        ConvolutionalAutoencoder(3, 40, 10)


# --- Placement of the memories ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "lateral", "expected"),
    [
        (None, True, [PartitionMemoryBank, PartitionMemoryBank, NoMemory, NoMemory, NoMemory]),
        ((2, 4), True, [NoMemory, PartitionMemoryBank, NoMemory, PartitionMemoryBank, NoMemory]),
        ((1, 5), True, [PartitionMemoryBank, NoMemory, NoMemory, NoMemory, PartitionMemoryBank]),
        ((4, 5), False, [CutLink, CutLink, CutLink, PartitionMemoryBank, PartitionMemoryBank]),
        ((1, 2), False, [PartitionMemoryBank, PartitionMemoryBank, CutLink, CutLink, NoMemory]),
    ],
)
def test_memories_stand_where_they_are_told_to(
    places: tuple[int, ...] | None, lateral: bool, expected: list[type]
) -> None:
    told = {"memory_levels": 2, "memory_at": places, "partitions": (2, 1), "items": (5, 3), "lateral": lateral}
    config = small("paper-small", **{f"model__{name}": value for name, value in told.items()})
    memories = make_memories(config)
    assert [type(memory) for memory in memories] == expected
    standing = [m for m in memories if isinstance(m, PartitionMemoryBank)]
    assert [(m.partitions, m.items.shape[1]) for m in standing] == [(2, 5), (1, 3)]
    for level, k in zip(config.model.memory_places, (2, 1), strict=True):
        memory, side = memories[level - 1], 32 >> (level - 1)
        assert isinstance(memory, PartitionMemoryBank)
        assert memory.item_length == side // k * side
    reading = made(config)(drawn(4, 1, 3, 32, 32))
    given = [recall.features.shape[1] for recall in reading.recalls]
    assert given == [0 if kind is CutLink else width for kind, width in zip(expected, WIDTHS, strict=True)]


def test_each_level_has_its_own_k_and_m() -> None:
    model = small("paper-small", model__memory_levels=2, model__memory_at=(2, 5), model__partitions=(4, 1),
                  model__items=(7, 3)).model  # fmt: skip
    assert model.memory_places == (2, 5)
    assert [(model.partitions_at(level), model.items_at(level)) for level in (2, 5)] == [(4, 7), (1, 3)]


def test_the_bottleneck_is_never_cut() -> None:
    config = small("ae-skip", model__lateral=False)
    assert [type(memory) for memory in make_memories(config)] == [*[CutLink] * 4, NoMemory]
    with torch.no_grad():
        reconstruction = made(config)(drawn(5, 2, 3, 32, 32)).reconstruction
    assert not torch.equal(reconstruction[0], reconstruction[1])


@pytest.mark.parametrize("levels", [0, 2, 5])
def test_links_without_a_memory_are_cut_where_that_is_asked_for(levels: int) -> None:
    numbers = {"model__memory_levels": levels, "model__partitions": (1,) * levels, "model__items": (2,) * levels}
    config = small("ae-skip", model__lateral=False, model__memory="none", **numbers)
    assert [type(memory) for memory in make_memories(config)] == [*[CutLink] * 4, NoMemory]
    config = small("ae-skip", model__lateral=True, model__memory="none", **numbers)
    assert [type(memory) for memory in make_memories(config)] == [NoMemory] * 5


def test_a_cut_link_gives_no_channel_and_keeps_the_query() -> None:
    features = drawn(6, 2, 4, 3, 3)
    recall = CutLink()(features)
    assert CutLink().gives(4) == 0
    assert recall.features.shape == (2, 0, 3, 3)
    assert recall.read is features
    assert (recall.weights, recall.penalty) == (None, None)


def test_the_decoder_of_memae_sees_its_memory_alone() -> None:
    config = small("memae")
    net = made(config)
    memories = net.autoencoder.memories
    assert [type(memory) for memory in memories] == [*[CutLink] * 4, VectorMemory]
    assert memories[4].items.shape == (7, 10)
    for up, decoder, width in zip(net.autoencoder.ups, net.autoencoder.decoders, WIDTHS, strict=False):
        assert up.out_channels == decoder[0].in_channels == width
    with torch.no_grad():
        before = net(drawn(7, 3, 3, 32, 32)).reconstruction
        memories[4].items.zero_()
        after = net(drawn(7, 3, 3, 32, 32)).reconstruction
    assert not torch.equal(before[0], before[1])
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])


def test_the_decoder_of_mnad_sees_query_and_read() -> None:
    net = made(small("mnad"))
    memory = net.autoencoder.memories[4]
    assert isinstance(memory, MovedMemory)
    assert memory.items.shape == (5, 10)
    assert net.autoencoder.ups[3].in_channels == 20
    seen: list[Tensor] = []
    net.autoencoder.ups[3].register_forward_hook(lambda module, given, answer: seen.append(given[0]))
    with torch.no_grad():
        reading = net(drawn(8, 2, 3, 32, 32))
    query = reading.queries[4]
    torch.testing.assert_close(seen[0][:, :10], query / query.norm(dim=1, keepdim=True).clamp_min(1e-12))
    torch.testing.assert_close(seen[0][:, 10:], reading.recalls[4].read)


def test_daad_has_blocks_on_every_lateral_link() -> None:
    memories = made(small("daad")).autoencoder.memories
    assert [type(memory) for memory in memories] == [*[BlockMemory] * 4, NoMemory]
    assert [memory.items.shape[1] for memory in memories[:4]] == [4 * 4 * 4, 6 * 4 * 4, 6 * 4 * 4, 8 * 2 * 2]


# --- What the network is shown ---------------------------------------------------------------------------------------


def test_with_edges_the_autoencoder_sees_the_edges_and_its_companions_the_image() -> None:
    net, x = made(small("paper-small", **{k.replace(".", "__"): v for k, v in WHOLE.items()})), drawn(9, 1, 3, 32, 32)
    seen: list[Tensor] = []
    net.autoencoder.register_forward_hook(lambda module, given, answer: seen.append(given[0]))
    with torch.no_grad():
        reading = net(x)
    expected = [[[min(1.0, 2 * v) for v in row] for row in magnitudes(channel.tolist())] for channel in x[0]]
    np.testing.assert_allclose(seen[0][0].numpy(), expected, atol=2e-6)
    plain = made(small("paper-small"))
    plain.autoencoder.register_forward_hook(lambda module, given, answer: seen.append(given[0]))
    plain(x)
    assert torch.equal(seen[1], x)
    assert reading.reconstruction.shape == x.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_the_head_sees_image_reconstruction_error_and_gradient_error(channels: int) -> None:
    torch.manual_seed(0)
    head, seen = Head(channels, 3).eval(), []
    head.network.register_forward_hook(lambda module, given, answer: seen.append(given[0]))
    x, y = drawn(10, 1, channels, 16, 16), drawn(11, 1, channels, 16, 16)
    with torch.no_grad():
        logits = head(x, y)
    assert logits.shape == (1, 1, 16, 16)
    image, other = x[0].tolist(), y[0].tolist()
    assert seen[0].shape == (1, 3 * channels + 1, 16, 16)
    assert torch.equal(seen[0][:, :channels], x)
    assert torch.equal(seen[0][:, channels : 2 * channels], y)
    torch.testing.assert_close(seen[0][:, 2 * channels : -1], (x - y).abs(), rtol=0, atol=0)
    np.testing.assert_allclose(seen[0][0, -1].numpy(), gradient_error(image, other, 3), atol=2e-6)
    assert [encoder[0].out_channels for encoder in head.network.encoders] == [3, 6, 12, 12]


def test_the_head_s_logits_are_not_bounded_and_in_32_bits() -> None:
    head = Head(3, 2).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        head.network.head.bias.fill_(-30.0)
        logits = head(drawn(12, 1, 3, 16, 16), drawn(13, 1, 3, 16, 16))
    assert logits.max() < -20
    assert logits.dtype == torch.float32


def test_the_critic_equals_the_loops() -> None:
    torch.manual_seed(2)
    critic, image = Critic(2, 1), drawn(14, 1, 2, 32, 32)
    convolutions = list(critic.features[::2])
    assert [shape_of(layer) for layer in convolutions] == [
        (2, 1, 4, 4, 2, 2, 1, 1),
        (1, 2, 4, 4, 2, 2, 1, 1),
        (2, 4, 4, 4, 2, 2, 1, 1),
        (4, 8, 4, 4, 2, 2, 1, 1),
    ]
    values = image[0].numpy()
    for layer in convolutions:
        weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
        values = slow.leaky(slow.convolved(values, weight, bias, stride=2, padding=1), 0.2)
    weight, bias = (p.detach().numpy() for p in (critic.verdict.weight, critic.verdict.bias))
    with torch.no_grad():
        np.testing.assert_allclose(critic.features(image)[0].numpy(), values, atol=1e-5)
        assert critic(image).shape == (1, 1, 2, 2)
        verdict = slow.convolved(values, weight, bias, stride=1, padding=0)
        np.testing.assert_allclose(critic(image)[0].numpy(), verdict, atol=1e-5)


@pytest.mark.parametrize("name", ["paper-small", "memae", "mnad", "daad-plus", "ae-l2", "small"])
def test_its_size_in_a_graph_is_that_of_what_is_built(name: str) -> None:
    config = small(name) if name != "small" else preset("small", BANKED)
    network = made(config)
    held = {key: one for key, one in network.state_dict().items() if not key.startswith("bank.")}
    assert ("critic." in str([*held])) == (name == "daad-plus")
    expected = sum(one.nbytes for one in held.values())
    if network.bank is not None:
        pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
        network.bank.learn(as_batches(pixels, 4), 12)
        places = network.bank.places
        expected += sum(one.nbytes for one in (places.items, places.scale, places.mean, places.spread))
    assert size_in_graph(config, 3, 12) == expected
    assert made(config).state_dict().keys() == network.state_dict().keys()


def test_companions_that_a_score_does_not_ask_are_in_no_graph() -> None:
    config = small("daad-plus", score__parts=("squared",), score__weights=(1.0,))
    critic = made(config).critic
    assert critic is not None
    less = size_in_graph(small("daad-plus"), 3, 12) - size_in_graph(config, 3, 12)
    assert less == sum(one.nbytes for one in critic.state_dict().values())


def test_a_bank_keeps_no_more_images_than_it_has_room_for() -> None:
    config = preset("small", {**BANKED, "model.bank": 10 * 64})
    assert size_in_graph(config, 3, 10) == size_in_graph(config, 3, 10_000)
    assert size_in_graph(config, 3, 9) < size_in_graph(config, 3, 10)


def test_companions_are_there_where_they_are_asked_for() -> None:
    plain = made(small("paper-small"))
    assert (plain.head, plain.critic, plain.edges) == (None, None, False)
    assert all(name.startswith("autoencoder.") for name in plain.state_dict())
    both = made(small("paper-small", model__head_width=3, train__corrupt=0.5, model__critic_width=2, model__edges=True))
    assert isinstance(both.head, Head)
    assert isinstance(both.critic, Critic)
    assert both.edges
    assert {name.partition(".")[0] for name in both.state_dict()} == {"autoencoder", "head", "critic"}


# --- Every baseline, from its preset to the detector file ------------------------------------------------------------


def trained(config: Config, folder: Path, channels: int = 3) -> Trained:
    pixels, quiet = images(6, channels), Progress("training", config.train.steps, quiet=True)
    return optimise(config, pixels, folder / "checkpoint.ckpt", identity={"run": config.preset}, progress=quiet)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_trains(name: str, tmp_path: Path) -> None:
    config = small(name)
    torch.manual_seed(config.train.seed)
    before = {key: value.clone() for key, value in build(config, 3).state_dict().items()}
    result = trained(config, tmp_path)
    after = result.network.state_dict()
    assert [step for step, _ in result.curve] == [2]
    assert before.keys() == after.keys()
    still = {key for key in after if torch.equal(before[key], after[key])}
    biases = {key for key in after if key.startswith("autoencoder.ups") and key.endswith("bias")}
    assert still <= biases  # they lie before a batch norm and get rounding alone


@pytest.mark.slow  # their memories alone, as graphs, are compared in test_baselines
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_exported(name: str, tmp_path: Path) -> None:
    assert_exported(small(name), tmp_path)


@pytest.mark.slow
def test_everything_switched_on_is_exported(tmp_path: Path) -> None:
    assert_exported(small("paper-small", **{key.replace(".", "__"): value for key, value in WHOLE.items()}), tmp_path)


def assert_exported(config: Config, folder: Path) -> None:
    """ONNX Runtime gives what the trained network gives, on images that the export did not compare them on."""
    network, spec = trained(config, folder).network, ImageSpec(config.data.size, 3, 8, "stretch")
    unknown = {"calibration": Calibration((), 0.01).to_dict(), "image": asdict(spec)}
    bundle = make_bundle(network, config, spec, unknown, images(4))
    pixels = images(11)[6:]
    found = Detector(bundle, threads=1).run(pixels)
    with torch.no_grad():
        graph = DetectorGraph(network, config, spec).eval()
        scores, maps, reconstructions, parts = graph(torch.from_numpy(pixels))
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.anomaly_maps, maps[:, 0], atol=1e-4)
    np.testing.assert_allclose(found.reconstructions, reconstructions, atol=1e-4)
    assert parts.shape == (5, len(config.score.parts), 32, 32)
    assert (parts >= 0).all()
    assert np.isfinite(found.scores).all()
