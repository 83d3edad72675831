"""Own classes by AudioSet's: a table with a line for each id that means a class (N clips, K own classes)."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio.corpora.tables import find_line, read_table
from audio.errors import CorpusError

IDS_FILE = Path(__file__).with_name("audioset_ids.txt")
"""AudioSet's 527 ids in the order of the outputs of networks that learnt it (`class_labels_indices.csv` of
its publishers, Google: the data set is under CC BY 4.0, the ontology that defines the ids under CC BY-SA 4.0;
see docs/licences.md)."""


@cache
def list_audioset_ids() -> tuple[str, ...]:
    """Return AudioSet's ids in the order of a tagger's outputs: `/m/09x0r` (speech) is the first of 527."""
    return tuple(IDS_FILE.read_text().split())


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Which of AudioSet's classes mean each own class."""

    ids: tuple[tuple[str, tuple[str, ...]], ...]
    """Own classes, sorted, and the ids of each, sorted."""

    def apply(self, logits_NA: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return log odds of the own classes [N, K] from those of all AudioSet's, [N, 527].

        An own class is as sure as the surest of its ids: that one of them is present is at least so
        likely (OURS).
        """
        place_of = {name: place for place, name in enumerate(list_audioset_ids())}
        columns = [[place_of[each] for each in ids] for _, ids in self.ids]
        return np.stack([logits_NA[:, places].max(axis=1) for places in columns], axis=1)


def read_class_map(file: Path, classes: Sequence[str]) -> ClassMap:
    """Read a class map: columns `class` and `id`, a line for each id; a class may have several.

    Args:
        file: comma-, semicolon- or tab-separated, in UTF-8.
        classes: the own classes; each needs an id.

    Raises:
        CorpusError: there is no such table, or a value is wrong; names file, line, value, and what is
            expected.
    """
    table = read_table(file, ("class", "id"), delimiters=",;\t")
    pairs = list(zip(table["class"].to_pylist(), table["id"].to_pylist(), strict=True))
    known = {"class": list(classes), "id": list(list_audioset_ids())}
    for row, pair in enumerate(pairs):
        for column, value in zip(("class", "id"), pair, strict=True):
            if value not in known[column]:
                _refuse(file, row, column, value, known[column])
    lacking = [name for name in classes if name not in dict(pairs)]
    if lacking:
        raise CorpusError(
            f"{file}: no line for class {lacking[0]} ({len(lacking)} in all), expected an AudioSet id for "
            "each class of the corpus"
        )
    return ClassMap(
        tuple((name, tuple(sorted({i for own, i in pairs if own == name}))) for name in classes)
    )


def _refuse(file: Path, row: int, column: str, value: str, known: Sequence[str]) -> None:
    near = ", ".join(difflib.get_close_matches(value, known, n=3, cutoff=0))
    what = "one of the corpus" if column == "class" else "one of AudioSet's 527, such as /m/0bt9lr"
    raise CorpusError(
        f"{file}, line {find_line(file, row)}: {column} {value}, expected {what}; the nearest are {near}"
    )
