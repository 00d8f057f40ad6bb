"""The closed list of operators a program may name, each with its arguments.

ATen's pure operators that real classifiers need once `torch.export` has decomposed them, and those
of irbin. A packed folder can name nothing else, so that reading one runs no code but these.
The list is text so that it needs no torch; a test holds it against torch's own schemas.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

_OWN_TABLE = """
bitpack(Tensor x, int channel_axis, int groups)
bconv2d(Tensor bits, Tensor weight_bits, Tensor? scale_log2, Tensor? bias, int in_channels,
    int[] stride, int[] border, int[] dilation, int groups)
bgemm(Tensor bits, Tensor weight_bits, Tensor? scale_log2, Tensor? bias, int in_features)
bitunpack(Tensor weight_bits, Tensor? scale_log2, int in_channels)
"""
"""irbin's operators on bits, which `docs/format.md` defines."""

_TABLE = """
getitem(Tensors values, int index)
int_add(int a, int b)
int_sub(int a, int b)
int_mul(int a, int b)
int_floordiv(int a, int b)
int_mod(int a, int b)

aten._native_batch_norm_legit.no_stats(Tensor input, Tensor? weight, Tensor? bias, bool
    training, float momentum, float eps)
aten._to_copy.default(Tensor self, dtype? dtype=)
aten._upsample_bicubic2d_aa.vec(Tensor input, int[]? output_size, bool align_corners, float[]?
    scale_factors)
aten._upsample_bilinear2d_aa.vec(Tensor input, int[]? output_size, bool align_corners, float[]?
    scale_factors)
aten.abs.default(Tensor self)
aten.adaptive_avg_pool1d.default(Tensor self, int[] output_size)
aten.adaptive_avg_pool2d.default(Tensor self, int[] output_size)
aten.adaptive_max_pool2d.default(Tensor self, int[] output_size)
aten.add.Tensor(Tensor self, operand other, number alpha=)
aten.addcmul.default(Tensor self, Tensor tensor1, Tensor tensor2, number value=)
aten.addmm.default(Tensor self, Tensor mat1, Tensor mat2, number beta=, number alpha=)
aten.amax.default(Tensor self, int[] dim=, bool keepdim=)
aten.amin.default(Tensor self, int[] dim=, bool keepdim=)
aten.arange.default(number end, dtype? dtype=)
aten.arange.start(number start, number end, dtype? dtype=)
aten.arange.start_step(number start, number end, number step=, dtype? dtype=)
aten.avg_pool1d.default(Tensor self, int[] kernel_size, int[] stride=, int[] padding=,
    bool ceil_mode=, bool count_include_pad=)
aten.avg_pool2d.default(Tensor self, int[] kernel_size, int[] stride=, int[] padding=, bool
    ceil_mode=, bool count_include_pad=, int? divisor_override=)
aten.avg_pool3d.default(Tensor self, int[] kernel_size, int[] stride=, int[] padding=, bool
    ceil_mode=, bool count_include_pad=, int? divisor_override=)
aten.bitwise_and.Tensor(Tensor self, operand other)
aten.bitwise_not.default(Tensor self)
aten.bitwise_or.Tensor(Tensor self, Tensor other)
aten.bmm.default(Tensor self, Tensor mat2)
aten.cat.default(Tensor[] tensors, int dim=)
aten.ceil.default(Tensor self)
aten.clamp.Tensor(Tensor self, Tensor? min=, Tensor? max=)
aten.clamp.default(Tensor self, number? min=, number? max=)
aten.clamp_max.default(Tensor self, number max)
aten.clamp_min.default(Tensor self, number min)
aten.col2im.default(Tensor self, int[] output_size, int[] kernel_size, int[] dilation, int[]
    padding, int[] stride)
aten.constant_pad_nd.default(Tensor self, int[] pad, number value=)
aten.conv1d.default(Tensor input, Tensor weight, Tensor? bias=, int[] stride=, int[] padding=,
    int[] dilation=, int groups=)
aten.conv2d.default(Tensor input, Tensor weight, Tensor? bias=, int[] stride=, int[] padding=,
    int[] dilation=, int groups=)
aten.conv2d.padding(Tensor input, Tensor weight, Tensor? bias=, int[] stride=, str padding=,
    int[] dilation=, int groups=)
aten.conv3d.default(Tensor input, Tensor weight, Tensor? bias=, int[] stride=, int[] padding=,
    int[] dilation=, int groups=)
aten.conv_transpose2d.input(Tensor input, Tensor weight, Tensor? bias=, int[] stride=, int[]
    padding=, int[] output_padding=, int groups=, int[] dilation=)
aten.copy.default(Tensor self, Tensor src)
aten.cos.default(Tensor self)
aten.cumsum.default(Tensor self, int dim, dtype? dtype=)
aten.div.Tensor(Tensor self, operand other)
aten.div.Tensor_mode(Tensor self, operand other, str? rounding_mode)
aten.einsum.default(str equation, Tensor[] tensors, int[]? path=)
aten.elu.default(Tensor self, number alpha=, number scale=, number input_scale=)
aten.embedding.default(Tensor weight, Tensor indices, int padding_idx=, bool
    scale_grad_by_freq=, bool sparse=)
aten.eye.default(int n, dtype? dtype=)
aten.eye.m(int n, int m, dtype? dtype=)
aten.eq.Scalar(Tensor self, number other)
aten.eq.Tensor(Tensor self, operand other)
aten.erf.default(Tensor self)
aten.exp.default(Tensor self)
aten.expand.default(Tensor self, int[] size, bool implicit=)
aten.flip.default(Tensor self, int[] dims)
aten.floor.default(Tensor self)
aten.floor_divide.default(Tensor self, operand other)
aten.fill.Scalar(Tensor self, number value)
aten.fill.Tensor(Tensor self, Tensor value)
aten.full.default(int[] size, number fill_value, dtype? dtype=)
aten.full_like.default(Tensor self, number fill_value, dtype? dtype=)
aten.ge.Scalar(Tensor self, number other)
aten.ge.Tensor(Tensor self, operand other)
aten.gelu.default(Tensor self, str approximate=)
aten.glu.default(Tensor self, int dim=)
aten.group_norm.default(Tensor input, int num_groups, Tensor? weight=, Tensor? bias=, float
    eps=, bool cudnn_enabled=)
aten.gt.Scalar(Tensor self, number other)
aten.gt.Tensor(Tensor self, operand other)
aten.hardsigmoid.default(Tensor self)
aten.hardswish.default(Tensor self)
aten.hardtanh.default(Tensor self, number min_val=, number max_val=)
aten.im2col.default(Tensor self, int[] kernel_size, int[] dilation, int[] padding, int[] stride)
aten.index.Tensor(Tensor self, Tensor?[] indices)
aten.layer_norm.default(Tensor input, int[] normalized_shape, Tensor? weight=, Tensor? bias=,
    float eps=, bool cudnn_enable=)
aten.le.Scalar(Tensor self, number other)
aten.le.Tensor(Tensor self, operand other)
aten.leaky_relu.default(Tensor self, number negative_slope=)
aten.linalg_vector_norm.default(Tensor self, number ord=, int[]? dim=, bool keepdim=, dtype?
    dtype=)
aten.linear.default(Tensor input, Tensor weight, Tensor? bias=)
aten.linspace.default(number start, number end, int steps, dtype? dtype=)
aten.log.default(Tensor self)
aten.log_softmax.int(Tensor self, int dim, dtype? dtype=)
aten.logical_and.default(Tensor self, operand other)
aten.logical_not.default(Tensor self)
aten.logical_or.default(Tensor self, Tensor other)
aten.lstm.input(Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers,
    float dropout, bool train, bool bidirectional, bool batch_first)
aten.lt.Scalar(Tensor self, number other)
aten.lt.Tensor(Tensor self, operand other)
aten.masked_fill.Scalar(Tensor self, Tensor mask, number value)
aten.matmul.default(Tensor self, Tensor other)
aten.max.dim(Tensor self, int dim, bool keepdim=)
aten.max_pool2d.default(Tensor self, int[] kernel_size, int[] stride=, int[] padding=, int[]
    dilation=, bool ceil_mode=)
aten.maximum.default(Tensor self, operand other)
aten.mean.default(Tensor self, dtype? dtype=)
aten.mean.dim(Tensor self, int[]? dim, bool keepdim=, dtype? dtype=)
aten.meshgrid.indexing(Tensor[] tensors, str indexing)
aten.minimum.default(Tensor self, operand other)
aten.mish.default(Tensor self)
aten.mm.default(Tensor self, Tensor mat2)
aten.mul.Tensor(Tensor self, operand other)
aten.ne.Scalar(Tensor self, number other)
aten.ne.Tensor(Tensor self, operand other)
aten.neg.default(Tensor self)
aten.new_zeros.default(Tensor self, int[] size, dtype? dtype=)
aten.one_hot.default(Tensor self, int num_classes=)
aten.ones.default(int[] size, dtype? dtype=)
aten.ones_like.default(Tensor self, dtype? dtype=)
aten.pad.default(Tensor self, int[] pad, str mode=, float? value=)
aten.permute.default(Tensor self, int[] dims)
aten.pixel_shuffle.default(Tensor self, int upscale_factor)
aten.pixel_unshuffle.default(Tensor self, int downscale_factor)
aten.pow.Scalar(number self, Tensor exponent)
aten.pow.Tensor_Scalar(Tensor self, number exponent)
aten.pow.Tensor_Tensor(Tensor self, Tensor exponent)
aten.prelu.default(Tensor self, Tensor weight)
aten.reciprocal.default(Tensor self)
aten.reflection_pad2d.default(Tensor self, int[] padding)
aten.relu.default(Tensor self)
aten.relu6.default(Tensor self)
aten.remainder.Scalar(Tensor self, number other)
aten.repeat.default(Tensor self, int[] repeats)
aten.repeat_interleave.self_int(Tensor self, int repeats, int? dim=, int? output_size=)
aten.replication_pad2d.default(Tensor self, int[] padding)
aten.reshape.default(Tensor self, int[] shape)
aten.rms_norm.default(Tensor input, int[] normalized_shape, Tensor? weight=, float? eps=)
aten.roll.default(Tensor self, int[] shifts, int[] dims=)
aten.round.default(Tensor self)
aten.rsqrt.default(Tensor self)
aten.rsub.Scalar(Tensor self, number other, number alpha=)
aten.scaled_dot_product_attention.default(Tensor query, Tensor key, Tensor value, Tensor?
    attn_mask=, float dropout_p=, bool is_causal=, float? scale=, bool enable_gqa=)
aten.select.int(Tensor self, int dim, int index)
aten.select_scatter.default(Tensor self, Tensor src, int dim, int index)
aten.sigmoid.default(Tensor self)
aten.sign.default(Tensor self)
aten.silu.default(Tensor self)
aten.sin.default(Tensor self)
aten.slice.Tensor(Tensor self, int dim=, int? start=, int? end=, int step=)
aten.slice_scatter.default(Tensor self, Tensor src, int dim=, int? start=, int? end=, int step=)
aten.softmax.int(Tensor self, int dim, dtype? dtype=)
aten.softplus.default(Tensor self, number beta=, number threshold=)
aten.split.Tensor(Tensor self, int split_size, int dim=)
aten.split_with_sizes.default(Tensor self, int[] split_sizes, int dim=)
aten.sqrt.default(Tensor self)
aten.square.default(Tensor self)
aten.squeeze.dim(Tensor self, int dim)
aten.squeeze.dims(Tensor self, int[] dim)
aten.stack.default(Tensor[] tensors, int dim=)
aten.std.dim(Tensor self, int[]? dim, bool unbiased=, bool keepdim=)
aten.sub.Tensor(Tensor self, operand other, number alpha=)
aten.sum.default(Tensor self, dtype? dtype=)
aten.sum.dim_IntList(Tensor self, int[]? dim, bool keepdim=, dtype? dtype=)
aten.sym_size.int(Tensor self, int dim)
aten.tanh.default(Tensor self)
aten.tile.default(Tensor self, int[] dims)
aten.transpose.int(Tensor self, int dim0, int dim1)
aten.type_as.default(Tensor self, Tensor other)
aten.unbind.int(Tensor self, int dim=)
aten.unfold.default(Tensor self, int dimension, int size, int step)
aten.unsqueeze.default(Tensor self, int dim)
aten.upsample_bicubic2d.vec(Tensor input, int[]? output_size, bool align_corners, float[]?
    scale_factors)
aten.upsample_bilinear2d.vec(Tensor input, int[]? output_size, bool align_corners, float[]?
    scale_factors)
aten.upsample_linear1d.vec(Tensor input, int[]? output_size, bool align_corners, float[]?
    scale_factors)
aten.upsample_nearest2d.vec(Tensor input, int[]? output_size, float[]? scale_factors)
aten.var.correction(Tensor self, int[]? dim=, number? correction=, bool keepdim=)
aten.var.dim(Tensor self, int[]? dim, bool unbiased=, bool keepdim=)
aten.var_mean.correction(Tensor self, int[]? dim=, number? correction=, bool keepdim=)
aten.where.ScalarOther(Tensor condition, Tensor self, number other)
aten.where.ScalarSelf(Tensor condition, number self, Tensor other)
aten.where.self(Tensor condition, Tensor self, operand other)
aten.zero.default(Tensor self)
aten.zeros.default(int[] size, dtype? dtype=)
aten.zeros_like.default(Tensor self, dtype? dtype=)
"""
"""One operator a line, indented lines go on; `=` marks an argument with a default. Kinds:
`operand` is a tensor or a number, `number` ATen's Scalar, `Tensors` several; `?` allows None too.
ATen's device, layout and memory arguments are left out: a program names no place to run."""


class Argument(NamedTuple):
    """One argument of an operator."""

    kind: str
    """As in the table above."""
    name: str
    """Its keyword."""
    optional: bool
    """Whether it may be left out."""


@cache
def signatures() -> dict[str, tuple[Argument, ...]]:
    """The arguments of every operator, by the operator's name."""
    return _read(_OWN_TABLE) | _read(_TABLE)


def _read(table: str) -> dict[str, tuple[Argument, ...]]:
    operators = {}
    for line in table.replace("\n    ", " ").split("\n"):
        if line:
            name, _, rest = line.removesuffix(")").partition("(")
            operators[name] = tuple(_argument(text) for text in rest.split(", ") if text)
    return operators


def _argument(text: str) -> Argument:
    kind, name = text.split(" ")
    return Argument(kind, name.removesuffix("="), name.endswith("="))


OWN_OPERATORS = tuple(_read(_OWN_TABLE))
"""irbin's operators on bits, as files name them."""
