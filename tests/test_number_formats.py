import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parity.number_formats import FORMATS

DTYPES = {name: getattr(torch, name) for name in FORMATS}

numbers = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("name", FORMATS)
def test_constants_are_torchs(name):
    info = torch.finfo(DTYPES[name])
    assert 2 * FORMATS[name].u == info.eps
    assert FORMATS[name].tiny == info.smallest_normal * info.eps
    assert FORMATS[name].rounded(info.max) == info.max


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
@given(x=numbers | st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_rounding_is_torchs(name, x):
    # torch rounds float64 to the small formats by way of float32, so that it is asked for float32 numbers only.
    x = x if name == "float32" else float(np.float32(np.clip(x, -3e38, 3e38)))
    expected = torch.tensor(x, dtype=torch.float64).to(DTYPES[name]).double().item()
    assert FORMATS[name].rounded(x).tolist() == expected


@pytest.mark.parametrize("name", FORMATS)
@given(x=numbers, steps=st.integers(0, 5), up=st.booleans())
def test_ulp_distance_counts_the_numbers_between(name, x, steps, up):
    form = FORMATS[name]
    start = form.rounded(np.float64(np.clip(x, -1e4, 1e4)))
    end = torch.tensor(float(start), dtype=DTYPES[name])
    towards = torch.tensor(math.inf if up else -math.inf, dtype=DTYPES[name])
    for _ in range(steps):
        end = torch.nextafter(end, towards)
    assert form.ulp_distance(np.asarray(end.double()), start) == steps


def test_ulp_distance_of_zeros_infinities_and_nan():
    form = FORMATS["float64"]
    distance = form.ulp_distance(
        np.array([0.0, math.inf, math.inf, math.nan, 1e308]), np.array([-0.0, math.inf, 1.0, 1.0, -1e308])
    )
    assert distance[0] == distance[1] == 0
    assert np.isinf(distance[2:4]).all()
    assert distance[4] > 1e19
