"""What is wrong with a submission: one broken rule of one file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A rule that a file breaks; where several of its rows do, the first of them."""

    file: str
    place: str = ""
    """`line 7` of a table, `submission.label` of a YAML file; empty is the whole file."""
    value: str
    """What was found there."""
    expected: str
    count: int = 1
    """Rows that break the rule."""

    def __str__(self) -> str:
        where = f"{self.file}, {self.place}" if self.place else self.file
        more = f" ({self.count:,} such rows)" if self.count > 1 else ""
        return f"{where}: {self.value}, expected {self.expected}{more}"


def first_of(file: str, rows: Iterable[tuple[int, str]], expected: str) -> Iterator[Problem]:
    """One problem for all rows that break one rule, or none.

    Args:
        file: Where they stand.
        rows: Line number and offending value of each, in order.
        expected: What the rule is.
    """
    found = list(rows)
    if found:
        line, value = found[0]
        yield Problem(
            file=file, place=f"line {line}", value=value, expected=expected, count=len(found)
        )
