"""What a student may cost: the limits of DCASE task 1, or others."""

from disk import PortableError
from students.cost import BYTES, Complexity, Precision

MAX_MACS = 30_000_000
"""Limit of DCASE task 1 since 2022, for a clip of one second."""
MAX_BYTES = 128_000
"""Limit of DCASE task 1 since 2022, for all parameters: 128 kB are 128,000 bytes."""


class OverBudget(PortableError, ValueError):
    """A student costs more than it may; has the student, the figure and its limit."""

    def __init__(self, student: str, what: str, figure: int, limit: int, remedy: str) -> None:
        self.student, self.what, self.figure, self.limit = student, what, figure, limit
        super().__init__(
            f"student {student} has {figure:,} {what}, expected at most {limit:,}: {remedy}"
        )


def check_budget(
    complexity: Complexity,
    *,
    student: str,
    precision: Precision = "int8",
    max_macs: int = MAX_MACS,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Refuse a student that costs more than it may, before a run.

    Args:
        complexity: its measured complexity.
        student: its name.
        precision: precision of its parameters when it is used.
        max_macs: largest number of multiply-accumulates for one clip.
        max_bytes: largest size of all parameters.

    Raises:
        OverBudget: names the student, the first figure over its limit, and the limit.
    """
    if complexity.macs > max_macs:
        raise OverBudget(
            student,
            "multiply-accumulates",
            complexity.macs,
            max_macs,
            "take fewer filters or blocks, larger patches or strides, or allow more",
        )
    _check_bytes(
        student,
        f"bytes of parameters at {precision}",
        complexity.parameter_bytes(precision),
        max_bytes,
    )


def check_file_bytes(n_bytes: int, *, student: str, max_bytes: int = MAX_BYTES) -> None:
    """Refuse a student whose exported parameters are too large, after an export.

    Args:
        n_bytes: size of the parameters in the file, or of the whole file to be strict.
        student: its name.
        max_bytes: largest size.

    Raises:
        OverBudget: names the student, its bytes and the limit.
    """
    _check_bytes(student, "bytes in its exported file", n_bytes, max_bytes)


def find_widest_precision(complexity: Complexity, max_bytes: int = MAX_BYTES) -> Precision:
    """Return the widest precision at which all parameters fit; the narrowest if none does."""
    fitting = [each for each in BYTES if complexity.parameter_bytes(each) <= max_bytes]
    return fitting[-1] if fitting else next(iter(BYTES))


def _check_bytes(student: str, what: str, n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        remedy = "take fewer filters or blocks, a narrower precision, or allow more"
        raise OverBudget(student, what, n_bytes, max_bytes, remedy)
