"""Holds the two models side by side: wherever the reference has a line, the twin has its line.

A line stands here as what it assigns (or its kind) and the names it uses: `x <- linear, params, x`. Whether it
computes the same is for the numbers to say.
"""

import ast
from difflib import ndiff
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "reference" / "microgpt.py").read_text(encoding="utf-8")
TWIN = (ROOT / "torch_twin" / "microgpt.py").read_text(encoding="utf-8")

REFERENCE_ONLY = {
    "Tokenizer": "text is turned into tokens before either model sees it",
    "function": "a tensor has exp and log of its own",
    "Value": "torch has autograd",
    "without_gc": "torch's graphs are not made of Python objects",
    "elementwise": "tensors are elementwise by themselves",
}
TWIN_ONLY = {
    "Twin": "the subject that the harness drives",
}
PARAMETERS_OF_THE_REFERENCE_ONLY = {
    ("train_step", "scalar"): "a tensor has one kind of scalar",
}


class Exempt(NamedTuple):
    """Lines in which one function may differ."""

    function: str
    reference: tuple[str, ...]
    twin: tuple[str, ...]
    reason: str


EXEMPT_LINES = (
    Exempt(
        "init_params",
        ("params[name] <- columns, rng, rows, std",),
        ("matrix <- columns, rng, rows, std", "params[name] <- matrix"),
        "the twin draws as the reference does and then makes a tensor of it",
    ),
    Exempt(
        "gpt",
        ("x <- config, i, values, weights",),
        ("x <- i, values, weights",),
        "a tensor of heads is flattened without counting through head_dim",
    ),
    Exempt("train_step", ("params <- scalar, state",), ("params <- state",), "torch has autograd"),
    Exempt("sample", ("params <- params",), (), "the twin needs no Value where it needs no gradients"),
)


def differences(reference: str, twin: str) -> list[str]:
    """What differs between two sources, apart from the exceptions; an exception that nothing needs counts, too."""
    expected, actual = Outline(reference), Outline(twin)
    exempt = [f"{name} is excepted but not there" for name in REFERENCE_ONLY if name not in expected.definitions]
    exempt += [f"{name} is excepted but not there" for name in TWIN_ONLY if name not in actual.definitions]
    expected_names = [name for name in expected.definitions if name not in REFERENCE_ONLY]
    actual_names = [name for name in actual.definitions if name not in TWIN_ONLY]
    found = exempt + changes("definitions", actual_names, expected_names)
    for name in expected_names:
        if name not in actual_names:
            continue
        actual_function, expected_function = actual.definitions[name], expected.definitions[name]
        found += changes(f"{name}, parameters", parameters(actual_function), expected_parameters(expected_function))
        found += changes(f"{name}, sites", sites(actual_function), sites(expected_function))
        expected_lines, stale = with_exceptions(name, expected.lines(name))
        found += stale + changes(f"{name}, lines", actual.lines(name), expected_lines)
    return found


def changes(what: str, actual: list[str], expected: list[str]) -> list[str]:
    return [f"{what}: {line}" for line in ndiff(expected, actual) if line[0] in "+-"]


class Outline:
    """The functions and classes of a module by name, in order, and the lines of each."""

    def __init__(self, source: str) -> None:
        body = ast.parse(source).body
        self.definitions = {node.name: node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}

    def lines(self, name: str) -> list[str]:
        function = self.definitions[name]
        own = {argument.arg for argument in all_arguments(function)} | bound(function)
        shared = self.definitions.keys() - REFERENCE_ONLY.keys() - TWIN_ONLY.keys()
        return list(described(function.body, own | shared))


def described(body: list[ast.stmt], names: set[str]):
    for node in body:
        match node:
            case ast.Expr(ast.Constant(str())):
                continue
            case ast.Assign(targets=targets):
                what = ", ".join(map(ast.unparse, targets))
            case ast.AugAssign() | ast.AnnAssign():
                what = ast.unparse(node.target)
            case ast.For():
                what = f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}"
            case ast.If():
                what = f"if {ast.unparse(node.test)}"
            case ast.Expr(ast.Call(function)):
                what = ast.unparse(function)
            case _:
                what = type(node).__name__.lower()
        yield f"{what} <- {', '.join(sorted(used(node) & names))}".removesuffix(" <- ")
        yield from described(getattr(node, "body", []), names)
        if getattr(node, "orelse", []):
            yield "else"
            yield from described(node.orelse, names)


