"""The exact interpreters of `parity.oracle.program`: one pass over the instructions each.

They do what Python's floats do, operation for operation: no fused multiply-add, no reassociation, and exp, log and pow
from the same libm. `parity.oracle.noisy_kernels` does the same with noise.
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
    SECOND_MOMENT,
    TIMES,
)
from parity.oracle.graph import ADD, ADD_CONST, ADD_DETACHED, EXP, LOG, MUL, MUL_CONST, NEG_MAX, POW, RELU
from parity.oracle.instructions import DOT, DOT_TARGET, MUL_TARGET, SUM

NATURAL, CLOSED, OPEN = range(3)
"""What a gate, one for each slot, does to a ReLU: leave it to the sign of its input, or not."""


@inlined
def is_open(x: float, gate: int) -> Any:
    """Whether a ReLU lets its input through."""
    return x > 0 if gate == NATURAL else gate == OPEN


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
                    values[dst] = x if is_open(x, gates[dst]) else 0.0
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
                grads[a] += (1.0 if is_open(values[a], gates[dst + r * d_dst]) else 0.0) * g


@inlined
def put(target: Any, source: Any) -> None:
    """Copy numbers to the first places of a vector; Numba takes seconds to compile an assignment to a slice."""
    for k in range(len(source)):
        target[k] = source[k]


@compiled
def apply_update(code: Any, shared: Any, results: Any, before: Any, grads: Any, after: Any) -> bool:
    """Adam on every element: before and after, (3, elements), are p, m and v, grads is (elements,).

    False where Python would have raised.
    """
    fine = True
    block = 256
    first_shared = FIRST_RESULT + len(code)
    registers = np.empty((first_shared + len(shared), block))
    for i in range(len(shared)):
        registers[first_shared + i] = shared[i]
    for start in range(0, before.shape[1], block):
        size = min(block, before.shape[1] - start)
        end = start + size
        put(registers[PARAMETER], before[0, start:end])
        put(registers[GRADIENT], grads[start:end])
        put(registers[FIRST_MOMENT], before[1, start:end])
        put(registers[SECOND_MOMENT], before[2, start:end])
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
            put(after[i, start:end], registers[results[i], :size])
    return fine
