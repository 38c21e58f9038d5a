"""The compiled interpreters of `parity.program`: one pass over the instructions each, exact or with noise.

The exact ones do what Python's floats do, operation for operation: no fused multiply-add, no reassociation, and
exp, log and pow from the same libm. The noisy ones do it for R replicas at once, the replica being the innermost,
contiguous index, and move every result r that rounding could have changed by ξ·(u·|r| + tiny), ξ uniform in [-1, 1).
A sum with a zero and a product with a power of two are exact in any arithmetic and stay as they are.

Random source: one xorshift32 generator (Marsaglia 2003, triple 13, 17, 5) per replica.
"""

import math
from contextlib import AbstractContextManager
from typing import Any

import numba
import numpy as np
from numba.core import event

from parity.graph import ADD, ADD_CONST, ADD_DETACHED, EXP, LOG, MUL, MUL_CONST, NEG_MAX, POW, RELU
from parity.program import DOT, DOT_TARGET, MUL_TARGET, SUM
from parity.update import DIVIDE, MINUS, PLUS, POWER, TIMES

NATURAL, CLOSED, OPEN = range(3)
"""What a gate, one for each slot, does to a ReLU: leave it to the sign of its input, or not."""


def compiled(function: Any) -> Any:
    """Machine code on the first call, kept on disk for the next process where there is a place for it."""
    try:
        return numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    except RuntimeError:  # no folder can be written to
        return numba.njit(error_model="numpy", nogil=True)(function)


def compile_timer(seconds: list[float]) -> AbstractContextManager[None]:
    """While it is entered, append how long each compilation took; what is found on disk is not compiled."""
    timer: AbstractContextManager[None] = event.install_timer("numba:compile", seconds.append)
    return timer


@compiled
def forward(values: Any, code: Any, table: Any, consts: Any, gates: Any, targets: Any, exps: Any) -> bool:
    """Fill in the values, (slots,), behind the leaves; False where Python would have raised."""
    fine = True
    for i in range(len(code)):
        op, count, dst, d_dst, left, d_left, right, d_right, size, s_left, s_right, gather, position = code[i]
        if op == MUL_TARGET:
            left = exps[position, 0] + targets[position] * exps[position, 1]
            op = MUL
        start = 0
        if op == DOT and not gather:
            # Four sums at a time: each must add up in order, but they need not wait for each other.
            while start + 4 <= count:
                a, b = left + start * d_left, right + start * d_right
                sum_0 = sum_1 = sum_2 = sum_3 = 0.0
                for _ in range(size):
                    sum_0 += values[a] * values[b]
                    sum_1 += values[a + d_left] * values[b + d_right]
                    sum_2 += values[a + 2 * d_left] * values[b + 2 * d_right]
                    sum_3 += values[a + 3 * d_left] * values[b + 3 * d_right]
                    a += s_left
                    b += s_right
                values[dst], values[dst + d_dst] = sum_0, sum_1
                values[dst + 2 * d_dst], values[dst + 3 * d_dst] = sum_2, sum_3
                dst += 4 * d_dst
                start += 4
        for r in range(start, count):
            if op == DOT:
                total = 0.0
                for j in range(size):
                    if gather:
                        total += values[table[left + j] + r * d_left] * values[table[right + j] + r * d_right]
                    else:
                        total += values[left + r * d_left + j * s_left] * values[right + r * d_right + j * s_right]
                values[dst] = total
            elif op == SUM:
                total = 0.0
                for j in range(size):
                    total += values[table[left + j] + r * d_left if gather else left + r * d_left + j * s_left]
                values[dst] = total
            elif op == NEG_MAX:
                largest = values[(table[left] if gather else left) + r * d_left]
                for j in range(1, size):
                    x = values[table[left + j] + r * d_left if gather else left + r * d_left + j * s_left]
                    if x > largest:
                        largest = x
                values[dst] = -largest
            else:
                x = values[left + r * d_left]
                if op in (ADD, ADD_DETACHED):
                    values[dst] = x + values[right + r * d_right]
                elif op == MUL:
                    values[dst] = x * values[right + r * d_right]
                elif op == ADD_CONST:
                    values[dst] = x + consts[dst]
                elif op == MUL_CONST:
                    values[dst] = x * consts[dst]
                elif op == POW:
                    values[dst] = math.pow(x, consts[dst])
                    slope = math.pow(x, consts[dst] - 1)
                    fine &= not (math.isfinite(x) and not (math.isfinite(values[dst]) and math.isfinite(slope)))
                elif op == EXP:
                    values[dst] = math.exp(x)
                    fine &= not (math.isinf(values[dst]) and math.isfinite(x))
                elif op == LOG:
                    fine &= not x <= 0
                    values[dst] = math.log(x)
                elif op == RELU:
                    opened = x > 0 if gates[dst] == NATURAL else gates[dst] == OPEN
                    values[dst] = x if opened else 0.0
            dst += d_dst
    return fine


