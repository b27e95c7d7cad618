"""The memories of MemAE, DAAD and MNAD against loops and by hand, in training and in use, and as ONNX."""

import io
import itertools
import logging
import math
import warnings

import numpy as np
import onnx
import pytest
import torch
from reference import baselines as slow
from reference.memory import rounding

from normbank.detector import open_session
from normbank.model.baselines import (
    BlockMemory,
    MovedMemory,
    VectorMemory,
    block_memory,
    compactness_and_separateness,
    moved_memory,
    vector_memory,
)
from normbank.model.memory import Recall
from normbank.settings import Model

SETTINGS = list(itertools.product(("soft", "hard", "none"), (False, True), (1.0, 0.1)))
SHRUNK = {"shrinkage": "soft", "renormalise": False, "temperature": 1.0}
ALONE = {"shrinkage": "none", "temperature": 0.001}  # the nearest item, and nothing of the others


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def holding(memory, items):
    """The memory with these items in place of its own."""
    with torch.no_grad():
        memory.items.copy_(torch.as_tensor(items))
    return memory


def moving(items, **settings):
    items = torch.as_tensor(items)
    return holding(MovedMemory(items.shape[1], len(items), **settings), items)


def on_the_sphere(seed, count, channels):
    return torch.nn.functional.normalize(drawn(seed, count, channels), dim=1)


def at_positions(*vectors):
    """Features [1, C, 1, W] with these vectors side by side."""
    return torch.tensor(vectors).T[None, :, None, :]


# --- MemAE -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shrinkage", "renormalise", "temperature"), SETTINGS)
def test_vector_memory_equals_the_loops(shrinkage, renormalise, temperature):
    settings = {"shrinkage": shrinkage, "renormalise": renormalise, "temperature": temperature}
    items, features = drawn(1, 7, 5), drawn(2, 2, 5, 3, 4)
    features[0, :, 1, 2] = 0  # a dead position
    with torch.no_grad():
        recall = holding(VectorMemory(5, 7, **settings), items)(features)
    read, weights = slow.recall_vectors(features.numpy(), items.numpy(), threshold=1 / 7, **settings)
    np.testing.assert_allclose(recall.weights.numpy(), weights, atol=rounding(shrinkage))
    np.testing.assert_allclose(recall.features.numpy(), read, atol=5 * rounding(shrinkage))


# The query (3, 4) against the items (2, 0) and (0, 5): cosines .6 and .8, softmax .4501660 and .5498340, threshold 1/2.
@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"shrinkage": "soft"}, (0.0, 0.0498340)),
        ({"shrinkage": "hard", "renormalise": True}, (0.0, 1.0)),
        ({"shrinkage": "none"}, (0.4501660, 0.5498340)),
        ({"shrinkage": "soft", "threshold": 0.4}, (0.0501660, 0.1498340)),
        ({"shrinkage": "soft", "temperature": 0.1}, (0.0, 0.3807971)),
    ],
)
def test_vector_memory_by_hand(settings, weights):
    recall = holding(VectorMemory(2, 2, **settings), [[2.0, 0.0], [0.0, 5.0]])(at_positions((3.0, 4.0), (8.0, 6.0)))
    assert recall.weights[0, 0].tolist() == pytest.approx(weights, abs=1e-6)
    assert recall.weights[0, 1].tolist() == pytest.approx(weights[::-1], abs=1e-6)  # (8, 6) lies the other way round
    assert recall.features[0, :, 0, 0].tolist() == pytest.approx((2 * weights[0], 5 * weights[1]), abs=5e-6)
    assert recall.features[0, :, 0, 1].tolist() == pytest.approx((2 * weights[1], 5 * weights[0]), abs=5e-6)


def test_vector_memory_asks_by_position_whatever_the_size_of_the_map():
    memory, features = VectorMemory(5, 7), drawn(3, 2, 5, 4, 6)
    with torch.no_grad():
        whole, part = memory(features), memory(features[:, :, 1:3, 2:3])
    torch.testing.assert_close(whole.features[:, :, 1:3, 2:3], part.features)
    torch.testing.assert_close(whole.weights.reshape(2, 4, 6, 7)[:, 1:3, 2:3].flatten(1, 2), part.weights)


