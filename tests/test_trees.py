import numpy as np
import pytest

from parity.trees import is_row, listed, mapped
from reference.config import Step


def test_every_leaf_is_mapped_where_it_stands():
    tree = {"a": [[1, 2], [3]], "b": {"c": 4, "d": []}, "e": (5, None)}
    assert mapped(str, tree) == {"a": [["1", "2"], ["3"]], "b": {"c": "4", "d": []}, "e": ["5", "None"]}
    assert mapped(str, 1) == "1"


def test_trees_are_mapped_side_by_side():
    trees = ({"a": [1, (2, 3)]}, {"a": [10, [20, 30]], "more": 0}, {"a": [100, [200, 300]]})
    assert mapped(lambda *leaves: sum(leaves), *trees) == {"a": [111, [222, 333]]}


def test_fields_of_a_step_that_are_not_exposed_stay_so():
    step, other = Step(loss=1.0, grads={"w": [[2.0]]}), Step(loss=3.0, grads={"w": [[4.0]]}, m={"w": [[5.0]]})
    assert mapped(lambda a, b: a * b, step, other) == Step(loss=3.0, grads={"w": [[8.0]]})


def test_whatever_is_said_to_be_a_leaf_is_one():
    tree = {"a": [[1, 2], [3, 4]], "b": [[]], "c": 5}
    assert mapped(lambda row: row, tree, leaf=is_row) == tree
    assert mapped(lambda row: sum(row) if isinstance(row, list) else row, tree, leaf=is_row) == {
        "a": [3, 7],
        "b": [0],
        "c": 5,
    }


@pytest.mark.parametrize(
    ("tree", "other", "error"),
    [([1, 2], [1], ValueError), ([1], [1, 2], ValueError), ({"a": 1}, {}, KeyError)],
    ids=["shorter", "longer", "without a name"],
)
def test_trees_that_do_not_fit_are_refused(tree, other, error):
    with pytest.raises(error):
        mapped(lambda a, b: a, tree, other)


def test_arrays_are_leaves_until_they_are_listed():
    tree = Step(loss=np.float64(1), grads={"w": np.eye(2)}, logits=[np.ones((1, 2)), [[2.0, 2.0]]])
    assert mapped(np.shape, tree).grads == {"w": (2, 2)}
    assert listed(tree) == Step(loss=1.0, grads={"w": [[1.0, 0.0], [0.0, 1.0]]}, logits=[[[1.0, 1.0]], [[2.0, 2.0]]])


def test_rows_hold_no_lists():
    assert is_row([])
    assert is_row([1, 2])
    assert is_row((None,))
    assert not is_row([[1]])
    assert not is_row([()])
    assert not is_row(1)
    assert not is_row({"a": 1})
