"""Where every buffer lies in the arena: no two that are in use at the same time overlap.

A buffer that a step only needs for a few channels has place for these. What a step writes takes the place
of an input that nobody needs afterwards, where a kernel can work in place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from students.c.expressions import Buffer, Stored
from students.c.graph import Shape
from students.c.statements import Convolve, Statement
from students.c.steps import Step, count_channels

ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where a buffer is: channel c at offset + c // run * turn_stride + c % run * channel_stride."""

    offset: int
    channel_stride: int
    run: int = 1
    """Channels of a turn."""
    turn_stride: int = 0
    """0 for a buffer that only has place for the channels of a turn."""

    def move(self, offset: int) -> "Place":
        return Place(self.offset + offset, self.channel_stride, self.run, self.turn_stride)


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """The arena of a student."""

    places: dict[int, Place]
    """By the id of the buffer."""
    scratch: tuple[int, ...]
    """Where the scratch of the kernels of each step is."""
    arena_bytes: int

    def find(self, buffer: Buffer) -> Place:
        """Return the place of a buffer."""
        return self.places[id(buffer)]


@dataclass(eq=False, slots=True)
class Root:
    """A part of the arena that is in use from one step to another."""

    size: int
    first: int
    last: int
    name: str
    offset: int = 0


def plan_memory(steps: Sequence[Step], given: Buffer, kept: Buffer, around: int = 0) -> Plan:
    """Give every buffer a place.

    Args:
        steps: what the student does.
        given: the buffer that holds the input before the first step.
        kept: the buffer that is needed after the last step.
        around: bytes that are in use beside the input before the first step.
    """
    roots: list[Root] = []
    places: dict[int, tuple[Root, Place]] = {}
    last_use = _find_last_uses(steps, kept)

    def add(buffer: Buffer, step: int) -> None:
        size = count_bytes(buffer)
        root = Root(size, step, last_use.get(id(buffer), step), buffer.name)
        roots.append(root)
        stride = size // buffer.shape[0]
        places[id(buffer)] = root, Place(0, stride, 1, stride)

    add(given, -1)
    scratch = []
    for number, step in enumerate(steps):
        for buffer in step.outputs:
            if id(buffer) not in places:
                add(buffer, number)
        size = max(map(count_scratch_bytes, step.statements))
        root = Root(size, number, number, "scratch")
        roots.append(root)
        scratch.append(root)
    if around:
        roots.append(Root(around, -1, -1, "front-end"))
    arena_bytes = _arrange(roots)
    return Plan(
        {key: place.move(root.offset) for key, (root, place) in places.items()},
        tuple(root.offset for root in scratch),
        arena_bytes,
    )


def count_bytes(buffer: Buffer) -> int:
    """Return the size of a buffer."""
    return buffer.count * (1 if buffer.kind == "codes" else 4)


def count_scratch_bytes(statement: Statement) -> int:
    """Return the scratch of a statement's kernel."""
    if isinstance(statement, Convolve):
        return statement.layer.shape.count_scratch_bytes()
    return 0


def _find_last_uses(steps: Sequence[Step], kept: Buffer) -> dict[int, int]:
    uses = {
        id(buffer): number for number, step in enumerate(steps) for buffer in step.inputs
    }
    return uses | {id(kept): len(steps)}


def _arrange(roots: list[Root]) -> int:
    """Set the offsets, and return the size of the arena: the smallest of a few orders."""
    orders = [
        sorted(roots, key=lambda root: -root.size),
        sorted(roots, key=lambda root: (root.first, -root.size)),
        sorted(roots, key=lambda root: -root.size * (root.last - root.first + 1)),
    ]
    sizes = [_place_in_order(order) for order in orders]
    best = min(range(len(sizes)), key=sizes.__getitem__)
    return _place_in_order(orders[best])


def _place_in_order(roots: Iterable[Root]) -> int:
    placed: list[Root] = []
    end = 0
    for root in roots:
        busy = sorted(
            (each.offset, each.offset + each.size)
            for each in placed
            if each.first <= root.last and root.first <= each.last
        )
        offset = 0
        for start, stop in busy:
            if offset + root.size <= start:
                break
            offset = max(offset, -(-stop // ALIGNMENT) * ALIGNMENT)
        root.offset = offset
        placed.append(root)
        end = max(end, offset + root.size)
    return -(-end // ALIGNMENT) * ALIGNMENT
