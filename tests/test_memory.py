"""Eq. 2 to 5 against loops and by hand, the contract of every memory, and the wiring of the U-Net."""

import ast
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import memory as slow

from normbank.config import Config
from normbank.errors import ConfigError
from normbank.model.memories import MEMORIES
from normbank.model.memory import NoMemory, PartitionMemoryBank, Recall, address
from normbank.model.network import build
from normbank.model.unet import UNet
from normbank.presets import preset
from normbank.settings import Model

SETTINGS = list(itertools.product(("soft", "hard", "none"), (False, True), (1.0, 0.1)))


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bank(items, size, **settings):
    """A Partition Memory Bank of given items [k, m, (H/k)*W]."""
    memory = PartitionMemoryBank(size, items.shape[0], items.shape[1], **settings)
    with torch.no_grad():
        memory.items.copy_(items)
    return memory


# --- Eq. 2 to 5 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shrinkage", "renormalise", "temperature"), SETTINGS)
@pytest.mark.parametrize(("size", "partitions", "items"), [((8, 8), 4, 5), ((6, 4), 1, 3), ((4, 6), 4, 7)])
def test_partition_memory_bank_equals_the_loops(shrinkage, renormalise, temperature, size, partitions, items):
    values = drawn(1, partitions, items, size[0] // partitions * size[1])
    settings = {"shrinkage": shrinkage, "renormalise": renormalise, "temperature": temperature}
    features = drawn(2, 2, 3, *size)
    features[0, 1] = 0  # a dead channel
    with torch.no_grad():
        recall = bank(values, size, **settings)(features)
    read, weights = slow.recall(features.numpy(), values.numpy(), threshold=1 / items, **settings)
    np.testing.assert_allclose(recall.weights.numpy(), weights, atol=slow.rounding(shrinkage))
    np.testing.assert_allclose(recall.features.numpy(), read, atol=5 * slow.rounding(shrinkage))


@pytest.mark.parametrize("threshold", [0.0, 0.15, 0.6])
def test_a_threshold_of_ones_own_equals_the_loops(threshold):
    values, features = drawn(3, 2, 4, 8), drawn(4, 2, 3, 4, 4)
    with torch.no_grad():
        recall = bank(values, (4, 4), threshold=threshold)(features)
    settings = {"shrinkage": "soft", "renormalise": False, "temperature": 1.0}
    read, weights = slow.recall(features.numpy(), values.numpy(), threshold=threshold, **settings)
    np.testing.assert_allclose(recall.weights.numpy(), weights, atol=2e-6)
    np.testing.assert_allclose(recall.features.numpy(), read, atol=1e-5)


# The query (3, 4) against the items (2, 0) and (0, 5). Normalised: (.6, .8), (1, 0), (0, 1). Cosines .6 and .8.
# Softmax of two is 1 / (1 + e^-d): w = .5498340 for the second, .4501660 for the first. The threshold is 1/2.
@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"shrinkage": "soft"}, (0.0, 0.0498340)),  # .5498340 - .5, and not divided by its sum
        ({"shrinkage": "hard"}, (0.0, 0.5498340)),
        ({"shrinkage": "none"}, (0.4501660, 0.5498340)),
        ({"shrinkage": "soft", "renormalise": True}, (0.0, 1.0)),
        ({"shrinkage": "soft", "threshold": 0.4}, (0.0501660, 0.1498340)),
        ({"shrinkage": "soft", "threshold": 0.4, "renormalise": True}, (0.2508300, 0.7491700)),  # sum .2
        ({"shrinkage": "soft", "temperature": 0.1}, (0.0, 0.3807971)),  # 1 / (1 + e^-2) = .8807971
    ],
)
def test_recall_by_hand(settings, weights):
    memory = bank(torch.tensor([[[2.0, 0.0], [0.0, 5.0]]]), (1, 2), **settings)
    recall = memory(torch.tensor([[[[3.0, 4.0]]]]))
    assert recall.weights.flatten().tolist() == pytest.approx(weights, abs=1e-6)
    # Eq. 5 reads (2, 0) and (0, 5) as they are.
    assert recall.features.flatten().tolist() == pytest.approx((2 * weights[0], 5 * weights[1]), abs=5e-6)