@compiled
def backward(values: Any, grads: Any, code: Any, table: Any, consts: Any, gates: Any, targets: Any, exps: Any) -> None:
    """Add the gradients, (slots,), up from that of the loss."""
    for i in range(len(code)):
        op, count, dst, d_dst, left, d_left, right, d_right, size, s_left, s_right, gather, position = code[i]
        if op == MUL_TARGET:
            left = exps[position, 0] + targets[position] * exps[position, 1]
            op = MUL
        for step in range(count):
            r = step
            if op == DOT_TARGET:
                # Recorded for target 0 with the rows from the last to the first; the target's comes last.
                row = count - 1 - step
                if step == count - 1:
                    row = targets[position]
                elif row <= targets[position]:
                    row -= 1
                r = count - 1 - row
            g = grads[dst + r * d_dst]
            a, b = left + r * d_left, right + r * d_right
            if op in (DOT, DOT_TARGET):
                if gather:
                    for j in range(size):
                        x, y = table[left + j] + r * d_left, table[right + j] + r * d_right
                        grads[x] += values[y] * g
                        grads[y] += values[x] * g
                elif s_left == 1 and s_right == 1:
                    for j in range(size):
                        grads[a + j] += values[b + j] * g
                    for j in range(size):
                        grads[b + j] += values[a + j] * g
                else:
                    for j in range(size):
                        grads[a + j * s_left] += values[b + j * s_right] * g
                    for j in range(size):
                        grads[b + j * s_right] += values[a + j * s_left] * g
            elif op == SUM:
                for j in range(size):
                    grads[table[left + j] + r * d_left if gather else a + j * s_left] += g
            elif op == ADD:
                grads[a] += g
                grads[b] += g
            elif op == MUL:
                grads[a] += values[b] * g
                grads[b] += values[a] * g
            elif op in (ADD_CONST, ADD_DETACHED):
                grads[a] += g
            elif op == MUL_CONST:
                grads[a] += consts[dst + r * d_dst] * g
            elif op == POW:
                exponent = consts[dst + r * d_dst]
                grads[a] += exponent * math.pow(values[a], exponent - 1) * g
            elif op == EXP:
                grads[a] += values[dst + r * d_dst] * g
            elif op == LOG:
                grads[a] += 1 / values[a] * g
            elif op == RELU:
                gate = gates[dst + r * d_dst]
                opened = values[a] > 0 if gate == NATURAL else gate == OPEN
                grads[a] += (1.0 if opened else 0.0) * g


@compiled
def random_bits(state: Any) -> Any:
    """The next state of a xorshift32 generator, which is its output."""
    state ^= state << np.uint32(13)
    state ^= state >> np.uint32(17)
    state ^= state << np.uint32(5)
    return state


@compiled
def moved(r: float, bits: Any, u: float, tiny: float) -> float:
    """The result r moved by at most its rounding error, as the bits, an uint32, say; rounding never changes a sign."""
    result = r + np.float64(np.int32(bits)) * 2.0**-31 * (u * abs(r) + tiny)
    return result if (result > 0) == (r > 0) else 0.0


@compiled
def multiply(result: Any, a: Any, b: Any, state: Any, u: float, tiny: float) -> None:
    """Noisy result = a · b over the replicas."""
    for k in range(len(state)):
        state[k] = random_bits(state[k])
        r = a[k] * b[k]
        result[k] = moved(r, state[k], u, tiny) if a[k] != 0 and b[k] != 0 else r


@compiled
def scale(result: Any, a: Any, factor: float, state: Any, u: float, tiny: float) -> None:
    """Noisy result = a · factor over the replicas."""
    if abs(math.frexp(factor)[0]) == 0.5:
        for k in range(len(state)):
            result[k] = a[k] * factor
    else:
        for k in range(len(state)):
            state[k] = random_bits(state[k])
            r = a[k] * factor
            result[k] = moved(r, state[k], u, tiny) if r != 0 else r


