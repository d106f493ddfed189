"""Small ONNX networks written to bytes by hand, in the wire format of protocol buffers.

The numbers are those of onnx.proto3 (ONNX IR version 8, operator set 17), so that no test needs the onnx package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

FLOAT = 1
Dim = int | str


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(number: int, value: int | bytes | str) -> bytes:
    """One field: a varint for a number, else length and bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def end(name: str, shape: Sequence[Dim]) -> bytes:
    """ValueInfoProto of a float tensor; a dimension of no number is one that is left open."""
    dims = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in shape)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, dims)))


def constant(name: str, values: np.ndarray) -> bytes:
    """TensorProto with its values inside."""
    dims = b"".join(field(1, n) for n in values.shape)
    return dims + field(2, FLOAT) + field(8, name) + field(9, values.astype("<f4").tobytes())


def outside(name: str, shape: Sequence[int], location: str) -> bytes:
    """TensorProto whose values are said to lie in another file."""
    dims = b"".join(field(1, n) for n in shape)
    entry = field(13, field(1, "location") + field(2, location))
    return dims + field(2, FLOAT) + field(8, name) + entry + field(14, 1)


def node(operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: int) -> bytes:
    """NodeProto; attributes are whole numbers."""
    told = b"".join(field(5, field(1, name) + field(3, v) + field(20, 2)) for name, v in attributes.items())
    return b"".join(field(1, one) for one in inputs) + field(2, output) + field(4, operator) + told + field(7, domain)


def network(
    nodes: Sequence[bytes],
    shape_in: Sequence[Dim],
    shape_out: Sequence[Dim],
    tensors: Sequence[bytes] = (),
    domains: Mapping[str, int] | None = None,
) -> bytes:
    """ModelProto with the input `x` and the output `y`."""
    graph = b"".join(field(1, one) for one in nodes) + field(2, "graph") + b"".join(field(5, one) for one in tensors)
    graph += field(11, end("x", shape_in)) + field(12, end("y", shape_out))
    sets = b"".join(field(8, field(1, name) + field(2, v)) for name, v in {"": 17, **(domains or {})}.items())
    return field(1, 8) + field(7, graph) + sets


def ramp(shape: Sequence[Dim], *sides: int) -> bytes:
    """y = x + ramp, where the ramp counts the places of the spatial axes: an answer that tells where it was given."""
    places = np.arange(np.prod(sides), dtype=np.float32).reshape(1, 1, *sides)
    return network([node("Add", ("x", "ramp"), "y")], shape, shape, [constant("ramp", places)])
