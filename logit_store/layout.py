"""What is named how in a store, where it lies and what its files say (N clips, K classes)."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import PurePosixPath
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from logit_store.errors import DamagedFile, StrayFile, UnsupportedVersion

FORMAT_VERSION = "1"
SPLITS = (5, 10, 25, 50, 100)
FOLDS = ("fit", "select", "test")
FIGURE_FOLDS = ("fit", "select")
"""Folds whose figures a file tells to everybody; `test` is for the report alone."""
MAX_LOGIT = 65504.0
"""Largest finite float16."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_KEY_COLUMNS = ("corpus", "split", "member", "view", "row")
_TEXT_COLUMNS = ("clip_id", "scene", "recording", "city", "recording_device")


@dataclass(frozen=True, slots=True)
class LogitKey:
    """Names one member's logits of all clips of a corpus."""

    corpus: str
    split: int
    """Percent of the training clips that the member learnt from."""
    member: str
    """`name-fingerprint`, see `member_name`."""
    view: int = 0
    """Which random change of the clips; 0 is the untouched clip."""

    def __post_init__(self) -> None:
        check_name("corpus", self.corpus)
        check_split(self.split)
        check_name("member", self.member)
        if type(self.view) is not int or self.view < 0:
            raise ValueError(f"view {self.view!r}, expected 0, 1, 2...")

    def __str__(self) -> str:
        return f"{self.corpus}/{self.split}/{self.member}/{self.view}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What a member is worth on some of the clips."""

    fold: str
    """Which clips; never `test`."""
    recording_device: str | None
    """Only clips of this device; None is all of the fold."""
    n: int
    """Clips."""
    log_loss: float
    """Mean over the clips, in nats."""
    accuracy: float
    """0...1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """What a logits file says of itself."""

    row_order_hash: str
    classes: tuple[str, ...]
    """Class order: the scenes, sorted."""
    largest_logit: float
    """Largest absolute value in the file."""
    logits_hash: str
    """16 hex digits that stand for the logits: equal values, equal digits, whoever wrote them."""
    figures: tuple[Figures, ...]
    record: dict[str, Any]
    """How the logits came about: recipe, seed, hash of the weights, versions, duration..."""

    def figure(self, fold: str, recording_device: str | None = None) -> Figures | None:
        """Figures of one fold, of one recording device or (None) of all; None if it has no clip."""
        wanted = (fold, recording_device)
        return next((f for f in self.figures if (f.fold, f.recording_device) == wanted), None)

    def to_metadata(self) -> dict[str, str]:
        """The footer as key-value pairs of a Parquet file."""
        return {
            "tutti.format_version": FORMAT_VERSION,
            "tutti.row_order_hash": self.row_order_hash,
            "tutti.class_order": json.dumps(self.classes),
            "tutti.largest_logit": repr(self.largest_logit),
            "tutti.logits_hash": self.logits_hash,
            "tutti.figures": json.dumps([asdict(figures) for figures in self.figures]),
            "tutti.record": json.dumps(self.record, sort_keys=True, allow_nan=False),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, path: str) -> Self:
        """The footer that the key-value pairs of the file at `path` hold.

        Raises:
            UnsupportedVersion: another format version wrote the file.
            DamagedFile: the pairs are not those that `to_metadata` makes.
        """
        pairs = checked_metadata(metadata, path)
        try:
            return cls(
                row_order_hash=pairs["tutti.row_order_hash"],
                classes=tuple(json.loads(pairs["tutti.class_order"])),
                largest_logit=float(pairs["tutti.largest_logit"]),
                logits_hash=pairs["tutti.logits_hash"],
                figures=tuple(Figures(**each) for each in json.loads(pairs["tutti.figures"])),
                record=json.loads(pairs["tutti.record"]),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise DamagedFile(path, f"footer: {error!r}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsHeader:
    """What a clips file says of itself."""

    n: int
    row_order_hash: str
    content_hash: str
    classes: tuple[str, ...]

    @classmethod
    def of(cls, clips: pa.Table) -> Self:
        """The header that belongs to a table made by `checked_clips`."""
        return cls(
            n=clips.num_rows,
            row_order_hash=row_order_hash(clips["clip_id"].to_pylist()),
            content_hash=_digest(clips.to_pydict()),
            classes=tuple(sorted(pc.unique(clips["scene"]).to_pylist())),
        )

    def to_metadata(self) -> dict[str, str]:
        """The header as key-value pairs of a Parquet file."""
        return {
            "tutti.format_version": FORMAT_VERSION,
            "tutti.row_order_hash": self.row_order_hash,
            "tutti.content_hash": self.content_hash,
            "tutti.class_order": json.dumps(self.classes),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, n: int, path: str) -> Self:
        """The header that the key-value pairs of the file of n rows at `path` hold.

        Raises:
            UnsupportedVersion: another format version wrote the file.
            DamagedFile: the pairs are not those that `to_metadata` makes.
        """
        pairs = checked_metadata(metadata, path)
        try:
            return cls(
                n=n,
                row_order_hash=pairs["tutti.row_order_hash"],
                content_hash=pairs["tutti.content_hash"],
                classes=tuple(json.loads(pairs["tutti.class_order"])),
            )
        except (KeyError, ValueError) as error:
            raise DamagedFile(path, f"footer: {error!r}") from error


def checked_metadata(metadata: Mapping[bytes, bytes] | None, path: str) -> dict[str, str]:
    """A file's key-value pairs as text, after a look at the format version.

    Raises:
        UnsupportedVersion: another format version wrote the file.
    """
    pairs = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
    found = pairs.get("tutti.format_version")
    if found != FORMAT_VERSION:
        raise UnsupportedVersion(path, found=found, expected=FORMAT_VERSION)
    return pairs


def fold_column(split: int) -> str:
    """The clips column that says which fold of a split a clip is in."""
    return f"fold_{split}"


CLIPS_SCHEMA = pa.schema(
    [pa.field("row", pa.int32(), nullable=False)]
    + [pa.field(name, pa.string(), nullable=False) for name in _TEXT_COLUMNS]
    + [pa.field(fold_column(split), pa.string()) for split in SPLITS]
)
"""One row a clip, in the corpus's own order; a null fold: the split does not have the clip."""


