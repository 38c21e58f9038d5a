"""The noisy interpreters of `parity.oracle.program`: all R replicas at once, the innermost, contiguous index.

They do what those of `parity.oracle.exact_kernels` do, and move every result that rounding could have changed, by the
rules of `parity.oracle.rounding`. What is added to is an argument of its own, never passed twice: the compiler can make
vector instructions only of arrays that it finds not to overlap.

Random source: one xorshift32 generator (Marsaglia 2003, triple 13, 17, 5) per replica; state holds them, uint32 (R,).
"""

import math
from typing import Any

import numpy as np

from parity.machine_code import compiled, inlined
from parity.oracle.adam import (
    DIVIDE,
    FIRST_MOMENT,
    FIRST_RESULT,
    GRADIENT,
    MINUS,
    PARAMETER,
    PLUS,
    POWER,
    SECOND_MOMENT,
    TIMES,
)
from parity.oracle.exact_kernels import is_open, put
from parity.oracle.graph import ADD, ADD_CONST, ADD_DETACHED, EXP, MUL, MUL_CONST, NEG_MAX, POW, RELU
from parity.oracle.instructions import DOT, DOT_TARGET, MUL_TARGET, SUM
from parity.oracle.rounding import factor_may_round, may_round, moved

_SMALL_L = 4.0
_LEAST_PRECISE = 2.0**-24


@inlined
def random_bits(state: Any) -> Any:
    """The next state of a xorshift32 generator, which is its output."""
    # Numba widens shifts to 64 bits, where the bits shifted out would come back.
    state ^= np.uint32(state << np.uint32(13))
    state ^= np.uint32(state >> np.uint32(17))
    return np.uint32(state ^ np.uint32(state << np.uint32(5)))


@inlined
def _moved_by(bits: Any, r: float, u: float, tiny: float) -> Any:
    """The result r moved at random, as the bits, an uint32, say."""
    return moved(r, np.float64(np.int32(bits)) * 2.0**-31, u, tiny)


@inlined
def multiply(result: Any, a: Any, b: Any, state: Any, u: float, tiny: float) -> None:
    """Noisy result = a · b over the replicas."""
    for k in range(len(state)):
        state[k] = random_bits(state[k])
        r = a[k] * b[k]
        result[k] = _moved_by(state[k], r, u, tiny) if may_round(a[k], b[k]) else r


@inlined
def scale(result: Any, a: Any, factor: float, state: Any, u: float, tiny: float) -> None:
    """Noisy result = a · factor over the replicas."""
    if factor_may_round(factor):
        for k in range(len(state)):
            state[k] = random_bits(state[k])
            r = a[k] * factor
            result[k] = _moved_by(state[k], r, u, tiny) if r != 0 else r
    else:
        for k in range(len(state)):
            result[k] = a[k] * factor


@inlined
def add(result: Any, a: Any, b: Any, state: Any, u: float, tiny: float) -> None:
    """Noisy result = a + b over the replicas."""
    for k in range(len(state)):
        state[k] = random_bits(state[k])
        r = a[k] + b[k]
        result[k] = _moved_by(state[k], r, u, tiny) if may_round(a[k], b[k]) else r


@inlined
def add_to(total: Any, part: Any, state: Any, u: float, tiny: float) -> None:
    """Noisy total += part over the replicas."""
    for k in range(len(state)):
        state[k] = random_bits(state[k])
        before = total[k]
        r = before + part[k]
        total[k] = _moved_by(state[k], r, u, tiny) if may_round(before, part[k]) else r


@inlined
def _add_product_to(total: Any, a: Any, b: Any, state: Any, u: float, tiny: float) -> None:
    """Noisy total += a · b over the replicas, the product and the sum rounded one after the other."""
    for k in range(len(state)):
        bits = random_bits(state[k])
        product = a[k] * b[k]
        product = _moved_by(bits, product, u, tiny) if may_round(a[k], b[k]) else product
        bits = random_bits(bits)
        before = total[k]
        r = before + product
        total[k] = _moved_by(bits, r, u, tiny) if may_round(before, product) else r
        state[k] = bits


