"""What is known of ATen's operations: which move data, which are elementwise, and how many u their results are off.

What is listed nowhere, here or among the models of other files, is run as its decomposition if it has one, and as an
elementwise operation otherwise; an execution names it.
"""

_MOVES = """
    view _unsafe_view t transpose permute expand slice select unsqueeze squeeze detach detach_ clone stack cat index
    gather index_select embedding as_strided alias split split_with_sizes unbind reshape _reshape_alias unfold
    repeat repeat_interleave flip roll diagonal diag diag_embed narrow movedim swapaxes ravel view_as_real
    view_as_complex _conj _neg_view resolve_conj resolve_neg triu tril im2col pixel_shuffle pixel_unshuffle
    channel_shuffle constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d lift_fresh
    lift set_ _unsafe_index slice_scatter select_scatter index_copy index_copy_ index_fill index_fill_ masked_select
    masked_scatter masked_scatter_ _pin_memory unfold_copy as_strided_ transpose_ squeeze_ unsqueeze_ t_ resize_
"""
"""Views and moves."""

_GRADIENTS = """
    select_backward slice_backward
"""
"""Gradients of these, which have one term each."""

_CONSTANTS = """
    zeros_like ones_like empty_like new_zeros new_ones new_empty new_empty_strided zeros ones empty empty_strided
    full full_like new_full arange scalar_tensor linspace eye fill_ zero_ fill zero _efficientzerotensor
"""
"""Constants."""

_CHOICES = """
    masked_fill masked_fill_ where relu relu_ threshold threshold_ threshold_backward max min amax amin argmax
    argmin maximum minimum fmax fmin clamp clamp_ clamp_min clamp_max clamp_min_ clamp_max_ hardtanh hardtanh_
    hardtanh_backward relu6 topk sort median nan_to_num nan_to_num_ max_pool2d_with_indices max_pool1d mode kthvalue
    cummax cummin _foreach_maximum_ _foreach_clamp_min_ _foreach_clamp_max_
"""
"""Choices among numbers that are there."""

_SIGNS = """
    neg neg_ abs abs_ sign sign_ sgn floor floor_ ceil ceil_ round round_ trunc trunc_ copysign ldexp frac real imag
    conj _conj_physical isfinite isnan isinf _foreach_neg _foreach_neg_ _foreach_abs _foreach_zero_ logical_not
"""
"""Signs and integers."""

_COMPARISONS = """
    eq ne lt le gt ge equal isclose bitwise_not bitwise_and bitwise_or logical_and logical_or any all nonzero
"""
"""Comparisons, whose results are no numbers of a format."""

_COPIES = """
    _foreach_copy upsample_nearest2d upsample_nearest1d
"""
"""Copies within a format; those into another one are models of their own."""

EXACT = frozenset(
    name
    for names in (_MOVES, _GRADIENTS, _CONSTANTS, _CHOICES, _SIGNS, _COMPARISONS, _COPIES)
    for name in names.split()
)
"""Operations whose results are numbers that were there, or whose rounding is the format's own in either arithmetic."""

_ROUNDED_ONCE = """
    add sub rsub mul div true_divide addcmul addcdiv lerp square sqrt reciprocal fmod remainder hypot leaky_relu
    leaky_relu_backward abs_backward _foreach_add _foreach_sub _foreach_mul _foreach_div
    _foreach_addcmul _foreach_addcdiv _foreach_lerp _foreach_sqrt _foreach_rsqrt _foreach_reciprocal
    nll_loss_backward nll_loss2d_backward sigmoid_backward
"""

ELEMENTWISE = frozenset(name + suffix for name in _ROUNDED_ONCE.split() for suffix in ("", "_"))
"""Operations each of whose results is off by the unit roundoff."""

_OF_LIBRARIES = """
    rsqrt hardsigmoid hardsigmoid_backward exp exp2 expm1 log log2 log10
    log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh erf erfc erfinv sigmoid pow float_power
    _foreach_pow _foreach_exp _foreach_log softplus softplus_backward elu elu_backward celu selu silu mish logit
    lgamma digamma polar complex angle logaddexp xlogy special_expit sinc log_sigmoid_forward log_sigmoid_backward
    cumprod prelu glu
"""

TRANSCENDENTAL = frozenset(name + suffix for name in _OF_LIBRARIES.split() for suffix in ("", "_"))
"""Operations whose results libraries give to within about two of it, in the precision that they compute in."""

KNOWN = EXACT | ELEMENTWISE | TRANSCENDENTAL
"""All of these."""

POWERS = frozenset(name + suffix for name in ("pow", "float_power", "_foreach_pow") for suffix in ("", "_"))
"""Of these, those that are products for small integers, rounded to the format after each."""

PRODUCTS = {
    "mm": (None, 0, "mm"),
    "bmm": (None, 0, "bmm"),
    "mv": (None, 0, "mv"),
    "dot": (None, 0, "dot"),
    "vdot": (None, 0, "vdot"),
    "addmm": (0, 1, "mm"),
    "addmv": (0, 1, "mv"),
    "baddbmm": (0, 1, "bmm"),
}
"""Products of matrices: the place of what is added, that of the first factor, and the operation without the former."""

SCALES = frozenset(
    f"{name}{suffix}" for name in ("mul", "div", "true_divide", "_foreach_mul", "_foreach_div") for suffix in ("", "_")
)
"""Operations that are exact with a power of two."""
