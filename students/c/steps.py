"""Which statements share a loop over the channels.

In such a loop, what lies between two of its statements needs memory for a few channels only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from students.c.expressions import Buffer, Stored
from students.c.statements import Convolve, Reduce, Statement, Store


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """Statements that run one after the other, for a few channels at a time."""

    statements: tuple[Statement, ...]

    @property
    def turns(self) -> int:
        """How often the statements run: each time for the next channels."""
        if not self.statements[0].by_channel:
            return 1
        return min(count_channels(each) for each in self.statements)

    @property
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of statements that run one after the other for one channel, then for the turn's next."""
        blocks: list[list[int]] = []
        for number, each in enumerate(self.statements):
            if blocks and self._goes_with(blocks[-1], each):
                blocks[-1].append(number)
            else:
                blocks.append([number])
        return tuple(map(tuple, blocks))

    def _goes_with(self, block: Sequence[int], statement: Statement) -> bool:
        before = [self.statements[each] for each in block]
        if count_channels(before[0]) != count_channels(statement):
            return False
        written = {id(each.target.buffer) for each in before}
        views = [view for view in statement.inputs if id(view.buffer) in written]
        return all(view.shape[0] == count_channels(statement) for view in views)

    @property
    def outputs(self) -> tuple[Buffer, ...]:
        """What its statements write."""
        return tuple({id(s.target.buffer): s.target.buffer for s in self.statements}.values())

    def list_targets(self, buffer: Buffer) -> list[Stored]:
        """Return the parts of a buffer that its statements write."""
        return [each.target for each in self.statements if each.target.buffer is buffer]

    @property
    def inputs(self) -> tuple[Buffer, ...]:
        """What it needs from the steps before."""
        written = {id(each) for each in self.outputs}
        found = {id(v.buffer): v.buffer for s in self.statements for v in s.inputs}
        return tuple(each for key, each in found.items() if key not in written)


def count_channels(statement: Statement) -> int:
    """Return for how many channels a statement runs."""
    if isinstance(statement, Reduce):
        return statement.value.shape[0]
    return statement.target.shape[0]


def group_statements(statements: Sequence[Statement]) -> list[Step]:
    """Group statements into steps, as many as possible in each, in an order in which they can run.

    What a step makes and reads itself, no other one reads: if it had to stay for others, it could not be
    overwritten channel by channel.
    """
    apart: set[int] = set()
    while True:
        grouping = _Grouping(statements, apart)
        steps = grouping.run()
        found = grouping.find_shared_buffers()
        if not found:
            return steps
        apart |= found


class _Grouping:
    def __init__(self, statements: Sequence[Statement], apart: set[int]) -> None:
        self.statements = statements
        self.apart = apart
        """Ids of buffers that are not read where they are made."""
        self.writers: dict[int, list[int]] = {}
        for number, each in enumerate(statements):
            self.writers.setdefault(id(each.target.buffer), []).append(number)
        self.before = [self._find_direct(number) for number in range(len(statements))]
        self.group_of = list(range(len(statements)))

    def _find_direct(self, number: int) -> set[int]:
        read = self.statements[number].inputs
        found = {writer for view in read for writer in self.writers.get(id(view.buffer), ())}
        return {each for each in found if each < number}

    def run(self) -> list[Step]:
        for number, statement in enumerate(self.statements):
            if statement.by_channel:
                self._join(number)
        return self._order()

    def _join(self, number: int) -> None:
        """Put a statement into the groups of those that make its inputs, if they can share a loop."""
        for other in sorted(self.before[number], reverse=True):
            merged = self._list_members(self.group_of[other]) | self._list_members(
                self.group_of[number]
            )
            if self._can_share(merged):
                for each in merged:
                    self.group_of[each] = self.group_of[other]

    def find_shared_buffers(self) -> set[int]:
        """Return the ids of buffers that are read by statements of their own group, and by others."""
        found = set()
        for writer, statement in enumerate(self.statements):
            buffer = statement.target.buffer
            groups = {
                self.group_of[number]
                for number, each in enumerate(self.statements)
                if any(view.buffer is buffer for view in each.inputs)
            }
            if self.group_of[writer] in groups and len(groups) > 1:
                found.add(id(buffer))
        return found

    def _list_members(self, group: int) -> set[int]:
        return {each for each, its in enumerate(self.group_of) if its == group}

    def _can_share(self, members: set[int]) -> bool:
        statements = [self.statements[each] for each in sorted(members)]
        if not all(each.by_channel for each in statements):
            return False
        turns = min(map(count_channels, statements))
        if any(count_channels(each) % turns for each in statements):
            return False
        written = {id(each.target.buffer) for each in statements}
        in_parts = {id(s.target.buffer) for s in statements if not s.target.is_whole}
        alone = written & self.apart | in_parts
        if any(id(view.buffer) in alone for s in statements for view in s.inputs):
            return False
        for each in statements:
            for view in each.inputs:
                if id(view.buffer) in written and not _reads_its_own_channels(each, view, turns):
                    return False
        return self._is_closed(members)

    def _is_closed(self, members: set[int]) -> bool:
        """Whether the groups can still run one after the other if these become one."""
        first = min(members)
        group_of = [first if n in members else its for n, its in enumerate(self.group_of)]
        needs: dict[int, set[int]] = {group: set() for group in group_of}
        for number, before in enumerate(self.before):
            needs[group_of[number]] |= {group_of[each] for each in before} - {group_of[number]}
        while needs:
            ready = {group for group, above in needs.items() if not above & needs.keys()}
            if not ready:
                return False
            for group in ready:
                del needs[group]
        return True

    def _order(self) -> list[Step]:
        groups = {group: sorted(self._list_members(group)) for group in set(self.group_of)}
        done: set[int] = set()
        steps = []
        while groups:
            ready = [
                group
                for group, members in groups.items()
                if all(self.before[each] <= done | set(members) for each in members)
            ]
            first = min(ready, key=lambda group: groups[group][-1])
            members = groups.pop(first)
            done |= set(members)
            steps.append(Step(tuple(self.statements[each] for each in members)))
        return steps


def _reads_its_own_channels(statement: Statement, view: Stored, turns: int) -> bool:
    """Whether a turn of a statement needs no more of a buffer than the same turn has written."""
    whole = view.channel_start == 0 and view.row_start == 0
    return (
        whole
        and not view.scattered
        and view.buffer.kind == "codes"
        and view.shape[0] % turns == 0
        and isinstance(statement, (Convolve, Store, Reduce))
    )
