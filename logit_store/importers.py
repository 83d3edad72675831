"""Importing published logits as members (N clips, K classes).

foreign.py reads the files, and alignment.py finds the clip of each row.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio import corpora
from audio.clips import SPLITS
from audio.corpora import CorpusName
from audio.errors import UnfitName, UnfitSound
from audio.sound_folders import check_name, check_regular, has_suffix, list_folder, show_name
from logit_store import foreign
from logit_store.alignment import LabelledClips, align
from logit_store.clips_table import has_several_labels
from logit_store.declared import Wanted
from logit_store.errors import ImportRefused, MissingStore, UnfitImport
from logit_store.foreign import ENDINGS
from logit_store.keys import LogitKey, Protocol, check_split, name_member
from logit_store.store import LogitStore

FAMILIES = {"mn": "mobilenet", "dymn": "dymn", "passt": "passt", "cpr": "cp_resnet"}
"""How the names of published teachers begin, and their families."""

_FAMILY = re.compile(rf"({'|'.join(FAMILIES)})(?=[\d_])")
_FILE_NAME = re.compile(rf"(?P<teacher>.+)_(?P<split>{'|'.join(map(str, SPLITS))})")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedMember:
    """A member and the file that it was imported from."""

    key: LogitKey
    file: Path
    new: bool
    """False: the store already had it."""
    accuracy: float
    """On the clips of fold `fit`, 0...1."""
    remarks: tuple[str, ...]
    """What was omitted or changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A file and the member that it will become."""

    path: Path
    teacher: str
    key: LogitKey
    protocol: Protocol
    sha256: str


def ensure_clips(store: LogitStore, corpus: CorpusName, root: Path | None) -> None:
    """Make sure that the store knows a corpus's clips; the audio files may be missing.

    Args:
        store: receives the clips in the corpus's lists, unless it knows clips of that corpus.
        corpus: its name.
        root: folder with the lists; None: the store knows the clips, or the corpus is built in.

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
        # A store may lack clips whose audio is broken.
        listed = listed.keep(store.read_clips(corpus)["clip_id"].to_pylist())
    store.write_clips(corpus, listed.clips_table())


def import_logits(
    store: LogitStore,
    corpus: str,
    paths: Sequence[Path],
    *,
    split: int | None = None,
    member: str | None = None,
    protocol: Protocol | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ImportedMember]:
    """Store the logits of each file as a member; all of them or none.

    A member is called `<teacher>-<fingerprint>`, where the fingerprint stands for the file's bytes:
    a file that was imported before is not stored again. The rows must be those of the clips: see
    `alignment.align`.

    Args:
        store: knows the corpus's clips.
        corpus: whose clips the logits belong to.
        paths: files, or folders: then all files in them with a known ending but hidden ones.
        split: from which the teachers learnt; None: the file names end with it,
            `<teacher>_<split>.pt`.
        member: name of the teacher of a single file; None: from the file names.
        protocol: of the teachers; None: "published" for `.pt`, because the publishers of such files
            stopped training by the test clips, and "honest" for tables.
        on_progress: called with the steps done and all steps: two per file, check and write.

    Raises:
        ImportRefused: some files do not fit, each with the reason; nothing was stored.
        UnfitImport: a file changed after its check; those before it are stored.
        MissingClips: the store does not know the corpus.
        ValueError: there is no such split.
    """
    if split is not None:
        check_split(split)
    files = _find_files(paths)
    if member is not None and len(files) > 1:
        raise ImportRefused(
            [UnfitImport(files[1], f"a second file for the one member {member!r}: name one file")]
        )
    table = store.read_clips(corpus)
    if has_several_labels(table):
        reason = (
            f"clips of corpus {corpus} have several labels or none, and imported rows are checked by "
            "the one label of a clip: write such logits with LogitStore.write"
        )
        raise ImportRefused([UnfitImport(file, reason) for file in files])
    clips = LabelledClips.of(corpus, table)
    check = functools.partial(_check_file, store, clips, split, member, protocol)
    sources = _check_all(files, check, on_progress)
    imported = []
    for done, source in enumerate(sources, start=len(files) + 1):
        imported.append(_store_member(store, source, clips))
        on_progress(done, 2 * len(files))
    return imported


def _check_file(
    store: LogitStore,
    clips: LabelledClips,
    split: int | None,
    member: str | None,
    protocol: Protocol | None,
    path: Path,
) -> _Source:
    data = _read_bytes(path, clips)
    source = _identify_source(path, data, clips, split, member, protocol)
    if source.key not in store:
        _read_checked_logits(source, data, clips)
    return source


