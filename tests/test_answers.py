"""Answers of a subject become arrays of numbers, tensor by tensor or all at once."""

import numpy as np
import pytest
import torch

from parity.answers import as_array, together

SHAPES = [(2, 3), (1,), (), (3, 2)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int32])
def test_torch_tensors_are_read_together_as_one_by_one(dtype):
    values = [(10 * torch.randn(shape)).to(dtype) for shape in SHAPES]
    values[3] = values[3].T.contiguous().T
    expected = np.concatenate([as_array(value, "it").ravel() for value in values])
    assert together(values, SHAPES).tobytes() == expected.tobytes()
    values[0] = torch.nn.Parameter(values[0].double())
    assert np.array_equal(together(values, SHAPES), expected)


def test_what_is_not_torch_or_of_other_shapes_is_left_to_be_read_one_by_one():
    values = [torch.ones(shape) for shape in SHAPES]
    assert together([*values[:3], np.ones((3, 2))], SHAPES) is None
    assert together([*values[:3], torch.ones(2, 3)], SHAPES) is None
    assert together([*values[:3], torch.ones(3, 2, dtype=torch.complex64)], SHAPES) is None
    assert together([*values[:3], torch.ones(3, 2, device="meta")], SHAPES) is None
