"""What was asked, said in ai-edge-quantizer's words."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgepipe import catalog

if TYPE_CHECKING:
    from .tflite_quantize import QuantizeOptions

EVERYWHERE, AFTER_ALL = ".*", ".*$"
"""The same places; rules stay where their pattern was first named, so a last one needs its own."""


def load(quantizer: Any, options: QuantizeOptions) -> None:
    """Fill the quantizer's recipe; of several rules for an operator the last one counts."""
    if options.scheme == "float16":
        _add_float16(quantizer)
    elif options.scheme == "dynamic":
        _add_dynamic(quantizer, options)
    else:
        _add_static(quantizer, options)
    for pattern in options.float_layers:
        quantizer.update_quantization_recipe(pattern, _ops().ALL_SUPPORTED, None, "no_quantize")
    if options.scheme in catalog.CALIBRATED:
        _add_ends(quantizer, options)


def _add_static(quantizer: Any, options: QuantizeOptions) -> None:
    bits = 16 if options.scheme == "int16x8" else 8
    everything = _static(bits, options.weights, options.symmetric)
    quantizer.update_quantization_recipe(EVERYWHERE, _ops().ALL_SUPPORTED, everything)
    dense = _static(bits, options.weights_of_dense, options.symmetric)
    quantizer.update_quantization_recipe(EVERYWHERE, _ops().FULLY_CONNECTED, dense)
    for pattern in options.int16_layers:
        wide = _static(16, options.weights, True)
        quantizer.update_quantization_recipe(pattern, _ops().ALL_SUPPORTED, wide)


def _add_ends(quantizer: Any, options: QuantizeOptions) -> None:
    """Last, because a pattern for the layer that makes an output speaks of the output as well."""
    kinds = {
        "int8": lambda: _static(8, options.weights, options.symmetric),
        "uint8": lambda: _static(8, options.weights, False, "UINT"),
        "int16": lambda: _static(16, options.weights, True),
    }
    for end in (_ops().INPUT, _ops().OUTPUT):
        if options.ends() == "float32":
            quantizer.update_quantization_recipe(AFTER_ALL, end, None, "no_quantize")
        else:
            quantizer.update_quantization_recipe(AFTER_ALL, end, kinds[options.ends()]())


def _add_dynamic(quantizer: Any, options: QuantizeOptions) -> None:
    quantizer.add_dynamic_config(EVERYWHERE, _ops().ALL_SUPPORTED, 8, _granularity(options.weights))
    dense = _granularity(options.weights_of_dense)
    quantizer.add_dynamic_config(EVERYWHERE, _ops().FULLY_CONNECTED, 8, dense)


def _add_float16(quantizer: Any) -> None:
    quantizer.add_weight_only_config(
        EVERYWHERE, _ops().ALL_SUPPORTED, 16, _granularity("per-tensor"), "float_casting"
    )


def _static(bits: int, weights: str, symmetric: bool, dtype: str = "INT") -> Any:
    qtyping = import_module("ai_edge_quantizer.qtyping")
    return qtyping.OpQuantizationConfig(
        activation_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=bits,
            symmetric=symmetric or bits == 16,  # LiteRT's int16 kernels know no zero point.
            dtype=qtyping.TensorDataType(dtype),
        ),
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=8, symmetric=True, granularity=_granularity(weights)
        ),
        compute_precision=qtyping.ComputePrecision.INTEGER,
        explicit_dequantize=False,
    )


def _granularity(weights: str) -> Any:
    names = {"per-channel": "CHANNELWISE", "per-tensor": "TENSORWISE"}
    return import_module("ai_edge_quantizer.qtyping").QuantGranularity(names[weights])


def _ops() -> Any:
    return import_module("ai_edge_quantizer.qtyping").TFLOperationName