def test_each_partition_has_its_unit_and_channels_share_it_by_hand():
    # Two rows, two units of two items; without shrinkage and at a low temperature the nearest item alone is read.
    items = torch.tensor([[[10.0, 0.0], [0.0, 20.0]], [[30.0, 0.0], [0.0, 40.0]]])
    memory = bank(items, (2, 2), shrinkage="none", temperature=0.01)
    features = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [3.0, 0.0]]]])
    expected = torch.tensor([[[[10.0, 0.0], [30.0, 0.0]], [[0.0, 20.0], [30.0, 0.0]]]])
    torch.testing.assert_close(memory(features).features, expected)


def test_the_length_of_a_query_does_not_matter_that_of_an_item_does():
    values, features = drawn(5, 2, 4, 8), drawn(6, 1, 3, 4, 4)
    recall = bank(values, (4, 4))(features)
    torch.testing.assert_close(bank(values, (4, 4))(7 * features).features, recall.features)
    longer = bank(3 * values, (4, 4))(features)
    torch.testing.assert_close(longer.weights, recall.weights)
    torch.testing.assert_close(longer.features, 3 * recall.features)


def test_weights_of_the_paper_are_not_renormalised():
    recall = bank(drawn(7, 2, 50, 32), (8, 8))(drawn(8, 2, 3, 8, 8))
    sums = recall.weights.sum(dim=-1)
    assert (recall.weights >= 0).all()
    assert (sums < 0.5).all()
    assert (sums > 0).all()


@pytest.mark.parametrize("shrinkage", ["soft", "hard"])
def test_renormalised_weights_sum_to_one_or_are_all_shrunk_to_zero(shrinkage):
    settings = {"shrinkage": shrinkage, "renormalise": True, "temperature": 1.0}
    cosines = 2 * torch.rand((40, 6), generator=torch.Generator().manual_seed(9)) - 1
    torch.testing.assert_close(address(cosines, threshold=1 / 6, **settings).sum(dim=-1), torch.ones(40))
    assert (address(cosines, threshold=0.99, **settings) == 0).all()


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("shrinkage", ["soft", "hard"])
@pytest.mark.parametrize("items", [3, 10, 150, 200])
def test_a_dead_channel_reads_nothing(items, shrinkage, renormalise):
    # All cosines are 0, all weights 1/m: none is above 1/m, and rounding must not let any through.
    memory = PartitionMemoryBank((4, 4), 2, items, shrinkage=shrinkage, renormalise=renormalise)
    features = torch.zeros(1, 2, 4, 4, requires_grad=True)
    read = memory(features).features
    assert (read == 0).all()
    read.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(memory.items.grad).all()


def test_items_start_uniform_within_the_root_of_their_length():
    memory = PartitionMemoryBank((16, 16), 4, 50)
    bound = 1 / math.sqrt(4 * 16)
    assert memory.items.shape == (4, 50, 64)
    assert 0.95 * bound < memory.items.abs().max() <= bound
    assert abs(memory.items.mean()) < 0.05 * bound


def test_partitions_must_divide_the_height():
    with pytest.raises(ValueError, match="partitions: expected a divisor of the height 8, got 3"):
        PartitionMemoryBank((8, 8), 3, 5)


# --- The contract, for all memories ----------------------------------------------------------------------------------

CONTRACT = Model(widths=(6, 8, 8), memory_levels=2, partitions=(4, 2), items=(5, 3))
LEVEL, SIDE = 2, 8


def made(name):
    torch.manual_seed(0)
    return MEMORIES[name](CONTRACT, LEVEL, SIDE)


def asked(seed=1, batch=3):
    return drawn(seed, batch, CONTRACT.widths[LEVEL - 1], SIDE, SIDE)


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_memory_answers_with_a_recall_of_the_querys_shape(name, mode):
    recall = made(name).train(mode)(asked())
    assert type(recall) is Recall
    batch, channels, *size = asked().shape
    assert recall.features.shape == (batch, made(name).gives(channels), *size)
    assert recall.read.shape == asked().shape
    assert recall.penalty is None or (mode and recall.penalty.shape == () and recall.penalty >= 0)
    assert recall.features.dtype == torch.float32
    assert torch.isfinite(recall.features).all()
    assert recall.weights is None or recall.weights.dtype == torch.float32


@pytest.mark.parametrize("name", MEMORIES)
def test_memory_treats_each_image_alone(name):
    memory = made(name).eval()
    with torch.no_grad():
        whole = memory(asked())
        parts = [memory(image[None]) for image in asked()]
    torch.testing.assert_close(whole.features, torch.cat([part.features for part in parts]))
    if whole.weights is not None:
        torch.testing.assert_close(whole.weights, torch.cat([part.weights for part in parts]))


