"""What a student costs, and what it may cost."""

from students.complexity.budget import (
    MAX_BYTES,
    MAX_MACS,
    OverBudget,
    check_budget,
    check_file_bytes,
    widest_precision,
)
from students.complexity.count import BYTES, Complexity, Precision, measure

__all__ = [
    "BYTES",
    "MAX_BYTES",
    "MAX_MACS",
    "Complexity",
    "OverBudget",
    "Precision",
    "check_budget",
    "check_file_bytes",
    "measure",
    "widest_precision",
]