@inlined
def _perturb_total(g: Any, values: Any, grads: Any, slots: Any, state: Any, u: float) -> None:
    """Noise on the gradient of the total of a softmax of the attention, whose slot comes first in slots.

    The weights' gradients, weighted, add up to the sum of a head's outputs times their gradients, and that is how
    kernels that keep no weights compute it (D in Dao et al. 2022, FlashAttention, appendix B): from outputs that are
    rounded, and apart from what it is taken from. In the reference the two have their rounding errors in common, and
    cancel to the bit where a document has one position.
    """
    for i in range(2, len(slots)):
        output, grad, total = values[slots[i]], grads[slots[i]], values[slots[0]]
        for k in range(len(state)):
            state[k] = random_bits(state[k])
            g[k] += np.float64(np.int32(state[k])) * 2.0**-31 * u * output[k] * grad[k] / total[k]


@inlined
def _put_normaliser_shifts(shifts: Any, values: Any, attention: Any, state: Any, u: float) -> bool:
    """How far the weights of each softmax of the attention move together, in each replica; whether any do.

    Kernels that keep no weights compute them anew from scores, as exp(score - L), L the logarithm of the sum of all
    exponentials (Dao et al. 2022, FlashAttention, algorithm 4), in float32 at least. So rounding L moves all weights of
    a row by the same part, u · |L|, where the reference divides by their sum: where scores are large and what comes of
    the weights is summed up again, its rounding cancels, and theirs does not. What moves less than u times _SMALL_L is
    no more than other operations round.
    """
    unit = min(u, _LEAST_PRECISE)
    any_moved = False
    for i in range(len(attention)):
        total, negative = values[attention[i, 0]], values[attention[i, 1]]
        for k in range(len(state)):
            size = abs(math.log(total[k]) - negative[k])
            shifts[i, k] = 0.0
            if size > _SMALL_L:
                state[k] = random_bits(state[k])
                shifts[i, k] = np.float64(np.int32(state[k])) * 2.0**-31 * unit * size
                any_moved = True
    return any_moved


@inlined
def perturb(result: Any, state: Any, u: float, tiny: float) -> None:
    """Noise on results that are there already."""
    for k in range(len(state)):
        state[k] = random_bits(state[k])
        if result[k] != 0:
            result[k] = _moved_by(state[k], result[k], u, tiny)


@compiled
def perturb_rows(rows: Any, state: Any, u: float, tiny: float) -> None:
    """Noise on (rows, R), row after row."""
    for i in range(len(rows)):
        perturb(rows[i], state, u, tiny)


@compiled
def add_rows_to(total: Any, part: Any, state: Any, u: float, tiny: float) -> None:
    """Noisy total += part for (rows, R), row after row."""
    for i in range(len(total)):
        add_to(total[i], part[i], state, u, tiny)


@inlined
def _place(table: Any, first: int, j: int, r: int, distance: int, stride: int, gather: int) -> Any:
    """The slot of element j of an operand, the r-th time that its instruction is done; see `instructions`."""
    return table[first + j] + r * distance if gather else first + r * distance + j * stride


