"""Where a student's maps lie in its arena."""

import numpy as np
import pytest
from c_students import SMALL_STUDENTS, load_int8_model
from hypothesis import given, note, settings
from random_graphs import describe_graph, random_graphs

from students.c.expressions import Stored
from students.c.memory import count_scratch_bytes, plan_memory
from students.c.program import plan_program

MANY = settings(max_examples=60, deadline=None, derandomize=True)
AHEAD_BYTES = 1000


def list_bytes(memory, view):
    """Return the addresses of all bytes of some channels and rows of a buffer."""
    buffer, place = view.buffer, memory.find(view.buffer)
    size = 1 if buffer.kind == "codes" else 4
    channels = view.channel_start + np.arange(view.shape[0])
    if place.run:
        starts = channels // place.run * place.turn_stride + channels % place.run * place.stride
    else:
        starts = channels * place.stride
    row = size * buffer.shape[2]
    piece = np.arange(view.row_start * row, view.row_start * row + size * np.prod(view.shape[1:]))
    return (place.offset + starts[:, None] + piece).reshape(-1)


class Arena:
    """Remembers which buffer wrote each byte."""

    def __init__(self, memory):
        self.memory = memory
        self.writer = np.zeros(memory.arena_bytes, object)

    def write(self, view):
        self.writer[list_bytes(self.memory, view)] = view.buffer.name

    def check(self, view, number):
        writers = set(self.writer[list_bytes(self.memory, view)])
        assert writers == {view.buffer.name}, f"step {number} reads {view.buffer.name}"

    def use_scratch(self, start, size, touched):
        addresses = np.arange(start, start + size)
        for view in touched:
            shared = np.intersect1d(list_bytes(self.memory, view), addresses)
            assert not shared.size, f"scratch lies in {view.buffer.name}"
        self.writer[addresses] = "scratch"


def check_plan(planned):
    """Run the steps as far as addresses go: each byte that is read is still its buffer's own."""
    ends = (planned.lowered.input, planned.lowered.logits)
    given_, kept = (Stored(buffer, buffer.shape) for buffer in ends)
    memory = plan_memory(planned.steps, given_.buffer, kept.buffer, AHEAD_BYTES)
    arena = Arena(memory)
    assert memory.ahead is not None
    arena.use_scratch(memory.ahead, AHEAD_BYTES, [given_])
    arena.write(given_)
    for number, step in enumerate(planned.steps):
        written = [statement.target for statement in step.statements]
        own = {view.buffer.name for view in written}
        read = [view for statement in step.statements for view in statement.inputs]
        for view in read:
            if view.buffer.name not in own:
                arena.check(view, number)
        size = max(count_scratch_bytes(statement) for statement in step.statements)
        arena.use_scratch(memory.scratch[number], size, [*read, *written])
        for view in written:
            arena.write(view)
    arena.check(kept, len(planned.steps))


@given(model=random_graphs())
@MANY
def test_no_step_of_any_graph_reads_bytes_that_another_has_taken(model):
    note(describe_graph(model))
    check_plan(plan_program(model))


@pytest.mark.parametrize("name", SMALL_STUDENTS)
def test_no_step_of_a_student_reads_bytes_that_another_has_taken(name):
    check_plan(plan_program(load_int8_model(name)))


def test_no_map_of_unrounded_sums_is_stored():
    planned = plan_program(load_int8_model("tf_sepnet"))
    buffers = [buffer for step in planned.steps for buffer in step.outputs]
    numbers = [buffer.shape for buffer in buffers if buffer.kind == "numbers"]
    assert {1} <= {shape[0] for shape in numbers}
    assert all(1 in shape for shape in numbers)
