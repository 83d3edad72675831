"""The complexity of named students, measured on models that are built for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from students.budget import MAX_BYTES, MAX_MACS, find_widest_precision
from students.catalogue import ARCHITECTURES, build, resolve_arguments
from students.complexity.count import measure_complexity
from students.cost import Complexity, Precision
from students.errors import NoPlan

N_CLASSES = 10
"""Scenes of TAU, for which all figures are published."""


@dataclass(frozen=True, slots=True)
class StudentComplexity:
    """What a student costs, and which share of the limits of DCASE task 1 that is."""

    student: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    complexity: Complexity
    precision: Precision
    ram: int | NoPlan | None = None
    """Peak of the memory plan of its int8 form in C, in bytes; or why there is none; None: not asked."""

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters at the precision."""
        return self.complexity.parameter_bytes(self.precision)

    @property
    def bytes_percent(self) -> float:
        """Share of the 128,000 bytes that are allowed."""
        return 100 * self.parameter_bytes / MAX_BYTES

    @property
    def macs_percent(self) -> float:
        """Share of the 30,000,000 multiply-accumulates that are allowed."""
        return 100 * self.complexity.macs / MAX_MACS


def measure_student(
    name: str,
    *,
    title: str | None = None,
    precision: Precision | None = None,
    with_ram: bool = False,
    **arguments: Any,
) -> StudentComplexity:
    """Measure a student of the catalogue, for a clip of one second.

    Args:
        name: one of `students.catalogue.ARCHITECTURES`.
        title: the name to show; None is its own.
        precision: precision of its parameters; None is the widest that fits into the limit.
        with_ram: whether its memory is planned too, which takes seconds the first time.
        **arguments: overrides of the catalogue's.

    Raises:
        ValueError: an unknown student or argument.
    """
    model = build(name, n_classes=N_CLASSES, **arguments)
    entry = ARCHITECTURES[name]
    complexity = measure_complexity(model, entry.input_shape)
    return StudentComplexity(
        title or name,
        resolve_arguments(name, **arguments),
        entry.input_shape,
        complexity,
        precision or find_widest_precision(complexity),
        _plan(name, arguments, entry.input_shape) if with_ram else None,
    )


def _plan(name: str, arguments: Mapping[str, Any], input_shape: tuple[int, ...]) -> int | NoPlan:
    # It converts the student, and what converts takes a second to import.
    from students.ram import measure_architecture_ram

    try:
        return measure_architecture_ram(
            name, arguments, input_shape=input_shape, n_classes=N_CLASSES
        )
    except NoPlan as error:
        return error
