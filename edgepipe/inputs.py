"""What `--input` says about shapes, and how a model's open dimensions are closed with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgepipe.artifact import Port, Signature
from edgepipe.errors import InputError

DTYPES = (
    "float32", "float16", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
SHAPE = re.compile(r"^\d+(x\d+)*$")


@dataclass(frozen=True)
class InputSpec:
    """One `--input`: a name ('' takes the inputs in order), a shape, perhaps a type."""

    name: str
    shape: tuple[int, ...] | None
    dtype: str | None


def parse(text: str) -> InputSpec:
    """Read `name=1x3x224x224:float32`; name and type may be left out; a scalar is `x=:int64`."""
    name, equals, rest = text.rpartition("=")
    shape_text, colon, dtype = rest.partition(":")
    if colon and dtype not in DTYPES:
        raise InputError(
            f"--input {text!r}: {dtype!r} is no type", hint=f"known types: {', '.join(DTYPES)}."
        )
    if shape_text and not SHAPE.match(shape_text):
        raise InputError(
            f"--input {text!r}: {shape_text!r} is no shape",
            hint="write it as --input name=1x3x224x224:float32; every dimension is a number.",
        )
    shape = tuple(int(size) for size in shape_text.split("x")) if shape_text else ()
    if any(size == 0 for size in shape):
        raise InputError(f"--input {text!r}: a dimension of 0 leaves nothing to convert")
    return InputSpec(name if equals else "", shape, dtype if colon else None)


def pin(
    signature: Signature, specs: Sequence[InputSpec], optional: Sequence[str] = ()
) -> Signature:
    """Close every open dimension of the inputs, with what was given and what can be inferred.

    `optional` names inputs that the model can do without; one becomes an input when it is named.
    """
    named = {spec.name for spec in specs}
    wanted = [Port(name, None, "float32") for name in optional if name in named]
    signature = replace(signature, inputs=(*signature.inputs, *wanted))
    if not signature.inputs:
        raise InputError("the model has no inputs: there is nothing to feed it")
    _refuse_text(signature.inputs)
    by_name = _assign(signature, specs)
    batch = _shared_batch(signature, by_name)
    ports = [_pin_port(port, by_name.get(port.name), batch) for port in signature.inputs]
    open_ports = [port for port in ports if not port.fixed]
    if open_ports:
        raise _ask(signature, open_ports, batch)
    return replace(signature, inputs=tuple(ports))


def signature_of(specs: Sequence[InputSpec]) -> Signature:
    """The inputs of a model that isn't there, as they were said."""
    for spec in specs:
        if not spec.name or spec.shape is None:
            raise InputError(
                "without a model every --input needs a name and a shape",
                hint="write it as --input name=1x3x224x224:float32.",
            )
    if not specs:
        raise InputError(
            "nothing says what the data is for",
            hint="name the model, or say its inputs: --input name=1x3x224x224:float32.",
        )
    ports = tuple(Port(spec.name, spec.shape, spec.dtype or "float32") for spec in specs)
    return Signature(ports, ())


def _assign(signature: Signature, specs: Sequence[InputSpec]) -> dict[str, InputSpec]:
    names = [port.name for port in signature.inputs]
    if len(specs) > len(names):
        raise InputError(
            f"{len(specs)} --input were given and the model has {len(names)}: {', '.join(names)}"
        )
    given: dict[str, InputSpec] = {}
    for position, spec in enumerate(specs):
        name = spec.name or names[position]
        if name not in names:
            raise InputError(
                f"the model has no input {name!r}",
                hint=f"its inputs are: {'; '.join(map(words, signature.inputs))}.",
                known=names,
            )
        if name in given:
            raise InputError(f"--input {name!r} was given twice")
        given[name] = spec
    return given


def _refuse_text(ports: Sequence[Port]) -> None:
    texts = [port for port in ports if port.dtype == "string"]
    if texts:
        raise InputError(
            f"the model takes text: {'; '.join(map(words, texts))}; expected numbers",
            hint="keep the vectoriser outside: save the model from the layer after it,"
            " convert that, and feed it the token numbers.",
        )


def _shared_batch(signature: Signature, given: dict[str, InputSpec]) -> int:
    """The batch of the inputs that weren't named: that of those that were, where both are open.

    Sizes that differ are taken as said when every input was named (an image and its boxes have
    no batch in common); an input left to be inferred would be a guess among them.
    """
    batched = [port for port in signature.inputs if port.shape and port.shape[0] is None]
    sizes = {
        spec.shape[0]: port
        for port in batched
        if (spec := given.get(port.name)) is not None and spec.shape
    }
    left = [port for port in batched if port.name not in given]
    if len(sizes) > 1 and left:
        said = "; ".join(f"{port.name} {size}" for size, port in sizes.items())
        raise InputError(
            f"expected one batch in the --input given, received several: {said}",
            hint=f"give the same first dimension to each, or name {left[0].name!r}, too.",
        )
    return next(iter(sizes), 1)


def _pin_port(port: Port, spec: InputSpec | None, batch: int) -> Port:
    if spec is not None:
        return _apply(port, spec)
    if port.shape and port.shape[0] is None and None not in port.shape[1:]:
        return replace(port, shape=(batch, *port.shape[1:]))
    return port


def _apply(port: Port, spec: InputSpec) -> Port:
    shape = spec.shape or ()
    known = port.shape
    if known is not None and (
        len(known) != len(shape)
        or any(have not in (None, want) for have, want in zip(known, shape, strict=True))
    ):
        raise InputError(
            f"input {port.name!r} is {shape_words(known)} in the model,"
            f" received {shape_words(shape)}",
            hint="only dimensions shown as ? can be set.",
        )
    if spec.dtype is not None and known is not None and spec.dtype != port.dtype:
        raise InputError(
            f"input {port.name!r} is of type {port.dtype} in the model, received {spec.dtype}"
        )
    return replace(port, shape=shape, dtype=spec.dtype or port.dtype)


def _ask(signature: Signature, open_ports: Sequence[Port], batch: int) -> InputError:
    listed = "; ".join(map(words, open_ports))
    example = " ".join(f"--input {_example(port, batch)}" for port in open_ports)
    return InputError(
        f"the model doesn't say how large its input is: {listed}",
        hint=f"set it, for instance: {example}",
        inputs=[port.to_json() for port in signature.inputs],
    )


def _example(port: Port, batch: int) -> str:
    if port.shape is None:
        sizes = [str(batch), "3", "224", "224"]
    else:
        shape = port.shape
        sizes = [str(size or _guess(place, shape, batch)) for place, size in enumerate(shape)]
    return f"{port.name}={'x'.join(sizes)}:{port.dtype}"


def _guess(place: int, shape: tuple[int | None, ...], batch: int) -> int:
    # The state of a recurrent net is layers x batch x width: its second dimension is the batch.
    state = len(shape) == 3 and place == 1 and (shape[0] or 0) > 1
    if place == 0 or state:
        return batch
    return 224 if len(shape) == 4 else 16


def words(port: Port) -> str:
    """An input for people: `x 1x3x?x? float32`."""
    return f"{port.name} {shape_words(port.shape)} {port.dtype}"


def shape_words(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "of unknown shape"
    if not shape:
        return "scalar"
    return "x".join("?" if size is None else str(size) for size in shape)