@compiled
def add(result: Any, a: Any, b: Any, state: Any, u: float, tiny: float) -> None:
    """Noisy result = a + b over the replicas."""
    for k in range(len(state)):
        state[k] = random_bits(state[k])
        r = a[k] + b[k]
        result[k] = moved(r, state[k], u, tiny) if a[k] != 0 and b[k] != 0 else r


@compiled
def perturb(result: Any, state: Any, u: float, tiny: float) -> None:
    """Noise on results that are there already."""
    for k in range(len(state)):
        state[k] = random_bits(state[k])
        if result[k] != 0:
            result[k] = moved(result[k], state[k], u, tiny)


@compiled
def deviation(samples: Any) -> Any:
    """The standard deviation of each row of (elements, R): 0 where all are equal, infinite where one is not finite.

    Differences are taken from the first sample and scaled by the largest, so that nothing cancels or underflows.
    """
    result = np.zeros(len(samples))
    replicas = samples.shape[1]
    for e in range(len(samples)):
        first, largest = samples[e, 0], 0.0
        finite = True
        for k in range(replicas):
            finite &= math.isfinite(samples[e, k])
            largest = max(largest, abs(samples[e, k] - first))
        if not finite or not 0.0 < largest < math.inf:
            result[e] = largest if finite else math.inf
            continue
        mean = 0.0
        for k in range(replicas):
            mean += (samples[e, k] - first) / largest
        mean /= replicas
        squares = 0.0
        for k in range(replicas):
            squares += ((samples[e, k] - first) / largest - mean) ** 2
        result[e] = math.sqrt(squares / (replicas - 1)) * largest
    return result


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
    """`forward` for values, (slots, R), with noise; state: the generators, uint32 (R,)."""
    term = np.empty(len(state))
    for i in range(len(code)):
        op, count, dst, d_dst, left, d_left, right, d_right, size, s_left, s_right, gather, position = code[i]
        if op == MUL_TARGET:
            left = exps[position, 0] + targets[position] * exps[position, 1]
            op = MUL
        for r in range(count):
            a, b = left + r * d_left, right + r * d_right
            result = values[dst]
            if op in (DOT, SUM):
                result[:] = 0.0
                for j in range(size):
                    x = table[left + j] + r * d_left if gather else a + j * s_left
                    if op == SUM:
                        add(result, result, values[x], state, u, tiny)
                    else:
                        y = table[right + j] + r * d_right if gather else b + j * s_right
                        multiply(term, values[x], values[y], state, u, tiny)
                        add(result, result, term, state, u, tiny)
            elif op == NEG_MAX:
                for k in range(len(state)):
                    largest = -math.inf
                    for j in range(size):
                        x = table[left + j] + r * d_left if gather else a + j * s_left
                        largest = max(largest, values[x, k])
                    result[k] = -largest
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
                    opened = values[a, k] > 0 if gates[dst] == NATURAL else gates[dst] == OPEN
                    result[k] = values[a, k] if opened else 0.0
            else:
                for k in range(len(state)):
                    x = values[a, k]
                    result[k] = math.pow(x, consts[dst]) if op == POW else math.exp(x) if op == EXP else math.log(x)
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
    state: Any,
    u: float,
    tiny: float,
) -> None:
    """`backward` for values and grads, (slots, R), with noise."""
    term = np.empty(len(state))
    for i in range(len(code)):
        op, count, dst, d_dst, left, d_left, right, d_right, size, s_left, s_right, gather, position = code[i]
        if op == MUL_TARGET:
            left = exps[position, 0] + targets[position] * exps[position, 1]
            op = MUL
        for r in range(count):
            g = grads[dst]
            a, b = left + r * d_left, right + r * d_right
            if op in (DOT, DOT_TARGET, MUL):
                for j in range(size):
                    x = table[left + j] + r * d_left if gather else a + j * s_left
                    y = table[right + j] + r * d_right if gather else b + j * s_right
                    multiply(term, values[y], g, state, u, tiny)
                    add(grads[x], grads[x], term, state, u, tiny)
                    multiply(term, values[x], g, state, u, tiny)
                    add(grads[y], grads[y], term, state, u, tiny)
            elif op == SUM:
                for j in range(size):
                    x = table[left + j] + r * d_left if gather else a + j * s_left
                    add(grads[x], grads[x], g, state, u, tiny)
            elif op == ADD:
                add(grads[a], grads[a], g, state, u, tiny)
                add(grads[b], grads[b], g, state, u, tiny)
            elif op in (ADD_CONST, ADD_DETACHED):
                add(grads[a], grads[a], g, state, u, tiny)
            elif op == MUL_CONST:
                scale(term, g, consts[dst], state, u, tiny)
                add(grads[a], grads[a], term, state, u, tiny)
            elif op == RELU:
                for k in range(len(state)):
                    opened = values[a, k] > 0 if gates[dst] == NATURAL else gates[dst] == OPEN
                    term[k] = g[k] if opened else 0.0
                add(grads[a], grads[a], term, state, u, tiny)
            else:
                for k in range(len(state)):
                    x = values[a, k]
                    if op == POW:
                        term[k] = consts[dst] * math.pow(x, consts[dst] - 1)
                    else:
                        term[k] = values[dst, k] if op == EXP else 1 / x
                if op != EXP:
                    perturb(term, state, u, tiny)
                multiply(term, term, g, state, u, tiny)
                add(grads[a], grads[a], term, state, u, tiny)
            dst += d_dst


