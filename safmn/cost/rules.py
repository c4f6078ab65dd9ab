"""What one operation counts: fvcore's rules, and rules in their spirit for what multiplies and has none there.

A rule is given the operation's arguments by name and its first output; it returns (FLOPs, activations). One
multiply-add is one FLOP. Where fvcore has a rule, the numbers are its own: a test compares every network with fvcore.
The other rules follow one principle: the same computation counts the same, whichever function carries it out. So fused
attention counts as its two products, a recurrent layer as its linear layers at each step, `torch.mv` as a matrix
product. Four departures: fvcore gives `torch.mm` no activations (but `linear`, `matmul` and `bmm` their outputs), its
`matmul` is wrong where the left operand is broadcast, its `einsum` reads a number that numpy rounds to four digits, and
it takes a product of complex numbers for one real product, of which it has four. (A complex convolution is carried out
as three real ones, and counts as these.)

What fvcore leaves out everywhere counts nothing: element-wise operations, reductions and poolings (sums and maxima over
a dimension or a window) and re-arrangements. What is none of these and has no rule is named as uncounted, and the total
is a lower bound: a Fourier transform, whose cost depends on the algorithm; bicubic interpolation, a cumulative sum,
solvers, a library's own kernels.
"""

from collections.abc import Callable
from functools import cache
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Rule = Callable[[dict[str, Any], Tensor], tuple[int, int]]


def _product(operand: str, inner: Callable[[torch.Size], int] = lambda shape: shape[-1]) -> Rule:
    """Count, for each element of the output, as many products as `inner` returns for the operand's shape."""
    return lambda args, out: (out.numel() * inner(args[operand].shape), out.numel())


def _each(flops: int) -> Rule:
    """Count so many FLOPs for each element of the output, and no activations."""
    return lambda args, out: (flops * out.numel(), 0)


def _norm(with_weight: int, without: int) -> Rule:
    return lambda args, out: (out.numel() * (without if args.get("weight") is None else with_weight), 0)


def _batch_norm(args: dict[str, Any], out: Tensor) -> tuple[int, int]:
    return (_norm(5, 4) if args.get("training") else _norm(2, 1))(args, out)


def _convolution(args: dict[str, Any], out: Tensor) -> tuple[int, int]:
    """Count every weight once at each position: of the output, or of the input of a transposed convolution."""
    image = args["input"]
    positions = (image if args["transposed"] else out).shape[2:]
    return image.shape[0] * args["weight"].numel() * prod(positions), out.numel()


def _einsum(args: dict[str, Any], out: Tensor) -> tuple[int, int]:
    """Count half of what numpy's best order of contractions costs, as fvcore does, but not rounded to four digits."""
    shapes = [tensor.shape for tensor in args["tensors"]]
    terms, result = _terms(args["equation"].replace(" ", ""), list(map(len, shapes)))
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    stand_ins = [np.broadcast_to(np.empty(()), tuple(shape)) for shape in shapes]
    path = np.einsum_path(f"{','.join(terms)}->{result}", *stand_ins, optimize="optimal")[0][1:]
    left, cost = [set(term) for term in terms], 0
    for positions in path:
        taken = [left.pop(position) for position in sorted(positions, reverse=True)]
        letters: set[str] = set().union(*taken)
        kept = letters & set(result).union(*left)
        cost += prod(sizes[letter] for letter in letters) * (max(1, len(taken) - 1) + (kept != letters))
        left.append(kept)
    return cost // 2, out.numel()


