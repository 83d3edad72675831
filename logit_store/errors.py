"""The errors of a store.

LogitStoreError
├── UnsupportedAddress     (also a ValueError) the address is neither a folder nor a bucket
├── UnreachableStore       an S3 server does not respond, or refuses
├── UnusableCache          local copies of files on S3 cannot be stored
├── MissingStore           there is nothing at the address
├── MissingClips           a corpus was never written
├── MissingLogits          members that were asked for are absent
├── MissingEmbeddings      embeddings that were asked for are absent, or some rows of them
├── MissingEnsemble        there is no ensemble of that name
├── TiedEnsembles          several ensembles are the newest of a name
├── MissingMember          there is no member of that name
├── MissingObject          there is no object of that name
├── ClipsMismatch          the store holds other clips of that corpus, or in another order
├── UnknownClips           (also a ValueError) clips that the corpus does not have
├── WrongRowOrder          (also a ValueError) logits in another order than the stored clips
├── EnsembleChanged        a member has changed since its ensemble was selected
├── StoreFull              (also an OSError) the disk of the store is full
├── UnstorableLogits       (also a ValueError) a value that float16 cannot hold
├── UnstorableEmbeddings   (also a ValueError) a value that float16 cannot hold
├── QueryFailed            the SQL was refused
├── UnfitImport            (also a ValueError) a file whose logits cannot be imported
├── ImportRefused          (also a ValueError) an import with such files
├── UnfitExport            (also a ValueError) members that a form cannot hold
└── UnreadableFile         a file that must not be used
    ├── UnsupportedVersion     it has another format version
    ├── RowOrderMismatch       it was written for clips in another order
    ├── ClassOrderMismatch     it was written for other classes, or in another order
    ├── DamagedFile            it is not what was written
    └── StrayFile              no result has its path
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from disk import PortableError
from redact import redact_secrets

if TYPE_CHECKING:
    from logit_store.keys import EmbeddingKey, LogitKey


class LogitStoreError(PortableError):
    """Base of all errors of this package.

    Its message holds no secrets of addresses, and shows names of files that are not UTF-8 by escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact_secrets(message).encode(errors="backslashreplace").decode())


class UnsupportedAddress(LogitStoreError, ValueError):
    """The address is neither a folder nor a bucket."""

    def __init__(self, address: str) -> None:
        self.address = address
        kind = "no bucket in it" if address.startswith("s3://") else "not supported yet as a store"
        if "@" in address:
            kind += " (keys belong in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        super().__init__(f"{address}: {kind}: give a folder, or s3://BUCKET/PREFIX")


class UnreachableStore(LogitStoreError):
    """An S3 server does not respond, or refuses; `address` is that of the bucket or object."""

    def __init__(self, address: str, *, reason: str, way_out: str) -> None:
        self.address, self.reason = address, redact_secrets(reason)
        super().__init__(f"{address} cannot be reached ({reason}): {way_out}")


class UnusableCache(LogitStoreError):
    """Copies of files on S3 cannot be stored on this machine."""


