"""Maps of names: transposed, stacked, split, and what is wrong with one."""

import pytest
import torch

from parity.errors import UsageError
from parity.modules import stacked
from parity.quantities import TensorKey
from parity.training.names import Names, read_names

OTHER = {"q": (2, 3), "k": (2, 3), "out": (3, 2)}


def key(name, quantity="param"):
    return TensorKey(quantity, name)


@pytest.mark.parametrize(
    ("names", "own"),
    [
        ({}, OTHER),
        ({"qk": ["q", "k"]}, {"qk": (4, 3), "out": (3, 2)}),
        ({"qk": stacked("q", "k"), "o": "out.T"}, {"qk": (4, 3), "o": (2, 3)}),
        ({"first": "out[0:1]", "rest": "out[1:3].T"}, {"q": (2, 3), "k": (2, 3), "first": (1, 2), "rest": (2, 2)}),
    ],
)
def test_there_and_back_is_the_same(names, own):
    mapping = Names(names, own, OTHER)
    tensors = {key(name): torch.randn(shape, dtype=torch.float64) for name, shape in OTHER.items()}
    tensors |= {key(name, "step"): torch.tensor(2.0, dtype=torch.float64) for name in OTHER}
    there = mapping.to_own(tensors)
    assert {k.name: tuple(x.shape) for k, x in there.items() if k.quantity == "param"} == own
    back = mapping.to_other(there)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], tensors[k]) for k in tensors)


def test_numbers_in_names():
    own = {f"h.{i}.w": (2, 2) for i in range(12)}
    other = {f"layers.{i}.weight": (2, 2) for i in range(12)}
    mapping = Names({"h.{i}.w": "layers.{i}.weight.T"}, own, other)
    assert mapping.sources["h.11.w"] == ("layers.11.weight",)


@pytest.mark.parametrize(
    ("names", "own", "said"),
    [
        ({"qq": "q"}, OTHER, "'qq', which is no parameter (did you mean 'q'?)"),
        ({"q": "p"}, OTHER, "no parameter 'p'"),
        ({"o": "out"}, {"q": (2, 3), "k": (2, 3), "o": (2, 3)}, "transposed (.T) it would fit"),
        ({"q": "k"}, OTHER, "is mapped"),
        ({"o": "out[0:1]"}, {"q": (2, 3), "k": (2, 3), "o": (1, 2)}, "nowhere, or only in part"),
        ({"z.{i}": "q"}, OTHER, "no parameter is called so for any number"),
    ],
)
def test_map_that_does_not_fit(names, own, said):
    with pytest.raises(UsageError) as caught:
        Names(names, own, OTHER)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 3}', '{"a": []}'])
def test_file_that_is_no_map(tmp_path, text):
    file = tmp_path / "names.json"
    file.write_text(text)
    with pytest.raises(UsageError):
        read_names(file)
