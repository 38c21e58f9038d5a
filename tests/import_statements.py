"""The imports that a source file makes, read from its text."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """One imported name. at_start: it is imported as soon as its module is."""

    name: str
    at_start: bool


def imports(path: str, source: str) -> Iterator[Import]:
    """Every import in a file, wherever it stands, with relative names made absolute; path is below the root."""
    yield from _imports(ast.parse(source), Path(path).parent.parts, at_start=True)


def _imports(node: ast.AST, package: tuple[str, ...], at_start: bool) -> Iterator[Import]:
    match node:
        case ast.Import():
            for alias in node.names:
                yield Import(alias.name, at_start)
        case ast.ImportFrom():
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{module}.{alias.name}".removeprefix("."), at_start)
        case ast.Call(args=[ast.Constant(str(name)), *_]) if ast.unparse(node.func).endswith(
            ("import_module", "__import__", "importorskip")
        ):
            yield Import(name, at_start)
    for child in ast.iter_child_nodes(node):
        later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        later |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and child in node.body
        yield from _imports(child, package, at_start and not later)