class MissingStore(LogitStoreError):
    """There is nothing at the address."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"no store at {address}: check --store, or run a job that writes there")


class MissingClips(LogitStoreError):
    """The corpus was never written to this store."""

    def __init__(self, corpus: str, *, store: str, present: Sequence[str]) -> None:
        self.corpus, self.present = corpus, tuple(present)
        held = ", ".join(present) or "none"
        super().__init__(
            f"{store} holds no clips of corpus {corpus!r} (corpora there: {held}): "
            "write its clips first with write_clips, or name another corpus"
        )


class MissingLogits(LogitStoreError):
    """Members that were asked for are not in the store; `missing` holds their keys."""

    def __init__(self, missing: Sequence["LogitKey"], *, store: str) -> None:
        self.missing = tuple(missing)
        lines = [f"{store} holds no logits for {len(missing)} member(s):"]
        lines += [f"  {key}" for key in missing]
        lines += ["Run the jobs that make them, or leave them out."]
        super().__init__("\n".join(lines))


class MissingEmbeddings(LogitStoreError):
    """Embeddings that were asked for are not in the store, or not of all clips."""

    def __init__(self, key: "EmbeddingKey", *, store: str, rows: range | None = None) -> None:
        self.key, self.rows = key, rows
        of = "" if rows is None else f" of rows {rows.start} to {rows.stop - 1}"
        super().__init__(
            f"{store} holds no embeddings{of} for {key}: run the job that makes them, or leave "
            "the backbone out"
        )


class MissingEnsemble(LogitStoreError):
    """There is no ensemble of that name."""

    def __init__(
        self, name: str, *, corpus: str, split: int, store: str, present: Sequence[str]
    ) -> None:
        self.name, self.present = name, tuple(present)
        held = ", ".join(present) or "none"
        super().__init__(
            f"{store} holds no ensemble {name!r} of {corpus}, split {split} (there: {held}): "
            "select one first, or name another"
        )


class TiedEnsembles(LogitStoreError):
    """Several ensembles of a name were made at the same time, and none later."""

    def __init__(
        self, name: str, *, corpus: str, split: int, tied: Sequence[str], made: datetime
    ) -> None:
        self.name, self.tied, self.made = name, tuple(tied), made
        super().__init__(
            f"ensemble {name!r} of {corpus}, split {split}: {' and '.join(tied)} were made at the "
            f"same time ({made.isoformat()}), so none is the newest: give NAME@HASH of one of them"
        )


class MissingMember(LogitStoreError):
    """There is no member of that name, or several names begin with it."""

    def __init__(self, name: str, *, store: str, near: Sequence[str]) -> None:
        self.name, self.near = name, tuple(near)
        held = f"several begin with it: {', '.join(near)}" if near else "ls lists all members"
        super().__init__(f"{store} holds no member {name!r} ({held}): name one of them")


class MissingObject(LogitStoreError):
    """There is no object of that name."""

    def __init__(self, name: str, *, store: str) -> None:
        self.name = name
        super().__init__(f"{store} holds no {name}: run the job that makes it")


class ClipsMismatch(LogitStoreError):
    """The store holds other clips of that corpus, and logits or embeddings that belong to them.

    `reordered` is true if only the order differs.
    """

    def __init__(
        self, corpus: str, *, stored: str, given: str, store: str, reordered: int | None = None
    ) -> None:
        self.corpus, self.stored, self.given = corpus, stored, given
        self.reordered = reordered is not None
        found = (
            "other clips" if reordered is None else f"the same {reordered} clips in another order"
        )
        way_out = "Give another --store, or the corpus as it was"
        if reordered is not None:
            way_out += (
                "; nothing was changed: LogitStore.read(keys, clip_ids=...) reads in any order"
            )
        super().__init__(
            f"{store} holds results of corpus {corpus!r} with {found}: content hash {stored} "
            f"there, {given} now. {way_out}"
        )


class UnknownClips(LogitStoreError, ValueError):
    """The corpus does not have clips that were asked for."""

    def __init__(self, corpus: str, *, n: int, first: str) -> None:
        self.corpus, self.n, self.first = corpus, n, first
        super().__init__(
            f"corpus {corpus!r} lacks {n} of the clip_ids asked for, the first is {first!r}: a "
            "clip_id is a file name without folder and ending"
        )


class WrongRowOrder(LogitStoreError, ValueError):
    """Logits or embeddings have another order than the stored clips."""

    def __init__(
        self,
        key: "LogitKey | EmbeddingKey",
        *,
        given: str,
        expected: str,
        what: str = "logits",
    ) -> None:
        self.key, self.given, self.expected = key, given, expected
        super().__init__(
            f"{key}: {what} of clips with row-order hash {given}, expected {expected} as in the "
            "store's clips of the corpus: sort them as LogitStore.read_clips does, or give another "
            "--store"
        )


class EnsembleChanged(LogitStoreError):
    """A member's logits have changed since its ensemble was selected."""

    def __init__(self, key: "LogitKey", *, found: str, expected: str) -> None:
        self.key, self.found, self.expected = key, found, expected
        super().__init__(
            f"{key}: logits with hash {found}, expected {expected} as when the ensemble was "
            "selected: select it again, or restore the old logits"
        )


