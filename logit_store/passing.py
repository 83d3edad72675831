"""Which clips pass a filter of a query (N clips, G groups of clips that are alike, R rows that pass)."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

_PLACE = "place"
_MOST_GROUPS = 10_000
"""More combinations of values are not looked for."""

NAME = pa.dictionary(pa.int32(), pa.string())
"""The type of columns with few different texts."""


def find_columns(passes: Any, names: Collection[str]) -> frozenset[str]:
    """Return those of some columns that a filter of pyarrow's names, and maybe others; None names none."""
    # An expression has no list of its columns, but its text has their names as they are.
    text = "" if passes is None else str(passes)
    return frozenset(names) & {*re.findall(r"\w+", text)}


def find_places(passes: Any, columns: Mapping[str, pa.Array]) -> NDArray[np.int64]:
    """Return the places that pass a filter of pyarrow's, in columns of the same length.

    Raises:
        pa.ArrowInvalid: the filter names a column that is absent.
    """
    (n,) = {len(column) for column in columns.values()}
    table = pa.table({**columns, _PLACE: pa.array(np.arange(n))})
    found = ds.dataset(table).to_table(columns=[_PLACE], filter=passes, use_threads=False)
    return found[_PLACE].to_numpy()


def repeat(value: str | int, n: int) -> pa.Array:
    """Return a column of one value, [n]: texts as a dictionary, numbers as int32."""
    if isinstance(value, int):
        return pa.array(np.full(n, value, np.int32))
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([value]))


def name_places(places_N: NDArray[np.int32], names: Sequence[str] | pa.Array) -> pa.DictionaryArray:
    """Return texts as a dictionary, [N]: the names at some places; null for a place below 0."""
    is_null_N = places_N < 0
    indices = pa.array(places_N, pa.int32(), mask=is_null_N if is_null_N.any() else None)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


@dataclass(frozen=True, slots=True)
class AlikeClips:
    """Clips by the columns that a filter names: it looks only once at each combination of their values."""

    columns: Mapping[str, pa.Array]
    """One value for each group, [G]."""
    n: int
    """Number of groups."""
    groups_N: NDArray[np.int32] | None
    """The group of each clip; None: each clip is a group of its own."""

    @classmethod
    def of(cls, columns: Mapping[str, pa.Array], n: int) -> Self:
        """Group n clips by columns, of which those of type NAME have few different values, or null."""
        # Each clip may have a value of its own in the others.
        sizes = [
            len(each.dictionary) + 1 if each.type == NAME else n + 1 for each in columns.values()
        ]
        n_groups = math.prod(sizes)
        if n_groups > min(n, _MOST_GROUPS):
            return cls(columns, n, None)
        groups_N, rest_G, taken = np.zeros(n, np.int32), np.arange(n_groups, dtype=np.int32), {}
        for (name, each), size in zip(columns.items(), sizes, strict=True):
            rest_G, value_G = np.divmod(rest_G, size)
            value_G[value_G == size - 1] = -1
            taken[name] = name_places(value_G, each.dictionary)
        for each, size in reversed([*zip(columns.values(), sizes, strict=True)]):
            groups_N *= size
            groups_N += each.indices.fill_null(size - 1).to_numpy()
        return cls(taken, n_groups, groups_N)

    def find_rows(self, passes: Any, values: Mapping[str, str | int]) -> NDArray[np.int64]:
        """Return the rows of the clips that pass a filter of pyarrow's, [R], sorted.

        Args:
            passes: the filter.
            values: of the columns that have one value for all clips.
        """
        same = {name: repeat(value, self.n) for name, value in values.items()}
        places = find_places(passes, {**self.columns, **same})
        if self.groups_N is None:
            return places
        passes_G = np.zeros(self.n, np.bool_)
        passes_G[places] = True
        return np.flatnonzero(passes_G.take(self.groups_N))
