"""Places parts of an arena so that those in use at the same time do not overlap."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

ALIGNMENT = 8
TRIES = 60
"""How often each order of the parts is improved."""


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes from start to before stop, from the first to the last step."""

    name: str
    start: int
    stop: int
    first: int
    last: int


@dataclass(eq=False, slots=True)
class Part:
    """What is placed as one: a buffer, and those that take its place."""

    uses: list[Use]
    offset: int = 0

    @property
    def size(self) -> int:
        """Bytes, at any time."""
        return max(use.stop for use in self.uses)

    @property
    def first(self) -> int:
        """The first step that needs it."""
        return min(use.first for use in self.uses)

    @property
    def last(self) -> int:
        """The last step that needs it."""
        return max(use.last for use in self.uses)


def arrange(parts: Sequence[Part]) -> int:
    """Set the offsets, and return the size of the arena: the smallest that was found.

    Parts are placed one by one, as low as they fit, in a few orders; in each of them what ends highest is
    placed first in the next try.
    """
    parts = [part for part in parts if part.size]
    taken = {
        (id(part), id(other)): list(_list_taken(part, other)) for part in parts for other in parts
    }
    orders = [
        sorted(parts, key=lambda part: -part.size),
        sorted(parts, key=lambda part: (part.first, -part.size)),
        sorted(parts, key=lambda part: -part.size * (part.last - part.first + 1)),
    ]
    best_size, best, least = _place(orders[0], taken), orders[0], _count_least(parts)
    for order in orders:
        for _ in range(TRIES):
            if best_size <= least:
                break
            size = _place(order, taken)
            if size < best_size:
                best_size, best = size, order
            highest = max(order, key=lambda part: (part.offset + part.size, part.size))
            order = [highest, *(each for each in order if each is not highest)]
    return _place(best, taken)


def _count_least(parts: Sequence[Part]) -> int:
    """Return the bytes that are in use in the step that needs most: no arrangement needs less."""
    steps = {use.first for part in parts for use in part.uses}
    return max((sum(_count_bytes(part, step) for part in parts) for step in steps), default=0)


def _count_bytes(part: Part, step: int) -> int:
    uses = [use for use in part.uses if use.first <= step <= use.last]
    return max((use.stop for use in uses), default=0) - min((use.start for use in uses), default=0)


Taken = dict[tuple[int, int], list[tuple[int, int]]]
"""Open intervals in which a part cannot begin, from the offset of another one on."""


def _place(parts: Iterable[Part], taken: Taken) -> int:
    placed: list[Part] = []
    for part in parts:
        part.offset = 0
        busy = sorted(
            (other.offset + start, other.offset + stop)
            for other in placed
            for start, stop in taken[id(part), id(other)]
        )
        for start, stop in busy:
            if start < part.offset < stop:
                part.offset = -(-stop // ALIGNMENT) * ALIGNMENT
        placed.append(part)
    end = max((part.offset + part.size for part in placed), default=0)
    return -(-end // ALIGNMENT) * ALIGNMENT


def _list_taken(part: Part, other: Part) -> Iterator[tuple[int, int]]:
    for use in part.uses:
        for its in other.uses:
            if use.first <= its.last and its.first <= use.last:
                yield (its.start - use.stop, its.stop - use.start)
