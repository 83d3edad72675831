"""Logits of members as files that other programs read (N clips, K classes).

| form | file holds | for |
|---|---|---|
| pt | one float32 tensor [N, K], rows as in meta.csv, classes sorted | ASCDomain and its like |
| csv | `filename`, `scene_label` (the predicted one), a probability per scene; tabs | DCASE task 1 |
| npz | `filenames` (UTF-8), `logits` float32 [N, K], `classes`, `labels` [N] (the true ones) | numpy |

File names are clip ids with `.wav`, as the store does not know other endings.
"""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from logit_store.errors import MissingMember, UnfitExport
from logit_store.folder import Folder
from logit_store.layout import LogitKey, plain_name
from logit_store.store import LogitStore
from metrics import log_softmax

Form = Literal["pt", "csv", "npz"]
Float32s = NDArray[np.float32]


def export(
    store: LogitStore,
    keys: Sequence[LogitKey],
    folder: Path,
    form: Form,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[LogitKey, Path]:
    """Write members as `<teacher>_<split>.<form>`; each file whole or not at all.

    A file of that name is replaced.

    Args:
        store: has the members.
        keys: which; a teacher and split may occur once.
        folder: where to; made if absent.
        form: see the table above.
        on_progress: called with how many files are written, of how many.

    Returns:
        Where each member lies.

    Raises:
        UnfitExport: two members would have the same file, or a name cannot stand in the form.
        MissingLogits: names all members that are absent.
        UnreadableFile: one cannot be used.
    """
    paths = {key: folder / f"{plain_name(key.member)}_{key.split}.{form}" for key in keys}
    _refuse_shared(paths)
    files = Folder(folder)
    for done, (key, path) in enumerate(paths.items(), start=1):
        clips = store.clips(key.corpus)
        (logits_NK,) = store.read([key])
        files.put(path.name, _WRITERS[form](logits_NK, clips, store.footer(key).classes))
        on_progress(done, len(paths))
    return paths


def chosen(
    store: LogitStore, corpus: str, split: int | None, patterns: Sequence[str]
) -> list[LogitKey]:
    """Members of a corpus, and of a split unless it is None, whose names match a pattern.

    Args:
        store: has the members.
        corpus: theirs.
        split: theirs.
        patterns: names with or without fingerprint, in which `*` stands for anything.

    Raises:
        MissingClips: the store does not know the corpus.
        MissingMember: no member matches one of the patterns.
    """
    store.clips(corpus)
    keys = store.keys(corpus, split)
    found: dict[LogitKey, None] = {}
    for pattern in patterns:
        matching = [
            key
            for key in keys
            if fnmatchcase(key.member, pattern) or fnmatchcase(plain_name(key.member), pattern)
        ]
        if not matching:
            raise MissingMember(pattern, store=store.address, near=())
        found |= dict.fromkeys(matching)
    return list(found)


def as_csv(logits_NK: Float32s, clips: pa.Table, classes: Sequence[str]) -> bytes:
    """Logits as the text that DCASE task 1 takes: see `csv` in the table above.

    Args:
        logits_NK: of the clips.
        clips: with a column `clip_id`, [N].
        classes: their names, [K].

    Raises:
        UnfitExport: a name cannot stand between tabs.
    """
    probabilities_NK = np.exp(log_softmax(logits_NK)).astype(np.float32)
    predicted = pa.array(classes).take(pa.array(logits_NK.argmax(axis=1)))
    columns = [_filenames(clips), predicted, *map(pa.array, probabilities_NK.T)]
    table = pa.table(columns, names=["filename", "scene_label", *classes])
    form = pyarrow.csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
    buffer = io.BytesIO()
    try:
        pyarrow.csv.write_csv(table, buffer, form)
    except pa.ArrowInvalid as error:
        raise UnfitExport(f"{' '.join(str(error).split())}: take another --form") from error
    return buffer.getvalue()


def _refuse_shared(paths: dict[LogitKey, Path]) -> None:
    counts = Counter(paths.values())
    sharing = [str(key) for key, path in paths.items() if counts[path] > 1]
    if sharing:
        raise UnfitExport(
            f"{', '.join(sharing)} would share files, as names go without fingerprints: export "
            "them to folders of their own"
        )


def _tensor(logits_NK: Float32s, clips: pa.Table, classes: Sequence[str]) -> bytes:
    # Imported late: it takes seconds, and only this form needs it.
    import torch

    buffer = io.BytesIO()
    torch.save(torch.from_numpy(np.ascontiguousarray(logits_NK)), buffer)
    return buffer.getvalue()


def _arrays(logits_NK: Float32s, clips: pa.Table, classes: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        # numpy's own text takes four bytes a letter: five times the logits.
        filenames=np.array([name.encode() for name in _filenames(clips).to_pylist()]),
        logits=np.ascontiguousarray(logits_NK),
        classes=np.array(classes),
        labels=pc.index_in(clips["scene"], pa.array(classes)).to_numpy(),
    )
    return buffer.getvalue()


_WRITERS: dict[Form, Callable[[Float32s, pa.Table, Sequence[str]], bytes]] = {
    "pt": _tensor,
    "csv": as_csv,
    "npz": _arrays,
}


def _filenames(clips: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(clips["clip_id"], ".wav", "")
