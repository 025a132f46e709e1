"""The pose network with its segmentation head rearranged: the same numbers in two thirds of the time on x86.

ONNX Runtime's convolutions work on blocks of 16 channels (AVX-512) or 8 (AVX2). The head has 8 channels at up to
256 x 256, so that half of each block is padding, and a Clip that follows an Add leaves the block layout and comes back.
Here the head sees the picture's upper and lower half side by side, as 16 channels; each half has a few rows of the
other, as many as its kernels reach over the seam. A Clip sits on a convolution that changes nothing, which it can be
fused into, and the last convolution, with its one channel, is a depthwise one and a sum.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

OUTPUTS = ("landmarks", "presence", "segmentation")
"""Kept; the landmarks in metres are left out."""

# Tensors of the shipped file. The head begins with 8 channels at 64 x 64 and at 128 x 128; each of its blocks is
# Clip(x + pointwise(Clip(depthwise(x)))), two before the enlargement to 256 x 256 and two after it.
_SOURCE_64, _SOURCE_128 = "clip337", "clip35"
_BLOCKS_128 = (("conv343", "conv349"), ("conv356", "conv362"))
_BLOCKS_256 = (("conv371", "conv377"), ("conv384", "conv390"))
_LAST = "conv397"
_CHANNELS = 8
_OVERLAP = 3
"""Rows of 64. Two enlargements and five 3 x 3 kernels reach 10 rows of 256 over the seam, which are 2.5 of these."""


def worthwhile() -> bool:
    """Whether ONNX Runtime works on blocks of channels on this CPU."""
    return platform.machine().lower() in ("x86_64", "amd64")


def packed(file: Path) -> bytes:
    """The model of `file` (the shipped pose_full_seg.onnx) with the other head, serialized; outputs: `OUTPUTS`."""
    model = onnx.load(file)
    graph = model.graph
    last = next(number for number, node in enumerate(graph.node) if node.output[0] == _LAST)
    _replace(graph.node, [*graph.node[:last], *_Head(graph).nodes, *graph.node[last + 1 :]])
    _replace(graph.output, [output for output in graph.output if output.name in OUTPUTS])
    _drop_unused(graph)
    return bytes(model.SerializeToString())


class _Head:
    """Builds the other head; its constants go into `graph`."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes: list[NodeProto] = []
        self._graph = graph
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._producers = {node.output[0]: node for node in graph.node}
        self._zero, self._six = (self._constant(np.float32(limit)) for limit in (0, 6))
        x = self._add(self._enlarged(self._halves(_SOURCE_64, 64), 128), self._halves(_SOURCE_128, 128))
        for depthwise, pointwise in _BLOCKS_128:
            x = self._block(x, depthwise, pointwise)
        x = self._enlarged(x, 256)
        for depthwise, pointwise in _BLOCKS_256:
            x = self._block(x, depthwise, pointwise)
        self._whole(self._last(x))

    def _block(self, x: str, depthwise: str, pointwise: str) -> str:
        kernel, bias = self._weights(depthwise)
        inner = self._clip(self._conv(x, np.tile(kernel, (2, 1, 1, 1)), np.tile(bias, 2), depthwise=True))
        kernel, bias = self._weights(pointwise)
        added = self._add(x, self._conv(inner, _diagonal(kernel), np.tile(bias, 2)))
        same = np.ones((2 * _CHANNELS, 1, 1, 1), np.float32)
        return self._clip(self._conv(added, same, np.zeros(2 * _CHANNELS, np.float32), depthwise=True))

    def _last(self, x: str) -> str:
        kernel, bias = self._weights(_LAST)
        each = np.tile(kernel.reshape(_CHANNELS, 1, 3, 3), (2, 1, 1, 1))
        x = self._conv(x, each, np.zeros(2 * _CHANNELS, np.float32), depthwise=True)
        return self._conv(x, _diagonal(np.ones((1, _CHANNELS, 1, 1), np.float32)), np.tile(bias, 2))

    def _halves(self, source: str, side: int) -> str:
        """(1, 8, side, side) to (1, 16, `_rows`, side)."""
        rows = _rows(side)
        halves = [self._slice(source, [2], [0], [rows]), self._slice(source, [2], [side - rows], [side])]
        return self._node("Concat", halves, axis=1)

    def _whole(self, x: str) -> None:
        """(1, 2, `_rows`, 256) to (1, 1, 256, 256), which is what the rest of the graph goes on with."""
        upper = self._slice(x, [1, 2], [0, 0], [1, 128])
        lower = self._slice(x, [1, 2], [1, _rows(256) - 128], [2, _rows(256)])
        self.nodes.append(helper.make_node("Concat", [upper, lower], [_LAST], axis=2))

    def _enlarged(self, x: str, side: int) -> str:
        """To twice as many rows and columns: of a picture of `side` x `side`."""
        size = self._constant(np.array([1, 2 * _CHANNELS, _rows(side), side], np.int64))
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self._node("Resize", [x, "", "", size], **how)

    def _conv(self, x: str, kernel: np.ndarray, bias: np.ndarray, depthwise: bool = False) -> str:
        side = kernel.shape[-1]
        return self._node(
            "Conv",
            [x, self._constant(kernel), self._constant(bias)],
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            group=len(kernel) if depthwise else 1,
        )

    def _add(self, x: str, y: str) -> str:
        return self._node("Add", [x, y])

    def _clip(self, x: str) -> str:
        return self._node("Clip", [x, self._zero, self._six])

    def _slice(self, x: str, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> str:
        return self._node("Slice", [x, *(self._constant(np.array(part, np.int64)) for part in (starts, ends, axes))])

    def _node(self, kind: str, inputs: Sequence[str], **attributes: object) -> str:
        output = f"head_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, value: np.ndarray | np.float32) -> str:
        name = f"head_constant_{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _weights(self, conv: str) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of the convolution that makes `conv`, float32."""
        kernel, bias = self._producers[conv].input[1:]
        # Weights are stored in 16 bits, each with its own Cast.
        stored = self._constants[self._producers[kernel].input[0]]
        return _array(stored), _array(self._constants[bias])


def _rows(side: int) -> int:
    """Of each half of a picture of `side` rows."""
    return side // 2 + _OVERLAP * side // 64


def _array(constant: TensorProto) -> np.ndarray:
    return np.asarray(numpy_helper.to_array(constant), np.float32)


def _diagonal(kernel: np.ndarray) -> np.ndarray:
    """(O, I, 1, 1) to (2 O, 2 I, 1, 1): the same for both halves, each of its own channels."""
    outputs, inputs = kernel.shape[:2]
    both = np.zeros((2 * outputs, 2 * inputs, 1, 1), np.float32)
    both[:outputs, :inputs] = both[outputs:, inputs:] = kernel
    return both


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Protocol buffers' lists cannot be assigned."""
    del field[:]
    field.extend(values)


def _drop_unused(graph: GraphProto) -> None:
    """Nodes and constants that no output needs."""
    needed = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):  # nodes are in the order of their work
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    _replace(graph.node, nodes[::-1])
    _replace(graph.initializer, [constant for constant in graph.initializer if constant.name in needed])