def logits_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns of a logits file."""
    row = pa.field("row", pa.int32(), nullable=False)
    return pa.schema([row, *(pa.field(name, pa.float16(), nullable=False) for name in classes)])


def check_name(what: str, name: str) -> None:
    """Make sure that a name can stand in a path.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}, expected letters, digits, '.', '_' and '-' only, at least one"
        )


def check_split(split: int) -> None:
    """Make sure that there is such a split.

    Raises:
        ValueError: there is none.
    """
    if type(split) is not int or split not in SPLITS:
        raise ValueError(f"split {split!r}, expected one of {SPLITS}")


CLIPS_PATTERN = "clips/v1/corpus=*/clips.parquet"
"""A glob pattern for the clips of all corpora, from the store's root."""


def clips_path(corpus: str) -> str:
    """Where a corpus's clips lie, from the store's root."""
    check_name("corpus", corpus)
    return f"clips/v1/corpus={corpus}/clips.parquet"


def logits_path(key: LogitKey) -> str:
    """Where logits lie, from the store's root."""
    return logits_pattern(key.corpus, key.split, key.member, key.view)


def logits_pattern(
    corpus: str | None = None,
    split: int | None = None,
    member: str | None = None,
    view: int | None = None,
) -> str:
    """A glob pattern for logits, from the store's root; None is any."""
    parts = {"corpus": corpus, "split": split, "member": member, "view": view}
    folders = [f"{name}={'*' if value is None else value}" for name, value in parts.items()]
    return "/".join(["logits/v1", *folders, "logits.parquet"])


def corpus_of(path: str) -> str:
    """The corpus of a file that lies at `path`, from the store's root, below `corpus=C`."""
    return PurePosixPath(path).parts[2].partition("=")[2]


def key_of(path: str, address: str) -> LogitKey:
    """The key of logits that lie at `path`, from the store's root; `address` is for complaints.

    Raises:
        StrayFile: no key leads there.
    """
    values = [part.partition("=")[2] for part in PurePosixPath(path).parts[2:-1]]
    try:
        corpus, split, member, view = values
        key = LogitKey(corpus, int(split), member, int(view))
    except ValueError as error:
        raise StrayFile(address, str(error)) from error
    if logits_path(key) != path:
        raise StrayFile(address, f"the logits of {key} lie at {logits_path(key)}")
    return key


CATALOGUE_PATTERN = "catalogue/v1/corpus=*/catalogue.parquet"
"""A glob pattern for the catalogues of all corpora, from the store's root."""


def catalogue_path(corpus: str) -> str:
    """Where the catalogue of a corpus's logits lies, from the store's root."""
    check_name("corpus", corpus)
    return f"catalogue/v1/corpus={corpus}/catalogue.parquet"


ENSEMBLES_PATTERN = "ensembles/v1/corpus=*/split=*/*.json"
"""A glob pattern for all ensembles, from the store's root."""


def ensembles_pattern(corpus: str, split: int, name: str = "*") -> str:
    """A glob pattern for a split's ensembles, from the store's root; `name` may be a pattern."""
    check_name("corpus", corpus)
    check_split(split)
    return f"ensembles/v1/corpus={corpus}/split={split}/{name}.json"


def ensemble_path(corpus: str, split: int, reference: str) -> str:
    """Where an ensemble lies, from the store's root; `reference` is `name` or `name@hash`."""
    for part in reference.split("@", 1):
        check_name(f"ensemble {reference!r}: part", part)
    _check_visible("ensemble", reference)
    return ensembles_pattern(corpus, split, reference)


_OBJECTS = ("teachers", "students", "weights", "search", "jobs", "units")


