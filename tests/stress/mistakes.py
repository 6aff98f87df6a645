"""Single mistakes that somebody could make in the library, each an edit of one expression or statement.

A mistake removes a statement, a condition, a keyword argument, a bound or one of several cases, or it changes
a comparison, a number or an operator. Texts are left alone, and so are annotations, debug logs and `strict`:
a test that notices those would only repeat the source.
"""

import ast
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import TypeVar

from attrs import frozen

_SWAPPED: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
}
_DESCRIPTIONS = {
    "help",
    "metavar",
    "description",
    "epilog",
    "prog",
    "title",
    "formatter_class",
    "strict",
    "name",
}
_OPPOSITE = {"min": "max", "max": "min"}
_LEFT_ALONE = {"annotation", "returns", "format_spec", "decorator_list", "type_params"}
_OTHERS = ast.stmt | ast.ExceptHandler | ast.JoinedStr
_Node = TypeVar("_Node", bound=ast.AST)
_NOTHING = ast.parse('__import__("contextlib").nullcontext()', mode="eval").body


@frozen
class Mistake:
    """The source from `start` to `end` (in bytes) becomes `text`; `lines` are those of the statement."""

    path: Path
    lines: range
    start: int
    end: int
    text: str

    def apply(self) -> bytes:
        """Return the source with the mistake in it."""
        source = self.path.read_bytes()
        return source[: self.start] + self.text.encode() + source[self.end :]

    def __str__(self) -> str:
        old = self.path.read_bytes()[self.start : self.end].decode()
        before, after = (" ".join(text.split())[:70] for text in (old, self.text))
        return f"{self.path}:{self.lines.start}: {before}  ->  {after}"


def mistakes(path: Path) -> Iterator[Mistake]:
    """Yield every single mistake in a module."""
    source = path.read_bytes()
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    for statement, node, text in _edits(ast.parse(source)):
        lines = range(statement.lineno, _last_line_of_head(statement) + 1)
        start = offsets[node.lineno - 1] + node.col_offset
        yield Mistake(
            path, lines, start, offsets[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0), text
        )


def _last_line_of_head(statement: ast.stmt | ast.ExceptHandler) -> int:
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno or 0
    return max(statement.lineno, last)


def _edits(tree: ast.Module) -> Iterator[tuple[ast.stmt | ast.ExceptHandler, ast.expr | ast.stmt, str]]:
    """Yield the statement, the part of it to replace, and the new source of that part."""
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.stmt | ast.ExceptHandler) or _is_left_alone(statement):
            continue
        for node, new in _of_statement(statement):
            yield statement, node, new if isinstance(new, str) else ast.unparse(new)
        for node in _expressions(statement):
            yield from ((statement, node, f"({ast.unparse(new)})") for new in _of_expression(node))
            if isinstance(node, ast.Constant) and (number := _other_constant(node.value)) is not None:
                yield statement, node, repr(number)
            if isinstance(node, ast.Slice) and (node.lower or node.upper):
                yield statement, node, ":"


def _is_left_alone(statement: ast.stmt | ast.ExceptHandler) -> bool:
    match statement:
        case ast.If(test=ast.Name("TYPE_CHECKING")) | ast.Assert() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name("_log"), attr="debug"))):
            return True
    return False


def _of_statement(statement: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str | ast.AST]]:
    match statement:
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Continue() | ast.Delete():
            yield statement, "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield statement, "pass"
        case ast.AugAssign(op=operator):
            yield statement, "pass"
            yield from ((statement, _with(statement, op=op)) for op in _swapped(operator))
        case ast.If(test=test):
            yield from ((test, value) for value in ("True", "False"))
        case ast.While(test=test):
            yield test, "False"
        case ast.Return(value=ast.expr() as value) if not _is_constant(value):
            yield value, "None"
        case ast.With(items=items) | ast.AsyncWith(items=items):
            yield from ((item.context_expr, _NOTHING) for item in items if item.optional_vars is None)
        case ast.ExceptHandler(type=ast.Tuple() as several):
            yield from ((several, fewer) for fewer in _fewer(several, "elts"))


def _expressions(statement: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions of a statement; not those of the statements inside it, nor annotations."""
    for name, value in ast.iter_fields(statement):
        if name in _LEFT_ALONE:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, _OTHERS):
                continue
            if isinstance(child, ast.keyword) and child.arg in _DESCRIPTIONS:
                continue
            if isinstance(child, ast.expr):
                yield child
            yield from _expressions(child)


def _of_expression(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=[operator, *others], comparators=right):
            yield from (_with(node, ops=[op, *others]) for op in _swapped(operator))
            if isinstance(operator, ast.In | ast.NotIn) and isinstance(right[0], ast.Tuple | ast.Set):
                yield from (_with(node, comparators=[fewer]) for fewer in _fewer(right[0], "elts"))
        case ast.BoolOp(op=operator):
            yield from (_with(node, op=op) for op in _swapped(operator))
            yield from _fewer(node, "values")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=operator, right=right) if not (_is_text(left) or _is_text(right)):
            yield from (_with(node, op=op) for op in _swapped(operator))
        case ast.IfExp(test=test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Call(func=function, keywords=keywords):
            described = [keyword for keyword in keywords if keyword.arg in _DESCRIPTIONS]
            yield from (
                fewer for fewer in _fewer(node, "keywords") if all(k in fewer.keywords for k in described)
            )
            if isinstance(function, ast.Name) and function.id in _OPPOSITE:
                yield _with(node, func=ast.Name(_OPPOSITE[function.id]))


def _fewer(node: _Node, name: str) -> Iterator[_Node]:
    """Yield the node without each item of a list in turn."""
    items = getattr(node, name)
    for n in range(len(items)):
        yield _with(node, **{name: items[:n] + items[n + 1 :]})


def _other_constant(value: object) -> object:
    match value:
        case bool():
            return not value
        case int():
            return 2 * value if value > 1 else value + 1
        case float():
            return 2 * value or 1.0
    return None


def _swapped(operator: ast.AST) -> list[ast.AST]:
    return [other() for other in _SWAPPED.get(type(operator), ())]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _with(node: _Node, **changes: object) -> _Node:
    changed = copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
