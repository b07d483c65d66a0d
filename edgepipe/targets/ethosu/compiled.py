"""What a file that Vela wrote holds: its NPU operators, their bytes, and what is left for the CPU.

The layout of an NPU operator is that of Vela's `tflite_writer` and of the Ethos-U driver: its
first four inputs are the command stream, the constants, the arena and the fast part of it; the
stream begins with driver actions, of which one says the accelerator.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepipe.errors import UnknownFormat, UnsupportedModel
from edgepipe.tflite import reader
from edgepipe.tflite.model import Operator, Subgraph, TfliteModel

CODE = "ethos-u"
LABEL = f"CUSTOM:{CODE}"
_HELD = 4
_MAGICS = (b"COP1", b"COP2")
_CONFIG, _STREAM, _NOP = 0x01, 0x02, 0x05
"""Driver actions, see Vela's `driver_actions.py`: the lowest byte of a word says which."""
_PRODUCTS = {0: "ethos-u55", 1: "ethos-u65", 2: "ethos-u85"}


@dataclass(frozen=True)
class NpuOp:
    """One call of the NPU. `stream_bytes` are its commands, without the driver's header."""

    accelerator: str
    architecture: str
    stream_bytes: int
    constant_bytes: int
    scratch_bytes: int
    fast_scratch_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: int
    """Number of the buffer with the constants, which several operators may share."""


@dataclass(frozen=True)
class Compiled:
    """`cpu` are the operators that are left, by name and first output, in order."""

    npu: tuple[NpuOp, ...]
    cpu: tuple[tuple[str, str], ...]

    @property
    def accelerators(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.accelerator for one in self.npu))

    @property
    def stream_bytes(self) -> int:
        return sum(one.stream_bytes for one in self.npu)

    @property
    def constant_bytes(self) -> int:
        return sum({one.shared: one.constant_bytes for one in self.npu}.values())

    @property
    def scratch_bytes(self) -> int:
        """All operators work in the same arena."""
        return max((one.scratch_bytes for one in self.npu), default=0)

    @property
    def fast_scratch_bytes(self) -> int:
        return max((one.fast_scratch_bytes for one in self.npu), default=0)

    @property
    def cpu_ops(self) -> dict[str, int]:
        return dict(Counter(name for name, _ in self.cpu))

    def to_json(self) -> dict[str, Any]:
        return {
            "accelerators": list(self.accelerators),
            "npu_ops": [asdict(one) for one in self.npu],
            "cpu_ops": self.cpu_ops,
            "stream_bytes": self.stream_bytes,
            "constant_bytes": self.constant_bytes,
            "scratch_bytes": self.scratch_bytes,
            "fast_scratch_bytes": self.fast_scratch_bytes,
        }


def is_compiled(model: TfliteModel) -> bool:
    return any(op.custom == CODE for graph in model.subgraphs for op in graph.operators)


def read(path: str | Path) -> Compiled:
    """Decode a compiled file."""
    return of_model(reader.read(Path(path).expanduser()), Path(path).name)


def of_model(model: TfliteModel, name: str = "the model") -> Compiled:
    if not is_compiled(model):
        raise UnsupportedModel(
            f"{name} holds no {CODE} operator: Vela did not compile it, or left all to the CPU",
            hint="give the file that Vela wrote, NAME_vela.tflite.",
        )
    npu = [
        _npu_op(model, graph, op, name)
        for graph in model.subgraphs
        for op in graph.operators
        if op.custom == CODE
    ]
    return Compiled(tuple(npu), on_cpu(model))


def on_cpu(model: TfliteModel) -> tuple[tuple[str, str], ...]:
    """What isn't on the NPU, by name and first output, in order."""
    return tuple(
        (op.label, _first_output(graph, op))
        for graph in model.subgraphs
        for op in graph.operators
        if op.custom != CODE
    )


def _first_output(graph: Subgraph, op: Operator) -> str:
    return graph.tensors[op.outputs[0]].name if op.outputs else ""


def _npu_op(model: TfliteModel, graph: Subgraph, op: Operator, name: str) -> NpuOp:
    if len(op.inputs) < _HELD or min(op.inputs[:_HELD]) < 0:
        raise UnknownFormat(
            f"{name} is damaged: an {CODE} operator has {len(op.inputs)} inputs,"
            f" expected {_HELD} and more"
        )
    stream, constants, scratch, fast = (graph.tensors[index] for index in op.inputs[:_HELD])
    content = bytes(model.source[stream.start : stream.start + stream.size])
    accelerator, architecture, length = _header(content, name)
    # One arena may stand for both: then nothing is fast that isn't in it already.
    own_fast = op.inputs[2] != op.inputs[3] and fast.name != scratch.name
    return NpuOp(
        accelerator,
        architecture,
        length,
        constants.size,
        math.prod(scratch.shape),
        math.prod(fast.shape) if own_fast else 0,
        tuple(graph.tensors[index].name for index in op.inputs[_HELD:] if index >= 0),
        tuple(graph.tensors[index].name for index in op.outputs if index >= 0),
        constants.buffer,
    )


def _header(content: bytes, name: str) -> tuple[str, str, int]:
    """The accelerator, its architecture's version and the bytes of commands."""
    words = [
        int.from_bytes(content[at : at + 4], "little") for at in range(0, min(len(content), 256), 4)
    ]
    if content[:4] not in _MAGICS:
        raise UnknownFormat(
            f"{name} is damaged: a command stream begins with {content[:4]!r},"
            f" expected {' or '.join(map(repr, _MAGICS))}"
        )
    accelerator, architecture, at = "", "", 1
    while at < len(words):
        action, word = words[at] & 0xFF, words[at]
        if action == _CONFIG and at + 2 < len(words):
            accelerator, architecture = _configuration(words[at + 1]), _version(words[at + 2])
            at += 3
        elif action == _STREAM:
            # 24 bits: the lower 16 above, the higher 8 in what was reserved before them.
            length = 4 * ((word >> 16) | ((word >> 8 & 0xFF) << 16))
            if 4 * (at + 1) + length > len(content):
                raise UnknownFormat(f"{name} is damaged: a command stream is cut short")
            return accelerator, architecture, length
        elif action == _NOP:
            at += 1
        else:
            break
    raise UnknownFormat(f"{name} is damaged: a command stream has no commands")


def _configuration(word: int) -> str:
    """`config_r` of the register map: the product in the top four bits, log2 of MACs in the low."""
    product = _PRODUCTS.get(word >> 28, f"ethos-u?{word >> 28}")
    return f"{product}-{1 << (word & 0xF)}"


def _version(word: int) -> str:
    """`id_r`: major, minor and patch of the architecture."""
    return f"{word >> 28}.{word >> 20 & 0xFF}.{word >> 16 & 0xF}"