def checked_object_name(name: str) -> str:
    """An object's name, which is also where it lies from the store's root.

    Raises:
        ValueError: it is not `teachers/v1/MEMBER/...`, `students/v1/MEMBER/...`,
            `weights/v1/FILE/...`, `search/v1/NAME/...`, `jobs/v1/JOB/...` or `units/v1/JOB/...`.
    """
    parts = name.split("/")
    if len(parts) < 4 or parts[0] not in _OBJECTS or parts[1] != "v1":
        raise ValueError(
            f"object {name!r}, expected teachers/v1/MEMBER/FILE, students/v1/MEMBER/FILE, "
            "weights/v1/FILE/RECORD, search/v1/NAME/FILE, jobs/v1/JOB/FILE or units/v1/JOB/.../FILE"
        )
    for part in parts:
        check_name(f"object {name!r}: part", part)
        _check_visible(f"object {name!r}: part", part)
    return name


def _check_visible(what: str, name: str) -> None:
    # A leading dot marks what is still being written, and keeps ".." out of paths.
    if name.startswith("."):
        raise ValueError(f"{what} {name!r} must not begin with a dot")


def member_name(name: str, value: object) -> str:
    """`name-fingerprint`: a member called `name`, made by the recipe, corpus... in `value`.

    Raises:
        ValueError: the name cannot stand in a path.
        TypeError: the value has no fingerprint.
    """
    check_name("member", name)
    return f"{name}-{fingerprint(value)}"


def plain_name(member: str) -> str:
    """What a member is called without its fingerprint."""
    return member.rsplit("-", 1)[0]


def fingerprint(value: object) -> str:
    """12 hex digits that stand for a value: equal values, equal digits, on any machine.

    SHA-256 over JSON with sorted keys. A dataclass counts with its name, so that two recipes of
    different kinds never meet. 1, 1.0 and True are different values.

    Args:
        value: dataclasses, mappings with string keys, tuples, str, int, float, bool, None.

    Raises:
        TypeError: something else is in it: a list or an array can change, a path is not the same
            on another machine.
    """
    return _digest(_plain(value, "value"))[:12]


def _digest(plain: object) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object, where: str) -> object:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, tuple):
        return [_plain(each, f"{where}[{i}]") for i, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {_text(key, where): _plain(each, f"{where}[{key!r}]") for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        inside = {
            f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)
        }
        return {"__dataclass__": type(value).__name__, **inside}
    raise TypeError(
        f"{where} is a {type(value).__name__}, which has no fingerprint: expected dataclasses, "
        "mappings, tuples, str, int, float, bool or None"
    )


def _text(key: object, where: str) -> str:
    if type(key) is not str:
        raise TypeError(f"{where} has the key {key!r}, which has no fingerprint: expected a str")
    return key


def row_order_hash(clip_ids: Sequence[str]) -> str:
    """16 hex digits that stand for these clips in this order."""
    return _digest(list(clip_ids))


def checked_clips(corpus: str, table: pa.Table) -> pa.Table:
    """A corpus's clips as CLIPS_SCHEMA wants them.

    Raises:
        ValueError: columns, types or values are not those of clips; says which.
    """
    if sorted(table.column_names) != sorted(CLIPS_SCHEMA.names):
        raise ValueError(
            f"clips of {corpus}: columns {table.column_names}, expected {CLIPS_SCHEMA.names}"
        )
    table = table.select(CLIPS_SCHEMA.names).combine_chunks()
    nulls = [f.name for f in CLIPS_SCHEMA if not f.nullable and table[f.name].null_count]
    if nulls:
        raise ValueError(f"clips of {corpus}: columns {nulls} hold nulls, expected none")
    try:
        clips = table.cast(CLIPS_SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"clips of {corpus}: {error}") from error
    _check_rows(corpus, clips)
    _check_folds(corpus, clips)
    _check_scenes(corpus, pc.unique(clips["scene"]).to_pylist())
    return clips


def _check_rows(corpus: str, clips: pa.Table) -> None:
    if clips.num_rows == 0:
        raise ValueError(f"clips of {corpus}: no clip, expected at least one")
    wrong = np.flatnonzero(clips["row"].to_numpy() != np.arange(clips.num_rows))
    if len(wrong):
        found = clips["row"][int(wrong[0])]
        raise ValueError(f"clips of {corpus}: row {found} in place {wrong[0]}, expected 0, 1, 2...")
    counts = pc.value_counts(clips["clip_id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        raise ValueError(f"clips of {corpus}: clip_id {twice[0].as_py()!r} occurs more than once")


def _check_folds(corpus: str, clips: pa.Table) -> None:
    for name in map(fold_column, SPLITS):
        unknown = set(pc.unique(clips[name]).to_pylist()) - {*FOLDS, None}
        if unknown:
            raise ValueError(
                f"clips of {corpus}: {name} holds {sorted(unknown)}, expected {FOLDS} or null"
            )


def _check_scenes(corpus: str, scenes: Sequence[str]) -> None:
    # A scene is a column of the logits, and SQL does not tell "Bus" from "bus".
    taken = {name: "a column of the logits" for name in _KEY_COLUMNS}
    for scene in sorted(scenes):
        if not scene:
            raise ValueError(f"clips of {corpus}: an empty scene, expected a name")
        if scene.lower() in taken:
            raise ValueError(
                f"clips of {corpus}: scene {scene!r} has the name of {taken[scene.lower()]}: "
                "rename it"
            )
        taken[scene.lower()] = f"scene {scene!r}"
