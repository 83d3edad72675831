"""What is wrong with a submission: one broken rule of one file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokenRule:
    """A rule that a file breaks; if several rows break it, the first of them."""

    file: str
    place: str = ""
    """`line 7` of a table, `submission.label` of a YAML file; empty for the whole file."""
    value: str
    """The value in that place."""
    expected: str
    count: int = 1
    """The number of rows that break the rule."""

    def __str__(self) -> str:
        where = f"{self.file}, {self.place}" if self.place else self.file
        more = f" ({self.count:,} such rows)" if self.count > 1 else ""
        return f"{where}: {self.value}, expected {self.expected}{more}"


def report_first(file: str, rows: Iterable[tuple[int, str]], expected: str) -> Iterator[BrokenRule]:
    """Report one broken rule for all rows that break it, or none.

    Args:
        file: The file of the rows.
        rows: Line number and offending value of each, in order.
        expected: What the rule expects.
    """
    offending = list(rows)
    if offending:
        line, value = offending[0]
        yield BrokenRule(
            file=file, place=f"line {line}", value=value, expected=expected, count=len(offending)
        )
