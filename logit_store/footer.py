"""Footers: what the files of logits and clips say about themselves (N clips, K classes)."""

import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from logit_store.clips_table import find_scenes
from logit_store.errors import DamagedFile, UnsupportedVersion
from logit_store.json_objects import READING_ERRORS, check_text, check_type
from logit_store.keys import hash_columns, hash_row_order

FORMAT_VERSION = "1"


SCORED_FOLDS = ("fit", "select")
"""Folds whose scores are in the footer; `test` is only for the report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldScores:
    """The scores of a member on some of the clips."""

    fold: str
    """Never `test`."""
    recording_device: str | None
    """Only clips of this device; None: all clips of the fold."""
    n: int
    """Number of clips."""
    log_loss: float
    """Mean over the clips, in nats; of several labels, over clips and classes."""
    accuracy: float
    """0...1. Of corpora with several labels a clip it is the mAP, `metrics.mean_average_precision`."""

    def to_plain(self) -> dict[str, str | int | float | None]:
        """Return what JSON can hold, as `dataclasses.asdict`, which took half the time of a catalogue."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """What a file of logits says about itself."""

    row_order_hash: str
    classes: tuple[str, ...]
    """Class order: the scenes, sorted."""
    largest_logit: float
    """Largest absolute value in the file."""
    logits_hash: str
    """16 hex digits that stand for the logits: equal for equal values."""
    scores: tuple[FoldScores, ...]
    record: dict[str, Any]
    """How the logits were made: recipe, seed, hash of the weights, versions, duration..."""

    def find_scores(self, fold: str, recording_device: str | None = None) -> FoldScores | None:
        """Return the scores of a fold, over one recording device or all (None); None: no clips."""
        wanted = (fold, recording_device)
        return next((f for f in self.scores if (f.fold, f.recording_device) == wanted), None)

    def to_metadata(self) -> dict[str, str]:
        """Return the footer as key-value pairs of a Parquet file."""
        return {
            "tutti.format_version": FORMAT_VERSION,
            "tutti.row_order_hash": self.row_order_hash,
            "tutti.class_order": json.dumps(self.classes),
            "tutti.largest_logit": repr(self.largest_logit),
            "tutti.logits_hash": self.logits_hash,
            "tutti.figures": json.dumps([each.to_plain() for each in self.scores]),
            "tutti.record": json.dumps(self.record, sort_keys=True, allow_nan=False),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, path: str) -> Self:
        """Decode the key-value pairs of the file at `path`.

        Raises:
            UnsupportedVersion: the file has another format version.
            DamagedFile: `to_metadata` did not make these pairs.
        """
        pairs = decode_metadata(metadata, path)
        with name_damage(path):
            return cls(
                row_order_hash=pairs["tutti.row_order_hash"],
                classes=_decode_classes(pairs),
                largest_logit=_check_finite(float(pairs["tutti.largest_logit"])),
                logits_hash=pairs["tutti.logits_hash"],
                scores=tuple(map(_decode_scores, json.loads(pairs["tutti.figures"]))),
                record=check_type(json.loads(pairs["tutti.record"]), dict),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipsHeader:
    """What a file of clips says about itself."""

    n: int
    row_order_hash: str
    content_hash: str
    classes: tuple[str, ...]
    """The scenes, sorted; none if no clip has a label: then logits may have any classes."""

    @classmethod
    def of(cls, clips: pa.Table) -> Self:
        """Make the header of a table that `check_clips` returned."""
        return cls(
            n=clips.num_rows,
            row_order_hash=hash_row_order(clips["clip_id"].to_pylist()),
            content_hash=hash_columns(clips),
            classes=tuple(find_scenes(clips)),
        )

    def to_metadata(self) -> dict[str, str]:
        """Return the header as key-value pairs of a Parquet file."""
        return {
            "tutti.format_version": FORMAT_VERSION,
            "tutti.row_order_hash": self.row_order_hash,
            "tutti.content_hash": self.content_hash,
            "tutti.class_order": json.dumps(self.classes),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, n: int, path: str) -> Self:
        """Decode the key-value pairs of the file at `path`, which has n rows.

        Raises:
            UnsupportedVersion: the file has another format version.
            DamagedFile: `to_metadata` did not make these pairs.
        """
        pairs = decode_metadata(metadata, path)
        with name_damage(path):
            return cls(
                n=n,
                row_order_hash=pairs["tutti.row_order_hash"],
                content_hash=pairs["tutti.content_hash"],
                classes=_decode_classes(pairs),
            )


def decode_metadata(metadata: Mapping[bytes, bytes] | None, path: str) -> dict[str, str]:
    """Return the key-value pairs of a file as text, after checking the format version.

    Raises:
        UnsupportedVersion: the file has another format version.
        DamagedFile: a pair is no text.
    """
    with name_damage(path):
        pairs = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
    found = pairs.get("tutti.format_version")
    if found != FORMAT_VERSION:
        raise UnsupportedVersion(path, found=found, expected=FORMAT_VERSION)
    return pairs


@contextmanager
def name_damage(path: str) -> Generator[None]:
    """Turn what reading a footer raises into a DamagedFile that names the file."""
    try:
        yield
    except READING_ERRORS as error:
        raise DamagedFile(path, f"footer: {error!r}") from error


def _decode_classes(pairs: Mapping[str, str]) -> tuple[str, ...]:
    classes = check_type(json.loads(pairs["tutti.class_order"]), list)
    return tuple(check_text(each) for each in classes)


def _decode_scores(plain: dict[str, Any]) -> FoldScores:
    scores = FoldScores(**plain)
    check_text(scores.fold)
    if scores.recording_device is not None:
        check_text(scores.recording_device)
    check_type(scores.n, int)
    for number in (scores.n, scores.log_loss, scores.accuracy):
        _check_finite(number)
    return scores


def _check_finite(number: float) -> float:
    if isinstance(number, bool) or not math.isfinite(number):
        raise ValueError(f"{number!r}, expected a finite number")
    return number
