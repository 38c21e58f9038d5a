"""The floor of each operation against the errors that it has."""

import pytest
import torch

from tests.oracle.shadows.measuring import Measured, measured, rms, with_gradients
from tests.oracle.shadows.programs import PROGRAMS, inputs_of

FORMATS = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}


def check_floor(found: Measured) -> None:
    assert found.largest <= found.limit
    for z in found.results:
        if (z != 0).sum() >= 64:
            assert 0.3 <= rms(z) <= 1.2
    assert not found.execution.elementwise


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_errors_are_of_the_size_of_the_floor(name, format_):
    check_floor(measured(with_gradients(PROGRAMS[name][0], inputs_of(name, FORMATS[format_]))))