# --- DAAD-style ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shrinkage", "renormalise", "temperature"), SETTINGS)
@pytest.mark.parametrize(("size", "grid"), [((4, 4), 2), ((6, 3), 3), ((2, 4), 1)])
def test_block_memory_equals_the_loops(shrinkage, renormalise, temperature, size, grid):
    settings = {"shrinkage": shrinkage, "renormalise": renormalise, "temperature": temperature}
    items, features = drawn(4, 5, 3 * size[0] * size[1] // grid**2), drawn(5, 2, 3, *size)
    features[1, :, : size[0] // grid, : size[1] // grid] = 0  # a dead block
    with torch.no_grad():
        recall = holding(BlockMemory(3, size, grid, 5, **settings), items)(features)
    read, weights = slow.recall_blocks(features.numpy(), items.numpy(), grid, threshold=1 / 5, **settings)
    np.testing.assert_allclose(recall.weights.numpy(), weights, atol=rounding(shrinkage))
    np.testing.assert_allclose(recall.features.numpy(), read, atol=5 * rounding(shrinkage))


def test_block_memory_by_hand():
    # Two channels of 2 x 4 in a grid of 2 x 2 blocks of 1 x 2: a query is two values of channel 0, two of 1.
    memory = holding(BlockMemory(2, (2, 4), 2, 2, **ALONE), [[1.0, 0.0, 0.0, 9.0], [0.0, 5.0, 6.0, 0.0]])
    features = torch.tensor([[[[1.0, 0, 0, 2], [0, 1, 1, 0]], [[0, 1, 3, 0], [1, 0, 0, 9]]]])
    recall = memory(features)
    assert recall.weights[0].tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert recall.features[0].tolist() == [[[1, 0, 0, 5], [0, 5, 1, 0]], [[0, 9, 6, 0], [6, 0, 0, 9]]]


@pytest.mark.parametrize(("size", "grid"), [((8, 8), 3), ((8, 6), 4), ((6, 8), 4)])
def test_blocks_must_divide_height_and_width(size, grid):
    height, width = size
    told = f"partitions: expected a divisor of the height {height} and the width {width}, got {grid}"
    with pytest.raises(ValueError, match=told):
        BlockMemory(2, size, grid, 5)


# --- What both share -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "length"), [(VectorMemory(64, 50), 64), (BlockMemory(4, (8, 16), 4, 50), 32)])
def test_learnt_items_start_uniform_within_the_root_of_their_length(memory, length):
    bound = 1 / math.sqrt(length)
    assert memory.items.shape == (50, length)
    assert 0.95 * bound < memory.items.abs().max() <= bound
    assert abs(memory.items.mean()) < 0.1 * bound


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("shrinkage", ["soft", "hard"])
@pytest.mark.parametrize("items", [3, 10, 150])
def test_a_dead_query_reads_nothing(items, shrinkage, renormalise):
    settings = {"shrinkage": shrinkage, "renormalise": renormalise}
    for memory in (VectorMemory(3, items, **settings), BlockMemory(3, (4, 4), 2, items, **settings)):
        features = torch.zeros(1, 3, 4, 4, requires_grad=True)
        read = memory(features).features
        assert (read == 0).all()
        read.sum().backward()
        assert torch.isfinite(features.grad).all()
        assert torch.isfinite(memory.items.grad).all()


# --- MNAD ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_moved_memory_reads_as_the_loops_do(temperature):
    items, features = on_the_sphere(6, 4, 5), 3 * drawn(7, 2, 5, 3, 4)
    features[1, :, 0, 1] = 0
    memory = moving(items, temperature=temperature).eval()
    recall = memory(features)
    settings = {"shrinkage": "none", "threshold": 0, "renormalise": False, "temperature": temperature}
    read, weights = slow.recall_vectors(features.numpy(), items.numpy(), **settings)
    queries = np.array(slow.unit_queries(features.numpy())).reshape(2, 3, 4, 5).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(recall.weights.numpy(), weights, atol=2e-6)
    np.testing.assert_allclose(recall.read.numpy(), read, atol=2e-6)
    np.testing.assert_allclose(recall.features.numpy(), np.concatenate([queries, read], axis=1), atol=2e-6)


@pytest.mark.parametrize(("count", "channels", "shape"), [(4, 5, (2, 3, 4)), (2, 3, (1, 1, 1)), (30, 4, (2, 2, 3))])
def test_items_move_and_the_penalty_is_as_in_the_loops(count, channels, shape):
    items, features = on_the_sphere(8, count, channels), drawn(9, shape[0], channels, *shape[1:])
    memory = moving(items).train()
    for _ in range(3):
        before = memory.items.numpy().copy()
        recall = memory(features)
        assert recall.penalty.item() == pytest.approx(slow.penalty(features.numpy(), before), abs=1e-5)
        np.testing.assert_allclose(memory.items.numpy(), slow.moved(features.numpy(), before), atol=2e-6)


def test_one_move_by_hand():
    # Items e1 and e2. The queries (2, 0), (4, 3) and (3, 4) become (1, 0), (.8, .6) and (.6, .8): the first two are
    # nearest to e1, by cosines 1 and .8, the third to e2. Weights: e^0 = 1 and e^-.2 = .8187308 for e1, 1 for e2.
    memory = moving([[1.0, 0.0], [0.0, 1.0]]).train()
    recall = memory(at_positions((2.0, 0.0), (4.0, 3.0), (3.0, 4.0)))
    # e1 + (1, 0) + .8187308 (.8, .6) = (2.6549846, .4912385), of length 2.7000492;
    # e2 + (.6, .8) = (.6, 1.8), of length 1.8973666.
    assert memory.items[0].tolist() == pytest.approx((0.9833097, 0.1819369), abs=1e-6)
    assert memory.items[1].tolist() == pytest.approx((0.3162278, 0.9486833), abs=1e-6)
    # |q - p1|^2 = 2 - 2 cos: 0, .4, .4; |q - p2|^2: 2, .8, .8. Compactness .8 / 3; separateness (0 + .6 + .6) / 3.
    assert recall.penalty.item() == pytest.approx(2 / 3, abs=1e-6)
    # The read is of the items before the move: weights of the first query are 1 / (1 + e^-1) = .7310586 and .2689414.
    assert recall.features[0, :, 0, 0].tolist() == pytest.approx((1, 0, 0.7310586, 0.2689414), abs=1e-6)


def test_an_item_that_no_query_is_nearest_to_stays():
    memory = moving([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).train()
    memory(at_positions((1.0, 0.1), (0.1, 1.0)))
    assert memory.items[2].tolist() == [-1, 0]
    assert memory.items[0].tolist() != [1, 0]


def test_items_come_to_lie_where_the_queries_do():
    memory = moving([[0.8, 0.6, 0.0], [0.0, 0.6, 0.8]]).train()
    for _ in range(50):
        recall = memory(at_positions((5.0, 0.0, 0.0), (0.0, 0.0, 0.1)))
    torch.testing.assert_close(memory.items, torch.tensor([[1.0, 0, 0], [0, 0, 1]]), rtol=0, atol=1e-3)
    assert recall.penalty.item() == pytest.approx(0, abs=1e-3)  # 0 away from the nearest, 2 from the other


def test_items_move_in_training_alone():
    memory, features = moving(on_the_sphere(10, 4, 5)), drawn(11, 2, 5, 3, 3)
    before = memory.items.clone()
    used = memory.eval()(features)
    assert torch.equal(memory.items, before)
    assert used.penalty is None
    trained = memory.train()(features)
    assert not torch.equal(memory.items, before)
    assert trained.penalty.shape == ()
    torch.testing.assert_close(trained.features, used.features, rtol=0, atol=0)


def test_items_are_a_buffer_of_length_one_that_is_kept_with_the_weights():
    torch.manual_seed(0)
    memory = MovedMemory(5, 4).train()
    assert list(memory.parameters()) == []
    assert list(memory.state_dict()) == ["items"]
    held = memory.items
    for seed in range(3):
        torch.testing.assert_close(memory.items.norm(dim=1), torch.ones(4))
        memory(drawn(seed, 2, 5, 3, 3))
    assert memory.items is held
    assert not memory.items.requires_grad


def test_moves_are_the_same_twice_with_deterministic_algorithms():
    features, found = drawn(12, 4, 5, 6, 6).requires_grad_(), []
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            memory = moving(on_the_sphere(13, 6, 5)).train()
            for _ in range(3):
                recall = memory(features)
            (gradient,) = torch.autograd.grad(recall.penalty + recall.features.sum(), features)
            found.append((memory.items, gradient))
    finally:
        torch.use_deterministic_algorithms(before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_gradients_are_those_of_the_items_that_were_read_however_they_moved_since():
    first, second = drawn(14, 1, 5, 3, 3).requires_grad_(), drawn(15, 1, 5, 3, 3)
    memory = moving(on_the_sphere(16, 4, 5)).train()
    recall = memory(first)
    memory(second)
    (found,) = torch.autograd.grad(recall.features.square().sum() + recall.penalty, first)
    used = moving(on_the_sphere(16, 4, 5)).eval()(first)  # here nothing moves
    penalty = compactness_and_separateness(*queries_and_cosines(first, on_the_sphere(16, 4, 5)))
    (expected,) = torch.autograd.grad(used.features.square().sum() + penalty, first)
    torch.testing.assert_close(found, expected)
    assert memory.items.grad_fn is None


def queries_and_cosines(features, items):
    queries = torch.nn.functional.normalize(features, dim=1).flatten(2).transpose(1, 2)
    return queries, queries @ items.T


def test_gradient_of_the_penalty_draws_a_query_to_its_nearest_item_and_off_the_second():
    items, features = torch.eye(3)[:2], torch.tensor([[[[0.7]], [[0.6]], [[0.4]]]], requires_grad=True)
    memory = moving(items).train()
    (gradient,) = torch.autograd.grad(memory(features).penalty, features)
    closer, farther = memory.eval()((features - 0.1 * gradient).detach()), memory(features.detach())
    nearest, second = (closer.features - farther.features)[0, :2, 0, 0].tolist()
    assert nearest > 0 > second


def test_penalty_of_a_query_at_its_item_is_not_below_zero_by_rounding():
    queries = on_the_sphere(17, 200, 7)
    cosines = (queries * queries).sum(dim=1)
    assert (queries.square().sum(dim=1) + 1 - 2 * cosines).min() < 0  # |q - p|^2 of one and the same, rounded
    for query in queries:
        similarity = torch.stack([query @ query, -query @ query])[None, None]
        assert compactness_and_separateness(query[None, None], similarity).item() >= 0


def test_separateness_needs_two_items():
    with pytest.raises(ValueError, match=r"items: expected at least 2 \(the nearest and the second nearest\), got 1"):
        MovedMemory(4, 1)


# --- The contract ----------------------------------------------------------------------------------------------------

CONTRACT = Model(widths=(6, 8, 10), memory_levels=2, memory_at=(1, 3), partitions=(8, 2), items=(5, 3))
LEVEL, SIDE = 3, 8
FACTORIES = {"memae": vector_memory, "blocks": block_memory, "mnad": moved_memory}
WEIGHTS = {"memae": (SIDE * SIDE, 3), "blocks": (2 * 2, 3), "mnad": (SIDE * SIDE, 3)}


def made(name, settings=CONTRACT):
    torch.manual_seed(0)
    return FACTORIES[name](settings, LEVEL, SIDE)


def asked(seed=1, batch=3):
    return drawn(seed, batch, CONTRACT.widths[LEVEL - 1], SIDE, SIDE)


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_memory_answers_with_a_recall(name, mode):
    memory = made(name).train(mode)
    recall = memory(asked())
    assert type(recall) is Recall
    assert recall.features.shape == (3, memory.gives(10), SIDE, SIDE)
    assert recall.read.shape == asked().shape
    assert recall.weights.shape == (3, *WEIGHTS[name])
    assert ((recall.weights >= 0) & (recall.weights <= 1)).all()
    for tensor in recall[:3]:
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()
    assert (recall.penalty is not None) == (name == "mnad" and mode)


def test_what_goes_to_the_decoder():
    for name in ("memae", "blocks"):
        recall = made(name)(asked())
        assert recall.features is recall.read
        assert made(name).gives(10) == 10
    recall = made("mnad").eval()(asked())
    assert made("mnad").gives(10) == 20
    torch.testing.assert_close(recall.features[:, :10], torch.nn.functional.normalize(asked(), dim=1))
    torch.testing.assert_close(recall.features[:, 10:], recall.read)


@pytest.mark.parametrize("name", FACTORIES)
def test_memory_treats_each_image_alone(name):
    memory = made(name).eval()
    with torch.no_grad():
        whole = memory(asked())
        parts = [memory(image[None]) for image in asked()]
    for place in range(3):
        torch.testing.assert_close(whole[place], torch.cat([part[place] for part in parts]))


@pytest.mark.parametrize("name", FACTORIES)
def test_gradients_reach_the_items_that_are_learnt_and_the_query(name):
    memory, features = made(name).train(), asked().requires_grad_()
    memory(features).features.square().sum().backward()
    assert len(list(memory.parameters())) == (name != "mnad")
    for gradient in [features.grad, *(parameter.grad for parameter in memory.parameters())]:
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_memory_works_under_bf16_autocast(name, mode):
    exact = made(name).train(mode)(asked())
    memory, features = made(name).train(mode), asked().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = memory(features)
        from_bf16 = made(name).train(mode)(asked().bfloat16())
    torch.testing.assert_close(inside.features.float(), exact.features, rtol=0.02, atol=0.02)
    torch.testing.assert_close(inside.weights, exact.weights)  # 32 bits, and the very same
    assert from_bf16.weights.dtype == torch.float32
    assert from_bf16.features.shape == exact.features.shape
    assert torch.isfinite(from_bf16.features).all()
    assert memory.items.dtype == torch.float32
    inside.features.float().square().sum().backward()
    assert torch.isfinite(features.grad).all()


def test_the_move_and_the_penalty_are_in_32_bits_under_autocast():
    exact, inside = made("mnad").train(), made("mnad").train()
    expected = exact(asked()).penalty
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = inside(asked()).penalty
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(inside.items, exact.items)


@pytest.mark.parametrize("name", ["memae", "blocks"])
def test_every_setting_reaches_the_memory(name):
    changed = {"shrinkage": "hard", "shrink_threshold": 0.25, "renormalise": True, "temperature": 0.5}
    memory = made(name, CONTRACT.model_copy(update=changed))
    assert (memory.shrinkage, memory.threshold, memory.renormalise, memory.temperature) == ("hard", 0.25, True, 0.5)
    assert made(name).threshold == 1 / 3


def test_the_temperature_reaches_the_moved_memory():
    assert made("mnad", CONTRACT.model_copy(update={"temperature": 0.5})).temperature == 0.5


def test_items_have_the_length_of_the_query():
    assert {name: tuple(made(name).items.shape) for name in FACTORIES} == {
        "memae": (3, 10),
        "blocks": (3, 10 * 4 * 4),
        "mnad": (3, 10),
    }


# --- ONNX ------------------------------------------------------------------------------------------------------------


class Answers(torch.nn.Module):
    """A memory whose answer is a tuple of tensors, as an exported graph has it."""

    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def forward(self, features):
        return self.memory(features)[:3]


def exported(memory):
    """The memory as an ONNX graph of free batch size, as `normbank.export.to_onnx` makes one."""
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Answers(memory).eval(),
            (asked(batch=2),),
            dynamo=True,
            input_names=["features"],
            output_names=["recalled", "weights", "read"],
            dynamic_shapes={"features": {0: torch.export.Dim("N", min=1)}},
            verbose=False,
        )
        onnx.save_model(program.model_proto, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", FACTORIES)
def test_memory_answers_the_same_as_onnx_for_every_batch_size(name):
    memory = made(name).train()
    memory(asked(2))  # moved once, where it moves
    before = memory.items.detach().clone()
    session = open_session(exported(memory.eval()), 1)
    assert torch.equal(memory.items, before)
    for batch in (1, 2, 5):
        features = asked(batch, batch)
        features[0, :, :4, :4] = 0  # dead positions, and a dead block
        with torch.no_grad():
            recall = memory(features)
        answers = session.run(["recalled", "weights", "read"], {"features": features.numpy()})
        for expected, found in zip(recall[:3], answers, strict=True):
            np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)
