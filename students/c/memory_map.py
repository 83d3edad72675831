"""The arena as a comment of student.c: what lies where, and while which steps run."""

from collections.abc import Sequence

from students.c.memory import Plan


def describe_arena(plan: Plan, steps: Sequence[str]) -> list[str]:
    """Return lines for all that is ever in the arena, in the order in which it comes.

    Args:
        plan: where everything lies.
        steps: names of the steps' functions, in order.
    """
    names = {-1: "begin", len(steps): "end"} | dict(enumerate(steps))
    uses = [
        (use.first, part.offset + use.start, use.stop - use.start, use.last, use.name)
        for part in plan.parts
        for use in part.uses
        if use.stop > use.start
    ]
    return [
        f"{offset:>7} {size:>7}  {name}: {_describe_steps(names[first], names[last])}"
        for first, offset, size, last, name in sorted(uses)
    ]


def _describe_steps(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"
