"""C text of where things are in the arena."""

from students.c.expressions import Stored
from students.c.memory import Place, Plan


class Addresses:
    """Writes addresses of a plan: `arena` is its first byte."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def print_codes(self, stored: Stored, channel: str) -> str:
        """Return the address of a channel; `channel` is its number among those that are stored."""
        place = self.plan.find(stored.buffer)
        return _print_address(place, stored, channel)

    def print_numbers(self, stored: Stored, channel: str = "0", *, constant: bool = False) -> str:
        """Return the address of a channel's float32 numbers."""
        kind = "const " * constant
        return f"({kind}float *)({kind}void *)({self.print_codes(stored, channel)})"

    def find_stride(self, stored: Stored) -> int:
        """Return the bytes from one channel to the next."""
        return self.plan.find(stored.buffer).stride


def multiply(text: str, number: int) -> str:
    """Return C text of a product."""
    if number == 1:
        return text
    return f"({text}) * {number}" if " " in text else f"{text} * {number}"


def _print_address(place: Place, stored: Stored, channel: str) -> str:
    element = 1 if stored.buffer.kind == "codes" else 4
    offset = place.offset + stored.row_start * stored.shape[2] * element
    if place.run == 1:
        return f"arena + {offset}"
    if place.run:
        turn = f" + c / {place.run} * {place.turn_stride}" if place.turn_stride else ""
        own = f"({channel})" if " " in channel else channel
        return f"arena + {offset}{turn} + {own} % {place.run} * {place.stride}"
    offset += stored.channel_start * place.stride
    start = f"arena + {offset}" if offset else "arena"
    return start if channel == "0" else f"{start} + {multiply(channel, place.stride)}"
