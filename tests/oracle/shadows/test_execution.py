"""What an execution does besides rounding: random draws, unknown operations, extremes of formats, faults it shows."""

import copy

import pytest
import torch
from torch.nn import functional

from parity.oracle.shadows import sums
from parity.oracle.shadows.execution import Execution
from parity.oracle.shadows.noise import Arithmetic, Noise
from parity.oracle.shadows.shadow import Shadow, in_shadow, inner_of
from tests.oracle.shadows.measuring import measured, with_gradients


def shadow(x):
    x = x.clone()
    in_shadow(x)
    return x


def normal(*shape, scale=1.0, dtype=torch.float32):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(3)) * scale).to(dtype)


def test_a_shadow_says_its_format_and_holds_float64():
    x = shadow(normal(3, dtype=torch.bfloat16))
    assert isinstance(x, Shadow)
    assert (x.dtype, x.held.dtype) == (torch.bfloat16, torch.float64)
    with Execution():
        assert (x.float() + x).dtype == torch.float32
        third = x / 3
    assert inner_of(third).tolist() == (x.held / 3).tolist()
    assert (x.float() + x).dtype == torch.float32  # by itself, too


def test_a_copy_of_a_shadow_is_one_that_takes_gradients_where_the_shadow_does():
    x = shadow(normal(3))
    for original in (x, x.clone().requires_grad_(), torch.nn.Parameter(x), torch.nn.Parameter(x, requires_grad=False)):
        copied = copy.deepcopy(original)
        assert type(copied) is type(original)
        assert copied.requires_grad == original.requires_grad
        assert torch.equal(inner_of(copied), inner_of(original))
        assert inner_of(copied).data_ptr() != inner_of(original).data_ptr()


def test_all_parts_of_a_tensor_have_its_format():
    for number in (2, 5):
        with Execution():
            assert {part.dtype for part in shadow(normal(number, 3, dtype=torch.bfloat16)).unbind()} == {torch.bfloat16}


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: functional.dropout(x, 0.3),
        lambda x: torch.native_dropout(x, 0.3, True)[0],
        lambda x: torch.native_dropout(x, 0.3, False)[0],
        torch.rand_like,
        lambda x: torch.randn(3, 40, dtype=x.dtype) + x,
        lambda x: x.clone().normal_(),
        lambda x: x.clone().bernoulli_(0.3),
        lambda x: x + torch.randperm(40),
        lambda x: torch.multinomial(x.softmax(-1), 2),
    ],
)
def test_shadows_draw_what_the_program_draws(draw):
    x = normal(3, 40)
    torch.manual_seed(7)
    native, after = draw(x), torch.rand(())
    torch.manual_seed(7)
    with Execution() as execution:
        drawn = draw(shadow(x))
    assert torch.rand(()) == after
    assert execution.random
    torch.testing.assert_close(inner_of(drawn).to(native.dtype), native)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_constants_are_those_of_the_format(dtype):
    def constants(x):
        return [x.clamp(-0.3, 0.3), x.masked_fill(x > 0, 0.1), torch.where(x > 0, x, 0.7), torch.full_like(x, 0.1)]

    x = normal(50, dtype=dtype)
    assert measured(lambda in_shadows: constants(shadow(x) if in_shadows else x)).largest == 0


def test_an_unknown_operation_is_named_and_rounded_as_an_elementwise_one():
    @torch.library.custom_op("parity_tests::half_angle", mutates_args=())
    def half_angle(x: torch.Tensor) -> torch.Tensor:
        return (x / 2).sin()

    found = measured(lambda in_shadows: [half_angle(shadow(normal(300)) if in_shadows else normal(300))])
    assert found.execution.elementwise == {"half_angle"}
    assert 0 < found.largest <= found.limit


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_fused_norm_of_other_devices_has_the_gradients_of_its_formula(wanted):
    """CPUs have no kernel of it, so that no program of theirs runs it."""
    x, weight, grad = (normal(9, 16).double().requires_grad_() for _ in range(3))
    weight = weight[0].detach().requires_grad_()
    expected = x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight
    gradients = torch.autograd.grad(expected, (x, weight), grad)
    given = [shadow(y.detach().float()) for y in (x, weight, grad)]
    with Execution():
        out, rstd = torch.ops.aten._fused_rms_norm(given[0], [16], given[1], 1e-5)
        found = torch.ops.aten._fused_rms_norm_backward(given[2], given[0], [16], rstd, given[1], wanted)
    torch.testing.assert_close(inner_of(out), expected)
    for actual, of_input, asked in zip(found, gradients, wanted, strict=True):
        if asked:
            torch.testing.assert_close(inner_of(actual), of_input)
        else:
            assert actual is None