def _terms(equation: str, dimensions: list[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result; `...` and an implicit result are replaced by letters."""
    inputs, arrow, result = equation.partition("->")
    free = [letter for letter in ascii_letters if letter not in equation]
    terms, longest = [], ""
    for term, size in zip(inputs.split(","), dimensions, strict=True):
        letters = "".join(free[: size - len(term.replace("...", ""))][::-1])
        longest = max(longest, letters, key=len)
        terms.append(term.replace("...", letters))
    if not arrow:
        once = sorted(letter for letter in set(inputs) if letter.isalpha() and inputs.count(letter) == 1)
        result = "..." + "".join(once)
    return terms, result.replace("...", longest)


def _bilinear(args: dict[str, Any], out: Tensor) -> tuple[int, int]:
    """Count every weight once for each pair of vectors, as fvcore counts linear layers."""
    return args["input1"].shape[:-1].numel() * args["weight"].numel(), out.numel()


def _attention(args: dict[str, Any], out: Tensor) -> tuple[int, int]:
    """Count N x L x S x E for the weights and N x L x S x Ev for the mix; a mask, causal or not, saves nothing."""
    keys, rows = args["key"].shape[-2], out.shape[:-1].numel()
    return rows * keys * (args["query"].shape[-1] + out.shape[-1]), rows * (keys + out.shape[-1])


def _recurrent(args: dict[str, Any], out: Tensor) -> tuple[int, int]:
    """Count each weight once at every step of every sequence, as in the linear layers of the cells."""
    sequence = args.get("input", args.get("data"))
    assert sequence is not None  # the schemas of torch's recurrent layers have one of the two
    steps = sequence.shape[:-1].numel()
    weights = [tensor.shape for tensor in args["params"] if tensor.dim() == 2]
    return steps * sum(map(prod, weights)), steps * sum(shape[0] for shape in weights)


RULES: dict[str, Rule] = {
    **dict.fromkeys(["convolution", "_convolution"], _convolution),
    "conv_tbc": _product("weight", lambda shape: shape[0] * shape[1]),
    # Products of matrices and vectors.
    "linear": _product("input"),
    **dict.fromkeys(["matmul", "mm", "bmm", "mv", "dot", "vdot"], _product("self")),
    **dict.fromkeys(["addmm", "_addmm_activation"], _product("mat1")),
    "affine_grid_generator": _product("theta"),
    "addmv": _product("mat"),
    "baddbmm": _product("batch1"),
    "addbmm": _product("batch1", lambda shape: shape[0] * shape[2]),
    **dict.fromkeys(["outer", "ger", "addr", "kron"], _each(1)),
    "einsum": _einsum,
    **dict.fromkeys(["bilinear", "_trilinear"], _bilinear),
    # Layers made of products.
    "scaled_dot_product_attention": _attention,
    "_scaled_dot_product_attention_math": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "flex_attention": _attention,
    **dict.fromkeys(["lstm", "gru", "rnn_tanh", "rnn_relu"], _recurrent),
    # What fvcore estimates by the element.
    "batch_norm": _batch_norm,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "layer_norm": _norm(5, 4),
    "native_layer_norm": _norm(5, 4),
    "group_norm": _norm(5, 4),
    "native_group_norm": _norm(5, 4),
    "instance_norm": _norm(5, 4),
    "adaptive_avg_pool2d": lambda args, out: (args["self"].numel(), 0),
    **dict.fromkeys(["grid_sampler", "grid_sampler_2d", "grid_sampler_3d"], _each(4)),
    **dict.fromkeys([f"upsample_nearest{n}d" for n in (1, 2, 3)], _each(1)),
    **dict.fromkeys([f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)], _each(1)),
    "upsample_linear1d": _each(2),
    "upsample_bilinear2d": _each(4),
    "upsample_trilinear3d": _each(8),
}
"""Name of an operation of torch (`aten::NAME`) -> its rule."""

# What torch itself marks as element-wise, as a reduction (not in all versions) or as a view; and what it does not mark.
_FREE_TAGS = {
    getattr(torch.Tag, name)
    for name in ("pointwise", "reduction", "inplace_view", "view_copy")
    if hasattr(torch.Tag, name)
}
_ELEMENTWISE = """
    glu _prelu_kernel rrelu_with_noise native_dropout isin copysign complex polar view_as_complex
    log_sigmoid_forward _masked_scale
"""
_REDUCTIONS = """
    sum nansum mean nanmean prod std var amax amin all any linalg_vector_norm
    _softmax _safe_softmax _masked_softmax _log_softmax _weight_norm_interface norm native_norm renorm dist max min
    aminmax argmax argmin median nanmedian mode kthvalue logsumexp count_nonzero std_mean var_mean avg_pool1d
    avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d
    adaptive_avg_pool1d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d fractional_max_pool2d
    fractional_max_pool3d scatter_add scatter_reduce index_add index_reduce cummax cummin equal trace
"""
_CONSTANTS = """
    arange bernoulli empty_strided exponential eye full linspace normal ones rand randint randn random range uniform
    zeros
"""
_MOVES = """
    cat stack _stack narrow_copy clone copy _to_copy fill zero set resize resize_as index _unsafe_index index_put
    _unsafe_index_put _index_put_impl index_select index_copy index_fill gather scatter select_scatter slice_scatter
    diagonal_scatter as_strided_scatter take put masked_select masked_scatter nonzero nonzero_static embedding
    constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d roll flip pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle repeat
    repeat_interleave tril triu im2col col2im max_unpool2d max_unpool3d sort argsort topk searchsorted bucketize
    _unique2 unique_dim unique_consecutive diag_embed _unsafe_view _reshape_alias lift_fresh lift alias rot90
    unsafe_split unsafe_split_with_sizes unsafe_chunk _pack_padded_sequence _to_sparse _to_dense
    _linalg_check_errors _assert_async _local_scalar_dense resolve_conj resolve_neg
"""
_FREE = set((_ELEMENTWISE + _REDUCTIONS + _CONSTANTS + _MOVES).split())


def free(function: torch._ops.OpOverload) -> bool:
    """Return whether an operation counts nothing by convention: element-wise, a reduction or a re-arrangement."""
    namespace, _, name = function._schema.name.partition("::")
    if function.is_view or not _FREE_TAGS.isdisjoint(function.tags) or namespace == "profiler":
        return True
    creates = not any("Tensor" in str(argument.type) for argument in function._schema.arguments)
    return creates or (namespace == "aten" and _free_by_name(name))


@cache
def _free_by_name(name: str) -> bool:
    plain = name.rstrip("_").removesuffix("_copy") or name
    if plain in _FREE or name in _FREE or name.startswith(("_foreach_", "new_")) or plain.endswith("_like"):
        return True
    # Some overloads lack the mark of the others.
    packet = getattr(torch.ops.aten, plain, None)
    return packet is not None and any(
        not _FREE_TAGS.isdisjoint(getattr(packet, overload).tags) for overload in packet.overloads()
    )


def count(
    function: Any, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any
) -> tuple[int, int, dict[str, Any]] | None:
    """Return FLOPs and activations of an operation that has a rule, and its arguments by name; None without an output.

    torch's own table, which counts a multiply-add as two, serves for kernels that are not listed above.
    """
    out = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
    if out is None:
        return None
    if name in RULES:
        schema = getattr(function, "_schema", None)
        names = [argument.name for argument in schema.arguments] if schema else ("query", "key", "value")
        named = dict(zip(names, arguments, strict=False)) | keywords
        flops, activations = RULES[name](named, out)
        return (4 * flops if out.is_complex() else flops), activations, named
    other = flop_registry[getattr(function, "overloadpacket", function)]
    return other(*arguments, **keywords, out_val=output) // 2, out.numel(), {}


def has_rule(function: Any, name: str) -> bool:
    """Return whether `count` has a rule for the operation."""
    return name in RULES or getattr(function, "overloadpacket", function) in flop_registry
