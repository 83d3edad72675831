"""What a student may cost: the limits of DCASE task 1, or others; and the RAM of a device."""

from disk import PortableError
from students.cost import BYTES, Complexity, ParameterCount, Precision

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
    check_parameter_bytes(
        complexity.parameters, student=student, precision=precision, max_bytes=max_bytes
    )


def check_parameter_bytes(
    params: ParameterCount,
    *,
    student: str,
    precision: Precision = "int8",
    max_bytes: int = MAX_BYTES,
) -> None:
    """Refuse a student whose parameters are too large, as the challenge counts: parameters times bits.

    In int8, parameters of a layer that stays in float32 have 32 bits. What a file adds to that is no part
    of it: int32 biases, the steps of int8, norms that could not be folded, the graph.

    Args:
        params: its parameters as it is used, before norms are folded into layers.
        student: its name.
        precision: precision of its parameters when it is used.
        max_bytes: largest size of all parameters.

    Raises:
        OverBudget: names the student, its bytes and the limit.
    """
    n_bytes = params.count_bytes(precision)
    if n_bytes > max_bytes:
        what = f"bytes of parameters at {precision}"
        remedy = "take fewer filters or blocks, a narrower precision, or allow more"
        raise OverBudget(student, what, n_bytes, max_bytes, remedy)


def check_ram(ram: int, *, student: str, max_ram: int) -> None:
    """Refuse a student that needs more memory on a device than there is.

    Args:
        ram: bytes of the memory plan of its int8 form, from `students.ram` or of an export.
        student: its name.
        max_ram: largest number of bytes.

    Raises:
        OverBudget: names the student, its bytes and the limit.
    """
    if ram > max_ram:
        remedy = "take fewer filters or channels, larger patches or strides, or allow more"
        raise OverBudget(student, "bytes of RAM in int8", ram, max_ram, remedy)


def find_widest_precision(complexity: Complexity, max_bytes: int = MAX_BYTES) -> Precision:
    """Return the widest precision at which all parameters fit; the narrowest if none does."""
    fitting = [each for each in BYTES if complexity.parameter_bytes(each) <= max_bytes]
    return fitting[-1] if fitting else next(iter(BYTES))
