"""The floor of each operation against the errors that it has."""

import pytest
import torch

from tests.oracle.shadows.measuring import check_floor, measured, with_gradients
from tests.oracle.shadows.programs import PROGRAMS, inputs_of

FORMATS = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_errors_are_of_the_size_of_the_floor(name, format_):
    check_floor(measured(with_gradients(PROGRAMS[name][0], inputs_of(name, FORMATS[format_]))))
