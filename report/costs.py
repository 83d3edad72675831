"""What a system costs: multiply-accumulates per clip, bytes of parameters and RAM, training time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from students.complexity import ParameterCount, Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemCost:
    """The cost of one run of a system; None where its record does not contain it."""

    macs: int | None
    """Multiply-accumulates for one clip: for a student as the challenge counts them, for a teacher
    those of its matrix products and convolutions, for an ensemble the sum over its members."""
    parameter_bytes: int | None
    """The size of all parameters as the system was judged: in float32, or in int8 if it was trained
    in int8."""
    ram: int | None
    """Bytes of RAM on a device, of a student in int8: the peak of the memory plan of its C program."""
    training_s: float | None
    """Seconds of training, with the judging between epochs; the mean over seeds, and for an
    ensemble the sum over its members."""


def read_member_cost(records: Sequence[Mapping[str, Any]]) -> SystemCost:
    """Read the cost of a teacher or a student from the records of its seeds."""
    first = records[0]
    known_s = [each["training_s"] for each in records if "training_s" in each]
    precision: Precision = "int8" if "quantisation" in first else "fp32"
    params = ParameterCount(first.get("params", 0), first.get("params_in_float32", 0))
    return SystemCost(
        macs=first.get("macs"),
        parameter_bytes=params.count_bytes(precision) if "params" in first else None,
        ram=first.get("ram"),
        training_s=fmean(known_s) if known_s else None,
    )


def read_ensemble_cost(records: Sequence[Mapping[str, Any]]) -> SystemCost:
    """Add up the costs of all members; the sum is unknown if that of one of them is."""
    costs = [read_member_cost([record]) for record in records]
    return SystemCost(
        macs=_add_up([each.macs for each in costs]),
        parameter_bytes=_add_up([each.parameter_bytes for each in costs]),
        ram=None,  # The members of an ensemble are no one program.
        training_s=_add_up([each.training_s for each in costs]),
    )


def _add_up(figures: Sequence[Any]) -> Any:
    return None if None in figures else sum(figures)
