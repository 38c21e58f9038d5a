import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.number_formats import FORMATS
from parity.oracle import noisy_kernels
from parity.oracle.adam import Replicas
from parity.oracle.rounding import Rounding, average_weight, factor_may_round, may_round, moved
from parity.oracle.spread import deviation

U, TINY = 2.0**-8, 2.0**-133
REPLICAS = 4096


def generators() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 2**32, REPLICAS, dtype=np.uint32)


def test_only_beside_the_reference_in_float64_both_sides_round():
    for name, form in FORMATS.items():
        assert Rounding.of(form).u == form.u * (2 if name == "float64" else 1)
        assert Rounding.beside_truth(form).u == form.u


def test_shared_scalars_are_computed_in_float32_at_least():
    coarsest = FORMATS["float32"].u
    assert {name: Rounding.of(form).shared_u for name, form in FORMATS.items()} == {
        "float64": 2.0**-52,
        "float32": coarsest,
        "bfloat16": coarsest,
        "float16": coarsest,
    }


def test_hyper_parameters_are_numbers_of_float64_alone():
    assert [name for name, form in FORMATS.items() if not Rounding.of(form).hypers_round] == ["float64"]


@given(r=st.floats(allow_nan=False, allow_infinity=False), xi=st.floats(-1, 1, exclude_max=True))
def test_move_stays_within_the_rounding_error_and_keeps_the_sign(r, xi):
    result = moved(r, xi, U, TINY)
    assert abs(result - r) <= (abs(r) * U + TINY) * (1 + 1e-12) or math.isinf(result)
    assert result * math.copysign(1, r) >= 0


def test_move_beyond_zero_ends_there():
    assert moved(TINY / 2, -0.9, U, TINY) == 0
    assert moved(-TINY / 2, 0.9, U, TINY) == 0
    assert moved(TINY / 2, 0.5, U, TINY) > TINY / 2


@pytest.mark.parametrize(("a", "b"), [(0.0, 3.0), (3.0, 0.0), (-0.0, math.inf), (0.0, 0.0)])
def test_sums_and_products_with_a_zero_are_exact(a, b):
    assert not may_round(a, b)
    assert may_round(a + 1, math.nan)
    for operation in (noisy_kernels.add, noisy_kernels.multiply):
        result = np.empty(REPLICAS)
        operation(result, np.full(REPLICAS, a), np.full(REPLICAS, b), generators(), U, TINY)
        assert len(np.unique(result)) == 1
        operation(result, np.full(REPLICAS, 3.0), np.full(REPLICAS, 5.0), generators(), U, TINY)
        assert len(np.unique(result)) > 1


def test_products_with_a_power_of_two_are_exact():
    for factor, rounds in ((1.0, False), (-0.25, False), (2.0**60, False), (3.0, True), (0.1, True)):
        assert factor_may_round(factor) is rounds
        result = np.empty(REPLICAS)
        noisy_kernels.scale(result, np.full(REPLICAS, 0.7), factor, generators(), U, TINY)
        assert (len(np.unique(result)) > 1) is rounds


@pytest.mark.parametrize("beta", [0.85, 0.99, 0.999])
def test_weight_of_an_average_has_the_rounding_error_of_its_complement(beta):
    def move(values: np.ndarray) -> np.ndarray:
        noisy_kernels.perturb(values, generators(), U, TINY)
        return values

    weight = average_weight(beta, REPLICAS, move)
    assert deviation(weight[None])[0] == pytest.approx((1 - beta) * U / math.sqrt(3), rel=0.1)
    assert np.mean(weight) == pytest.approx(beta, abs=(1 - beta) * U)


def test_weight_of_an_average_stays_a_weight():
    assert average_weight(0.0, 3, lambda values: values / 2).tolist() == [0, 0, 0]
    assert average_weight(0.1, 3, lambda values: values * 2).tolist() == [0, 0, 0]
    assert average_weight(1.0, 3, lambda values: values - 1).tolist() == [1, 1, 1]


def test_weight_of_an_average_that_keeps_nothing_is_exact():
    replicas = Replicas(3, perturb=lambda x: x + 1, perturb_given=lambda x: x + 1, hypers_round=True)
    assert replicas.average(0.0).tolist() == [0, 0, 0]
    assert replicas.hyper(0.0).tolist() == [1, 1, 1]
