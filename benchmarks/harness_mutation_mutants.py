"""The mutants of `benchmarks.harness_mutation`: cosmic-ray's, drawn over the harness's modules line by line."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import ndiff
from functools import cached_property
from pathlib import Path
from random import Random

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOMS = ("judging", "oracle", "catalogue")
DATA = "parity/catalogue/mutants/"
"""Patches of the reference, which tests apply one by one."""

OPERATORS = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Mul_Add", "Div_Mul", "Pow_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("FloorDiv_Mul", "Mod_Mul", "BitAnd_BitOr", "BitOr_BitAnd")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitXor_BitOr", "LShift_RShift", "RShift_LShift")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is", "Lt_LtE")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt")),
    *("ReplaceComparisonOperator_GtE_Lt", "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not"),
    *("ReplaceUnaryOperator_Delete_Invert", "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("ExceptionReplacer", "NumberReplacer", "ZeroIterationForLoop"),
)
"""Of the library's, those that make mistakes that a person might: of `a + b` a difference, and no shift of bits."""

_LARGEST_NUMBER = 64
"""One more or less of a larger one, a limit for time or memory, is no mistake."""

Position = tuple[int, int]
"""Line from 1 and column in bytes from 0, as `ast` has them."""


@dataclass(frozen=True)
class Mutant:
    """One small change of one module."""

    path: str
    """Of the module, from the root of the repository."""
    line: int
    where: str
    """The function or class that it is in; empty at the top of a module."""
    operator: str
    before: str
    """The lines that it changes, without their indentation."""
    after: str
    source: str = field(repr=False, compare=False)
    """The whole module with the change."""

    @property
    def key(self) -> str:
        """What it is known by, also when lines above it come and go."""
        return f"{self.path} {self.where}: {self.before} -> {self.after}"

    @property
    def room(self) -> str:
        """The room of its module."""
        return self.path.split("/")[1]

    @cached_property
    def frozen(self) -> bool:
        """Whether other modules' machine code may hold it: what is compiled, and constants of a module."""
        around = [
            node
            for node in ast.walk(ast.parse(self.source))
            if isinstance(node, ast.FunctionDef) and node.lineno <= self.line <= (node.end_lineno or 0)
        ]
        return not self.where or any(_is_compiled(node) for node in around)


def _is_compiled(node: ast.FunctionDef) -> bool:
    words = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any("compiled" in word or "inlined" in word for word in words)


def modules(root: Path) -> dict[str, str]:
    """The texts of the modules that are mutated, by path from the root."""
    files = sorted(file for room in ROOMS for file in (root / "parity" / room).rglob("*.py"))
    paths = {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}
    return {path: text for path, text in paths.items() if not path.startswith(DATA)}


def drawn(texts: dict[str, str], number: int, seed: int) -> list[Mutant]:
    """So many mutants of modules in proportion to their lines, at most one of a line, in random order."""
    lines = {path: text.count("\n") for path, text in texts.items()}
    total, shares, rest = sum(lines.values()), dict[str, int](), 0.0
    for path in texts:  # what rounding leaves over goes to the next module
        exact = number * lines[path] / total + rest
        shares[path] = round(exact)
        rest = exact - shares[path]
    found = [mutant for path, text in texts.items() for mutant in _of_module(path, text, shares[path], seed)]
    Random(seed).shuffle(found)
    return found


def _of_module(path: str, text: str, number: int, seed: int) -> list[Mutant]:
    """So many mutants of a module, if it has as many lines that can be changed."""
    random, by_line = Random(f"{seed} {path}"), dict[int, list[tuple[str, int, str]]]()
    if number:
        for operator, occurrence, line, where in _candidates(text):
            by_line.setdefault(line, []).append((operator, occurrence, where))
    found = dict[str, Mutant]()
    for line in random.sample(sorted(by_line), len(by_line)):
        operator, occurrence, where = random.choice(by_line[line])
        source = mutate_code(text, get_operator(f"core/{operator}")(), occurrence)
        if len(found) == number:
            break
        if source is None or not _is_another_program(text, source):
            continue
        changes = list(ndiff(text.splitlines(), source.splitlines()))
        before, after = (" ".join(change[2:].strip() for change in changes if change[0] == sign) for sign in "-+")
        mutant = Mutant(path, line, where, operator, before, after, source)
        found.setdefault(mutant.key, mutant)
    return list(found.values())


def _candidates(text: str) -> Iterator[tuple[str, int, int, str]]:
    """All changes of a module that may matter: operator, its occurrence, the line, and what it is in."""
    nodes, tree, lines = list(ast_nodes(get_ast(text))), ast.parse(text), text.splitlines()
    says_the_same, binary = list(_says_the_same(tree)), list(_between_operands(tree))
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [(node, *position) for node in nodes for position in operator.mutation_positions(node)]
        for occurrence, (node, (line, column), _) in enumerate(places):
            at = line, len(lines[line - 1][:column].encode())
            if any(start <= at < end for start, end in says_the_same):
                continue
            if "Binary" in name and not any(start <= at < end for start, end in binary):
                continue
            if name == "NumberReplacer" and abs(ast.literal_eval(node.value)) > _LARGEST_NUMBER:
                continue
            yield name, occurrence, line, ASTQuery(node).get_definition_name() or ""


def _says_the_same(tree: ast.Module) -> Iterator[tuple[Position, Position]]:
    """Where a change is one of types, of wording, or of what guards the harness against itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Raise):
            yield _span(node)
        elif isinstance(node, ast.FunctionDef):
            spans = [*node.decorator_list, *([node.returns] if node.returns else [])]
            yield from map(_span, [*spans, *([node] if node.name in ("__repr__", "__str__") else [])])
        elif isinstance(node, ast.ClassDef):
            yield from map(_span, node.decorator_list)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield _span(node.annotation)
        elif isinstance(node, ast.If):
            yield from [_span(node)] if ast.unparse(node.test) == "TYPE_CHECKING" else []
        elif isinstance(node, ast.keyword):
            yield from [_span(node)] if node.arg == "strict" else []
        elif isinstance(node, ast.BinOp) and _is_union(node):
            yield _span(node)


def _is_union(node: ast.expr) -> bool:
    """Whether it is of types alone."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and _is_union(node.left) and _is_union(node.right)
    name = ast.unparse(node).rpartition(".")[2]
    return name == "None" or (name[:1].isupper() and not name.isupper())


def _between_operands(tree: ast.Module) -> Iterator[tuple[Position, Position]]:
    """Where operators of two operands stand: the stars of arguments and of parameters are none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp):
            yield _span(node.left)[1], _span(node.right)[0]


def _span(node: ast.expr | ast.stmt | ast.keyword) -> tuple[Position, Position]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _is_another_program(text: str, source: str) -> bool:
    try:
        return ast.dump(ast.parse(source)) != ast.dump(ast.parse(text))
    except SyntaxError:
        return False
