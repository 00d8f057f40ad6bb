"""Does each image's result depend on that image alone? Asked of a program, node by node.

One symbol stands in a program's shapes, the batch size N, so the axis whose size is an expression
of N holds the images. A node that mixes along that axis, drops it, or computes with N is refused,
and so is one whose rule is not known: readers run a batch in parts (`docs/format.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from irbin.errors import MixedImagesError
from irbin.program import mixing
from irbin.program.images import Call, Images, Mixed, axis_of, check_size
from irbin.program.types import INT, Node, ValueType


def check_images_apart(
    inputs: Mapping[str, ValueType],
    constants: Mapping[str, ValueType],
    nodes: Sequence[Node],
    places: Mapping[str, str],
) -> None:
    """Refuses a program in which one image's result may depend on another image.

    Args:
        inputs: types of the images.
        constants: types of what depends on no image.
        nodes: of a lowered network.
        places: node name → where it comes from, in words with a leading space, or nothing.

    Raises:
        MixedImagesError: names the first such node and its place in the source.
    """
    types: dict[str, ValueType] = {**inputs, **constants}
    images: dict[str, Images] = {name: Images() for name in inputs}
    for node in nodes:
        types[node.name] = node.type
        try:
            makeup = _result(Call(node, types, images))
        except Mixed as mixed:
            raise MixedImagesError(
                f"`{node.op}`{places.get(node.name, '')} {mixed}; a packed network runs a batch in "
                "parts, so each image's result must depend on that image alone"
            ) from None
        if makeup is not None:
            images[node.name] = makeup


def _result(call: Call) -> Images | None:
    """What is known of the node's result; None where it depends on no image."""
    out = axis_of(call.node.type)
    call.refuse_numbers()
    if call.node.op == "getitem":
        return call.images.get(call.name("values"))
    rule = RULES.get(call.node.op)
    if rule is not None and (call.batched or out is not None):
        made = rule(call)
        for kind in call.node.type if isinstance(call.node.type, tuple) else (call.node.type,):
            for size in kind.shape:
                check_size(size, made)
        if out is None:
            _check_lost(call)
        return made if out is not None else None
    if not call.batched:
        if out is None:
            return None
        raise Mixed("makes places for N images in a way that is not known")
    raise Mixed("works on the images in a way that is not known")


def _check_lost(call: Call) -> None:
    """A result without the axis of the images is a size, or did not ask for their numbers."""
    kind = call.node.type
    is_size = not isinstance(kind, tuple) and kind.dtype == INT
    if call.batched and not is_size and call.node.op not in _TYPE_ALONE:
        raise Mixed("loses the axis of the images")


def _names(text: str) -> list[str]:
    return text.split()


_ELEMENTWISE = _names("""
abs.default add.Tensor addcmul.default bitwise_and.Tensor bitwise_not.default bitwise_or.Tensor
ceil.default clamp.Tensor clamp.default clamp_max.default clamp_min.default copy.default
cos.default div.Tensor div.Tensor_mode elu.default eq.Scalar eq.Tensor erf.default exp.default
fill.Tensor floor.default floor_divide.default ge.Scalar ge.Tensor gelu.default gt.Scalar
gt.Tensor hardsigmoid.default hardswish.default hardtanh.default le.Scalar le.Tensor
leaky_relu.default log.default logical_and.default logical_not.default logical_or.default
lt.Scalar lt.Tensor masked_fill.Scalar maximum.default minimum.default mish.default mul.Tensor
ne.Scalar ne.Tensor neg.default one_hot.default pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor
prelu.default reciprocal.default relu.default relu6.default remainder.Scalar round.default
rsqrt.default rsub.Scalar sigmoid.default sign.default silu.default sin.default softplus.default
sqrt.default square.default stack.default sub.Tensor tanh.default where.ScalarOther
where.ScalarSelf where.self
""")
_MOVES = _names("""
_to_copy.default permute.default squeeze.dim squeeze.dims transpose.int unsqueeze.default
""")
_FILLS = _names("""
eye.default eye.m fill.Scalar full.default full_like.default new_zeros.default ones.default
ones_like.default zero.default zeros.default zeros_like.default
""")
_CONSTANTS = frozenset(f"aten.{name}" for name in _FILLS)
_TYPE_ALONE = _CONSTANTS | {"aten.type_as.default"}
"""What asks a tensor for its type, or its shape, and for nothing else."""

