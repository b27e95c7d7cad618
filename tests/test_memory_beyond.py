"""What may be added to the paper's read: partitions along the width, a learnt temperature, a gate."""

import math

import numpy as np
import pytest
import torch
from reference import memory as slow

from normbank.config import override
from normbank.errors import ConfigError
from normbank.model.memory import PartitionMemoryBank
from normbank.model.network import build
from normbank.presets import preset
from normbank.settings import COLDEST

PLAIN = {"shrinkage": "none", "renormalise": False, "temperature": 1.0}


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def holding(memory, items):
    with torch.no_grad():
        memory.items.copy_(items)
    return memory


@pytest.mark.parametrize(("size", "k", "columns"), [((8, 6), 4, 3), ((4, 4), 1, 2), ((6, 8), 3, 1)])
def test_columns_are_as_many_banks_side_by_side(size, k, columns):
    width = size[1] // columns
    items, features = drawn(1, k * columns, 5, size[0] // k * width), drawn(2, 2, 3, *size)
    with torch.no_grad():
        recall = holding(PartitionMemoryBank(size, k, 5, columns=columns, **PLAIN), items)(features)
    for column in range(columns):
        strip = features[..., column * width : (column + 1) * width].numpy()
        read, weights = slow.recall(strip, items[column::columns].numpy(), threshold=0.2, **PLAIN)
        np.testing.assert_allclose(recall.weights[:, :, column::columns].numpy(), weights, atol=2e-6)
        np.testing.assert_allclose(recall.read[..., column * width : (column + 1) * width].numpy(), read, atol=1e-5)


def test_columns_by_hand():
    memory = PartitionMemoryBank((1, 4), 1, 2, columns=2, shrinkage="hard", temperature=0.01)
    holding(memory, torch.tensor([[[1.0, 0], [0, 1]], [[0, 3], [2, 0]]]))
    with torch.no_grad():
        recall = memory(torch.tensor([[[[5.0, 0.1, 7, 0.2]]]]))
    assert memory.item_length == 2
    torch.testing.assert_close(recall.read, torch.tensor([[[[1.0, 0, 2, 0]]]]))  # the nearest item of either half


def test_columns_must_divide_the_width():
    with pytest.raises(ValueError, match="columns: expected a divisor of the width 6, got 4"):
        PartitionMemoryBank((8, 6), 2, 5, columns=4)


def test_a_learnt_temperature_starts_where_it_is_told_and_learns():
    items, features = drawn(3, 2, 4, 8), drawn(4, 2, 3, 4, 4)
    settings = {"shrinkage": "none", "temperature": 0.3}
    fixed = holding(PartitionMemoryBank((4, 4), 2, 4, **settings), items)
    learnt = holding(PartitionMemoryBank((4, 4), 2, 4, learn_temperature=True, **settings), items)
    torch.testing.assert_close(learnt(features).read, fixed(features).read)
    learnt(features).read.square().sum().backward()
    assert learnt.log_temperature.grad.abs() > 0
    assert fixed.log_temperature is None
    with torch.no_grad():
        learnt.log_temperature.fill_(math.log(2.0))
    warm = holding(PartitionMemoryBank((4, 4), 2, 4, shrinkage="none", temperature=2.0), items)
    torch.testing.assert_close(learnt(features).weights, warm(features).weights)
    with torch.no_grad():
        learnt.log_temperature.fill_(-50.0)
    assert learnt.temperature.item() == pytest.approx(COLDEST)


def test_a_gate_lets_a_learnt_share_of_the_features_through():
    items, features = drawn(5, 2, 4, 8), drawn(6, 2, 3, 4, 4)
    memory = holding(PartitionMemoryBank((4, 4), 2, 4, gated=True), items)
    assert torch.sigmoid(memory.gate).item() == pytest.approx(0.0474, abs=1e-4)
    with torch.no_grad():
        memory.gate.fill_(math.log(3.0))  # three quarters
    recall = memory(features)
    torch.testing.assert_close(recall.features, 0.25 * recall.read + 0.75 * features)
    recall.features.sum().backward()
    assert memory.gate.grad.abs() > 0


def test_a_network_is_built_with_them_and_all_of_it_learns():
    asked = {
        "data.size": 32,
        "model.widths": [4, 4, 4],
        "model.memory_levels": 2,
        "model.partitions": [4, 2],
        "model.columns": [2, 4],
        "model.items": [7, 9],
        "model.shrinkage": "none",
        "model.gate": True,
        "model.learn_temperature": True,
    }
    net = build(preset("paper-small", asked), 3).train()
    memories = net.autoencoder.memories[:2]
    assert [tuple(memory.items.shape) for memory in memories] == [(8, 7, 128), (8, 9, 32)]
    net(drawn(7, 2, 3, 32, 32)).reconstruction.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_without_them_the_weights_have_the_names_they_had():
    names = build(preset("paper-small"), 3).state_dict()
    assert not any(word in name for name in names for word in ("gate", "log_temperature"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model.columns": [3, 1, 1, 1]}, "model.columns: expected numbers that divide the widths .* 128 wide, got 3"),
        ({"model.columns": [2, 2]}, "model.columns: expected 4 positive numbers"),
        (
            {"model.columns": [1, 1, 1, 1], "model.memory": "none"},
            "model.columns: expected none unless model.memory=pmb",
        ),
        ({"model.gate": True, "model.memory": "memae"}, "model.gate: expected false unless model.memory=pmb"),
        ({"model.learn_temperature": True, "model.memory": "mnad"}, "model.learn_temperature: expected false where"),
    ],
)
def test_what_does_not_go_together_is_told(asked, message):
    with pytest.raises(ConfigError, match=message):
        override(preset("paper-small"), asked)
