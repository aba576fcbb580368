"""The mutants of one file: small changes of its Python, and of the SQL and the patterns in its strings."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutation.fragments import Changed, of_pattern, of_sql

TOP: Final = Path(__file__).parents[2]
_SWAPPED: Final[dict[type[ast.AST], tuple[str, str]]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
_SQL: Final = re.compile(r"\b(SELECT|UPDATE|WHERE|AND|FROM|INSERT|LIMIT)\b|%\(\w+\)s|= NULL|^(state|epoch|id) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One place of one file with something else in it. ``id`` does not move with the lines above it."""

    id: str
    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edit:
    scope: str
    start: int
    end: int
    instead: str


def mutants_of(file: str, *, scopes: str = "", strings: bool = False) -> list[Mutant]:
    """All of a file, in the order of its text; those within ``scopes`` (a pattern) only, where one is given."""
    source = (TOP / file).read_text()
    finder = _Finder(source, strings=strings)
    finder.visit(ast.parse(source))
    wanted = [edit for edit in finder.edits if re.match(scopes, edit.scope)]
    seen: Counter[str] = Counter()
    mutants = {}
    for edit in sorted(wanted, key=lambda e: (e.start, e.end, e.instead)):
        text = source[: edit.start] + edit.instead + source[edit.end :]
        if text in mutants or not _loads(text):
            continue
        name = f"{file}: {edit.scope}: {_shown(source, edit, source[edit.start : edit.end])} -> {_shown(source, edit, edit.instead)}"
        seen[name] += 1
        line = source.count("\n", 0, edit.start) + 1
        unique = name if seen[name] == 1 else f"{name} (no. {seen[name]})"
        mutants[text] = Mutant(id=unique, file=file, line=line, text=text)
    return list(mutants.values())


def _shown(source: str, edit: _Edit, middle: str) -> str:
    """The fragment with a little of what stands around it in its line."""
    before = source[max(source.rfind("\n", 0, edit.start) + 1, edit.start - 24) : edit.start]
    after = source[edit.end : min(source.find("\n", edit.end) % len(source), edit.end + 24)]
    return " ".join(f"{before}{middle}{after}".split())


def _loads(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Finder(ast.NodeVisitor):
    """Walks what decides: not docstrings, annotations, or what an error says."""

    def __init__(self, source: str, *, strings: bool) -> None:
        self.edits: list[_Edit] = []
        self._source = source
        self._strings = strings
        self._scope: list[str] = []
        lines = source.splitlines(keepends=True)
        self._lines = lines
        self._starts = [sum(map(len, lines[:index])) for index in range(len(lines) + 1)]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node.name, _body(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._inside(node.name, [*node.args.defaults, *(d for d in node.args.kw_defaults if d), *_body(node)])

    def visit_Assign(self, node: ast.Assign) -> None:
        self._inside(ast.unparse(node.targets[0]) if not self._scope else "", [node.value])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._table(node.value)
            self._inside(ast.unparse(node.target) if not self._scope else "", [node.value])

    def visit_Import(self, node: ast.Import) -> None:
        """Nothing in it decides."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Nothing in it decides."""

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass")

    def visit_Assert(self, node: ast.Assert) -> None:
        if "is not None" not in ast.unparse(node.test):  # those are for the type checker
            self._replace(node, "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        self._replace(node, "pass")
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.Call | ast.Name | ast.Attribute | ast.Subscript):
            self._replace(node, "return None")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break")

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue")

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            self._between(left, right, operator)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(left, right, node.op)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(_is_text(side) for side in (node.left, node.right)):
            self._between(node.left, node.right, node.op)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, f"bool{self._paren(node.operand)}")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called == "re.compile" and node.args and isinstance(node.args[0], ast.Constant):
            self._fragments(node.args[0], of_pattern)
            if len(node.args) > 1:
                self._replace(node.args[1], "0")
            return
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        for element in node.elts:
            self._without(element)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        members = _ENUMERATIONS.get(ast.unparse(node.value), [])
        if node.attr in members:
            other = members[(members.index(node.attr) + 1) % len(members)]
            self._replace(node, f"{ast.unparse(node.value)}.{other}")
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        if _SQL.search(self._text(node)):  # positions inside a formatted string are not to be trusted
            self._fragments(node, of_sql)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int):
            self._replace(node, str(node.value + 1))
        elif isinstance(node.value, str) and _SQL.search(node.value):
            self._fragments(node, of_sql)
        elif isinstance(node.value, str) and self._strings:
            self._replace(node, repr("XX" + node.value))

    def _inside(self, name: str, nodes: list[ast.expr] | list[ast.stmt] | list[ast.AST]) -> None:
        if name:
            self._scope.append(name)
        for node in nodes:
            self.visit(node)
        if name:
            self._scope.pop()

    def _table(self, value: ast.expr) -> None:
        if isinstance(value, ast.Dict) and not self._scope:
            for key, item in zip(value.keys, value.values, strict=False):
                if key is not None and _is_text(key):
                    continue  # parameters by name: nothing would load without them
                start, end = self._span(key)[0] if key else self._span(item)[0] - 2, self._span(item)[1]
                self._edit(start, self._after_comma(end), "")

    def _without(self, element: ast.expr) -> None:
        start, end = self._span(element)
        self._edit(start, self._after_comma(end), "")

    def _after_comma(self, end: int) -> int:
        found = re.compile(r"\s*,").match(self._source, end)
        return found.end() if found else end

    def _negate(self, test: ast.expr) -> None:
        if isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and not _is_order(test)):
            return  # another change says the same
        self._replace(test, f"(not {self._paren(test)})")

    def _paren(self, node: ast.AST) -> str:
        return f"({self._text(node)})"

    def _between(self, left: ast.expr, right: ast.expr, operator: ast.AST) -> None:
        if (swap := _SWAPPED.get(type(operator))) is None:
            return
        start, end = self._span(left)[1], self._span(right)[0]
        found = re.search(rf"(?<!\w){re.escape(swap[0])}(?!\w)", self._source[start:end])
        if found is not None:
            self._edit(start + found.start(), start + found.end(), swap[1])

    def _fragments(self, node: ast.AST, changed: Changed) -> None:
        start, _ = self._span(node)
        for begin, end, instead in changed(self._text(node)):
            self._edit(start + begin, start + end, instead)

    def _replace(self, node: ast.AST, instead: str) -> None:
        self._edit(*self._span(node), instead)

    def _edit(self, start: int, end: int, instead: str) -> None:
        self.edits.append(_Edit(scope=".".join(self._scope) or "module", start=start, end=end, instead=instead))

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end]

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt), node
        assert node.end_lineno is not None, node
        assert node.end_col_offset is not None, node
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def _body(node: ast.ClassDef | ast.FunctionDef) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_order(test: ast.Compare) -> bool:
    return any(isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for operator in test.ops)


def _enumerations() -> Iterator[tuple[str, list[str]]]:
    for name in ("task", "attempt", "effect", "errors", "worker"):
        for node in ast.parse((TOP / f"tamma/core/{name}.py").read_text()).body:
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                members = [ast.unparse(line.targets[0]) for line in node.body if isinstance(line, ast.Assign)]
                yield node.name, members


_ENUMERATIONS: Final = dict(_enumerations())
_ENUMERATIONS.update({"_S": _ENUMERATIONS["TaskState"], "_T": _ENUMERATIONS["Trigger"]})
