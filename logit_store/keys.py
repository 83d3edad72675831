"""The names of members and their logits, and the fingerprints in them."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Literal

from audio.clips import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

Protocol = Literal["honest", "published"]
"""Which clips decide about a run. `honest`: it learns from the `fit` clips, and the `select` clips
judge it. `published`: it learns from all training clips and the test clips judge it, as in the
publications; such results are only for comparison with theirs, and are marked everywhere."""
FOLDS = ("fit", "select", "test", "pool")
"""In a pool are clips that only teach: most have no label, and nothing judges on them."""


HASHED_AT_A_TIME = 2**16
"""Values of a column that are hashed together."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class LogitKey:
    """The name of one member's logits for all clips of a corpus."""

    corpus: str
    split: int
    """Percentage of the training clips that the member learnt from."""
    member: str
    """`name-fingerprint`, see `name_member`."""
    view: int = 0
    """Number of a random change of the clips; 0: unchanged clips."""

    def __post_init__(self) -> None:
        check_name("corpus", self.corpus)
        check_split(self.split)
        check_name("member", self.member)
        _check_view(self.view)

    def __str__(self) -> str:
        return f"{self.corpus}/{self.split}/{self.member}/{self.view}"


@dataclass(frozen=True, slots=True)
class EmbeddingKey:
    """The name of what one backbone says of all clips of a corpus."""

    corpus: str
    backbone: str
    """`name-fingerprint`, see `name_member`: of the weights, the front-end and the pooling."""
    view: int = 0
    """Number of a random change of the clips; 0: unchanged clips."""

    def __post_init__(self) -> None:
        check_name("corpus", self.corpus)
        check_name("backbone", self.backbone)
        _check_view(self.view)

    def __str__(self) -> str:
        return f"{self.corpus}/{self.backbone}/{self.view}"


def check_name(what: str, name: str) -> None:
    """Make sure that a name can be part of a path.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}, expected letters, digits, '.', '_' and '-' only, at least one"
        )


def check_split(split: int) -> None:
    """Make sure that a split exists.

    Raises:
        ValueError: it does not.
    """
    if type(split) is not int or split not in SPLITS:
        raise ValueError(f"split {split!r}, expected one of {SPLITS}")


def _check_view(view: int) -> None:
    if type(view) is not int or view < 0:
        raise ValueError(f"view {view!r}, expected 0, 1, 2...")


def name_member(name: str, value: object) -> str:
    """Return `name-fingerprint`, where the fingerprint stands for the recipe, corpus... in `value`.

    Raises:
        ValueError: the name cannot be part of a path.
        TypeError: the value has no fingerprint.
    """
    check_name("member", name)
    return f"{name}-{fingerprint(value)}"


def strip_fingerprint(member: str) -> str:
    """Return the name of a member without its fingerprint."""
    return member.rsplit("-", 1)[0]


def fingerprint(value: object) -> str:
    """Return 12 hex digits that stand for a value: equal for equal values, on any machine.

    SHA-256 over JSON with sorted keys. The name of a dataclass is part of it, so that recipes of
    different kinds never have the same fingerprint. 1, 1.0 and True are different values; a list
    and a tuple of the same values are equal, as in JSON.

    Args:
        value: all that JSON can hold, and dataclasses: mappings with string keys, lists, tuples,
            str, int, float, bool, None.

    Raises:
        TypeError: it holds something else, for example a path, which differs between machines.
    """
    return hash_json(_simplify(value, "value"))[:12]


def hash_json(plain: object) -> str:
    """Return 16 hex digits that stand for a value that JSON can hold."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_columns(table: "pa.Table") -> str:
    """Return `hash_json` of the columns of a table, by their names, without all values in memory.

    As Python objects, the columns of a million clips take a GB.
    """
    digest, separators = hashlib.sha256(), (",", ":")
    for place, name in enumerate(sorted(table.column_names)):
        digest.update(f"{'{,'[place > 0]}{json.dumps(name)}:[".encode())
        for start in range(0, len(table), HASHED_AT_A_TIME):
            part = table[name].slice(start, HASHED_AT_A_TIME).to_pylist()
            text = json.dumps(part, separators=separators)[1:-1]
            digest.update(f"{',' if start else ''}{text}".encode())
        digest.update(b"]")
    digest.update(b"}")
    return digest.hexdigest()[:16]


def _simplify(value: object, where: str) -> object:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, list | tuple):
        return [_simplify(each, f"{where}[{i}]") for i, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _check_text(key, where): _simplify(each, f"{where}[{key!r}]")
            for key, each in value.items()
        }
    if is_dataclass(value) and not isinstance(value, type):
        inside = {
            f.name: _simplify(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)
        }
        return {"__dataclass__": type(value).__name__, **inside}
    raise TypeError(
        f"{where} is a {type(value).__name__}, which has no fingerprint: expected dataclasses, "
        "mappings, lists, tuples, str, int, float, bool or None"
    )


def _check_text(key: object, where: str) -> str:
    if type(key) is not str:
        raise TypeError(f"{where} has the key {key!r}, which has no fingerprint: expected a str")
    return key


def hash_row_order(clip_ids: Sequence[str]) -> str:
    """Return 16 hex digits that stand for these clips in this order."""
    return hash_json(list(clip_ids))


def sort_keys(keys: Iterable[LogitKey]) -> list[LogitKey]:
    """Return keys sorted by member."""
    return sorted(keys, key=lambda key: (key.member, key.corpus, key.split, key.view))


def find_corpus(keys: Sequence[LogitKey]) -> str:
    """Return the corpus of some keys.

    Raises:
        ValueError: there is no key, or they are of several corpora.
    """
    corpora = sorted({key.corpus for key in keys})
    if len(corpora) != 1:
        raise ValueError(f"keys of corpora {corpora}, expected keys of one corpus, at least one")
    return corpora[0]
