"""TFLite's schema as data: every table with its fields, the unions and the enumerations.

Taken from schema.fbs of LiteRT 2.3. A line is a table; a field's place in it is its number.
`name:i` is a number as in `struct`, `=1` its default; `<Enum` a number with names, `s` a text,
`Table` a table, `|Union` one of several, with its type in the field before, `[` a vector.
`_` is a number that has no field of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgepipe.tflite.names import ACTIVATIONS, DTYPES

_TABLES = """
CustomQuantization custom:[B
BlockwiseQuantization scales:i zero_points:i block_size:i block_shape:[i
MultiAxisQuantization scales:i zero_points:i block_size:i quantized_dimensions:[i
QuantizationParameters min:[f max:[f scale:[f zero_point:[q _ details:|QuantizationDetails
  quantized_dimension:i
Int32Vector values:[i
Uint16Vector values:[H
Uint8Vector values:[B
DimensionMetadata format:b dense_size:i _ array_segments:|SparseIndexVector _
  array_indices:|SparseIndexVector
SparsityParameters traversal_order:[i block_map:[i dim_metadata:[DimensionMetadata
VariantSubType shape:[i type:<Type has_rank:?
Tensor shape:[i type:<Type buffer:I name:s quantization:QuantizationParameters is_variable:?
  sparsity:SparsityParameters shape_signature:[i has_rank:? variant_tensors:[VariantSubType
  external_buffer:I
StablehloGatherOptions offset_dims:[q collapsed_slice_dims:[q start_index_map:[q
  index_vector_dim:q slice_sizes:[q indices_are_sorted:?
StablehloTransposeOptions permutation:[q
StablehloDotGeneralOptions lhs_batching_dimensions:[q rhs_batching_dimensions:[q
  lhs_contracting_dimensions:[q rhs_contracting_dimensions:[q precision_config:[I
StablehloReduceWindowOptions window_dimensions:[q window_strides:[q base_dilations:[q
  window_dilations:[q padding:[q body_subgraph_index:i
StablehloWhileOptions cond_subgraph_index:i body_subgraph_index:i
StablehloSortOptions dimension:q is_stable:? comparator_subgraph_index:i
StablehloConcatenateOptions dimension:q
StablehloBroadcastInDimOptions broadcast_dimensions:[q
StablehloCompareOptions comparison_direction:I compare_type:I
StablehloDynamicSliceOptions slice_sizes:[q
StablehloPadOptions edge_padding_low:[q edge_padding_high:[q interior_padding:[q
StablehloIotaOptions iota_dimension:q
StablehloCustomCallOptions call_target_name:s has_side_effect:? backend_config:s api_version:i
  called_computations:[i custom_attributes:[B
StablehloReduceOptions dimensions:[q body_subgraph_index:i
StablehloSliceOptions start_indices:[q limit_indices:[q strides:[q
StablehloConvolutionOptions window_strides:[q padding:[q lhs_dilation:[q rhs_dilation:[q
  window_reversal:[? input_batch_dimension:q input_feature_dimension:q input_spatial_dimensions:[q
  kernel_input_feature_dimension:q kernel_output_feature_dimension:q kernel_spatial_dimensions:[q
  output_batch_dimension:q output_feature_dimension:q output_spatial_dimensions:[q
  feature_group_count:q batch_group_count:q precision_config:[I
StablehloScatterOptions indices_are_sorted:? update_window_dims:[q inserted_window_dims:[q
  scatter_dims_to_operand_dims:[q index_vector_dim:q unique_indices:?
  update_computation_subgraph_index:i
StablehloCaseOptions branch_subgraph_indices:[i
StablehloRngBitGeneratorOptions algorithm:b
Conv2DOptions padding:<Padding stride_w:i stride_h:i fused_activation_function:<Activation
  dilation_w_factor:i=1 dilation_h_factor:i=1 quantized_bias_type:<Type
Conv3DOptions padding:<Padding stride_d:i stride_w:i stride_h:i
  fused_activation_function:<Activation dilation_d_factor:i=1 dilation_w_factor:i=1
  dilation_h_factor:i=1
Pool2DOptions padding:<Padding stride_w:i stride_h:i filter_width:i filter_height:i
  fused_activation_function:<Activation
DepthwiseConv2DOptions padding:<Padding stride_w:i stride_h:i depth_multiplier:i
  fused_activation_function:<Activation dilation_w_factor:i=1 dilation_h_factor:i=1
ConcatEmbeddingsOptions num_channels:i num_columns_per_channel:[i embedding_dim_per_channel:[i
LSHProjectionOptions type:<Projection
SVDFOptions rank:i fused_activation_function:<Activation asymmetric_quantize_inputs:?
RNNOptions fused_activation_function:<Activation asymmetric_quantize_inputs:?
SequenceRNNOptions time_major:? fused_activation_function:<Activation asymmetric_quantize_inputs:?
BidirectionalSequenceRNNOptions time_major:? fused_activation_function:<Activation merge_outputs:?
  asymmetric_quantize_inputs:?
FullyConnectedOptions fused_activation_function:<Activation weights_format:<WeightsFormat
  keep_num_dims:? asymmetric_quantize_inputs:? quantized_bias_type:<Type quant_spec:[B
SoftmaxOptions beta:f
ConcatenationOptions axis:i fused_activation_function:<Activation
AddOptions fused_activation_function:<Activation pot_scale_int16:?=1
MulOptions fused_activation_function:<Activation
L2NormOptions fused_activation_function:<Activation
LocalResponseNormalizationOptions radius:i bias:f alpha:f beta:f
LSTMOptions fused_activation_function:<Activation cell_clip:f proj_clip:f kernel_type:<Kernel
  asymmetric_quantize_inputs:?
UnidirectionalSequenceLSTMOptions fused_activation_function:<Activation cell_clip:f proj_clip:f
  time_major:? asymmetric_quantize_inputs:? diagonal_recurrent_tensors:?
BidirectionalSequenceLSTMOptions fused_activation_function:<Activation cell_clip:f proj_clip:f
  merge_outputs:? time_major:?=1 asymmetric_quantize_inputs:?
ResizeBilinearOptions new_height:i new_width:i align_corners:? half_pixel_centers:?
ResizeNearestNeighborOptions align_corners:? half_pixel_centers:?
CallOptions subgraph:I
ReshapeOptions new_shape:[i
SkipGramOptions ngram_size:i max_skip_size:i include_all_ngrams:?
SpaceToDepthOptions block_size:i
DepthToSpaceOptions block_size:i
SubOptions fused_activation_function:<Activation pot_scale_int16:?=1
DivOptions fused_activation_function:<Activation
EmbeddingLookupSparseOptions combiner:<Combiner
GatherOptions axis:i batch_dims:i
ReducerOptions keep_dims:?
SqueezeOptions squeeze_dims:[i
SplitOptions num_splits:i
SplitVOptions num_splits:i
StridedSliceOptions begin_mask:i end_mask:i ellipsis_mask:i new_axis_mask:i shrink_axis_mask:i
  offset:?
CastOptions in_data_type:<Type out_data_type:<Type
ArgMaxOptions output_type:<Type
ArgMinOptions output_type:<Type
TransposeConvOptions padding:<Padding stride_w:i stride_h:i fused_activation_function:<Activation
  quantized_bias_type:<Type
SparseToDenseOptions validate_indices:?
ShapeOptions out_type:<Type
FakeQuantOptions min:f max:f num_bits:i narrow_range:?
PackOptions values_count:i axis:i
OneHotOptions axis:i
UnpackOptions num:i axis:i
LeakyReluOptions alpha:f
MirrorPadOptions mode:<Mirror
UniqueOptions idx_out_type:<Type=int32
ReverseSequenceOptions seq_dim:i batch_dim:i
IfOptions then_subgraph_index:i else_subgraph_index:i
CallOnceOptions init_subgraph_index:i
WhileOptions cond_subgraph_index:i body_subgraph_index:i
BatchMatMulOptions adj_x:? adj_y:? asymmetric_quantize_inputs:?
CumsumOptions exclusive:? reverse:?
HashtableOptions table_id:i key_dtype:<Type value_dtype:<Type
VarHandleOptions container:s shared_name:s
RandomOptions seed:q seed2:q
BucketizeOptions boundaries:[f
GeluOptions approximate:?
ReduceWindowOptions reduce_function:i
OperatorCode deprecated_builtin_code:b custom_code:s version:i=1 builtin_code:i
StableHLOCompositeOptions name:s decomposition_subgraph_index:i composite_attributes:[B
  composite_attributes_format:b version:i
Operator opcode_index:I inputs:[i outputs:[i _ builtin_options:|BuiltinOptions custom_options:[B
  custom_options_format:b mutating_variable_inputs:[? intermediates:[i
  large_custom_options_offset:Q large_custom_options_size:Q _ builtin_options_2:|BuiltinOptions2
  debug_metadata_index:i=-1
SubGraph tensors:[Tensor inputs:[i outputs:[i operators:[Operator name:s debug_metadata_index:i=-1
Buffer data:[B offset:Q size:Q
ExternalBufferGroup name:s
ExternalBuffer id:I group:I offset:Q length:Q packing:s
Metadata name:s buffer:I
TensorMap name:s tensor_index:I
SignatureDef inputs:[TensorMap outputs:[TensorMap signature_key:s deprecated_tag:s
  subgraph_index:I
Model version:I operator_codes:[OperatorCode subgraphs:[SubGraph description:s buffers:[Buffer
  metadata_buffer:[i metadata:[Metadata signature_defs:[SignatureDef
  external_buffer_groups:[ExternalBufferGroup external_buffers:[ExternalBuffer
"""

_WITHOUT_FIELDS = """
PadOptions PadV2Options SpaceToBatchNDOptions BatchToSpaceNDOptions TopKV2Options TransposeOptions
ExpOptions CosOptions LogSoftmaxOptions DequantizeOptions MaximumMinimumOptions TileOptions
GreaterOptions GreaterEqualOptions LessOptions LessEqualOptions NegOptions SelectOptions
SliceOptions ExpandDimsOptions EqualOptions NotEqualOptions RankOptions PowOptions
LogicalOrOptions AbsOptions HardSwishOptions LogicalAndOptions LogicalNotOptions FloorDivOptions
SquareOptions ZerosLikeOptions FillOptions FloorModOptions RangeOptions SquaredDifferenceOptions
ReverseV2Options AddNOptions GatherNdOptions WhereOptions MatrixDiagOptions QuantizeOptions
MatrixSetDiagOptions NonMaxSuppressionV4Options NonMaxSuppressionV5Options ScatterNdOptions
SelectV2Options DensifyOptions SegmentSumOptions BroadcastToOptions Rfft2dOptions
HashtableFindOptions HashtableImportOptions HashtableSizeOptions ReadVariableOptions
AssignVariableOptions DynamicUpdateSliceOptions UnsortedSegmentProdOptions
UnsortedSegmentMaxOptions UnsortedSegmentSumOptions ATan2Options UnsortedSegmentMinOptions
SignOptions BitcastOptions BitwiseXorOptions RightShiftOptions DilateOptions
StablehloShiftLeftOptions
"""

_UNIONS = """
QuantizationDetails CustomQuantization BlockwiseQuantization MultiAxisQuantization
SparseIndexVector Int32Vector Uint16Vector Uint8Vector
BuiltinOptions Conv2DOptions DepthwiseConv2DOptions ConcatEmbeddingsOptions LSHProjectionOptions
  Pool2DOptions SVDFOptions RNNOptions FullyConnectedOptions SoftmaxOptions ConcatenationOptions
  AddOptions L2NormOptions LocalResponseNormalizationOptions LSTMOptions ResizeBilinearOptions
  CallOptions ReshapeOptions SkipGramOptions SpaceToDepthOptions EmbeddingLookupSparseOptions
  MulOptions PadOptions GatherOptions BatchToSpaceNDOptions SpaceToBatchNDOptions TransposeOptions
  ReducerOptions SubOptions DivOptions SqueezeOptions SequenceRNNOptions StridedSliceOptions
  ExpOptions TopKV2Options SplitOptions LogSoftmaxOptions CastOptions DequantizeOptions
  MaximumMinimumOptions ArgMaxOptions LessOptions NegOptions PadV2Options GreaterOptions
  GreaterEqualOptions LessEqualOptions SelectOptions SliceOptions TransposeConvOptions
  SparseToDenseOptions TileOptions ExpandDimsOptions EqualOptions NotEqualOptions ShapeOptions
  PowOptions ArgMinOptions FakeQuantOptions PackOptions LogicalOrOptions OneHotOptions
  LogicalAndOptions LogicalNotOptions UnpackOptions FloorDivOptions SquareOptions ZerosLikeOptions
  FillOptions BidirectionalSequenceLSTMOptions BidirectionalSequenceRNNOptions
  UnidirectionalSequenceLSTMOptions FloorModOptions RangeOptions ResizeNearestNeighborOptions
  LeakyReluOptions SquaredDifferenceOptions MirrorPadOptions AbsOptions SplitVOptions
  UniqueOptions ReverseV2Options AddNOptions GatherNdOptions CosOptions WhereOptions RankOptions
  ReverseSequenceOptions MatrixDiagOptions QuantizeOptions MatrixSetDiagOptions HardSwishOptions
  IfOptions WhileOptions DepthToSpaceOptions NonMaxSuppressionV4Options NonMaxSuppressionV5Options
  ScatterNdOptions SelectV2Options DensifyOptions SegmentSumOptions BatchMatMulOptions
  CumsumOptions CallOnceOptions BroadcastToOptions Rfft2dOptions Conv3DOptions HashtableOptions
  HashtableFindOptions HashtableImportOptions HashtableSizeOptions VarHandleOptions
  ReadVariableOptions AssignVariableOptions RandomOptions BucketizeOptions GeluOptions
  DynamicUpdateSliceOptions UnsortedSegmentProdOptions UnsortedSegmentMaxOptions
  UnsortedSegmentMinOptions UnsortedSegmentSumOptions ATan2Options SignOptions BitcastOptions
  BitwiseXorOptions RightShiftOptions
BuiltinOptions2 StablehloConcatenateOptions StablehloBroadcastInDimOptions StablehloSliceOptions
  StablehloConvolutionOptions StablehloCustomCallOptions StablehloReduceOptions
  StablehloScatterOptions StablehloCompareOptions StablehloDynamicSliceOptions StablehloPadOptions
  StablehloIotaOptions StablehloDotGeneralOptions StablehloReduceWindowOptions
  StablehloSortOptions StablehloWhileOptions StablehloGatherOptions StablehloTransposeOptions
  DilateOptions StablehloRngBitGeneratorOptions ReduceWindowOptions StableHLOCompositeOptions
  StablehloShiftLeftOptions StablehloCaseOptions
"""

ENUMS: dict[str, tuple[str, ...]] = {
    "Padding": ("SAME", "VALID"),
    "Activation": ACTIVATIONS,
    "Type": DTYPES,
    "WeightsFormat": ("DEFAULT", "SHUFFLED4x16INT8"),
    "Kernel": ("FULL", "BASIC"),
    "Combiner": ("SUM", "MEAN", "SQRTN"),
    "Projection": ("UNKNOWN", "SPARSE", "DENSE"),
    "Mirror": ("REFLECT", "SYMMETRIC"),
}
"""All are kept in one byte."""

WIDTHS = {"?": 1, "b": 1, "B": 1, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8}


@dataclass(frozen=True)
class Field:
    """`kind` is number, enum, text, table, union, numbers, texts or tables."""

    name: str
    slot: int
    kind: str
    of: str
    default: object = None


def _lines(text: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            rows[-1] += line.split()
        else:
            rows.append(line.split())
    return rows


def _field(slot: int, text: str) -> Field:
    name, _, code = text.partition(":")
    code, _, default = code.partition("=")
    if code in WIDTHS:
        number = bool(default) if code == "?" else float(default or 0) if code == "f" else None
        return Field(name, slot, "number", code, int(default or 0) if number is None else number)
    if code[0] == "<":
        return Field(name, slot, "enum", code[1:], default or ENUMS[code[1:]][0])
    if code[0] == "|":
        return Field(name, slot, "union", code[1:])
    if code[0] == "[":
        kind = "numbers" if code[1:] in WIDTHS else "texts" if code == "[s" else "tables"
        return Field(name, slot, kind, code[1:])
    return Field(name, slot, "text" if code == "s" else "table", code)


TABLES: dict[str, tuple[Field, ...]] = {
    name: tuple(_field(slot, text) for slot, text in enumerate(fields) if text != "_")
    for name, *fields in _lines(_TABLES)
}
TABLES |= dict.fromkeys(_WITHOUT_FIELDS.split(), ())

UNIONS: dict[str, tuple[str, ...]] = {name: ("", *members) for name, *members in _lines(_UNIONS)}
"""Members by number; 0 is none."""

_SHARED_OPTIONS = {
    "Pool2DOptions": "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D",
    "ReducerOptions": "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL",
    "MaximumMinimumOptions": "MAXIMUM MINIMUM",
    "L2NormOptions": "L2_NORMALIZATION",
    "SequenceRNNOptions": "UNIDIRECTIONAL_SEQUENCE_RNN",
    "Conv3DOptions": "CONV_3D CONV_3D_TRANSPOSE",
    "RandomOptions": "RANDOM_UNIFORM RANDOM_STANDARD_NORMAL MULTINOMIAL",
    "LSHProjectionOptions": "LSH_PROJECTION",
}
_BY_OPERATOR = {op: kind for kind, ops in _SHARED_OPTIONS.items() for op in ops.split()}
_BY_SPELLING = {
    name.removesuffix("Options").lower(): name
    for union in ("BuiltinOptions", "BuiltinOptions2")
    for name in UNIONS[union][1:]
}


def options_of(operator: str) -> str:
    """The table that an operator keeps its options in, "" where it has none."""
    spelling = operator.replace("_", "").lower()
    return _BY_OPERATOR.get(operator) or _BY_SPELLING.get(spelling, "")
