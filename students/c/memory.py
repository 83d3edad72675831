"""Where every buffer lies in the arena: no two that are in use at the same time overlap.

What a step writes takes the place of an input that nobody needs afterwards, where its kernel can work in
place. What only the turns of a loop need has place for the channels of one turn.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from students.c.expressions import Buffer
from students.c.statements import Statement, count_scratch_bytes
from students.c.steps import Step
from students.c.turns import Space, plan_turn, works_in_place

ALIGNMENT = 8
TRIES = 40
"""How often each order of the parts is improved."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a buffer is: channel c at offset + c * stride, or for a buffer that has place for the `run`
    channels of a turn only, at offset + c / run * turn_stride + c % run * stride."""

    offset: int
    stride: int
    run: int = 0
    turn_stride: int = 0


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


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """The arena of a student."""

    places: dict[int, Place]
    """By the id of the buffer."""
    scratch: tuple[int, ...]
    """Where the scratch of the kernels of each step is."""
    ahead: int | None
    """Where the front-end's scratch is."""
    arena_bytes: int
    parts: tuple[Part, ...]
    """Everything in it."""

    def find(self, buffer: Buffer) -> Place:
        """Return the place of a buffer."""
        return self.places[id(buffer)]


def plan_memory(steps: Sequence[Step], given: Buffer, kept: Buffer, ahead_bytes: int = 0) -> Plan:
    """Give every buffer a place.

    Args:
        steps: what the student does, in this order.
        given: the buffer that holds the input before the first step.
        kept: the buffer that is needed after the last step.
        ahead_bytes: scratch of the front-end: in use beside the input, before the first step.
    """
    planner = _Planner(steps, kept)
    planner.add(given, -1)
    for number, step in enumerate(steps):
        planner.plan_step(number, step)
    ahead = Part([Use("front-end", 0, ahead_bytes, -1, -1)])
    parts = [*planner.parts, *[ahead] * (ahead_bytes > 0)]
    arena_bytes = _arrange(parts)
    places = {
        key: replace(place, offset=place.offset + part.offset)
        for key, (part, place) in planner.places.items()
    }
    scratch = tuple(part.offset for part in planner.scratch)
    where = ahead.offset if ahead_bytes else None
    return Plan(places, scratch, where, arena_bytes, tuple(parts))


def find_last_uses(steps: Sequence[Step], kept: Buffer) -> dict[int, int]:
    """Return the number of the last step that needs each buffer, by its id."""
    uses = {id(buffer): number for number, step in enumerate(steps) for buffer in step.inputs}
    return uses | {id(kept): len(steps)}


class _Planner:
    def __init__(self, steps: Sequence[Step], kept: Buffer) -> None:
        self.parts: list[Part] = []
        self.places: dict[int, tuple[Part, Place]] = {}
        self.scratch: list[Part] = []
        self.last_use = find_last_uses(steps, kept)

    def add(self, buffer: Buffer, number: int) -> None:
        """Give a buffer a part of its own."""
        last = self.last_use.get(id(buffer), number)
        part = Part([Use(buffer.name, 0, buffer.size, number, last)])
        self.parts.append(part)
        self.places[id(buffer)] = part, Place(0, buffer.size // buffer.shape[0])

    def plan_step(self, number: int, step: Step) -> None:
        """Give places to the outputs of a step, to what lies between its statements, and to scratch."""
        dying = [each for each in step.inputs if self.last_use[id(each)] == number]
        if step.statements[0].by_channel:
            self._plan_loop(number, step, dying)
        else:
            self._share_whole(number, step.statements[0], dying)
        for buffer in step.outputs:
            if id(buffer) not in self.places:
                self.add(buffer, number)
        size = max(count_scratch_bytes(each) for each in step.statements)
        self.scratch.append(Part([Use("scratch", 0, size, number, number)]))
        self.parts.append(self.scratch[-1])

    def _share_whole(self, number: int, statement: Statement, dying: Sequence[Buffer]) -> None:
        target = statement.target.buffer
        for buffer in dying:
            part, place = self.places[id(buffer)]
            same = buffer.kind == target.kind == "codes"
            if same and works_in_place(statement, buffer):
                self._share(number, target, part, place)
                return

    def _share(self, number: int, buffer: Buffer, part: Part, place: Place) -> None:
        """Give a buffer place in a part that is there."""
        self.places[id(buffer)] = part, place
        channels = place.run or buffer.shape[0]
        piece = buffer.shape[1] * buffer.shape[2]
        turns = (buffer.shape[0] // place.run - 1) * place.turn_stride if place.run else 0
        stop = place.offset + turns + (channels - 1) * place.stride + piece
        last = self.last_use.get(id(buffer), number)
        part.uses.append(Use(buffer.name, place.offset, stop, number, last))

    def _plan_loop(self, number: int, step: Step, dying: Sequence[Buffer]) -> None:
        kept = [each for each in step.outputs if self.last_use.get(id(each), 0) > number]
        spaces = plan_turn(step, dying, kept)
        beside = [each for each in spaces if each.row is None and not each.stays]
        size = max((each.offset + each.size for each in beside), default=0)
        turn = Part([Use("turn", 0, size, number, number)])
        self.parts.append(turn)
        for space in spaces:
            if space.row is not None:
                self._take_slot(number, space)
            elif not space.stays:
                place = Place(space.offset, space.piece, space.run_beside)
                self.places[id(space.buffer)] = turn, place

    def _take_slot(self, number: int, space: Space) -> None:
        assert space.row is not None
        given = space.row.given
        part, place = self.places[id(given.buffer)]
        start = place.offset + space.slot * place.stride
        turn_stride = given.run * place.stride
        if space.run == 1:
            taken = Place(start, turn_stride)
        else:
            taken = Place(start, place.stride, space.run, turn_stride)
        if space.run == given.run:
            taken = Place(start, place.stride)
        self._share(number, space.buffer, part, taken)


def _arrange(parts: Sequence[Part]) -> int:
    """Set the offsets, and return the size of the arena: the smallest that was found.

    Parts are placed one by one, as low as they fit, in a few orders; in each of them what ends highest is
    placed first in the next try.
    """
    orders = [
        sorted(parts, key=lambda part: -part.size),
        sorted(parts, key=lambda part: (part.first, -part.size)),
        sorted(parts, key=lambda part: -part.size * (part.last - part.first + 1)),
    ]
    best_size, best = _arrange_in_order(orders[0]), orders[0]
    for order in orders:
        for _ in range(TRIES):
            size = _arrange_in_order(order)
            if size < best_size:
                best_size, best = size, order
            highest = max(order, key=lambda part: (part.offset + part.size, part.size))
            order = [highest, *(each for each in order if each is not highest)]
    return _arrange_in_order(best)


def _arrange_in_order(parts: Iterable[Part]) -> int:
    placed: list[Part] = []
    for part in parts:
        part.offset = 0
        taken = sorted(each for other in placed for each in _list_taken(part, other))
        for start, stop in taken:
            if start < part.offset < stop:
                part.offset = -(-stop // ALIGNMENT) * ALIGNMENT
        placed.append(part)
    end = max(part.offset + part.size for part in placed)
    return -(-end // ALIGNMENT) * ALIGNMENT


def _list_taken(part: Part, other: Part) -> Iterator[tuple[int, int]]:
    """Yield the open intervals in which a part cannot begin, because another one is placed."""
    for use in part.uses:
        for its in other.uses:
            if use.first <= its.last and its.first <= use.last:
                yield (other.offset + its.start - use.stop, other.offset + its.stop - use.start)
