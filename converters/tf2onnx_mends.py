"""What tf2onnx 1.17 needs around it: less copying, a name that numpy dropped, missing operators."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"


@contextmanager
def mended(*, copies: bool) -> Iterator[None]:
    """Run tf2onnx within this; with `copies` its optimizers can go on after a failure.

    1. Each of its 12 optimizers works on a deep copy of all weights: 7.9 GB for a ResNet50 of
       100 MB. Any value of the variable turns that off, for convert.py compares the variable's
       name where it means its value.
    2. After each it writes every node anew, weights too, into messages whose memory protobuf
       doesn't free (graph.py, `Node.update_proto`). Nothing reads those of constants.
    3. Its transpose optimizer gives up on the whole model at a scalar added behind a convolution
       (`_add_handler` takes the largest of no dimensions): 108 transposes in a MobileNetV3Small.
    4. It counts names up in a process, and so a second run would write another file.
    5. For models near 2 GB it calls `numpy.product`, which numpy 2 has no more (graph.py).
    """
    importlib.import_module("tf2onnx.convert")  # some of its modules draw a name when imported
    node = importlib.import_module("tf2onnx.graph").Node
    transposes = importlib.import_module("tf2onnx.optimizer.transpose_optimizer").TransposeOptimizer
    with ExitStack() as stack:
        enter = stack.enter_context
        if not copies:
            enter(mock.patch.dict(os.environ, {CATCH_ERRORS: "false"}))
        enter(mock.patch.object(node, "update_proto", _constants_kept(node.update_proto)))
        enter(mock.patch.object(importlib.import_module("tf2onnx.utils"), "INTERNAL_NAME", 1))
        scalars_pass = _scalars_pass(transposes._add_handler)
        enter(mock.patch.object(transposes, "_add_handler", scalars_pass))
        if not hasattr(np, "product"):
            enter(mock.patch.object(np, "product", np.prod, create=True))
        yield


def _constants_kept(write: Callable[..., None]) -> Callable[..., None]:
    def update_proto(node: Any, external_tensor_storage: Any = None) -> None:
        if not node.is_const():
            write(node, external_tensor_storage)

    return update_proto


def _scalars_pass(handle: Callable[..., bool]) -> Callable[..., bool]:
    def _add_handler(self: Any, transpose: Any, node: Any) -> bool:
        term = node.inputs[1]
        if term.is_const() and term.get_tensor_value(as_list=False).ndim == 0:
            return bool(self._switch_transpose_and_node(node, transpose))
        return handle(self, transpose, node)

    return _add_handler


def operator_handlers() -> dict[str, tuple[Callable[..., None], list[Any]]]:
    """Operators of TensorFlow 2.21 that tf2onnx doesn't know, in the form that it asks for."""
    return {"Erfc": (_erfc, [])}


def _erfc(context: Any, node: Any, name: str, _: Any) -> None:
    """erfc(x) is 1 - erf(x); GELU's erfc(-x c) as 1 + erf(x c), the form that other tools seek."""
    operand, output = node.input[0], node.output[0]
    ends = {"shapes": [context.get_shape(output)], "dtypes": [context.get_dtype(output)]}
    positive = _without_minus(context, operand, ends)
    one = context.make_const(f"{name}_one", np.ones((), _numpy_type(ends["dtypes"][0])))
    erf = context.make_node("Erf", [positive or operand], **ends)
    context.remove_node(node.name)
    terms = [erf.output[0], one.output[0]] if positive else [one.output[0], erf.output[0]]
    context.make_node("Add" if positive else "Sub", terms, name=name, outputs=[output], **ends)


def _without_minus(context: Any, operand: str, ends: dict[str, list[Any]]) -> str | None:
    """The tensor whose negative `operand` is, be it -x or -x c; None where it is none."""
    maker = context.get_node_by_output(operand)
    if maker is None:
        return None
    if maker.type == "Neg":
        return str(maker.input[0])
    if maker.type != "Mul":
        return None
    factors = [_without_minus(context, factor, ends) for factor in maker.input]
    if (factors[0] is None) == (factors[1] is None):
        return None
    kept = [new or old for new, old in zip(factors, maker.input, strict=True)]
    return str(context.make_node("Mul", kept, **ends).output[0])


def _numpy_type(onnx_type: int) -> Any:
    return importlib.import_module("onnx").helper.tensor_dtype_to_np_dtype(onnx_type)