@compiled
def noisy_forward(
    values: Any,
    code: Any,
    table: Any,
    consts: Any,
    gates: Any,
    targets: Any,
    exps: Any,
    state: Any,
    u: float,
    tiny: float,
) -> None:
    """`parity.oracle.exact_kernels.forward` for values, (slots, R), with noise."""
    total = np.empty(len(state))
    for i in range(len(code)):
        op, count, dst, d_dst, left, d_left, right, d_right, size, s_left, s_right, gather, position = code[i]
        if op == MUL_TARGET:
            left = exps[position, 0] + targets[position] * exps[position, 1]
            op = MUL
        for r in range(count):
            a, b = left + r * d_left, right + r * d_right
            result = values[dst]
            if op in (DOT, SUM):
                total[:] = 0.0
                for j in range(size):
                    x = _place(table, left, j, r, d_left, s_left, gather)
                    if op == SUM:
                        add_to(total, values[x], state, u, tiny)
                    else:
                        y = _place(table, right, j, r, d_right, s_right, gather)
                        _add_product_to(total, values[x], values[y], state, u, tiny)
                put(result, total)
            elif op == NEG_MAX:
                total[:] = -math.inf
                for j in range(size):
                    x = _place(table, left, j, r, d_left, s_left, gather)
                    for k in range(len(state)):
                        total[k] = max(total[k], values[x, k])
                for k in range(len(state)):
                    result[k] = -total[k]
            elif op in (ADD, ADD_DETACHED):
                add(result, values[a], values[b], state, u, tiny)
            elif op == MUL:
                multiply(result, values[a], values[b], state, u, tiny)
            elif op == ADD_CONST:
                for k in range(len(state)):
                    result[k] = values[a, k] + consts[dst]
                perturb(result, state, u, tiny)
            elif op == MUL_CONST:
                scale(result, values[a], consts[dst], state, u, tiny)
            elif op == RELU:
                for k in range(len(state)):
                    result[k] = values[a, k] if is_open(values[a, k], gates[dst]) else 0.0
            else:
                if op == POW:
                    _power(result, values[a], consts[dst])
                else:
                    for k in range(len(state)):
                        result[k] = math.exp(values[a, k]) if op == EXP else math.log(values[a, k])
                perturb(result, state, u, tiny)
            dst += d_dst


@compiled
def noisy_backward(
    values: Any,
    grads: Any,
    code: Any,
    table: Any,
    consts: Any,
    gates: Any,
    targets: Any,
    exps: Any,
    attention: Any,
    heads: Any,
    state: Any,
    u: float,
    tiny: float,
) -> None:
    """`parity.oracle.exact_kernels.backward` for values and grads, (slots, R), with noise."""
    term = np.empty(len(state))
    shifts = np.empty((len(attention), len(state)))
    shifted = _put_normaliser_shifts(shifts, values, attention, state, u)
    for i in range(len(code)):
        op, count, dst, d_dst, left, d_left, right, d_right, size, s_left, s_right, gather, position = code[i]
        if op == MUL_TARGET:
            left = exps[position, 0] + targets[position] * exps[position, 1]
            op = MUL
        for r in range(count):
            g = grads[dst]
            a, b = left + r * d_left, right + r * d_right
            if op in (DOT, DOT_TARGET, MUL):
                if shifted and op == DOT:
                    head = np.searchsorted(heads[:, 0], dst)
                    if head < len(heads) and heads[head, 0] == dst:
                        # Weights that are all larger by one part do as if what comes from above were.
                        for k in range(len(state)):
                            term[k] = g[k] * (1 + shifts[heads[head, 1], k])
                        g = term
                for j in range(size):
                    x = _place(table, left, j, r, d_left, s_left, gather)
                    y = _place(table, right, j, r, d_right, s_right, gather)
                    _add_product_to(grads[x], values[y], g, state, u, tiny)
                    _add_product_to(grads[y], values[x], g, state, u, tiny)
            elif op == SUM:
                softmax = np.searchsorted(attention[:, 0], dst)
                if softmax < len(attention) and attention[softmax, 0] == dst:
                    _perturb_total(g, values, grads, attention[softmax], state, u)
                for j in range(size):
                    x = _place(table, left, j, r, d_left, s_left, gather)
                    add_to(grads[x], g, state, u, tiny)
            elif op == ADD:
                add_to(grads[a], g, state, u, tiny)
                add_to(grads[b], g, state, u, tiny)
            elif op in (ADD_CONST, ADD_DETACHED):
                add_to(grads[a], g, state, u, tiny)
            elif op == MUL_CONST:
                scale(term, g, consts[dst], state, u, tiny)
                add_to(grads[a], term, state, u, tiny)
            elif op == RELU:
                for k in range(len(state)):
                    term[k] = g[k] if is_open(values[a, k], gates[dst]) else 0.0
                add_to(grads[a], term, state, u, tiny)
            elif op == EXP:
                _add_product_to(grads[a], values[dst], g, state, u, tiny)
            else:
                _power(term, values[a], consts[dst] - 1 if op == POW else -1.0)
                if op == POW:
                    for k in range(len(state)):
                        term[k] *= consts[dst]
                perturb(term, state, u, tiny)
                _add_product_to(grads[a], term, g, state, u, tiny)
            dst += d_dst


