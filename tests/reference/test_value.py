import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference.microgpt import Value

OPERATIONS = {
    "x + y": lambda x, y: x + y,
    "x + 3": lambda x, y: x + 3,
    "3 + x": lambda x, y: 3 + x,
    "x - y": lambda x, y: x - y,
    "x - 3": lambda x, y: x - 3,
    "x * y": lambda x, y: x * y,
    "x * 3": lambda x, y: x * 3,
    "3 * x": lambda x, y: 3 * x,
    "x * x": lambda x, y: x * x,
    "x / y": lambda x, y: x / y,
    "x / 3": lambda x, y: x / 3,
    "-x": lambda x, y: -x,
    "x ** -1": lambda x, y: x**-1,
    "x ** 2": lambda x, y: x**2,
    "x ** 3": lambda x, y: x**3,
    "exp": lambda x, y: x.exp(),
    "relu": lambda x, y: x.relu(),
    "sum": lambda x, y: sum([x, y, x]),
}
OPERATIONS_ABOVE_ZERO = {
    "log": lambda x, y: x.log(),
    "x ** 0.5": lambda x, y: x**0.5,
    "x ** -0.5": lambda x, y: x**-0.5,
}
SIZES = st.floats(1e-3, 100)
SIGNS = st.sampled_from([-1.0, 1.0])


def value_gradients(operation, numbers):
    leaves = [Value(number) for number in numbers]
    result = operation(*leaves)
    result.backward()
    return result.data, [leaf.grad for leaf in leaves]


def torch_gradients(operation, numbers):
    leaves = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in numbers]
    result = operation(*leaves)
    result.backward()
    return result.item(), [None if leaf.grad is None else leaf.grad.item() for leaf in leaves]


def assert_same_derivative(operation, numbers):
    actual, actual_grads = value_gradients(operation, numbers)
    expected, expected_grads = torch_gradients(operation, numbers)
    few_roundings = {"rel": 32 * 2.0**-53, "abs": 0}
    assert actual == pytest.approx(expected, **few_roundings)
    for actual_grad, expected_grad in zip(actual_grads, expected_grads, strict=True):
        assert actual_grad == (None if expected_grad is None else pytest.approx(expected_grad, **few_roundings))


@pytest.mark.parametrize("name", OPERATIONS)
@given(data=st.data())
def test_operation_has_torchs_value_and_gradient(name, data):
    numbers = [data.draw(SIZES, label=leaf) * data.draw(SIGNS, label=f"sign of {leaf}") for leaf in "xy"]
    assert_same_derivative(OPERATIONS[name], numbers)


@pytest.mark.parametrize("name", OPERATIONS_ABOVE_ZERO)
@given(data=st.data())
def test_operation_above_zero_has_torchs_value_and_gradient(name, data):
    assert_same_derivative(OPERATIONS_ABOVE_ZERO[name], [data.draw(SIZES, label=leaf) for leaf in "xy"])


@pytest.mark.parametrize("number", [0.0, -0.0, 5e-324, -5e-324])
def test_relu_at_its_kink_has_torchs_gradient(number):
    actual = value_gradients(lambda x: x.relu(), [number])
    assert actual == torch_gradients(lambda x: x.relu(), [number])


@pytest.mark.parametrize("exponent", [1, 2, 3])
def test_power_of_zero_has_torchs_gradient(exponent):
    actual = value_gradients(lambda x: x**exponent, [0.0])
    assert actual == torch_gradients(lambda x: x**exponent, [0.0])


@given(data=st.data())
def test_graph_of_reused_nodes_has_torchs_gradients(data):
    """Leaves of at most 2 and five operations keep every intermediate a small integer, so the gradients are exact."""
    numbers = [data.draw(st.integers(-2, 2), label=f"leaf {i}") for i in range(3)]
    binary = {"+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y}
    unary = {"neg": lambda x, y: -x, "relu": lambda x, y: x.relu(), "square": lambda x, y: x**2}
    operations = binary | unary
    plan = [
        (
            data.draw(st.sampled_from(sorted(operations)), label=f"operation {i}"),
            data.draw(st.integers(0, len(numbers) + i - 1), label=f"its left operand {i}"),
            data.draw(st.integers(0, len(numbers) + i - 1), label=f"its right operand {i}"),
        )
        for i in range(data.draw(st.integers(1, 5), label="operations"))
    ]

    def last_node(*leaves):
        nodes = list(leaves)
        for name, left, right in plan:
            nodes.append(operations[name](nodes[left], nodes[right]))
        return nodes[-1]

    actual = value_gradients(last_node, [float(number) for number in numbers])
    assert actual == torch_gradients(last_node, [float(number) for number in numbers])


def test_reused_node_accumulates_its_gradient():
    x = Value(3.0)
    (x + x + x).backward()
    assert x.grad == 3.0


def test_product_with_itself_counts_both_factors():
    x = Value(3.0)
    (x * x).backward()
    assert x.grad == 6.0


def test_quotient_by_itself_cancels():
    x = Value(4.0)
    (x / x).backward()
    assert x.grad == 0.0


def test_diamond_sums_over_both_paths():
    x = Value(2.0)
    left, right = x * 3.0, x * 5.0
    (left * right + left).backward()
    assert (left.grad, right.grad, x.grad) == (11.0, 6.0, 63.0)


def test_sum_is_a_value_with_a_gradient_for_every_term():
    terms = [Value(float(i)) for i in range(5)]
    total = sum(terms)
    total.backward()
    assert total.data == 10.0
    assert [term.grad for term in terms] == [1.0] * 5


def test_node_that_is_not_reached_has_no_gradient():
    x, unused = Value(2.0), Value(3.0)
    aside = x * unused
    (x * x).backward()
    assert (unused.grad, aside.grad) == (None, None)


def test_reached_node_without_influence_has_gradient_zero():
    x = Value(-2.0)
    x.relu().backward()
    assert x.grad == 0.0


def test_long_chain_needs_no_recursion_forward_backward_or_at_its_end():
    x = Value(1.0)
    node = x
    for _ in range(200_000):
        node = node + 1.0
    node.backward()
    assert node.data == 200_001.0
    assert x.grad == 1.0
    del node


def test_gradient_bits_do_not_depend_on_where_objects_lie():
    rng = random.Random(0)
    numbers = [rng.gauss(0, 1) for _ in range(300)]

    def gradients(order):
        nodes = {i: Value(numbers[i]) for i in order}
        leaves = [nodes[i] for i in range(len(numbers))]
        squares = {i: leaves[i] * leaves[i] for i in order}
        total = sum(squares[i] for i in range(len(numbers)))
        sum(leaf * total.log() / (leaf * leaf + 1) for leaf in leaves).backward()
        return [leaf.grad.hex() for leaf in leaves]

    forward = list(range(len(numbers)))
    expected = gradients(forward)
    assert gradients(forward[::-1]) == expected
    assert gradients(rng.sample(forward, len(forward))) == expected
