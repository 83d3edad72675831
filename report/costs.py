"""What a system costs: multiply-accumulates of a clip, bytes of parameters, time of learning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from students.complexity import BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one run of a system takes; None where its record does not tell."""

    macs: int | None
    """Multiply-accumulates for one clip: of a student as the challenge counts them, of a teacher
    those of its matrix products and convolutions, of an ensemble the sum over its members."""
    parameter_bytes: int | None
    """Of all parameters as the system was judged: in float32, or in int8 if it learnt in that."""
    training_s: float | None
    """Seconds of learning, judging between epochs included; the mean over seeds, and of an ensemble
    the sum over its members."""


def member_cost(records: Sequence[Mapping[str, Any]]) -> Cost:
    """That of a teacher or a student, by the records of its seeds."""
    first = records[0]
    known_s = [each["training_s"] for each in records if "training_s" in each]
    width = BYTES["int8" if "quantisation" in first else "fp32"]
    return Cost(
        macs=first.get("macs"),
        parameter_bytes=first["params"] * width if "params" in first else None,
        training_s=fmean(known_s) if known_s else None,
    )


def ensemble_cost(records: Sequence[Mapping[str, Any]]) -> Cost:
    """That of all members together; a figure that one of them lacks is unknown."""
    costs = [member_cost([record]) for record in records]
    return Cost(
        macs=_total([each.macs for each in costs]),
        parameter_bytes=_total([each.parameter_bytes for each in costs]),
        training_s=_total([each.training_s for each in costs]),
    )


def _total(figures: Sequence[Any]) -> Any:
    return None if None in figures else sum(figures)