def test_dropout_in_fused_attention_is_refused():
    x = shadow(normal(1, 2, 8, 4))
    with Execution(), pytest.raises(NotImplementedError, match="dropout within fused attention"):
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(x, x, x, 0.5)


def test_draws_within_other_operations_are_refused():
    with Execution(), pytest.raises(NotImplementedError, match="rrelu_with_noise draws numbers"):
        functional.rrelu(shadow(normal(9)), training=True)


def test_sparse_gradients_are_refused():
    weight = shadow(normal(5, 4)).requires_grad_()
    with Execution(), pytest.raises(NotImplementedError, match="sparse"):
        functional.embedding(torch.tensor([1, 2]), weight, sparse=True).sum().backward()


def test_float16_underflows_by_half_its_smallest_number():
    found = measured(with_gradients(lambda x: x * 1e-6 * 1.1, (normal(40, 50, dtype=torch.float16),)))
    assert 0.3 <= found.rms <= 1.2
    assert found.largest <= found.limit


def test_small_gradients_of_float16_stay_within_their_floor():
    inputs = (normal(20, 64, dtype=torch.float16), normal(64, 16, dtype=torch.float16))
    found = measured(with_gradients(lambda x, y: (x @ y).softmax(-1), inputs, 1e-6))
    assert found.largest <= found.limit


def test_exact_zeros_stay_zero():
    with Execution(Noise(1)):
        moved = shadow(torch.zeros(9, dtype=torch.float16)) * 1.1
    assert not inner_of(moved).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_overflow_is_infinite_on_shadows_too(dtype):
    x = torch.tensor([0.9, 1.1, -1.1], dtype=torch.float64)
    x = (x * torch.finfo(dtype).max / 2).to(dtype)
    with Execution():
        doubled, nearly = shadow(x) * 2.0, shadow(x) * 1.9
    assert torch.equal(inner_of(doubled), (x * 2.0).double())
    assert torch.equal(inner_of(nearly).isinf(), (x * 1.9).isinf())
    with Execution():
        largest = shadow(torch.tensor([torch.finfo(dtype).max], dtype=dtype)) * 1.0
    assert inner_of(largest).isfinite().all()


def test_infinities_stay_infinite_when_they_are_moved():
    for dtype in (torch.float32, torch.float16):
        with Execution(Noise(1)):
            moved = shadow(torch.full((9,), -torch.inf, dtype=dtype)) + 1.0
        assert inner_of(moved).isneginf().all()


def test_subnormal_results_of_float32_show():
    """Floors have no term for them: a program that needs numbers below 1e-38 is told so."""
    found = measured(with_gradients(lambda x: x * 1e-43 * 1e20 * 1e20, (normal(300),)))
    assert found.largest > found.limit


def test_writes_through_views_are_seen_by_their_bases():
    with Execution():
        x = shadow(torch.zeros(4, 4))
        x.t()[1] = 3.0
        x.view(-1)[2:4].add_(1.0)
    assert inner_of(x)[:, 1].tolist() == [3.0] * 4
    assert inner_of(x)[0].tolist() == [0.0, 3.0, 1.0, 1.0]


def test_shapes_that_are_changed_in_place_change_inside_too():
    with Execution():
        x = shadow(normal(3, 4))
        x.transpose_(0, 1).unsqueeze_(0)
    assert x.shape == inner_of(x).shape == (1, 4, 3)


def beyond(program):
    found = measured(program)
    return found.largest > found.limit


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (lambda x: functional.layer_norm(x, (64,)), lambda x: functional.layer_norm(x, (64,), eps=1.2e-5)),
        (lambda x: functional.gelu(x, approximate="tanh"), functional.gelu),
        (lambda x: (x @ x.mT).tril().softmax(-1), lambda x: (x @ x.mT).tril(1).softmax(-1)),
        (lambda x: x.sum(-1) / 64, lambda x: x.sum(-1) / 63.99),
    ],
)
def test_another_function_is_beyond_the_limit(right, wrong):
    x = normal(40, 64, scale=0.3)
    assert not beyond(lambda in_shadows: [right(shadow(x) if in_shadows else x)])
    assert beyond(lambda in_shadows: [right(shadow(x)) if in_shadows else wrong(x)])


def test_a_product_without_its_sums_has_too_small_a_floor(monkeypatch):
    monkeypatch.setattr(Arithmetic, "summed", lambda self, x, *others: x)
    assert beyond(with_gradients(torch.matmul, (normal(24, 64), normal(64, 16))))


def test_sums_in_a_short_format_that_are_taken_for_float32_have_too_small_a_floor(monkeypatch):
    monkeypatch.setattr(sums, "_IN_FORMAT", frozenset())
    indices = torch.arange(128) % 10
    assert beyond(with_gradients(lambda w: functional.embedding(indices, w), (normal(10, 16, dtype=torch.bfloat16),)))
