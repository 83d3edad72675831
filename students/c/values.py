"""What a node of the graph is while it is lowered: an expression, or something that becomes one later."""

from dataclasses import dataclass

from students.c.expressions import Expression
from students.c.graph import Grid, Layer, Shape


@dataclass(frozen=True, eq=False, slots=True)
class Sums:
    """A layer that is not rounded yet."""

    layer: Layer
    source: Expression
    grid: Grid
    rectified: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Parts:
    """Values one after the other, along the channels."""

    parts: tuple[Expression, ...]

    @property
    def shape(self) -> Shape:
        """(C, H, W)."""
        return (sum(each.shape[0] for each in self.parts), *self.parts[0].shape[1:])


class Input:
    """The log-mels of a clip, before they are rounded."""


Value = Expression | Sums | Parts | Input