class UnstorableLogits(LogitStoreError, ValueError):
    """A logit that float16 cannot hold."""

    def __init__(self, key: "LogitKey", *, clip_id: str, scene: str, value: float) -> None:
        self.key, self.clip_id, self.scene, self.value = key, clip_id, scene, value
        super().__init__(
            f"{key}: the logit of clip {clip_id!r} for class {scene!r} is {value}, expected a "
            "finite number within +-65504 (float16): has the training diverged?"
        )


class UnstorableEmbeddings(LogitStoreError, ValueError):
    """A value of an embedding that float16 cannot hold."""

    def __init__(self, key: "EmbeddingKey", *, clip_id: str, place: int, value: float) -> None:
        self.key, self.clip_id, self.place, self.value = key, clip_id, place, value
        super().__init__(
            f"{key}: value {place} of the embedding of clip {clip_id!r} is {value}, expected a "
            "finite number within +-65504 (float16): is the clip's audio damaged, or the backbone "
            "of another front-end?"
        )


class StoreFull(LogitStoreError, OSError):
    """The disk of the store is full."""

    def __init__(self, path: str, size: int) -> None:
        self.path, self.size = path, size
        super().__init__(
            f"{path}: no space left for its {size:,} bytes; what was stored before is untouched. "
            "Free some space, or name another place, and start the same command again"
        )


class QueryFailed(LogitStoreError):
    """The query is not one SELECT statement that only reads, or DuckDB refused it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        # The rest is an excerpt of the query, which the caller knows.
        words = " ".join(reason.split("\n\nLINE ")[0].split())
        views = "clips, logits, members, runs, ensembles, predictions, embeddings"
        super().__init__(f"{words} (views: {views})")


class UnfitImport(LogitStoreError, ValueError):
    """A file whose logits cannot be imported; `path` says which."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class ImportRefused(LogitStoreError, ValueError):
    """Nothing was imported because some files do not fit; `problems` holds an error for each."""

    def __init__(self, problems: Sequence[UnfitImport]) -> None:
        self.problems = tuple(problems)
        lines = [f"nothing imported, because {len(problems)} file(s) do not fit:"]
        lines += [f"  {problem}" for problem in problems]
        super().__init__("\n".join(lines))


class UnfitExport(LogitStoreError, ValueError):
    """Members that cannot be exported in the requested form."""


class UnreadableFile(LogitStoreError):
    """A file that must not be used; `path` says which, `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class UnsupportedVersion(UnreadableFile):
    """The file has another format version."""

    def __init__(self, path: str, *, found: str | None, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(
            path,
            f"format version {found}, expected {expected}: read it with the program that wrote "
            "it, or give another --store",
        )


class RowOrderMismatch(UnreadableFile):
    """The file was written for other clips, or for the same clips in another order."""

    def __init__(self, path: str, *, found: str, expected: str, what: str = "logits") -> None:
        self.found, self.expected = found, expected
        super().__init__(
            path,
            f"row-order hash {found}, expected {expected} as in the corpus's clips: "
            f"delete the file and make the {what} again",
        )


class ClassOrderMismatch(UnreadableFile):
    """The logits were written for other classes, or for the same classes in another order."""

    def __init__(self, path: str, *, found: Sequence[str], expected: Sequence[str]) -> None:
        self.found, self.expected = tuple(found), tuple(expected)
        super().__init__(
            path,
            f"classes {list(found)}, expected {list(expected)} as in the corpus's clips: "
            "delete the file and make the logits again",
        )


class DamagedFile(UnreadableFile):
    """The file is not what was written."""

    def __init__(
        self, path: str, reason: str, *, way_out: str = "delete it and run its job again"
    ) -> None:
        words = " ".join(reason.split())
        super().__init__(path, f"cannot be read ({words}): {way_out}")


class StrayFile(UnreadableFile):
    """No result has the path of this file."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            path, f"nothing of the store has this path ({reason}): move it out of the store"
        )
