"""Reference and twin side by side, line beside line, each with the largest z of its sites and its share of the time."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from parity.page.rendering import z_text

ROOT = Path(__file__).parents[2]
FILES = ("reference/microgpt.py", "torch_twin/microgpt.py")
_SITE = re.compile(r'tap\(f?"(?:\{layer\}\.)?([\w.]+)"')
_QUANTITIES = (
    (re.compile(r"\bafter\.m\[name\] ="), "m"),
    (re.compile(r"\bafter\.v\[name\] ="), "v"),
    (re.compile(r"\bafter\.params\[name\] ="), "param"),
    (re.compile(r"\bgrads = "), "grad"),
    (re.compile(r"\bloss = \(1 / len\(batch\)\)"), "loss"),
)
_ALIKE = 0.45
"""How alike two lines are, of 1, at least, to stand beside each other."""
_GAP = 0.2
"""What a line without a counterpart counts, in the same measure: so two unlike ones stand apart."""

_TOP = "the file"
"""What stands before the first definition."""
Line = tuple[int, str]


@dataclass(frozen=True)
class Pair:
    """A line of each side, or of one. z: of the site that the line names; shares: of the forward pass, in percent."""

    left: Line | None
    right: Line | None
    site: str = ""
    z: str = ""
    shares: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Block:
    """A definition at the top level; only_left: what tensors and autograd take the place of."""

    name: str
    pairs: list[Pair]
    only_left: bool


def listing(found: dict[str, Any]) -> list[Block]:
    """Both files, definition beside definition, as `parity.ladder.line_by_line` measured them.

    First come those of which something is measured, last what one file alone has.
    """
    left, right = (_blocks((ROOT / file).read_text(encoding="utf-8")) for file in FILES)
    both = [name for name in left if name in right and name != _TOP]
    alone = [*(name for name in right if name not in left), *(name for name in left if name not in right), _TOP]
    blocks = {name: _block(name, left, right, found) for name in (*both, *alone)}
    both.sort(key=lambda name: not any(pair.z for pair in blocks[name].pairs))
    return [blocks[name] for name in (*both, *alone)]


def _block(name: str, left: dict[str, list[Line]], right: dict[str, list[Line]], found: dict[str, Any]) -> Block:
    pairs = [_measured(pair, found) for pair in _beside(left.get(name, []), right.get(name, []))]
    return Block(name, pairs, name not in right)


def _blocks(source: str) -> dict[str, list[Line]]:
    """By name of the definition its lines, what stands before the first one apart."""
    tree, lines = ast.parse(source), source.splitlines()
    starts = {1: _TOP}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            starts[min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])] = node.name
    ends = [*sorted(starts)[1:], len(lines) + 1]
    found = {}
    for (start, name), end in zip(sorted(starts.items()), ends, strict=True):
        block = [(number, lines[number - 1]) for number in range(start, end)]
        while block and not block[-1][1].strip():
            block.pop()
        found[name] = block
    return found


def _beside(left: Sequence[Line], right: Sequence[Line]) -> list[Pair]:
    """The alignment in which lines beside each other are as alike as possible (Needleman and Wunsch 1970)."""
    best = [[(_GAP * (i + j), "") for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    for i in range(len(left) + 1):
        for j in range(len(right) + 1):
            ways = []
            if i and j:
                alike = _alike(left[i - 1][1], right[j - 1][1])
                ways += [(best[i - 1][j - 1][0] + 2 * alike, "both")] if alike >= _ALIKE else []
            ways += [(best[i - 1][j][0] + _GAP, "left")] if i else []
            ways += [(best[i][j - 1][0] + _GAP, "right")] if j else []
            best[i][j] = max(ways, default=(0.0, ""))
    pairs, i, j = [], len(left), len(right)
    while i or j:
        way = best[i][j][1]
        i, j = i - (way in ("both", "left")), j - (way in ("both", "right"))
        pairs.append(Pair(left[i] if way != "right" else None, right[j] if way != "left" else None))
    return pairs[::-1]


def _alike(left: str, right: str) -> float:
    left, right = left.strip(), right.strip()
    if left == right:
        return 1.0
    sites = [_SITE.findall(line) for line in (left, right)]
    return 1.0 if sites[0] and sites[0] == sites[1] else SequenceMatcher(None, left, right, False).ratio()


def _measured(pair: Pair, found: dict[str, Any]) -> Pair:
    """With what is known of the site that the line names."""
    text = (pair.left or pair.right or (0, ""))[1]
    named = _SITE.search(text)
    if named:
        site, z = named[1], found["largest_z"]["site"].get(named[1])
        shares = [_share(found["percent"][side], site) for side in ("reference", "twin")]
        return Pair(pair.left, pair.right, site, z_text(z) if z is not None else "", (shares[0], shares[1]))
    quantity = next((name for pattern, name in _QUANTITIES if pattern.search(text)), "")
    z = found["largest_z"]["quantity"].get(quantity)
    return Pair(pair.left, pair.right, quantity, z_text(z)) if z is not None else pair


def _share(percent: dict[str, float], site: str) -> str:
    return f"{percent[site]:.1f} %" if site in percent else ""
