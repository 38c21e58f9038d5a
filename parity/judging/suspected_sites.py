"""Sites that are outside while all that is computed from them is right: shown under a wrong name, most likely.

Names of sites are given by hand, as where modules of a torch.nn.Module are mapped to them, and a name that stands for
another tensor than was meant is no mistake of the training step. So it must neither pass unseen nor take the place of
the first site that is wrong.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.judging.computation_order import sites_after
from parity.judging.element_errors import z_values
from parity.judging.judge import Judge
from parity.judging.pairs import Difference, Pairs
from parity.oracle.oracle import Expectation
from parity.quantities import SITES
from parity.tensors import TensorViews
from reference.config import Config

_ENDS = {"logits": "the logits", "loss": "the loss"}
"""Of quantities that are computed from sites of the same name, what they are called among these."""


_SURELY = 1000
"""What is computed from a site would show so many times less than what is wrong with it."""


@dataclass(frozen=True)
class SuspectedSite:
    """A site that is suspected to be shown under a wrong name."""

    name: str
    first: Difference
    """The first element of it, or of its gradient, that rounding does not explain."""
    shows: str = ""
    """The site of the reference whose values stand under the name; empty where it is none."""
    shown_by: str = ""
    """What shows it, such as the name of a module, where the subject says so."""


def suspected_sites(
    config: Config,
    judge: Judge,
    expectation: Expectation,
    pairs: Pairs,
    shown_by: Mapping[str, str],
    passed: bool,
) -> list[SuspectedSite]:
    """The sites of an answer that are suspected to be shown under a wrong name.

    pairs: the whole answer, its sites included. shown_by: by site what shows it, as far as is known. passed: all else
    is right, so that every site outside is suspected. Otherwise one is, before anything else is outside, of which all
    that is next computed is right, as far as it is shown; or of which some is, while it has the values of another site.
    """
    outside, wrong = _first_outside(judge, pairs), set[str]()
    after = {} if passed or _hides(config, expectation) else _would_show(config, judge, pairs)
    found = []
    for name, first in outside.items():
        shows = _same_values(judge, expectation, pairs, name) if first.quantity == "site" else ""
        right = after.get(name, []) if name not in _after(config, wrong) else []
        if passed or (all(right) and right) or (any(right) and shows):
            found.append(SuspectedSite(name, first, shows, shown_by.get(name, "")))
        else:
            wrong.add(name)
    return found


def without(pairs: Pairs, sites: Sequence[str]) -> Pairs:
    """The sites of an answer and their gradients but for those so named."""
    return pairs.only({key for key in pairs.keys if key.quantity in SITES and key.name not in sites})


def _first_outside(judge: Judge, pairs: Pairs) -> dict[str, Difference]:
    """By name, the first element of every site that is outside, in the order of computation."""
    outside, starts = judge.outside(pairs), pairs.layout.starts
    found: dict[str, Difference] = {}
    for number, key in enumerate(pairs.keys):
        inside = outside[starts[number] : starts[number + 1]]
        if key.quantity in SITES and inside.any() and key.name not in found:
            found[key.name] = pairs.at(int(starts[number]) + int(np.argmax(inside)), judge.form)
    return found


def _would_show(config: Config, judge: Judge, pairs: Pairs) -> dict[str, list[bool]]:
    """By name, of the sites outside, whether what is next computed is right; none where that would not show."""
    tensors: dict[str, list[Pairs]] = {}
    for name, tensor in _shown(pairs):
        tensors.setdefault(name, []).append(tensor)
    sides = {
        name: [np.concatenate([getattr(tensor, side) for tensor in of_name]) for side in ("error", "expected", "sigma")]
        for name, of_name in tensors.items()
    }
    right = {name for name, of_name in tensors.items() if all(judge.accepts(tensor) for tensor in of_name)}
    found = {}
    with np.errstate(all="ignore"):
        seen = {name: np.median(judge.limit * sigma / np.abs(size)) for name, (_, size, sigma) in sides.items()}
        for name in tensors.keys() - right:
            error, expected, _ = sides[name]
            amount = np.linalg.norm(error) / np.linalg.norm(expected)
            ends = _next(config, tensors, name)
            enough = all(amount > _SURELY * seen[end] for end in ends)
            found[name] = [end in right for end in ends] if enough else []
    return found


def _shown(pairs: Pairs) -> Iterator[tuple[str, Pairs]]:
    """The sites that are shown, and what a step computes from them, by name."""
    for tensor in pairs:
        (key,) = tensor.keys
        if key.quantity == "site":
            yield key.name, tensor
        elif key.quantity in _ENDS:
            yield _ENDS[key.quantity], tensor


def _after(config: Config, sites: Collection[str]) -> set[str]:
    """All sites that are computed from any of these."""
    found, left = set[str](), list(sites)
    while left:
        new = sites_after(config.n_layer).get(left.pop(), frozenset()) - found
        found |= new
        left += new
    return found


def _next(config: Config, shown: Collection[str], site: str) -> set[str]:
    """Of what is shown, the names of what is next computed from a site."""
    found, seen, left = set[str](), {site}, [site]
    while left:
        name = left.pop()
        after = {*sites_after(config.n_layer).get(name, ()), *([_ENDS[name]] if name in _ENDS else [])}
        found |= after & set(shown)
        left += after - set(shown) - seen
        seen |= after
    return found


def _hides(config: Config, expectation: Expectation) -> bool:
    """Whether a matrix of zeros hides what goes into it from what is computed from it."""
    matrices = TensorViews(config, expectation.before.exact[0])
    return any(not np.any(matrix) for matrix in matrices.values())


def _same_values(judge: Judge, expectation: Expectation, pairs: Pairs, site: str) -> str:
    """The other site of the reference that has the values of one, as far as rounding lets one tell; else empty."""
    shown = pairs.only({key for key in pairs.keys if key.quantity == "site" and key.name == site}).actual
    for other, entries in expectation.step.sites.items():
        expected = np.concatenate([np.ravel(entry) for entry in entries])
        if other == site or expected.shape != shown.shape:
            continue
        sigma = np.concatenate([np.ravel(entry) for entry in expectation.sigma.sites[other]])
        if np.all(z_values(shown, expected, sigma) <= judge.limit):
            return str(other)
    return ""