@compiled
def update(code: Any, shared: Any, results: Any, before: Any, after: Any) -> bool:
    """Adam on every element: before, (4, elements), is p, g, m, v and after, (3, elements), p, m, v.

    False where Python would have raised.
    """
    fine = True
    block = 256
    first_shared = 4 + len(code)
    registers = np.empty((first_shared + len(shared), block))
    for i in range(len(shared)):
        registers[first_shared + i] = shared[i]
    for start in range(0, before.shape[1], block):
        size = min(block, before.shape[1] - start)
        for i in range(4):
            registers[i, :size] = before[i, start : start + size]
        for i in range(len(code)):
            operation, result, left, right = code[i]
            a = registers[left if left >= 0 else first_shared - left - 1]
            b = registers[right if right >= 0 else first_shared - right - 1]
            r = registers[result]
            if operation == PLUS:
                for e in range(size):
                    r[e] = a[e] + b[e]
            elif operation == MINUS:
                for e in range(size):
                    r[e] = a[e] - b[e]
            elif operation == TIMES:
                for e in range(size):
                    r[e] = a[e] * b[e]
            elif operation == DIVIDE:
                for e in range(size):
                    r[e] = a[e] / b[e]
                    fine &= b[e] != 0
            else:
                for e in range(size):
                    r[e] = math.pow(a[e], b[e])
                    fine &= math.isfinite(r[e]) or not math.isfinite(a[e])
        for i in range(3):
            after[i, start : start + size] = registers[results[i], :size]
    return fine


@compiled
def arithmetic(operation: int, a: float, b: float) -> float:
    """One operation of a recorded update."""
    if operation == PLUS:
        return a + b
    if operation == MINUS:
        return a - b
    if operation == TIMES:
        return a * b
    if operation == DIVIDE:
        return a / b
    return math.pow(a, b)


@compiled
def noisy_update(
    code: Any, shared: Any, results: Any, before: Any, after: Any, state: Any, u: float, tiny: float
) -> None:
    """`update` with noise: shared is (shared, R), before (4, elements, R) and after (3, elements, R)."""
    replicas = len(state)
    term = np.empty(replicas)
    registers = np.empty((4 + len(code), replicas))
    for e in range(before.shape[1]):
        registers[:4] = before[:, e]
        for i in range(len(code)):
            operation, result, left, right = code[i]
            a = registers[left] if left >= 0 else shared[-left - 1]
            b = registers[right] if right >= 0 else shared[-right - 1]
            if operation == TIMES:
                multiply(registers[result], a, b, state, u, tiny)
            elif operation == PLUS:
                add(registers[result], a, b, state, u, tiny)
            elif operation == MINUS:
                for k in range(replicas):
                    term[k] = -b[k]
                add(registers[result], a, term, state, u, tiny)
            else:
                for k in range(replicas):
                    if operation == POWER and b[k] in (0.5, 2.0):  # noise follows: the last bit need not be libm's
                        registers[result, k] = math.sqrt(a[k]) if b[k] == 0.5 else a[k] * a[k]
                    else:
                        registers[result, k] = arithmetic(operation, a[k], b[k])
                perturb(registers[result], state, u, tiny)
        for i in range(3):
            after[i, e] = registers[results[i]]
