"""Cuts channels and rows out of expressions."""

from dataclasses import replace

from students.c.expressions import (
    AddCodes,
    Combine,
    Constant,
    Deal,
    Expression,
    Join,
    Merge,
    Pool,
    Repeat,
    Spread,
    Stored,
)
from students.c.graph import UnknownOperator


class Slicer:
    """Cuts channels or rows out of expressions; equal cuts of one expression are one expression."""

    def __init__(self) -> None:
        self._done: dict[tuple[int, str, int, int], Expression] = {}
        self._kept: list[Expression] = []

    def cut_channels(self, value: Expression, start: int, count: int) -> Expression:
        """Return some channels; one number for all channels stays as it is."""
        return self._cut(value, "channels", start, count)

    def cut_rows(self, value: Expression, start: int, count: int) -> Expression:
        """Return some rows; numbers of channels stay as they are."""
        return self._cut(value, "rows", start, count)

    def _cut(self, value: Expression, axis: str, start: int, count: int) -> Expression:
        key = (id(value), axis, start, count)
        if key not in self._done:
            cut = self._cut_channels if axis == "channels" else self._cut_rows
            self._kept.append(value)
            self._done[key] = cut(value, start, count)
        return self._done[key]

    def _cut_channels(self, value: Expression, start: int, count: int) -> Expression:
        if value.shape[0] == 1 or (start, count) == (0, value.shape[0]):
            return value
        shape = (count, *value.shape[1:])
        match value:
            case Stored():
                return replace(value, shape=shape, channel_start=value.channel_start + start)
            case Constant():
                return replace(value, count=count, start=value.start + start)
            case Merge():
                inside = self.cut_channels(value.value, start * value.merged, count * value.merged)
                return replace(value, value=inside, start=value.start + start)
            case Combine() | AddCodes():
                left, right = (
                    self.cut_channels(each, start, count) for each in (value.left, value.right)
                )
                return replace(value, left=left, right=right)
            case Deal():
                return replace(value, start=value.start + start, count=count)
            case Join():
                return self._cut_join(value, start, count)
            case Spread() | Repeat() | Pool():
                inside = self.cut_channels(value.value, start, count)
                return replace(value, value=inside, shape=shape)
            case _:
                return replace(value, value=self.cut_channels(value.value, start, count))

    def _cut_join(self, value: Join, start: int, count: int) -> Expression:
        beyond = start + count - value.first.shape[0]
        if beyond <= 0:
            return self.cut_channels(value.first, start, count)
        if beyond >= count:
            return self.cut_channels(value.second, beyond - count, count)
        first = self.cut_channels(value.first, start, count - beyond)
        return Join(first, self.cut_channels(value.second, 0, beyond))

    def _cut_rows(self, value: Expression, start: int, count: int) -> Expression:
        if value.shape[1:] == (1, 1):
            return value
        shape = (value.shape[0], count, value.shape[2])
        match value:
            case Stored():
                return replace(value, shape=shape, row_start=value.row_start + start)
            case Combine() | AddCodes():
                left, right = (
                    self.cut_rows(each, start, count) for each in (value.left, value.right)
                )
                return replace(value, left=left, right=right)
            case Join():
                first, second = (
                    self.cut_rows(each, start, count) for each in (value.first, value.second)
                )
                return replace(value, first=first, second=second)
            case Spread():
                return replace(value, shape=shape)
            case Repeat():
                # What has one row repeats it in any of them.
                has_rows = value.value.shape[1] > 1
                inside = self.cut_rows(value.value, start, count) if has_rows else value.value
                return replace(value, value=inside, shape=shape)
            case Pool():
                step = value.strides[0]
                if value.pads[0] or value.kernel[0] != step:
                    raise UnknownOperator("Split", "of a pool", "rows of overlapping windows")
                inside = self.cut_rows(value.value, start * step, count * step)
                return replace(value, value=inside, shape=shape)
            case Constant():
                return value
            case _:
                return replace(value, value=self.cut_rows(value.value, start, count))