def used(node: ast.stmt) -> set[str]:
    """The names that a statement computes with, without those that live only within it."""
    value = getattr(node, "value", None)
    inner = list(ast.walk(value)) if value else []
    local = {argument.arg for n in inner if isinstance(n, ast.Lambda) for argument in n.args.args}
    local |= {n.id for n in inner if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return {n.id for n in inner if isinstance(n, ast.Name)} - local


def bound(function: ast.FunctionDef) -> set[str]:
    """The names that a function assigns."""
    names = (node for node in ast.walk(function) if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def all_arguments(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def parameters(function: ast.FunctionDef) -> list[str]:
    """Names with their defaults; types are for the twin alone."""
    positional = [*function.args.posonlyargs, *function.args.args]
    defaults = [None] * (len(positional) - len(function.args.defaults)) + function.args.defaults
    defaults += function.args.kw_defaults
    return [
        argument.arg + (f"={ast.unparse(default)}" if default else "")
        for argument, default in zip(all_arguments(function), defaults, strict=True)
    ]


def expected_parameters(function: ast.FunctionDef) -> list[str]:
    return [
        text
        for text, argument in zip(parameters(function), all_arguments(function), strict=True)
        if (function.name, argument.arg) not in PARAMETERS_OF_THE_REFERENCE_ONLY
    ]


def sites(function: ast.FunctionDef) -> list[str]:
    """The sites that a function taps, as its text names them, in the order of the text."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and ast.unparse(node.func) == "tap"]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return [ast.unparse(call.args[0]) for call in calls]


def with_exceptions(name: str, lines: list[str]) -> tuple[list[str], list[str]]:
    """The reference's lines with the excepted ones as the twin may have them, and exceptions that fit no line."""
    stale = []
    for exempt in EXEMPT_LINES:
        if exempt.function != name:
            continue
        start, length = 0, len(exempt.reference)
        while start < len(lines) and tuple(lines[start : start + length]) != exempt.reference:
            start += 1
        if start == len(lines):
            stale.append(f"{name}: no line needs the exception {exempt.reference}")
            continue
        lines = [*lines[:start], *exempt.twin, *lines[start + length :]]
    return lines, stale


def test_twin_has_the_references_lines():
    assert differences(REFERENCE, TWIN) == []


def test_sites_are_found_at_all():
    found = sites(Outline(TWIN).definitions["gpt"])
    assert found[0] == "'embedding'"
    assert "f'{layer}.attn.scores'" in found
    assert found[-1] == "'logits'"
    assert len(found) == 2 + 12 + 1


FAULTS = {
    "renamed variable": ("mean_square", "ms", "rmsnorm, lines: + ms <- x"),
    "swapped assignments": (
        """    mean_square = (x * x).sum() / len(x)
    scale = (mean_square + 1e-5) ** -0.5
""",
        """    scale = (mean_square + 1e-5) ** -0.5
    mean_square = (x * x).sum() / len(x)
""",
        "rmsnorm, lines: + scale <- mean_square",
    ),
    "swapped lines that assign the same name": (
        """        x = linear(x, params[f"{layer}.mlp_fc2"])
        x = x + residual
""",
        """        x = x + residual
        x = linear(x, params[f"{layer}.mlp_fc2"])
""",
        "gpt, lines: + x <- residual, x",
    ),
    "swapped norm and residual": (
        """        residual = x
        x = tap(f"{layer}.mlp.norm", rmsnorm(x))
""",
        """        x = tap(f"{layer}.mlp.norm", rmsnorm(x))
        residual = x
""",
        "gpt, lines: + x <- layer, rmsnorm, tap, x",
    ),
    "removed tap": ("""    x = tap("embedding", x)\n""", "", "gpt, sites: - 'embedding'"),
    "tap taken off a value": (
        """tap(f"{layer}.mlp.pre", linear(x, params[f"{layer}.mlp_fc1"]))""",
        """linear(x, params[f"{layer}.mlp_fc1"])""",
        "gpt, sites: - f'{layer}.mlp.pre'",
    ),
    "renamed tap": ("attn.weights", "attn.probs", "gpt, sites: + f'{layer}.attn.probs'"),
    "dropped residual": ("x = x + residual", "x = x", "gpt, lines: + x <- x"),
    "dropped line": ("    x = x.relu()\n", "", "activate, lines: - x <- x"),
    "added line": ("    x = x.relu()\n", "    x = x.relu()\n    x = x * 1\n", "activate, lines: + x <- x"),
    "wrong moment": ("v_hat = after.v[name]", "v_hat = state.v[name]", "adam, lines: + v_hat <- name, state"),
    "other branch": ("if temperature == 0", "if temperature < 1", "sample, lines: + if temperature < 1"),
    "other loop": ("for position in range(n)", "for position in range(n - 1)", "document_loss, lines: + for position"),
    "renamed parameter": ("def linear(x: Tensor, w:", "def linear(x: Tensor, weight:", "linear, parameters: + weight"),
    "other default": ("temperature: float = 0.5", "temperature: float = 1.0", "parameters: + temperature=1.0"),
    "renamed function": ("def split_heads", "def split", "definitions: - split_heads"),
    "added function": ("def no_tap", "def zzz() -> None: ...\n\n\ndef no_tap", "definitions: + zzz"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught_and_placed(fault):
    old, new, expected = FAULTS[fault]
    planted = TWIN.replace(old, new)
    assert planted != TWIN
    found = differences(REFERENCE, planted)
    assert any(expected in line for line in found), found


def test_swapped_functions_are_caught():
    blocks = TWIN.split("\n\n\n")
    at = next(i for i, block in enumerate(blocks) if block.startswith("def linear"))
    blocks[at], blocks[at + 1] = blocks[at + 1], blocks[at]
    found = differences(REFERENCE, "\n\n\n".join(blocks))
    assert found
    assert all(line.startswith("definitions: ") for line in found)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    total = sum(exps)\n", "    total = sum(exps)\n    count = len(exps)\n", "softmax, lines: - count"),
        ("class Tokenizer", "class Characters", "Tokenizer is excepted but not there"),
        ("elementwise(scalar, matrix)", "elementwise(Value, matrix)", "train_step: no line needs the exception"),
    ],
    ids=["new line", "new name", "stale exception"],
)
def test_change_to_the_reference_alone_is_caught(old, new, expected):
    assert old in REFERENCE
    found = differences(REFERENCE.replace(old, new), TWIN)
    assert any(expected in line for line in found), found
