"""Small ONNX networks with the signatures of DWPose's: they see bright green as a person. Written field by field.

ONNX is protobuf; numbers of fields and types: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

Shape = Sequence[int | str]
FLOAT, INT64 = 1, 7
BOX = (192.0, 256.0)
"""Width and height of every detection, px of the detector's input."""


def detector_file(
    path: Path, *, batch: int | str = "N", side: int = 640, columns: int = 85, kind: int = FLOAT, layers: int = 0
) -> Path:
    """YOLOX's form: a person of `BOX` wherever a cell of the coarsest grid is green, as sure as it is green.

    `layers` of convolution that change nothing make it cost as much as a real one.
    """
    green = np.zeros((columns, 3, 1, 1), np.float32)
    green[4, 1], green[4, 0], green[4, 2] = 1 / 255, -1 / 255, -1 / 255
    (source, nodes, parts) = _costing("images", layers)
    for stride in (8, 16, 32):
        bias = np.zeros(columns, np.float32)
        bias[:6] = 0.5, 0.5, *np.log(np.array(BOX) / stride), 0 if stride == 32 else -9, 1
        pooled, answer, flat, rows = (f"{name}{stride}" for name in ("pooled", "answer", "flat", "rows"))
        nodes += [
            node("AveragePool", [source], pooled, kernel_shape=[stride] * 2, strides=[stride] * 2),
            node("Conv", [pooled, "green", f"bias{stride}"], answer),
            node("Reshape", [answer, "columns"], flat),
            node("Transpose", [flat], rows, perm=[0, 2, 1]),
        ]
        parts.append((f"bias{stride}", bias))
    nodes.append(node("Concat", ["rows8", "rows16", "rows32"], "output", axis=1))
    cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
    constants = [("green", green), ("columns", np.array([batch if isinstance(batch, int) else 0, columns, -1])), *parts]
    inputs, outputs = [("images", kind, (batch, 3, side, side))], [("output", FLOAT, (batch, cells, columns))]
    return save(path, nodes, constants, inputs, outputs)


def estimator_file(
    path: Path,
    *,
    batch: int | str = "N",
    points: int = 133,
    input_name: str = "input",
    gain: float = 1.0,
    layers: int = 0,
    mixing: bool = False,
    swapped: bool = False,
) -> Path:
    """The pose network's form: every point lies on the greenest row and column, as sure as they are green.

    `mixing` takes the mean over the batch for each of its pictures; `swapped` lists its outputs the other way round.
    """
    source, nodes, parts = _costing(input_name, layers)
    if mixing:
        nodes += [
            node("ReduceMean", [source], "common", axes=[0]),
            node("Sub", [source, source], "none"),
            node("Add", ["common", "none"], "mixed"),
        ]
        source = "mixed"
    nodes.append(node("Conv", [source, "green"], "seen"))
    for axis, other in (("x", 2), ("y", 3)):
        nodes += [
            node("ReduceMean", ["seen"], f"mean_{axis}", axes=[other], keepdims=0),
            node("Expand", [f"mean_{axis}", f"points_{axis}"], f"all_{axis}"),
            node("Unsqueeze", [f"all_{axis}", "last"], f"deep_{axis}"),
            node("Expand", [f"deep_{axis}", f"twice_{axis}"], f"double_{axis}"),
            node("Reshape", [f"double_{axis}", f"shape_{axis}"], f"simcc_{axis}"),
        ]
    first = batch if isinstance(batch, int) else 0
    constants = [
        ("green", np.array([-0.5, 1, -0.5], np.float32).reshape(1, 3, 1, 1) * np.float32(gain)),
        ("last", np.array([3])),
        *((f"points_{axis}", np.array([1, points, 1])) for axis in "xy"),
        *((f"twice_{axis}", np.array([1, 1, 1, 2])) for axis in "xy"),
        ("shape_x", np.array([first, points, 576])),
        ("shape_y", np.array([first, points, 768])),
        *parts,
    ]
    outputs = [("simcc_x", FLOAT, (batch, points, 576)), ("simcc_y", FLOAT, (batch, points, 768))]
    outputs = outputs[::-1] if swapped else outputs
    return save(path, nodes, constants, [(input_name, FLOAT, (batch, 3, 384, 288))], outputs)