@pytest.mark.parametrize("name", MEMORIES)
def test_memory_answers_the_same_twice_in_use(name):
    memory = made(name).eval()
    with torch.no_grad():
        torch.testing.assert_close(memory(asked()).features, memory(asked()).features, rtol=0, atol=0)


@pytest.mark.parametrize("name", MEMORIES)
def test_gradients_reach_the_parameters_and_the_query(name):
    memory, features = made(name).train(), asked().requires_grad_()
    memory(features).features.square().sum().backward()
    for gradient in [features.grad, *(parameter.grad for parameter in memory.parameters())]:
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", MEMORIES)
def test_memory_works_under_bf16_autocast(name):
    memory = made(name).eval()
    with torch.no_grad():
        exact = memory(asked())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = memory(asked())
            from_bf16 = memory(asked().bfloat16())
    torch.testing.assert_close(inside.features.float(), exact.features, rtol=0.02, atol=0.02)
    assert from_bf16.features.shape == exact.features.shape
    assert torch.isfinite(from_bf16.features).all()


def test_the_memory_that_the_documentation_adds_keeps_the_contract(monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    named = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    told = [ast.parse(code), *(node for node in named if not node.name.startswith("_"))]
    assert all(ast.get_docstring(node) for node in told)  # as test_architecture.py asks
    known: dict = {}
    exec(compile(code, "extending.md", "exec", dont_inherit=True), known)
    monkeypatch.setitem(MEMORIES, "mean", known["mean_memory"])
    for mode in (True, False):
        test_memory_answers_with_a_recall_of_the_querys_shape("mean", mode)
    test_memory_treats_each_image_alone("mean")
    test_memory_answers_the_same_twice_in_use("mean")
    test_gradients_reach_the_parameters_and_the_query("mean")
    test_memory_works_under_bf16_autocast("mean")


def test_weights_keep_under_autocast_the_digits_that_bfloat16_lacks():
    # Long items: cosines of about 0.03, weights of about (1 +- 0.03) / m, where bfloat16 steps by up to 0.008 / m.
    memory, features = bank(drawn(20, 1, 50, 1024), (32, 32), shrinkage="none"), drawn(21, 1, 4, 32, 32)
    with torch.no_grad():
        exact = memory(features).weights
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = memory(features).weights
            from_bf16 = memory(features.bfloat16()).weights
    for weights in (inside, from_bf16):
        assert weights.dtype == torch.float32
        assert (weights - exact).abs().max() < 5e-4 / 50
    assert (exact.bfloat16() - exact).abs().max() > 1e-3 / 50


def test_no_memory_recalls_what_it_is_asked():
    features = asked()
    recall = NoMemory()(features)
    assert recall.features is features
    assert recall.weights is None


# --- The network -----------------------------------------------------------------------------------------------------


def network(*, levels=5, memory_levels=4, memory="pmb", channels=3, size=32, output="linear"):
    settings = Model(
        widths=tuple(range(4, 4 + levels)),
        memory=memory,
        memory_levels=memory_levels,
        partitions=(2,) * memory_levels,
        items=(6,) * memory_levels,
        output=output,
    )
    torch.manual_seed(0)
    return build(Config.model_validate({"data": {"size": size}, "model": settings}), channels).autoencoder.eval()


def photos(channels=3, size=32, batch=2):
    return torch.rand((batch, channels, size, size), generator=torch.Generator().manual_seed(12))


def encoded(net, images):
    """F_1..F_L, by hand."""
    features, result = images, []
    for level, encoder in enumerate(net.encoders):
        features = encoder(features if level == 0 else torch.nn.functional.max_pool2d(features, 2))
        result.append(features)
    return result


@pytest.mark.parametrize(("levels", "memory_levels"), [(5, 4), (5, 5), (5, 0), (3, 2), (3, 3), (2, 1)])
def test_levels_up_to_p_carry_reads_and_the_others_raw_links(levels, memory_levels):
    net = network(levels=levels, memory_levels=memory_levels)
    with torch.no_grad():
        (asked_for, recalled), raw = net.recall(photos()), encoded(net, photos())
        for level, (memory, recall, feature) in enumerate(zip(net.memories, recalled, raw, strict=True), start=1):
            given = recall.features
            torch.testing.assert_close(asked_for[level - 1], feature, rtol=0, atol=0)
            assert given.shape == (2, 3 + level, 32 >> (level - 1), 32 >> (level - 1))
            assert isinstance(memory, PartitionMemoryBank if level <= memory_levels else NoMemory)
            torch.testing.assert_close(given, memory(feature).features, rtol=0, atol=0)
            assert torch.equal(given, feature) == (level > memory_levels)


@pytest.mark.parametrize(("memory_levels", "blind"), [(5, True), (4, False), (0, False)])
def test_with_p_equal_to_l_everything_passes_through_memory(memory_levels, blind):
    net, images = network(memory_levels=memory_levels), photos()
    with torch.no_grad():
        for memory in net.memories:
            if isinstance(memory, PartitionMemoryBank):
                memory.items.zero_()
        outputs = net(images).reconstruction
    assert torch.equal(outputs[0], outputs[1]) == blind


def test_the_decoder_sees_the_read_and_the_level_below():
    net, seen = network(levels=3, memory_levels=2), []
    for decoder in net.decoders:
        decoder.register_forward_hook(lambda module, given, answer: seen.append((given[0], answer)))
    with torch.no_grad():
        images = photos()
        output = net(images).reconstruction
        recalled = [recall.features for recall in net.recall(images)[1]]
        (given_2, answer_2), (given_1, answer_1) = seen
        torch.testing.assert_close(given_2, torch.cat([recalled[1], net.ups[1](recalled[2])], dim=1))
        torch.testing.assert_close(given_1, torch.cat([recalled[0], net.ups[0](answer_2)], dim=1))
        torch.testing.assert_close(output, net.head(answer_1))


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 32), (7, 16)])
def test_output_has_the_inputs_shape_and_with_a_sigmoid_lies_between_0_and_1(memory, channels, size):
    settings = {"memory": memory, "channels": channels, "size": size, "memory_levels": 3}
    images = photos(channels, size)
    for last in ("linear", "sigmoid"):
        with torch.no_grad():
            output = network(**settings, output=last)(images).reconstruction
        assert output.shape == images.shape
        assert output.dtype == torch.float32
    assert ((output > 0) & (output < 1)).all()


