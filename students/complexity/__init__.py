"""What a student costs, and what it may cost.

`measure_complexity`, which needs torch, is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

from students.budget import (
    MAX_BYTES,
    MAX_MACS,
    OverBudget,
    check_budget,
    check_parameter_bytes,
    check_ram,
    find_widest_precision,
)
from students.cost import BYTES, Complexity, ParameterCount, Precision

if TYPE_CHECKING:
    from students.complexity.count import measure_complexity

__all__ = [
    "BYTES",
    "MAX_BYTES",
    "MAX_MACS",
    "Complexity",
    "OverBudget",
    "ParameterCount",
    "Precision",
    "check_budget",
    "check_parameter_bytes",
    "check_ram",
    "find_widest_precision",
    "measure_complexity",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first used."""
    if name != "measure_complexity":
        raise AttributeError(f"module 'students.complexity' has no attribute {name!r}")
    from students.complexity.count import measure_complexity

    return measure_complexity
