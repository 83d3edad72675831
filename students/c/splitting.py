"""Computes the halves of a map apart if each reader needs one of them: so they need not be there at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from students.c.expressions import Buffer, Expression, Stored, list_children, replace_children
from students.c.statements import Classify, Convolve, Reduce, Statement, Store

Rows = tuple[int, int]
"""The first row, and the number of rows."""


def split_layers(statements: Sequence[Statement]) -> list[Statement]:
    """Replace each layer of 1x1 whose readers need some rows each by one layer for each of these parts."""
    result = list(statements)
    number = 0
    while number < len(result):
        statement = result[number]
        parts = _find_parts(statement, result) if isinstance(statement, Convolve) else []
        if isinstance(statement, Convolve) and len(parts) > 1:
            result = _split(statement, parts, result)
        number += 1
    return result


def _find_parts(layer: Convolve, statements: Iterable[Statement]) -> list[Rows]:
    """Return which rows are read together; nothing if the layer cannot be split."""
    target = layer.target
    if layer.layer.shape.kernel != "convolve_pointwise" or target.shape != target.buffer.shape:
        return []
    views = [view for each in statements for view in each.inputs if view.buffer is target.buffer]
    parts = sorted({(view.row_start, view.shape[1]) for view in views})
    ends = [start + count for start, count in parts]
    apart = all(end <= start for end, (start, _) in zip(ends, parts[1:], strict=False))
    return parts if apart else []


def _split(
    old: Convolve, parts: Sequence[Rows], statements: Iterable[Statement]
) -> list[Statement]:
    made = [_cut(old, rows, number) for number, rows in enumerate(parts, start=1)]
    targets = {rows: each.target.buffer for rows, each in zip(parts, made, strict=True)}

    def change(stored: Stored) -> Stored:
        if stored.buffer is not old.target.buffer:
            return stored
        return replace(stored, buffer=targets[stored.row_start, stored.shape[1]], row_start=0)

    rewriter = _Rewriter(change)
    result: list[Statement] = []
    for each in statements:
        result += made if each is old else [rewriter.rewrite_statement(each)]
    return result


def _cut(layer: Convolve, rows: Rows, number: int) -> Convolve:
    start, count = rows
    source, buffer = layer.source, layer.target.buffer
    part = Buffer(
        f"{buffer.name}_part_{number}", "codes", (buffer.shape[0], count, buffer.shape[2])
    )
    return replace(
        layer,
        layer=replace(
            layer.layer,
            name=f"{layer.layer.name}_part_{number}",
            shape=replace(layer.layer.shape, in_height=count, out_height=count),
        ),
        source=replace(
            source,
            shape=(source.shape[0], count, source.shape[2]),
            row_start=source.row_start + start,
        ),
        target=Stored(part, part.shape),
    )


class _Rewriter:
    """Replaces leaves of expressions; what was one expression stays one."""

    def __init__(self, change: Callable[[Stored], Stored]) -> None:
        self.change = change
        self.done: dict[int, tuple[Expression, Expression]] = {}

    def rewrite_statement(self, statement: Statement) -> Statement:
        match statement:
            case Convolve(source=source, table=table):
                changed = self.rewrite(table) if table is not None else None
                return replace(statement, source=self.change(source), table=changed)
            case Classify(source=source):
                return replace(statement, source=self.change(source))
            case Store(value=value) | Reduce(value=value):
                return replace(statement, value=self.rewrite(value))

    def rewrite(self, value: Expression) -> Expression:
        if id(value) not in self.done:
            self.done[id(value)] = value, self._rewrite(value)
        return self.done[id(value)][1]

    def _rewrite(self, value: Expression) -> Expression:
        if isinstance(value, Stored):
            return self.change(value)
        children = list_children(value)
        changed = [self.rewrite(each) for each in children]
        if all(new is old for new, old in zip(changed, children, strict=True)):
            return value
        return replace_children(value, changed)
