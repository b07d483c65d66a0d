"""A model as C for firmware: an aligned array in one file, and a header with what goes with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgepipe import __version__
from edgepipe.artifact import digest_file
from edgepipe.tflite import reader
from edgepipe.tflite.model import Tensor

ALIGNMENT = 16
"""What Vela and TensorFlow Lite Micro ask of a model's address."""
PER_LINE = 16
_BYTES = tuple(f"{value:d}," for value in range(256))


@dataclass(frozen=True)
class Arena:
    """Bytes of working memory, how that is known, and of fast memory apart from it."""

    size: int
    words: str
    fast: int = 0


def write(model: Path, folder: Path, arena: Arena | None) -> list[Path]:
    """`NAME.c` and `NAME.h` of a model, into a folder."""
    name = identifier(model.stem)
    header, source = folder / f"{model.stem}.h", folder / f"{model.stem}.c"
    header.write_text(_header(model, name, arena), encoding="ascii", errors="replace")
    with source.open("w", encoding="ascii") as file:
        file.write(
            f"/* {_origin(model)} */\n"
            f'#include "{header.name}"\n\n'
            f"{name.upper()}_ALIGNED const unsigned char {name}[{name.upper()}_SIZE] = {{\n"
        )
        content = model.read_bytes()
        for at in range(0, len(content), PER_LINE):
            file.write("".join(_BYTES[one] for one in content[at : at + PER_LINE]) + "\n")
        file.write("};\n")
    return [source, header]


def identifier(stem: str) -> str:
    """A name that C takes."""
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return name if name[:1].isalpha() else f"model_{name}"


def _origin(model: Path) -> str:
    name = model.name.replace("*/", "")
    return f"{name}, sha256 {digest_file(model)}; written by edgepipe {__version__}"


def _header(model: Path, name: str, arena: Arena | None) -> str:
    upper = name.upper()
    graph = reader.read(model).main
    lines = [
        f"/* {_origin(model)} */",
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#if defined(__GNUC__) || defined(__clang__) || defined(__ARMCC_VERSION)",
        f"#define {upper}_ALIGNED __attribute__((aligned({ALIGNMENT})))",
        "#elif defined(__ICCARM__)",
        f'#define {upper}_ALIGNED _Pragma("data_alignment={ALIGNMENT}")',
        "#else",
        f"#define {upper}_ALIGNED _Alignas({ALIGNMENT})",
        "#endif",
        "",
        f"#define {upper}_SIZE {model.stat().st_size}u",
        *_arena(upper, arena),
        "",
        *(
            line
            for kind, indices in (("INPUT", graph.inputs), ("OUTPUT", graph.outputs))
            for number, index in enumerate(indices)
            for line in _end(f"{upper}_{kind}_{number}", graph.tensors[index])
        ),
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"extern const unsigned char {name}[{upper}_SIZE];",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        f"#endif /* {upper}_H */",
        "",
    ]
    return "\n".join(lines)


def _arena(upper: str, arena: Arena | None) -> list[str]:
    if arena is None:
        return ["/* Arena: not measured; `edgepipe toolchain install tflite-micro` does it. */"]
    lines = [f"/* {arena.words} */", f"#define {upper}_ARENA_SIZE {arena.size}u"]
    if arena.fast:
        lines += [
            "/* Fast memory of the NPU apart from the arena, for the driver's cache address. */",
            f"#define {upper}_FAST_MEMORY_SIZE {arena.fast}u",
        ]
    return lines


def _end(name: str, tensor: Tensor) -> list[str]:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    told = re.sub(r"[^\x20-\x7e]|\*/|/\*", "_", tensor.name)
    elements = 1
    for size in tensor.shape:
        elements *= size
    lines = [f"/* {told}: {shape} {tensor.dtype} */", f"#define {name}_ELEMENTS {elements}u"]
    if tensor.quantization is not None:
        lines += [
            f"#define {name}_SCALE {tensor.quantization.scales[0]!r}f",
            f"#define {name}_ZERO_POINT ({tensor.quantization.zero_points[0]})",
        ]
    return [*lines, ""]
