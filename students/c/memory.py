"""Where every buffer lies in the arena: no two that are in use at the same time overlap.

What a step writes takes the place of an input that nobody needs afterwards, where its kernel can work in
place. What only the turns of a loop need has place for the channels of one turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from students.c.arrangement import Part, Use, arrange
from students.c.expressions import Buffer, Stored
from students.c.statements import Convolve, Statement, count_scratch_bytes
from students.c.steps import Step
from students.c.turns import Space, plan_turn, works_in_place


@dataclass(frozen=True, slots=True)
class Place:
    """Where the channels of a buffer are: channel c at offset + c * stride."""

    offset: int
    stride: int
    run: int = 0
    """If not 0, a loop has so many channels in a turn, and channel c is at offset + c / run * turn_stride +
    c % run * stride."""
    turn_stride: int = 0


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
    # What grows in place needs free bytes above it, which may lie better elsewhere.
    plans = (
        _plan_memory(steps, given, kept, ahead_bytes, may_grow=may_grow)
        for may_grow in (True, False)
    )
    return min(plans, key=lambda plan: plan.arena_bytes)


def _plan_memory(
    steps: Sequence[Step], given: Buffer, kept: Buffer, ahead_bytes: int, *, may_grow: bool
) -> Plan:
    planner = _Planner(steps, kept, may_grow)
    planner.add(given, -1)
    for number, step in enumerate(steps):
        planner.plan_step(number, step)
    ahead = Part([Use("front-end", 0, ahead_bytes, -1, -1)])
    parts = [*planner.parts, *[ahead] * (ahead_bytes > 0)]
    arena_bytes = arrange(parts)
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
    def __init__(self, steps: Sequence[Step], kept: Buffer, may_grow: bool) -> None:
        self.may_grow = may_grow
        self.parts: list[Part] = []
        self.places: dict[int, tuple[Part, Place]] = {}
        self.scratch: list[Part] = []
        self.last_use = find_last_uses(steps, kept)
        self.hosts = _find_hosts(steps, self.last_use)

    def add(self, buffer: Buffer, number: int) -> None:
        """Give a buffer a part of its own."""
        last = self.last_use.get(id(buffer), number)
        part = Part([Use(buffer.name, 0, buffer.size, number, last)])
        self.parts.append(part)
        self.places[id(buffer)] = part, Place(0, buffer.size // buffer.shape[0])

    def plan_step(self, number: int, step: Step) -> None:
        """Give places to the outputs of a step, to what lies between its statements, and to scratch."""
        dying = [each for each in step.inputs if self.last_use[id(each)] == number]
        for buffer in step.outputs:
            if id(buffer) in self.hosts:
                self._place_in_host(number, buffer)
        for statement in step.statements:
            if not statement.target.is_whole:
                self._place_channels(number, statement.target)
        if step.statements[0].by_channel:
            self._plan_loop(number, step, dying)
        else:
            self._share_whole(number, step.statements[0], dying)
        for statement in step.statements:
            if id(statement.target.buffer) not in self.places:
                self.add(statement.target.buffer, number)
        size = max(count_scratch_bytes(each) for each in step.statements)
        self.scratch.append(Part([Use("scratch", 0, size, number, number)]))
        self.parts.append(self.scratch[-1])

    def _place_in_host(self, number: int, buffer: Buffer) -> None:
        """Place a buffer where it will be rounded to channels of a joined one."""
        host, start = self.hosts[id(buffer)]
        part, place = self._find_joined(host)
        self._share(number, buffer, part, replace(place, offset=start * place.stride))

    def _place_channels(self, number: int, target: Stored) -> None:
        """Keep bytes for channels of a joined buffer from now on."""
        part, place = self._find_joined(target.buffer)
        start = target.channel_start * place.stride
        stop = start + target.shape[0] * place.stride
        last = self.last_use[id(target.buffer)]
        part.uses.append(Use(target.buffer.name, start, stop, number, last))

    def _find_joined(self, buffer: Buffer) -> tuple[Part, Place]:
        """Return where a buffer is that is written in parts."""
        if id(buffer) not in self.places:
            part = Part([])
            self.parts.append(part)
            self.places[id(buffer)] = part, Place(0, buffer.size // buffer.shape[0])
        return self.places[id(buffer)]

    def _share_whole(self, number: int, statement: Statement, dying: Sequence[Buffer]) -> None:
        target = statement.target.buffer
        if id(target) in self.places:
            return
        for buffer in dying:
            part, place = self.places[id(buffer)]
            grows = target.shape[0] > buffer.shape[0] and not _has_several_outputs(statement)
            fits = self.may_grow or not grows
            same = buffer.kind == target.kind == "codes"
            if same and fits and works_in_place(statement, buffer):
                if _has_several_outputs(statement):
                    # Those of a channel lie in its place, without gaps.
                    place = Place(place.offset, target.size // target.shape[0])
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
        spaces = plan_turn(step, dying, kept, self.places)
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


def _has_several_outputs(statement: Statement) -> bool:
    return isinstance(statement, Convolve) and statement.layer.shape.kernel == "convolve_channels"


def _find_hosts(
    steps: Sequence[Step], last_use: Mapping[int, int]
) -> dict[int, tuple[Buffer, int]]:
    """Return which buffers can lie where they will be rounded to channels of a joined buffer.

    By the buffer's id: the joined buffer, and its first channel there. What a loop writes lies better in
    the channels of its own inputs.
    """
    in_loops = {
        id(buffer) for step in steps if step.statements[0].by_channel for buffer in step.outputs
    }
    hosts = {}
    for number, step in enumerate(steps):
        for statement in step.statements:
            target = statement.target
            for view in statement.inputs if not target.is_whole else ():
                fits = view.is_whole and view.shape == target.shape
                fits = fits and id(view.buffer) not in in_loops
                if (
                    fits
                    and last_use[id(view.buffer)] == number
                    and (view.buffer.kind == "codes" and works_in_place(statement, view.buffer))
                ):
                    hosts[id(view.buffer)] = target.buffer, target.channel_start
                    break
    return hosts
