"""Logits that others published, checked and stored (N clips, K classes).

foreign.py reads the files, alignment.py finds each row's clip; here they become members.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audio import corpora
from audio.corpora import CorpusName
from logit_store import foreign
from logit_store.alignment import LabelledClips, aligned
from logit_store.errors import ImportRefused, MissingStore, UnfitImport
from logit_store.foreign import ENDINGS
from logit_store.layout import SPLITS, LogitKey, check_split, member_name
from logit_store.store import LogitStore

Protocol = Literal["honest", "published"]

FAMILIES = {"mn": "mobilenet", "dymn": "dymn", "passt": "passt", "cpr": "cp_resnet"}
"""How the published teachers' names begin, and the families that they are of."""

_FAMILY = re.compile(rf"({'|'.join(FAMILIES)})(?=[\d_])")
_NAMED = re.compile(rf"(?P<teacher>.+)_(?P<split>{'|'.join(map(str, SPLITS))})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A member that a file became."""

    key: LogitKey
    file: Path
    new: bool
    """False: the store had it already."""
    accuracy: float
    """On the clips of fold `fit`, 0...1."""
    remarks: tuple[str, ...]
    """What was left out or changed on the way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A file and the member that it is to become."""

    path: Path
    teacher: str
    key: LogitKey
    protocol: Protocol
    sha256: str


def know_clips(store: LogitStore, corpus: CorpusName, root: Path | None) -> None:
    """Make sure that the store knows a corpus's clips; its audio files may be absent.

    Args:
        store: gets the clips that the corpus's lists name, unless it has clips of that corpus.
        corpus: whose clips.
        root: where its lists are; None: the store knows them already, or the corpus brings its own.

    Raises:
        CorpusError: the lists cannot be read.
        ClipsMismatch: the store holds logits of other clips.
    """
    try:
        stored = corpus in store.corpora()
    except MissingStore:
        stored = False
    if stored and root is None:
        return
    listed = corpora.read(corpus, root)
    if stored:
        # A store may leave out clips whose audio is broken.
        listed = listed.keep(store.clips(corpus)["clip_id"].to_pylist())
    store.write_clips(corpus, listed.clips_table())


def import_logits(
    store: LogitStore,
    corpus: str,
    paths: Sequence[Path],
    *,
    split: int | None = None,
    member: str | None = None,
    protocol: Protocol | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Imported]:
    """Store the logits of files as members, one a file; all of them or none.

    A member is called `<teacher>-<fingerprint>`, the fingerprint standing for the file's bytes, so
    that a file that was imported before is found and left as it is.

    The rows must be those of the clips: see `alignment.aligned`.

    Args:
        store: knows the corpus's clips.
        corpus: whose clips the logits are of.
        paths: files, or folders of which all files with a known ending are taken.
        split: which the teachers learnt; None: the file names end in it, `<teacher>_<split>.pt`.
        member: what to call the teacher of a single file; None: as the file names say.
        protocol: how the teachers were taught; None: "published" for `.pt`, as the publishers of
            such files stopped their training by the test clips, and "honest" for tables.
        on_progress: called with the steps done and all steps; a file is two, check and write.

    Raises:
        ImportRefused: files that do not fit, each with the reason; nothing was stored.
        UnfitImport: a file was changed after its check; those before it are stored.
        MissingClips: the store does not know the corpus.
        ValueError: no such split.
    """
    if split is not None:
        check_split(split)
    files = _files(paths)
    if member is not None and len(files) > 1:
        raise ImportRefused(
            [UnfitImport(files[1], f"a second file for the one member {member!r}: name one file")]
        )
    clips = LabelledClips.of(corpus, store.clips(corpus))
    sources, problems = [], []
    for done, path in enumerate(files, start=1):
        try:
            data = _bytes(path)
            source = _source(path, data, clips, split, member, protocol)
            if source.key not in store:
                _checked_logits(source, data, clips)
            sources.append(source)
        except UnfitImport as problem:
            problems.append(problem)
        if on_progress is not None:
            on_progress(done, 2 * len(files))
    if problems:
        raise ImportRefused(problems)
    imported = []
    for done, source in enumerate(sources, start=len(files) + 1):
        imported.append(_stored(store, source, clips))
        if on_progress is not None:
            on_progress(done, 2 * len(files))
    return imported


def _files(paths: Sequence[Path]) -> list[Path]:
    found = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        taken = [file for file in inside if file.suffix.lower() in ENDINGS and file.is_file()]
        if not taken:
            what = f"nothing that ends in {', '.join(ENDINGS)}" if path.exists() else "no such file"
            raise ImportRefused([UnfitImport(path, what)])
        found += taken
    return found


def _source(
    path: Path,
    data: bytes,
    clips: LabelledClips,
    split: int | None,
    member: str | None,
    protocol: Protocol | None,
) -> _Source:
    teacher, split = _named(path, split, member)
    protocol = protocol or ("published" if path.suffix.lower() == ".pt" else "honest")
    sha256 = hashlib.sha256(data).hexdigest()
    identity = {
        "sha256": sha256,
        "corpus": clips.corpus,
        "row_order": clips.row_order,
        "split": split,
        "protocol": protocol,
    }
    try:
        key = LogitKey(clips.corpus, split, member_name(teacher, identity))
    except ValueError as error:
        raise UnfitImport(path, f"{error}: give another with --member") from error
    return _Source(path=path, teacher=teacher, key=key, protocol=protocol, sha256=sha256)


def _named(path: Path, split: int | None, member: str | None) -> tuple[str, int]:
    """Teacher and split, by the file's name or as told."""
    match = _NAMED.fullmatch(path.stem)
    if match is None:
        if split is None:
            wanted = f"<teacher>_<split>{path.suffix} with one of {', '.join(map(str, SPLITS))}"
            raise UnfitImport(path, f"does not tell its split: name it {wanted}, or give --split")
        return member or path.stem, split
    if split not in (None, int(match["split"])):
        raise UnfitImport(path, f"its name says split {match['split']}, but --split {split}")
    return member or match["teacher"], int(match["split"])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnfitImport(path, error.strerror or str(error)) from error


def _stored(store: LogitStore, source: _Source, clips: LabelledClips) -> Imported:
    """What a checked file became."""
    new = source.key not in store
    if new:
        # Read a second time: together the files may need more memory than there is.
        data = _bytes(source.path)
        if hashlib.sha256(data).hexdigest() != source.sha256:
            raise UnfitImport(source.path, "was changed while it was imported: start again")
        logits_NK, remarks = _checked_logits(source, data, clips)
        record = _record(source, remarks)
        store.write(source.key, logits_NK, record, row_order=clips.row_order)
    footer = store.footer(source.key)
    # The first figures of a fold are those of all its recording devices.
    figures = next(each for each in footer.figures if each.fold == "fit")
    return Imported(
        key=source.key,
        file=source.path,
        new=new,
        accuracy=figures.accuracy,
        remarks=tuple(footer.record["remarks"]),
    )


def _record(source: _Source, remarks: tuple[str, ...]) -> dict[str, Any]:
    named = _FAMILY.match(source.teacher)
    return {
        "kind": "teacher",
        "recipe": {"name": source.teacher},
        "family": FAMILIES[named.group()] if named else None,
        "protocol": source.protocol,
        "imported": True,
        "file": source.path.name,
        "sha256": source.sha256,
        "remarks": list(remarks),
    }


def _checked_logits(
    source: _Source, data: bytes, clips: LabelledClips
) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """Logits [N, K] of a file in the corpus's order, found to be right, and remarks."""
    found = foreign.read(source.path, data, clips.scenes)
    return aligned(source.path, found, clips, source.key.split)
