"""Operators that move numbers and mean one thing together: channel shuffles, and sums over channels and columns.

Dimensions: B clips in a batch, C channels, H rows, W columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from students.c.graph import Dealt, Node, Reduced, Reduction, Shape


@dataclass(frozen=True, slots=True)
class Pattern:
    """A node that stands for several operators."""

    node: Node
    inside: tuple[str, ...]
    """Values between its source and itself, which nothing else takes."""


def find_patterns(
    nodes: Sequence[onnx.NodeProto],
    shapes: Mapping[str, Shape],
    arrays: Mapping[str, np.ndarray],
) -> list[Pattern]:
    """Return what is found in a graph; shapes are without the batch."""
    return list(_Patterns(nodes, shapes, arrays).run())


class _Patterns:
    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        shapes: Mapping[str, Shape],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        self.nodes, self.shapes, self.arrays = nodes, shapes, arrays
        self.makers = {name: node for node in nodes for name in node.output}
        self.takers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)

    def run(self) -> Iterator[Pattern]:
        for node in self.nodes:
            if node.op_type == "Transpose":
                perm = list(_read_attributes(node)["perm"])
                found = {(0, 2, 1, 3, 4): self._find_shuffle, (0, 2, 1, 3): self._find_bands}
                follow = found.get(tuple(perm))
                pattern = follow(node) if follow else None
                if pattern is not None:
                    yield pattern

    def _find_shuffle(self, turned: onnx.NodeProto) -> Pattern | None:
        """Channels as [groups, C / groups], with both axes exchanged, and as one axis again."""
        view, back = self.makers.get(turned.input[0]), self._follow(turned, "Reshape")
        if view is None or back is None or self._follow(view, "Transpose") is not turned:
            return None
        source, result = view.input[0], back.output[0]
        groups, in_group, *map_shape = self.shapes[view.output[0]]
        if self.shapes[source] != self.shapes[result] or self.shapes[source] != (
            groups * in_group,
            *map_shape,
        ):
            return None
        return Pattern(Dealt(result, (source,), groups), (view.output[0], turned.output[0]))

    def _find_bands(self, turned: onnx.NodeProto) -> Pattern | None:
        """Rows in front, [H, C * W], of which each is added, and the sums as [1, H, 1]."""
        view = self._follow(turned, "Reshape")
        added = view and (self._follow(view, "ReduceMean") or self._follow(view, "ReduceSum"))
        back = added and self._follow(added, "Reshape")
        if view is None or added is None or back is None:
            return None
        channels, height, width = self.shapes[turned.input[0]]
        made = [self.shapes[each.output[0]] for each in (view, added, back)]
        axes = self.arrays[added.input[1]].ravel().tolist()
        if made != [(height, channels * width), (height, 1), (1, height, 1)] or axes != [2]:
            return None
        reduction: Reduction = "ReduceMean" if added.op_type == "ReduceMean" else "ReduceSum"
        over = ("channels", "columns")
        inside = tuple(each.output[0] for each in (turned, view, added))
        return Pattern(Reduced(back.output[0], (turned.input[0],), reduction, over), inside)

    def _follow(self, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        """Return the only node that takes a result, if it is of a kind and takes it first."""
        takers = self.takers.get(node.output[0], [])
        only = takers[0] if len(takers) == 1 else None
        fits = only is not None and only.op_type == kind and only.input[0] == node.output[0]
        return only if fits else None


def _read_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}
