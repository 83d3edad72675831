"""In which order steps run: one in which as few bytes as possible are in use at the same time.

Bytes are counted as if nothing were lost between what is in use; the plan of the arena comes afterwards.
"""

import heapq
from collections.abc import Iterator, Sequence

from students.c.expressions import Buffer
from students.c.statements import count_scratch_bytes
from students.c.steps import Step
from students.c.turns import plan_turn, works_in_place

MOST_STATES = 20_000
"""Sets of steps that are looked at, before the given order is taken."""


def order_steps(steps: Sequence[Step], given: Buffer, kept: Buffer) -> list[Step]:
    """Return the steps in the order with the smallest peak that was found.

    Args:
        steps: in an order in which they can run.
        given: the input of the first steps.
        kept: what is needed in the end.
    """
    search = _Search(steps, given, kept)
    numbers = search.run()
    return [steps[number] for number in numbers] if numbers else list(steps)


class _Search:
    """Goes from sets of steps that have run to larger ones, the one with the smallest peak first."""

    def __init__(self, steps: Sequence[Step], given: Buffer, kept: Buffer) -> None:
        self.steps = steps
        self.inputs = [[id(each) for each in step.inputs] for step in steps]
        self.sizes = {id(each): each.size for step in steps for each in step.outputs}
        self.sizes[id(given)] = given.size
        self.readers: dict[int, int] = {id(kept): 1 << len(steps)}
        writers: dict[int, int] = {}
        for number, step in enumerate(steps):
            for each in self.inputs[number]:
                self.readers[each] = self.readers.get(each, 0) | 1 << number
            for buffer in step.outputs:
                writers[id(buffer)] = writers.get(id(buffer), 0) | 1 << number
        self.needs = [sum({writers.get(each, 0) for each in inputs}) for inputs in self.inputs]
        self.writers = writers
        self.extra: dict[tuple[int, frozenset[int]], int] = {}

    def run(self) -> list[int]:
        """Return the numbers of the steps in their new order; nothing if the search was too long."""
        whole = (1 << len(self.steps)) - 1
        first: tuple[int, int, list[int], int] = (0, 0, [], 0)
        heap = [first]
        seen = {0}
        while heap and len(seen) < MOST_STATES:
            peak, _, order, done = heapq.heappop(heap)
            if done == whole:
                return order
            live = self._count_live(done)
            for number in self._list_ready(done):
                after = done | 1 << number
                if after in seen:
                    continue
                seen.add(after)
                needed = live + self._count_more(number, done)
                entry = (max(peak, needed), -len(order) - 1, [*order, number], after)
                heapq.heappush(heap, entry)
        return []

    def _list_ready(self, done: int) -> Iterator[int]:
        for number, needs in enumerate(self.needs):
            if not done >> number & 1 and needs & done == needs:
                yield number

    def _count_live(self, done: int) -> int:
        """Return the bytes that steps after these need."""
        return sum(
            size
            for buffer, size in self.sizes.items()
            if self.readers.get(buffer, 0) & ~done
            and (buffer not in self.writers or self.writers[buffer] & done)
        )

    def _count_more(self, number: int, done: int) -> int:
        """Return the bytes that a step needs beside those that are in use before it."""
        after = done | 1 << number
        dying = frozenset(each for each in self.inputs[number] if not self.readers[each] & ~after)
        if (number, dying) not in self.extra:
            self.extra[number, dying] = self._plan(number, dying)
        return self.extra[number, dying]

    def _plan(self, number: int, dying: frozenset[int]) -> int:
        step = self.steps[number]
        free = [each for each in step.inputs if id(each) in dying]
        scratch = max(count_scratch_bytes(each) for each in step.statements)
        if not step.statements[0].by_channel:
            (statement,) = step.statements
            target = statement.target.buffer
            shared = [
                each.size
                for each in free
                if each.kind == target.kind == "codes" and works_in_place(statement, each)
            ]
            return scratch + max(target.size - max(shared, default=0), 0)
        later = [each for each in step.outputs if self.readers.get(id(each), 0) & ~(1 << number)]
        spaces = {id(each.buffer): each for each in plan_turn(step, free, later)}
        more = scratch
        for buffer in step.outputs:
            space = spaces.get(id(buffer))
            if space is None or (space.row is None and space.stays):
                more += sum(each.size for each in step.list_targets(buffer))
        beside = [each for each in spaces.values() if each.row is None and not each.stays]
        return more + max((each.offset + each.size for each in beside), default=0)
