"""Where a student's maps lie in its arena."""

import numpy as np
import pytest
from c_students import SMALL_STUDENTS, load_int8_model
from hypothesis import given, note, settings
from random_graphs import describe_graph, random_graphs

from students.c.memory import count_scratch_bytes, plan_memory
from students.c.program import plan_program

MANY = settings(max_examples=60, deadline=None, derandomize=True)
AHEAD_BYTES = 1000


def list_bytes(place, buffer):
    """Return the addresses of all bytes of a buffer."""
    channels = np.arange(buffer.shape[0])
    if place.run:
        starts = channels // place.run * place.turn_stride + channels % place.run * place.stride
    else:
        starts = channels * place.stride
    piece = buffer.size // buffer.shape[0]
    return (place.offset + starts[:, None] + np.arange(piece)).reshape(-1)


class Arena:
    """Remembers which buffer wrote each byte."""

    def __init__(self, memory):
        self.memory = memory
        self.writer = np.zeros(memory.arena_bytes, object)

    def write(self, buffer, channels=slice(None)):
        addresses = list_bytes(self.memory.find(buffer), buffer).reshape(buffer.shape[0], -1)
        self.writer[addresses[channels].reshape(-1)] = buffer.name

    def check(self, buffer, number):
        writers = set(self.writer[list_bytes(self.memory.find(buffer), buffer)])
        assert writers == {buffer.name}, f"step {number} reads {buffer.name}"

    def use_scratch(self, start, size, touched):
        addresses = np.arange(start, start + size)
        for buffer in touched:
            its = list_bytes(self.memory.find(buffer), buffer)
            assert not np.intersect1d(its, addresses).size, f"scratch lies in {buffer.name}"
        self.writer[addresses] = "scratch"


def check_plan(planned):
    """Run the steps as far as addresses go: each byte that is read is still its buffer's own."""
    given_, kept = planned.lowered.input, planned.lowered.logits
    memory = plan_memory(planned.steps, given_, kept, AHEAD_BYTES)
    arena = Arena(memory)
    assert memory.ahead is not None
    arena.use_scratch(memory.ahead, AHEAD_BYTES, [given_])
    arena.write(given_)
    for number, step in enumerate(planned.steps):
        for buffer in step.inputs:
            arena.check(buffer, number)
        size = max(count_scratch_bytes(statement) for statement in step.statements)
        arena.use_scratch(memory.scratch[number], size, [*step.inputs, *step.outputs])
        for target in (statement.target for statement in step.statements):
            # Joined maps are written in parts; others may lie where a later part will be.
            start = target.channel_start
            arena.write(target.buffer, slice(start, start + target.shape[0]))
    arena.check(kept, len(planned.steps))


@given(model=random_graphs())
@MANY
def test_no_step_of_any_graph_reads_bytes_that_another_has_taken(model):
    note(describe_graph(model))
    check_plan(plan_program(model))


@pytest.mark.parametrize("name", SMALL_STUDENTS)
def test_no_step_of_a_student_reads_bytes_that_another_has_taken(name):
    check_plan(plan_program(load_int8_model(name)))