def _check_all(
    files: Sequence[Path],
    check: Callable[[Path], _Source],
    on_progress: Callable[[int, int], None],
) -> list[_Source]:
    sources, problems = [], []
    for done, path in enumerate(files, start=1):
        try:
            sources.append(check(path))
        except UnfitImport as problem:
            problems.append(problem)
        on_progress(done, 2 * len(files))
    if problems:
        raise ImportRefused(problems)
    return sources


def _find_files(paths: Sequence[Path]) -> list[Path]:
    files = []
    for path in paths:
        inside = list_folder(path)[1] if path.is_dir() else [path]
        fitting = [file for file in inside if has_suffix(file, ENDINGS)]
        if not fitting:
            what = f"nothing that ends in {', '.join(ENDINGS)}" if path.exists() else "no such file"
            raise ImportRefused([UnfitImport(path, what)])
        files += fitting
    return files


def _identify_source(
    path: Path,
    data: bytes,
    clips: LabelledClips,
    split: int | None,
    member: str | None,
    protocol: Protocol | None,
) -> _Source:
    teacher, split = _parse_name(path, split, member)
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
        key = LogitKey(clips.corpus, split, name_member(teacher, identity))
    except ValueError as error:
        raise UnfitImport(path, f"{error}: give another with --member") from error
    return _Source(path=path, teacher=teacher, key=key, protocol=protocol, sha256=sha256)


def _parse_name(path: Path, split: int | None, member: str | None) -> tuple[str, int]:
    """Return teacher and split, from the file's name or as the caller says."""
    match = _FILE_NAME.fullmatch(path.stem)
    if match is None:
        if split is None:
            wanted = f"<teacher>_<split>{path.suffix} with one of {', '.join(map(str, SPLITS))}"
            raise UnfitImport(path, f"its name has no split: name it {wanted}, or give --split")
        return member or path.stem, split
    if split not in (None, int(match["split"])):
        raise UnfitImport(path, f"its name says split {match['split']}, but --split {split}")
    return member or match["teacher"], int(match["split"])


def _find_wanted(clips: LabelledClips) -> Wanted:
    return Wanted(len(clips.clip_ids), clips.scenes)


def _read_bytes(path: Path, clips: LabelledClips) -> bytes:
    try:
        check_name(path)
        check_regular(path)
        n_bytes, most = path.stat().st_size, _find_wanted(clips).most_bytes
        if n_bytes > most:
            raise UnfitImport(
                path,
                f"{n_bytes:,} bytes, expected at most {most:,} for {len(clips.clip_ids):,} clips and "
                f"{len(clips.scenes)} scenes of corpus {clips.corpus}",
            )
        return path.read_bytes()
    except UnfitName as error:
        raise UnfitImport(Path(show_name(path)), "the name is not UTF-8; rename it") from error
    except UnfitSound as error:
        raise UnfitImport(path, str(error)) from error
    except OSError as error:
        raise UnfitImport(path, error.strerror or str(error)) from error


def _store_member(store: LogitStore, source: _Source, clips: LabelledClips) -> ImportedMember:
    """Store a checked file as a member, unless the store has it."""
    new = source.key not in store
    if new:
        # Read a second time: all files together may not fit into memory.
        data = _read_bytes(source.path, clips)
        if hashlib.sha256(data).hexdigest() != source.sha256:
            raise UnfitImport(source.path, "was changed while it was imported: start again")
        logits_NK, remarks = _read_checked_logits(source, data, clips)
        record = _make_record(source, remarks)
        store.write(source.key, logits_NK, record, row_order=clips.row_order)
    footer = store.read_footer(source.key)
    scores = footer.find_scores("fit")
    # `align` has refused a split without such clips.
    assert scores is not None
    return ImportedMember(
        key=source.key,
        file=source.path,
        new=new,
        accuracy=scores.accuracy,
        remarks=tuple(footer.record["remarks"]),
    )


def _make_record(source: _Source, remarks: tuple[str, ...]) -> dict[str, Any]:
    family = _FAMILY.match(source.teacher)
    return {
        "kind": "teacher",
        "recipe": {"name": source.teacher},
        "family": FAMILIES[family.group()] if family else None,
        "protocol": source.protocol,
        "imported": True,
        "file": source.path.name,
        "sha256": source.sha256,
        "remarks": list(remarks),
    }


def _read_checked_logits(
    source: _Source, data: bytes, clips: LabelledClips
) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """Return logits [N, K] in the corpus's order, and remarks."""
    read = foreign.read_foreign(source.path, data, _find_wanted(clips))
    return align(source.path, read, clips, source.key.split)