def test_the_network_treats_each_image_alone_in_use():
    net, images = network(), photos(batch=3)
    with torch.no_grad():
        parts = [net(image[None]).reconstruction for image in images]
        torch.testing.assert_close(net(images).reconstruction, torch.cat(parts))


def test_memories_hold_3_5_million_values_whatever_k_is():
    # 150 * 128 * 128 + 200 * 64 * 64 + 200 * 32 * 32 + 200 * 16 * 16
    for name in ("paper-mvtec-texture", "paper-mvtec-object"):
        settings = preset(name).model
        memories = [MEMORIES["pmb"](settings, level, 128 >> (level - 1)) for level in (1, 2, 3, 4)]
        assert sum(memory.items.numel() for memory in memories) == 3_532_800
    # Object: k = (16, 16, 16, 8), so items of (128/16)*128, (64/16)*64, (32/16)*32, (16/8)*16 values.
    assert [memory.item_length for memory in memories] == [1024, 256, 64, 32]


def test_build_hands_every_setting_to_the_memories():
    overrides = {
        "data.size": 32,
        "model.widths": [4, 4, 4],
        "model.memory_levels": 2,
        "model.partitions": [4, 2],
        "model.items": [7, 9],
        "model.shrinkage": "hard",
        "model.shrink_threshold": 0.25,
        "model.renormalise": True,
        "model.temperature": 0.5,
    }
    net = build(preset("paper-small", overrides), 3).autoencoder
    assert [tuple(memory.items.shape) for memory in net.memories[:2]] == [(4, 7, 256), (2, 9, 128)]
    for memory in net.memories[:2]:
        assert (memory.shrinkage, memory.threshold, memory.renormalise, memory.temperature) == ("hard", 0.25, True, 0.5)
    assert PartitionMemoryBank((8, 8), 2, 5).threshold == 0.2


def test_an_unknown_memory_is_named():
    with pytest.raises(ConfigError, match=r"model.memory: expected one of pmb, none.*, got 'attic'"):
        network(memory="attic")


def test_gradients_reach_every_weight_of_the_network():
    net = network(levels=3, memory_levels=2).train()
    (net(photos()).reconstruction - photos()).square().mean().backward()
    assert isinstance(net, UNet)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
