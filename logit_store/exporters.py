"""Writing logits and embeddings as files for other programs (N clips, K classes, D dimensions).

| form | content | for |
|---|---|---|
| pt | one float32 tensor [N, K], rows as in meta.csv, classes sorted | ASCDomain and similar |
| csv | `filename`, `scene_label` (the predicted one), a probability per scene; tabs | DCASE task 1 |
| npz | `filenames` (UTF-8), `logits` float32 [N, K], `classes`, `labels` [N] (the true ones, -1: none) | numpy |

File names are clip ids with `.wav`, because the store does not know the endings.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from audio.clips import find_indices
from audio.several import are_several, make_targets
from logit_store.errors import MissingMember, UnfitExport
from logit_store.folder import Folder
from logit_store.keys import EmbeddingKey, LogitKey, strip_fingerprint
from logit_store.logits_file import Float32s
from logit_store.store import LogitStore
from metrics import log_softmax

LogitsForm = Literal["pt", "csv", "npz"]


def export_members(
    store: LogitStore,
    keys: Sequence[LogitKey],
    folder: Path,
    form: LogitsForm,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[LogitKey, Path]:
    """Write members as `<teacher>_<split>.<form>`, each file whole or not at all.

    A file of that name is replaced.

    Args:
        store: holds the members.
        keys: of the members; each teacher and split at most once.
        folder: for the files; made if it does not exist.
        form: see the table above.
        on_progress: called with the number of files written and of all files.

    Returns:
        The path of each member's file.

    Raises:
        UnfitExport: two members would have the same file, or the form cannot hold a name.
        MissingLogits: names all members that are absent.
        UnreadableFile: a file of the store cannot be used.
    """
    paths = {key: folder / f"{strip_fingerprint(key.member)}_{key.split}.{form}" for key in keys}
    _check_distinct(paths)
    files = Folder(folder)
    for done, (key, path) in enumerate(paths.items(), start=1):
        clips = store.read_clips(key.corpus)
        (logits_NK,) = store.read([key])
        files.put(path.name, _WRITERS[form](logits_NK, clips, store.read_footer(key).classes))
        on_progress(done, len(paths))
    return paths


def find_members(
    store: LogitStore, corpus: str, split: int | None, patterns: Sequence[str]
) -> list[LogitKey]:
    """Find members of a corpus whose names match a pattern.

    Args:
        store: holds the members.
        corpus: of the members.
        split: of the members; None: any.
        patterns: names with or without fingerprint; `*` matches anything.

    Raises:
        MissingClips: the store does not know the corpus.
        MissingMember: no member matches one of the patterns.
    """
    store.read_clips(corpus)
    keys = store.keys(corpus, split)
    chosen: dict[LogitKey, None] = {}
    for pattern in patterns:
        matching = [key for key in keys if _matches(key.member, pattern)]
        if not matching:
            raise MissingMember(pattern, store=store.address, near=())
        chosen |= dict.fromkeys(matching)
    return list(chosen)


def find_backbones(store: LogitStore, corpus: str, patterns: Sequence[str]) -> list[EmbeddingKey]:
    """Find backbones with embeddings of a corpus's untouched clips, as `find_members` finds members.

    Raises:
        MissingClips: the store does not know the corpus.
        MissingMember: no backbone matches one of the patterns.
    """
    store.read_clips(corpus)
    keys = store.embeddings.keys(corpus)
    chosen: dict[EmbeddingKey, None] = {}
    for pattern in patterns:
        matching = [key for key in keys if _matches(key.backbone, pattern)]
        if not matching:
            raise MissingMember(pattern, store=store.address, near=())
        chosen |= dict.fromkeys(matching)
    return list(chosen)


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(each, pattern) for each in (name, strip_fingerprint(name)))


def export_embeddings(
    store: LogitStore,
    keys: Sequence[EmbeddingKey],
    folder: Path,
    form: LogitsForm,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[EmbeddingKey, Path]:
    """Write embeddings as `<backbone>.<form>`, as `export_members` writes logits.

    `pt` is one float32 tensor [N, D]; `npz` has `filenames`, `embeddings` float32 [N, D] and `scenes`
    (UTF-8; empty: not labelled).

    Raises:
        UnfitExport: two backbones would have the same file, or the form is csv.
        MissingEmbeddings, UnreadableFile: they cannot be read.
    """
    if form == "csv":
        raise UnfitExport("csv is for probabilities, not for embeddings: take --form npz or pt")
    paths = {key: folder / f"{strip_fingerprint(key.backbone)}.{form}" for key in keys}
    _check_distinct(paths)
    files = Folder(folder)
    for done, (key, path) in enumerate(paths.items(), start=1):
        embeddings_ND = store.embeddings.read(key)
        if form == "pt":
            data = _encode_tensor(embeddings_ND)
        else:
            clips = store.read_clips(key.corpus)
            data = _encode_npz(
                filenames=_encode_texts(_make_filenames(clips)),
                embeddings=embeddings_ND,
                scenes=_encode_texts(clips["scene"]),
            )
        files.put(path.name, data)
        on_progress(done, len(paths))
    return paths


def encode_csv(logits_NK: Float32s, clips: pa.Table, classes: Sequence[str]) -> bytes:
    """Encode logits as text for DCASE task 1: see `csv` in the table above.

    Args:
        logits_NK: of the clips.
        clips: with a column `clip_id`, [N].
        classes: their names, [K].

    Raises:
        UnfitExport: a name holds a tab, a quotation mark or a line break.
    """
    probabilities_NK = np.exp(log_softmax(logits_NK)).astype(np.float32)
    predicted = pa.array(classes).take(pa.array(logits_NK.argmax(axis=1)))
    columns = [_make_filenames(clips), predicted, *map(pa.array, probabilities_NK.T)]
    table = pa.table(columns, names=["filename", "scene_label", *classes])
    form = pyarrow.csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
    buffer = io.BytesIO()
    try:
        pyarrow.csv.write_csv(table, buffer, form)
    except pa.ArrowInvalid as error:
        raise UnfitExport(f"{' '.join(str(error).split())}: take another --form") from error
    return buffer.getvalue()


def _check_distinct(paths: Mapping[Any, Path]) -> None:
    counts = Counter(paths.values())
    sharing = [str(key) for key, path in paths.items() if counts[path] > 1]
    if sharing:
        raise UnfitExport(
            f"{', '.join(sharing)} would share files, because file names have no fingerprints: "
            "export them to different folders"
        )


def _encode_logits(logits_NK: Float32s, clips: pa.Table, classes: Sequence[str]) -> bytes:
    return _encode_tensor(logits_NK)


def _encode_tensor(values: Float32s) -> bytes:
    # Imported here: it takes seconds, and only this form needs it.
    import torch

    buffer = io.BytesIO()
    torch.save(torch.from_numpy(np.ascontiguousarray(values)), buffer)
    return buffer.getvalue()


def _encode_probabilities(logits_NK: Float32s, clips: pa.Table, classes: Sequence[str]) -> bytes:
    if are_several(clips["scene"].unique().to_pylist()):
        raise UnfitExport(
            "clips have several labels or none, and csv names one scene a clip: take --form npz or pt"
        )
    return encode_csv(logits_NK, clips, classes)


def _encode_arrays(logits_NK: Float32s, clips: pa.Table, classes: Sequence[str]) -> bytes:
    return _encode_npz(
        filenames=_encode_texts(_make_filenames(clips)),
        logits=np.ascontiguousarray(logits_NK),
        classes=np.array(classes),
        labels=_find_labels(clips["scene"], classes),
    )


def _find_labels(scenes: pa.ChunkedArray, classes: Sequence[str]) -> np.ndarray:
    """Return the class of each clip, int32 [N], or of several labels zeros and ones, int32 [N, K]."""
    if are_several(scenes.unique().to_pylist()):
        return make_targets(scenes, classes).astype(np.int32)
    return find_indices(scenes, tuple(classes)).astype(np.int32)


def _encode_npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **cast(Any, arrays))
    return buffer.getvalue()


def _encode_texts(texts: pa.ChunkedArray) -> np.ndarray:
    # numpy's text type takes four bytes per letter: five times the logits.
    return np.array([text.encode() for text in texts.to_pylist()])


_WRITERS: dict[LogitsForm, Callable[[Float32s, pa.Table, Sequence[str]], bytes]] = {
    "pt": _encode_logits,
    "csv": _encode_probabilities,
    "npz": _encode_arrays,
}


def _make_filenames(clips: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(clips["clip_id"], ".wav", "")
