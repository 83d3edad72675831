"""The figures of named students, measured on models that are built for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from students.catalogue import ARCHITECTURES, all_arguments, build
from students.complexity.budget import MAX_BYTES, MAX_MACS, widest_precision
from students.complexity.count import Complexity, Precision, measure

N_CLASSES = 10
"""Scenes of TAU, with which all published figures hold."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a student costs, and how much of the limits of DCASE task 1 that is."""

    student: str
    arguments: Mapping[str, Any]
    input_shape: tuple[int, ...]
    complexity: Complexity
    precision: Precision

    @property
    def parameter_bytes(self) -> int:
        """Of all parameters at the precision."""
        return self.complexity.parameter_bytes(self.precision)

    @property
    def bytes_percent(self) -> float:
        """Of the 128,000 bytes that there may be."""
        return 100 * self.parameter_bytes / MAX_BYTES

    @property
    def macs_percent(self) -> float:
        """Of the 30,000,000 multiply-accumulates that there may be."""
        return 100 * self.complexity.macs / MAX_MACS


def figures(
    name: str,
    *,
    title: str | None = None,
    precision: Precision | None = None,
    **arguments: Any,
) -> Figures:
    """Those of a student of the catalogue, for a clip of one second.

    Args:
        name: one of `students.catalogue.ARCHITECTURES`.
        title: what to call it; None is its name.
        precision: of its parameters; None is the widest that fits into the limit.
        **arguments: overrides of the catalogue's.

    Raises:
        ValueError: no such student, or no such argument.
    """
    model = build(name, n_classes=N_CLASSES, **arguments)
    entry = ARCHITECTURES[name]
    complexity = measure(model, entry.input_shape)
    return Figures(
        title or name,
        all_arguments(name, **arguments),
        entry.input_shape,
        complexity,
        precision or widest_precision(complexity),
    )
