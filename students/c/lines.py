"""Lines of C: loops, comments, free names, and lines that are not too long."""

import itertools
from collections.abc import Container, Iterable, Sequence

WIDTH = 110
_WHY_INTEGERS = (
    "/* In integers, exact unless a tie is near: there it stops, and the float sum decides. */"
)


def find_free_name(name: str, taken: Container[str]) -> str:
    """Return a name, with a number behind it if it is taken."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def indent(lines: Iterable[str]) -> list[str]:
    """Return lines two spaces further to the right."""
    return [f"  {line}" for line in lines]


def print_for(loop: str, body: Sequence[str]) -> list[str]:
    """Return a loop, in one line if it is short."""
    if len(body) == 1 and len(loop) + len(body[0]) < WIDTH - 20 and not body[0].startswith("for"):
        return [f"for ({loop}) {body[0]}"]
    return [f"for ({loop}) {{", *indent(body), "}"]


def count_positions(shape: tuple[int, ...]) -> str:
    """Return the head of a loop over the positions of a channel; shapes are (C, H, W)."""
    return f"int i = 0; i < {shape[1] * shape[2]}; i++"


def print_positions(
    shape: tuple[int, ...], body: Sequence[str], *, with_rows: bool, by_columns: bool
) -> list[str]:
    """Return loops over the positions of a channel around the statements for a position."""
    if not with_rows and not by_columns:
        return print_for(count_positions(shape), body)
    _, height, width = shape
    rows, columns = f"int y = 0; y < {height}; y++", f"int x = 0; x < {width}; x++"
    outer, inner = (columns, rows) if by_columns else (rows, columns)
    position = [f"const int i = y * {width} + x;"] if any("[i]" in line for line in body) else []
    return print_for(outer, print_for(inner, [*position, *body]))


def print_while(name: str, call: str, count: int, body: Sequence[str]) -> list[str]:
    """Return a loop whose counter is moved on by a call, which stops where the body is needed."""
    head = [_WHY_INTEGERS, f"int {name} = 0;", f"while (({name} = {call}) < {count}) {{"]
    return [*head, *indent([*body, f"{name}++;"]), "}"]


def wrap_items(items: Iterable[str]) -> list[str]:
    """Return numbers of an array, as many to a line as there is place for."""
    lines, line = [], " "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = " "
        line += f" {item},"
    return [*lines, line]


def wrap_comment(text: str) -> list[str]:
    """Return a comment."""
    lines, line = [], "/*"
    for word in text.split():
        if len(line) + len(word) + 4 > WIDTH:
            lines.append(line)
            line = " *"
        line += f" {word}"
    return [*lines, f"{line} */"]


def wrap_code(line: str) -> list[str]:
    """Return a line of code as lines that are not too long, broken where brackets are least deep."""
    if len(line) <= WIDTH:
        return [line]
    margin = line[: len(line) - len(line.lstrip())]
    places = _list_breaks(line)
    if not places:
        return [line]
    depth = min(depth for depth, _ in places)
    end = max(place for its, place in places if its == depth)
    rest = f"{margin}    {line[end:].lstrip()}"
    return [line[:end].rstrip(), *wrap_code(rest)]


def _list_breaks(line: str) -> list[tuple[int, int]]:
    """Return where a line may end, with the depth of what is there: behind a comma rather than before + or :."""
    depth, places = 0, []
    start = len(line) - len(line.lstrip()) + 8
    for place, each in enumerate(line[:WIDTH]):
        depth += each in "([{"
        depth -= each in ")]}"
        if place > start and each == " " and line[place - 1] in ",=":
            places.append((2 * depth, place))
        elif place > start and line[place : place + 3] in (" + ", " : "):
            places.append((2 * depth + 1, place))
    return places
