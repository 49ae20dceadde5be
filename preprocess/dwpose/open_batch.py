"""Opens the batch axis of an ONNX network that was exported for one picture, so that a GPU can take many at once.

ONNX is protobuf, and little of it has to change, so it is rewritten field by field here; `onnx` is not needed.
Numbers of the fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

Message = bytes | memoryview
Change = Callable[[Message], Message | None]

_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13  # of a graph
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR, _ATTRIBUTE, _ATTRIBUTE_TENSOR = 1, 2, 4, 5, 5
_TENSOR_INT64, _TENSOR_NAME, _TENSOR_RAW = 7, 8, 9
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _AXIS, _AXIS_SIZE, _AXIS_NAME = 1, 2, 1, 2, 1, 1, 2
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
_ONE = (1).to_bytes(8, "little")


def open_batch(model: bytes) -> bytes:
    """`model` with a first axis of any length on its inputs and outputs, where that was 1.

    Shapes that the graph reshapes to, and that begin with 1, keep the first axis as it comes instead (0 in ONNX).
    Whether the network means by its first axis what we mean is to be tried: compare its answers with those of before.

    Raises:
        ValueError, IndexError: these bytes are no ONNX network.

    """
    return _changed(memoryview(model), {_GRAPH: _open_graph})


def _open_graph(graph: Message) -> bytes:
    reshapes = [node for node in _parts(graph, _NODE) if _texts(node, _OPERATOR) == [b"Reshape"]]
    shapes = {_texts(node, _NODE_INPUT)[1] for node in reshapes}
    constants = {name for tensor in _parts(graph, _INITIALIZER) for name in _texts(tensor, _TENSOR_NAME)}

    def initializer(tensor: Message) -> Message:
        return _open_shape(tensor) if shapes.intersection(_texts(tensor, _TENSOR_NAME)) else tensor

    def node(one: Message) -> Message:
        if _texts(one, _OPERATOR) != [b"Constant"] or not shapes.intersection(_texts(one, _NODE_OUTPUT)):
            return one
        return _changed(one, {_ATTRIBUTE: lambda value: _changed(value, {_ATTRIBUTE_TENSOR: _open_shape})})

    def end(value: Message) -> Message:  # old files list their constants among the inputs
        return value if constants.intersection(_texts(value, _VALUE_NAME)) else _open_value(value)

    return _changed(
        graph,
        {_NODE: node, _INITIALIZER: initializer, _INPUT: end, _OUTPUT: end, _VALUE_INFO: lambda _: None},
    )


def _open_shape(tensor: Message) -> bytes:
    def raw(data: Message) -> Message:
        return bytes(8) + bytes(data[8:]) if data[:8] == _ONE else data

    def packed(data: Message) -> Message:
        return b"\0" + bytes(data[1:]) if data[:1] == b"\1" else data

    return _changed(tensor, {_TENSOR_RAW: raw, _TENSOR_INT64: packed})


def _open_value(value: Message) -> bytes:
    named = _field(_AXIS_NAME, b"N")

    def shape(axes: Message) -> bytes:
        first, *rest = _parts(axes, _AXIS)
        of_one = (_AXIS_SIZE, 1) in [(number, value) for number, value, _ in _fields(first)]
        return b"".join(_field(_AXIS, axis) for axis in (named if of_one else first, *rest))

    def tensor(kind: Message) -> bytes:
        return _changed(kind, {_TENSOR_SHAPE: shape})

    return _changed(value, {_VALUE_TYPE: lambda kind: _changed(kind, {_TYPE_TENSOR: tensor})})


def _parts(message: Message, wanted: int) -> list[Message]:
    return [value for number, value, _ in _fields(message) if number == wanted and not isinstance(value, int)]


def _texts(message: Message, wanted: int) -> list[bytes]:
    return [bytes(part) for part in _parts(message, wanted)]


def _changed(message: Message, changes: Mapping[int, Change]) -> bytes:
    """`message` with the fields of these numbers changed, or left out where the change gives None."""
    parts: list[Message] = []
    for number, value, field in _fields(message):
        if number not in changes or isinstance(value, int):
            parts.append(field)
        elif (new := changes[number](value)) is not None:
            parts.append(_field(number, new))
    return b"".join(parts)


def _fields(message: Message) -> Iterator[tuple[int, int | Message, Message]]:
    """Number, value (a number, or bytes) and all bytes of each field."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _read_varint(message, at)
            yield number, value, message[start:at]
            continue
        if wire == _BYTES:
            size, at = _read_varint(message, at)
        elif wire in _FIXED:
            size = _FIXED[wire]
        else:
            raise ValueError(f"protobuf has no wire type {wire}")
        if at + size > len(message):
            raise ValueError("a field ends beyond its message")
        at += size
        yield number, message[at - size : at], message[start:at]


def _read_varint(message: Message, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _field(number: int, value: Message) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + bytes(value)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])
