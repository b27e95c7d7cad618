"""From weights to the ONNX graph, with preprocessing, error map, histogram step and score inside.

Nothing leaves here unless the graph reproduces the network: `verify` compares the two and raises.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from . import residual
from .bundle import Bundle
from .config import Config
from .decoding import Pixels
from .detector import OUTPUTS, PARTS_OUTPUT, Outputs, open_session, portions
from .errors import ParityError, TrainingError
from .images import ImageSpec
from .model.network import Network
from .model.parts import PARTS, View, enlarge

SCORE_TOLERANCE = 1e-4  # relative; a sum of less than SMALL a pixel, any other score of less than LOW, as if that much
PROBED = 16  # images of each part that graph and network are compared on
# These three are of parts of weight 1, and scale with it.
SMALL = 0.01  # 2.5 of 255 grey levels: below it the rounding of 32 bits would be told as a difference
LOW = 0.1  # good images reach more; those the bank holds reach almost 0, as a difference of numbers near 1
MAP_TOLERANCE = 1e-4  # of maps, whose largest value counts where it is above 1
LOOK_TOLERANCE = 1e-3  # of parts, likewise, and of reconstructions, a quarter of a grey level: they are looked at
_NETWORK = "network."  # what the names of its weights begin with in the graph, `DetectorGraph.network`


class DetectorGraph(nn.Module):
    """Image values in, score and map out: what the ONNX file holds.

    Input [N, S, S, C] uint8 or uint16; outputs pred_score [N], anomaly_map [N, 1, S, S], reconstruction [N, S, S, C],
    and parts [N, P, S, S], the weighted maps that the anomaly map is made of, in the order of `score.parts`. Where
    images are turned or moved all of these are laid back; what was out of sight is as the nearest place in it.
    """

    def __init__(self, network: Network, config: Config, spec: ImageSpec) -> None:
        super().__init__()
        self.network, self.score, self.reduction = network, config.score, config.reduction
        self.white = float(np.iinfo(spec.dtype).max)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score, map, reconstruction and parts of a batch."""
        whole = image.to(torch.float32).permute(0, 3, 1, 2)
        pose = self.network.pose
        whole, how = pose.lay(whole)
        whole = whole / self.white
        x = functional.avg_pool2d(whole, self.reduction) if self.reduction > 1 else whole
        reading = self.network(x)
        reconstruction = reading.reconstruction.clamp(0, 1)  # nearer to every image there is
        view = View(x, reconstruction, reading, self.network, whole)
        named = zip(self.score.parts, self.score.weights, strict=True)
        parts = torch.cat([weight * enlarge(PARTS[name](view), whole) for name, weight in named], dim=1)
        parts, reconstruction = (pose.lay_back(one, how) for one in (parts, enlarge(reconstruction, whole)))
        finished, score = residual.finish(parts.sum(dim=1, keepdim=True), self.score)
        return score, finished, reconstruction.permute(0, 2, 3, 1), parts


def make_bundle(network: Network, config: Config, spec: ImageSpec, manifest: dict[str, Any], probe: Pixels) -> Bundle:
    """The detector file's parts; ParityError unless graph and network agree on `probe` [N, S, S, C] and on noise."""
    plain = torch.contiguous_format  # trained and loaded networks differ in that, and so would the names in the graph
    network = network.to("cpu", memory_format=plain).eval().float()  # type: ignore[call-overload]
    whole = DetectorGraph(network, config, spec).eval()
    graph = to_onnx(whole, spec)
    noise = (
        np.random.default_rng(0).integers(0, np.iinfo(spec.dtype).max, probe.shape, endpoint=True).astype(spec.dtype)
    )
    summed, threads = config.score.pool == "sum", config.train.threads or 0
    weight = sum(config.score.weights) / len(config.score.weights)
    for batch in (*portions(probe), probe[:1]):
        verify(whole, graph, batch, summed=summed, weight=weight, threads=threads)
    for batch in portions(noise):
        verify(whole, graph, batch, summed=summed, weight=weight, is_noise=True, threads=threads)
    held = _held(graph)
    weights = {name: one for name, one in network.state_dict().items() if not _is_same(one, held.get(name))}
    return Bundle(manifest, safetensors.torch.save({name: one.contiguous() for name, one in weights.items()}), graph)


def weights_of(bundle: Bundle, names: Iterable[str]) -> dict[str, Tensor]:
    """The weights of a detector file: all that stand apart, and those of `names` that its graph alone holds.

    What the graph holds to the last bit, a bank above all, is not written twice.
    """
    held = _held(bundle.graph)
    return {**{name: held[name] for name in names if name in held}, **safetensors.torch.load(bundle.weights)}