RULES: dict[str, mixing.Rule] = {
    **{f"aten.{name}": mixing.elementwise for name in _ELEMENTWISE},
    **{f"aten.{name}": mixing.one for name in _MOVES},
    **dict.fromkeys(_CONSTANTS, mixing.filled),
    **{f"aten.arange.{kind}": mixing.places for kind in ("default", "start", "start_step")},
    **{f"int_{name}": mixing.size for name in ("add", "sub", "mul", "floordiv", "mod")},
    **{
        f"aten.{name}": mixing.along()
        for name in (
            "amax.default",
            "amin.default",
            "cumsum.default",
            "glu.default",
            "linalg_vector_norm.default",
            "log_softmax.int",
            "max.dim",
            "mean.dim",
            "softmax.int",
            "std.dim",
            "sum.dim_IntList",
            "var.correction",
            "var.dim",
            "var_mean.correction",
        )
    },
    **{f"aten.{name}": mixing.along(dims="dims") for name in ("flip.default", "roll.default")},
    **{f"aten.{name}": mixing.along() for name in ("mean.default", "sum.default")},
    **{f"aten.{name}": mixing.picked() for name in ("select.int", "unbind.int")},
    **{f"aten.{n}": mixing.last(1) for n in ("adaptive_avg_pool1d.default", "avg_pool1d.default")},
    **{
        f"aten.{name}": mixing.last(2)
        for name in (
            "adaptive_avg_pool2d.default",
            "adaptive_max_pool2d.default",
            "avg_pool2d.default",
            "max_pool2d.default",
        )
    },
    **{
        f"aten.{name}": mixing.last(2, "input")
        for name in (
            "_upsample_bicubic2d_aa.vec",
            "_upsample_bilinear2d_aa.vec",
            "upsample_bicubic2d.vec",
            "upsample_bilinear2d.vec",
            "upsample_nearest2d.vec",
        )
    },
    **{f"aten.pixel_{name}.default": mixing.last(3) for name in ("shuffle", "unshuffle")},
    "aten.col2im.default": mixing.last(2),
    "aten.im2col.default": mixing.last(3),
    **{
        f"aten.{name}": mixing.pad
        for name in (
            "constant_pad_nd.default",
            "pad.default",
            "reflection_pad2d.default",
            "replication_pad2d.default",
        )
    },
    **{f"aten.{name}": mixing.repeat for name in ("repeat.default", "tile.default")},
    **{f"aten.{n}_scatter.default": mixing.scatter for n in ("select", "slice")},
    **{f"aten.{name}": mixing.split for name in ("split.Tensor", "split_with_sizes.default")},
    **{f"aten.{n}_norm.default": mixing.norm_over_last for n in ("layer", "rms")},
    "aten._native_batch_norm_legit.no_stats": mixing.batch_norm,
    "aten.addmm.default": mixing.addmm,
    "aten.avg_pool3d.default": mixing.last(3),
    "aten.bmm.default": mixing.matmul("self", "mat2"),
    "aten.cat.default": mixing.cat,
    "aten.conv1d.default": mixing.convolution(1),
    "aten.conv2d.default": mixing.convolution(2),
    "aten.conv2d.padding": mixing.convolution(2),
    "aten.conv3d.default": mixing.convolution(3),
    "aten.conv_transpose2d.input": mixing.all_but(0, "input", "weight", "bias"),
    "aten.einsum.default": mixing.einsum,
    "aten.embedding.default": mixing.embedding,
    "aten.expand.default": mixing.expand,
    "aten.group_norm.default": mixing.all_but(0, "input", "weight", "bias"),
    "aten.index.Tensor": mixing.index,
    "aten.linear.default": mixing.linear,
    "aten.linspace.default": mixing.spaced,
    "aten.lstm.input": mixing.lstm,
    "aten.matmul.default": mixing.matmul("self", "other"),
    "aten.meshgrid.indexing": mixing.one,
    "aten.mm.default": mixing.matmul("self", "mat2"),
    "aten.repeat_interleave.self_int": mixing.repeat_interleave,
    "aten.reshape.default": mixing.reshape,
    "aten.scaled_dot_product_attention.default": mixing.attention,
    "aten.slice.Tensor": mixing.slice_,
    "aten.sym_size.int": mixing.size,
    "aten.unfold.default": mixing.picked(dims="dimension"),
    "aten.type_as.default": mixing.type_as,
    "aten.upsample_linear1d.vec": mixing.last(1, "input"),
    "bconv2d": mixing.all_but(0, "bits"),
    "bgemm": mixing.last(1, "bits"),
    "bitpack": mixing.along("x", "channel_axis"),
    "bitunpack": mixing.along("weight_bits"),
}
"""Of every operator but `getitem`, whose result is known by the name of what it takes it from."""
