"""The floor of each operation against the errors that it has."""

import pytest
import torch

from tests.oracle.shadows.measuring import check_floor, measured, with_gradients
from tests.oracle.shadows.programs import PROGRAMS, inputs_of
from tests.thinning import THOROUGH

FORMATS = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}


DEALT = [
    (name, form)
    for place, name in enumerate(PROGRAMS)
    for number, form in enumerate(FORMATS)
    if THOROUGH or number != place % len(FORMATS)
]
"""Each program in all formats but one, and each class of programs in all."""


@pytest.mark.parametrize(("name", "format_"), DEALT, ids=map("-".join, DEALT))
def test_errors_are_of_the_size_of_the_floor(name, format_):
    check_floor(measured(with_gradients(PROGRAMS[name][0], inputs_of(name, FORMATS[format_]))))