def _held(graph: bytes) -> dict[str, Tensor]:
    """The constants of a graph that are called as a weight of the network is, by that name."""
    constants = onnx.load_model_from_string(graph).graph.initializer
    ours = [one for one in constants if one.name.startswith(_NETWORK)]
    return {one.name.removeprefix(_NETWORK): torch.from_numpy(numpy_helper.to_array(one).copy()) for one in ours}


def _is_same(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.dtype == other.dtype and torch.equal(one, other)


def _folded(graph: nn.Module) -> nn.Module:
    """A copy whose convolutions hold the batch norms behind them: the exporter needs seconds for those."""
    graph = copy.deepcopy(graph)
    for chain in [one for one in graph.modules() if isinstance(one, nn.Sequential)]:
        for number in range(len(chain) - 1):
            one, next_one = chain[number], chain[number + 1]
            if isinstance(one, nn.Conv2d) and isinstance(next_one, nn.BatchNorm2d):
                chain[number], chain[number + 1] = fuse_conv_bn_eval(one, next_one), nn.Identity()
    return graph


def to_onnx(graph: nn.Module, spec: ImageSpec) -> bytes:
    """The graph as ONNX, its batch size free."""
    from onnxscript import optimizer  # half a second that a training need not wait for before it starts

    example = torch.zeros(2, spec.size, spec.size, spec.channels, dtype=torch.uint8 if spec.bits == 8 else torch.uint16)
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks on its own future
        program = torch.onnx.export(
            _folded(graph),
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=[*OUTPUTS, PARTS_OUTPUT],
            dynamic_shapes={"image": {0: torch.export.Dim("N", min=1)}},
            optimize=False,
            verbose=False,
        )
        assert program is not None
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)  # a third of all, on which most of the rewriting would be spent
        optimizer.optimize(program.model, num_iterations=1)  # the exporter's second one finds next to nothing
        onnx.save_model(_without_traces(program.model_proto), buffer)
    return buffer.getvalue()


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without where in which files each operation came from: the folders are the maker's, and would tell two makers."""
    graph = model.graph
    for one in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        one.ClearField("metadata_props")
    return model


def verify(
    graph: nn.Module,
    exported: bytes,
    batch: Pixels,
    *,
    summed: bool = True,
    weight: float = 1.0,
    is_noise: bool = False,
    threads: int = 0,
) -> None:
    """Raise ParityError unless ONNX Runtime, on `threads` at most, and PyTorch agree on `batch` [N, S, S, C].

    `summed` says whether a score is a sum over the pixels, or else of the size of one, `weight` by what the parts of
    the map are multiplied in the mean. TrainingError where PyTorch finds no finite numbers either.
    """
    with torch.no_grad():
        scores, maps, reconstructions, parts = (output.numpy() for output in graph(torch.from_numpy(batch)))
    if not np.isfinite(scores).all():
        raise TrainingError(
            "the network that was trained answers with numbers that are not finite: expected finite ones. Train again, "
            "with --overwrite, at a lower train.learning_rate or with train.precision=32. No detector was written."
        )
    *outputs, found_parts = open_session(exported, threads).run([*OUTPUTS, PARTS_OUTPUT], {"image": batch})
    found = Outputs(*outputs)
    least = weight * (SMALL * batch.shape[1] * batch.shape[2] if summed else LOW)
    score_gap = float(np.max(np.abs(found.scores - scores) / np.maximum(np.abs(scores), least)))
    map_gap, part_gap = _gap(found.anomaly_maps, maps, weight), _gap(found_parts, parts, weight)
    apart = np.abs(found.reconstructions - reconstructions)
    # Of noise in the mean: in a place a hard read may fall to the other side of its threshold, as no image makes it.
    image_gap = float(np.max(apart.mean(axis=(1, 2, 3)) if is_noise else apart))
    # Written so that a NaN fails.
    agree = score_gap <= SCORE_TOLERANCE and map_gap <= MAP_TOLERANCE and image_gap <= LOOK_TOLERANCE
    if not (agree and part_gap <= LOOK_TOLERANCE):
        raise ParityError(
            f"the exported graph differs from the network: scores by {score_gap:.1e} (allowed {SCORE_TOLERANCE:.0e} "
            f"relative), maps by {map_gap:.1e} (allowed {MAP_TOLERANCE:.0e}), parts by {part_gap:.1e}, "
            f"reconstructions by {image_gap:.1e} (allowed {LOOK_TOLERANCE:.0e}). "
            f"No detector was written."
        )


def _gap(found: NDArray[np.float32], expected: NDArray[np.float32], weight: float) -> float:
    """The largest difference of two maps, relative to their largest value where it is above `weight`, or else to it."""
    return float(np.max(np.abs(found - expected)) / max(weight, np.max(expected)))
