"""Where the codes of a turn lie: in channels of inputs that a loop is the last to need, or beside them.

A loop over the channels runs its statements for a few channels, then for the next ones. `Space` is what one
buffer takes in a turn, from one statement to another.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from students.c.expressions import (
    Buffer,
    Deal,
    Expression,
    Join,
    Pool,
    Stored,
    iterate_leaves,
    list_children,
    sees_others,
)
from students.c.statements import Convolve, Statement, Store
from students.c.steps import Step, count_channels

FOREVER = 1_000_000


@dataclass(eq=False, slots=True)
class Space:
    """The codes of a buffer in one turn."""

    buffer: Buffer
    run: int
    """Channels of a turn."""
    piece: int
    """Bytes of a channel."""
    first: int
    """Number of the statement that writes it."""
    last: int
    """Number of the last statement that reads it; `FOREVER` if later steps do."""
    around: tuple[int, int] = (0, 0)
    """The first and the last statement of the block of statements that writes it."""
    row: "Row | None" = None
    """The input in whose channels it lies."""
    slot: int = 0
    """The first of these channels, in a turn."""
    offset: int = 0
    """If it lies beside the inputs: where."""

    @property
    def stays(self) -> bool:
        """Whether steps after this one need it."""
        return self.last == FOREVER

    @property
    def run_beside(self) -> int:
        """Channels that need place, if it lies beside the inputs: one if only its own block reads it."""
        return 1 if self.last <= self.around[1] else self.run

    @property
    def size(self) -> int:
        """Bytes of a turn, beside the inputs."""
        return self.run_beside * self.piece

    @property
    def busy(self) -> tuple[int, int]:
        """The statements in whose time it needs place beside the inputs."""
        if self.run_beside == self.run == 1 or self.run_beside < self.run:
            return self.first, self.last
        return self.around[0], max(self.last, self.around[1])


@dataclass(eq=False, slots=True)
class Row:
    """The channels of an input in one turn, which are free once no statement needs them."""

    given: Space
    taken: list[tuple[Space, range]] = field(default_factory=list)
    """What lies in which of them."""

    def fits(self, space: Space, slot: int, step: Step) -> bool:
        """Whether a space can begin at a channel."""
        slots = range(slot, slot + space.run)
        if space.piece > self.given.piece or slots.stop > self.given.run:
            return False
        others = [each for each, its in self.taken if set(its) & set(slots)]
        return all(_can_share(space, each, step) for each in (self.given, *others))


def plan_turn(
    step: Step, dying: Sequence[Buffer], kept: Iterable[Buffer], placed: Container[int] = ()
) -> list[Space]:
    """Return where the outputs of a loop and what lies between its statements are in a turn.

    Args:
        step: statements that go channel by channel.
        dying: inputs that nobody needs afterwards, with a place for each channel.
        kept: outputs that later steps need.
        placed: the ids of buffers that have a place already.
    """
    later = {id(each) for each in kept}
    spaces = [
        _find_space(step, number, later)
        for number, each in enumerate(step.statements)
        if id(each.target.buffer) not in placed
    ]
    found = [each for each in spaces if each is not None]
    rows = [Row(given) for each in dying if (given := _find_given(step, each)) is not None]
    for space in sorted(found, key=lambda each: (not each.stays, each.first)):
        _choose_slot(space, rows, step)
    beside = [each for each in found if each.row is None and not each.stays]
    for number, space in enumerate(beside):
        _choose_offset(space, beside[:number])
    return found


def works_in_place(statement: Statement, buffer: Buffer) -> bool:
    """Whether a statement may write its first channel where a buffer's first channel is."""
    match statement:
        case Convolve(layer=layer, source=source):
            whole = source.buffer is buffer and source.is_whole
            return whole and layer.shape.kernel != "convolve"
        case Store(value=value, target=target):
            return _goes_forward(value, buffer, target)
        case _:
            return False


def _goes_forward(value: Expression, buffer: Buffer, target: Stored) -> bool:
    """Whether each position is read before a position that is written there."""
    if isinstance(value, Stored):
        return value.buffer is not buffer or (
            value.is_whole and value.shape[1:] == target.shape[1:]
        )
    if isinstance(value, Deal | Join):
        return all(each.buffer is not buffer for each in iterate_leaves(value))
    if isinstance(value, Pool):
        leaves = [each for each in iterate_leaves(value) if each.buffer is buffer]
        apart = value.kernel == value.strides and value.pads == (0, 0)
        return not leaves or (
            apart and not sees_others(value.value) and all(each.is_whole for each in leaves)
        )
    return all(_goes_forward(each, buffer, target) for each in list_children(value))


def _find_space(step: Step, number: int, later: set[int]) -> Space | None:
    statement = step.statements[number]
    buffer = statement.target.buffer
    is_vector = buffer.shape[1:] == (1, 1)
    if is_vector or buffer.kind == "numbers" or not statement.target.is_whole:
        return None
    readers = [
        index
        for index, each in enumerate(step.statements)
        if any(view.buffer is buffer for view in each.inputs)
    ]
    last = FOREVER if id(buffer) in later else max(readers, default=number)
    run = count_channels(statement) // step.turns
    block = next(each for each in step.blocks if number in each)
    piece = buffer.shape[1] * buffer.shape[2]
    return Space(buffer, run, piece, number, last, (block[0], block[-1]))


def _find_given(step: Step, buffer: Buffer) -> Space | None:
    """Return the channels of an input, unless turns read others than their own."""
    views = [
        (index, view)
        for index, each in enumerate(step.statements)
        for view in each.inputs
        if view.buffer is buffer
    ]
    own = all(view.shape[0] == buffer.shape[0] and not view.scattered for _, view in views)
    if not own or buffer.kind == "numbers" or buffer.shape[0] % step.turns:
        return None
    last = max(index for index, _ in views)
    run = buffer.shape[0] // step.turns
    return Space(buffer, run, buffer.shape[1] * buffer.shape[2], -1, last)


def _can_share(space: Space, other: Space, step: Step) -> bool:
    """Whether two spaces can be in one place, one after the other."""
    early, late = sorted((space, other), key=lambda each: each.first)
    if early.last < late.first:
        return True
    same = early.run == late.run or late.run == 1
    writes = step.statements[late.first]
    return early.last == late.first and same and works_in_place(writes, early.buffer)


def _choose_slot(space: Space, rows: Sequence[Row], step: Step) -> None:
    for row in rows:
        starts = [0] if space.run == row.given.run else range(row.given.run * (space.run == 1))
        for slot in starts:
            if row.fits(space, slot, step):
                row.taken.append((space, range(slot, slot + space.run)))
                space.row, space.slot = row, slot
                return


def _choose_offset(space: Space, placed: Sequence[Space]) -> None:
    busy = sorted(
        (each.offset, each.offset + each.size)
        for each in placed
        if each.busy[0] <= space.busy[1] and space.busy[0] <= each.busy[1]
    )
    for start, stop in busy:
        if space.offset + space.size <= start:
            break
        space.offset = max(space.offset, stop)
