"""Names of a student's C, and of its buffers."""

import re

from students.c.expressions import Buffer, Kind, Stored
from students.c.graph import Shape
from students.c.lines import find_free_name


class Names:
    """Gives each layer and each buffer a name that no other one has."""

    def __init__(self) -> None:
        self._taken: dict[str, set[str]] = {}

    def name_layer(self, path: str) -> str:
        """Return a name for a layer."""
        return self._take(path, "layer")

    def make_target(self, kind: Kind, shape: Shape, name: str) -> Stored:
        """Return a new buffer, whole."""
        buffer = self.make_buffer(name, kind, shape)
        return Stored(buffer, shape)

    def make_buffer(self, name: str, kind: Kind, shape: Shape) -> Buffer:
        """Return a new buffer."""
        return Buffer(self._take(name, "buffer"), kind, shape)

    def _take(self, name: str, of: str) -> str:
        plain = name_constant(name)
        plain = plain if plain[:1].isalpha() else f"layer_{plain}"
        taken = self._taken.setdefault(of, set())
        free = find_free_name(plain, taken)
        taken.add(free)
        return free


def name_constant(name: str) -> str:
    """Return a constant's name in C."""
    return re.sub(r"\W+", "_", name).strip("_")