@inlined
def _power(result: Any, base: Any, exponent: float) -> None:
    """result = base ** exponent. Noise follows, so that the last bit need not be that of libm, which takes its time."""
    if exponent == -1.0:
        for k in range(len(result)):
            result[k] = 1 / base[k]
    elif exponent == -0.5:
        for k in range(len(result)):
            result[k] = 1 / math.sqrt(base[k])
    elif exponent == -1.5:
        for k in range(len(result)):
            result[k] = 1 / (base[k] * math.sqrt(base[k]))
    elif exponent == -2.0:
        for k in range(len(result)):
            result[k] = 1 / (base[k] * base[k])
    elif exponent == 0.5:
        for k in range(len(result)):
            result[k] = math.sqrt(base[k])
    elif exponent == 1.0:
        for k in range(len(result)):
            result[k] = base[k]
    elif exponent == 2.0:
        for k in range(len(result)):
            result[k] = base[k] * base[k]
    else:
        for k in range(len(result)):
            result[k] = math.pow(base[k], exponent)


@compiled
def noisy_update(
    code: Any,
    shared: Any,
    results: Any,
    before: Any,
    grads: Any,
    after: Any,
    state: Any,
    u: float,
    tiny: float,
) -> None:
    """`parity.oracle.exact_kernels.apply_update` with noise.

    shared: (shared, R). before, after: (3, elements, R). grads: (elements, R). state: as many generators as R times the
    number of elements that are done at a time.
    """
    elements, replicas = before.shape[1:]
    block = len(state) // replicas
    first_shared = FIRST_RESULT + len(code)
    registers = np.empty((first_shared + len(shared), len(state)))
    for i in range(len(shared)):
        for e in range(block):
            put(registers[first_shared + i, e * replicas :], shared[i])
    for start in range(0, elements, block):
        size = min(block, elements - start)
        lanes = state[: size * replicas]
        for e in range(size):
            first = e * replicas
            put(registers[PARAMETER, first:], before[0, start + e])
            put(registers[GRADIENT, first:], grads[start + e])
            put(registers[FIRST_MOMENT, first:], before[1, start + e])
            put(registers[SECOND_MOMENT, first:], before[2, start + e])
        for i in range(len(code)):
            operation, result, left, right = code[i]
            a = registers[left if left >= 0 else first_shared - left - 1, : len(lanes)]
            b = registers[right if right >= 0 else first_shared - right - 1, : len(lanes)]
            r = registers[result, : len(lanes)]
            if operation == TIMES:
                multiply(r, a, b, lanes, u, tiny)
            elif operation == PLUS:
                add(r, a, b, lanes, u, tiny)
            elif operation == MINUS:
                for k in range(len(r)):
                    r[k] = -b[k]
                add_to(r, a, lanes, u, tiny)
            elif operation == DIVIDE:
                for k in range(len(r)):
                    r[k] = a[k] / b[k]
                perturb(r, lanes, u, tiny)
            elif operation == POWER:
                _power(r, a, b[0])
                perturb(r, lanes, u, tiny)
        for i in range(3):
            for e in range(size):
                put(after[i, start + e], registers[results[i], e * replicas : (e + 1) * replicas])