def figure_file(path: Path, points: np.ndarray) -> Path:
    """The pose network's form: always the same figure, (133, 2) `points` x y as shares of the window's sides."""
    nodes = [
        node("ReduceMean", ["input"], "mean", axes=[1, 2], keepdims=0),
        node("ReduceMean", ["mean"], "one", axes=[1], keepdims=1),
        node("Unsqueeze", ["one", "last"], "deep"),
        node("Mul", ["deep", "nothing"], "zero"),
    ]
    constants = [("nothing", np.zeros((1, 1, 1), np.float32)), ("last", np.array([2]))]
    for name, size, places in (("simcc_x", 576, points[:, 0]), ("simcc_y", 768, points[:, 1])):
        bins = np.full((1, 133, size), 0.1, np.float32)
        bins[0, range(133), np.rint(places * (size - 1)).astype(int)] = 0.9
        constants.append((f"{name}_figure", bins))
        nodes.append(node("Add", [f"{name}_figure", "zero"], name))
    outputs = [("simcc_x", FLOAT, ("N", 133, 576)), ("simcc_y", FLOAT, ("N", 133, 768))]
    return save(path, nodes, constants, [("input", FLOAT, ("N", 3, 384, 288))], outputs)


def _costing(source: str, layers: int) -> tuple[str, list[bytes], list[tuple[str, np.ndarray]]]:
    """Name of a tensor that equals `source`; nodes and constants that take their time over it.

    Each layer is a convolution of 256 channels by 3×3 at an eighth of the size, all of zeros.
    """
    if not layers:
        return source, [], []
    nodes = [
        node("AveragePool", [source], "small", kernel_shape=[8, 8], strides=[8, 8]),
        node("Conv", ["small", "widen"], "layer0"),
        *(node("Conv", [f"layer{i}", "zeros"], f"layer{i + 1}", pads=[1] * 4) for i in range(layers)),
        node("GlobalAveragePool", [f"layer{layers}"], "mean"),
        node("Conv", ["mean", "narrow"], "nothing"),
        node("Add", [source, "nothing"], "same"),
    ]
    shapes = {"widen": (256, 3, 1, 1), "zeros": (256, 256, 3, 3), "narrow": (1, 256, 1, 1)}
    return "same", nodes, [(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()]


def save(
    path: Path,
    nodes: list[bytes],
    constants: list[tuple[str, np.ndarray]],
    inputs: list[tuple[str, int, Shape]],
    outputs: list[tuple[str, int, Shape]],
) -> Path:
    graph = b"".join(
        [
            *(_field(1, one) for one in nodes),
            _field(2, b"test"),
            *(_field(5, _tensor(name, value)) for name, value in constants),
            *(_field(11, _value(*one)) for one in inputs),
            *(_field(12, _value(*one)) for one in outputs),
        ]
    )
    path.write_bytes(_field(1, 8) + _field(8, _field(2, 13)) + _field(7, graph))  # IR 8, operator set 13
    return path


def node(operator: str, inputs: list[str], output: str, **attributes: int | list[int]) -> bytes:
    made = [_field(1, name.encode()) for name in inputs] + [_field(2, output.encode()), _field(4, operator.encode())]
    for name, value in attributes.items():
        numbers = (
            [_field(3, value), _field(20, 2)]
            if isinstance(value, int)
            else [*(_field(8, i) for i in value), _field(20, 7)]
        )
        made.append(_field(5, _field(1, name.encode()) + b"".join(numbers)))
    return b"".join(made)


def _tensor(name: str, value: np.ndarray) -> bytes:
    kind = FLOAT if value.dtype == np.float32 else INT64
    return (
        b"".join(_field(1, size) for size in value.shape)
        + _field(2, kind)
        + _field(8, name.encode())
        + _field(9, value.tobytes())
    )


def _value(name: str, kind: int, shape: Shape) -> bytes:
    axes = (_field(1, axis) if isinstance(axis, int) else _field(2, axis.encode()) for axis in shape)
    tensor = _field(1, kind) + _field(2, b"".join(_field(1, axis) for axis in axes))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
