"""The embeddings of the frozen networks behind a student's teachers.

Dimensions: V views, L clips that are learnt from, E dimensions of all embeddings side by side.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.worker.teacher_logits import find_teaching_members
from logit_store import EmbeddingKey, LogitStore, strip_fingerprint
from teachers.probes import find_view_key

if TYPE_CHECKING:
    from audio.clips import Corpus
    from audio.pools import Pool
    from students.features import TeacherEmbeddings


def find_teaching_embeddings(
    store: LogitStore, corpus: str, split: int, taught_by: str
) -> tuple[str, ...]:
    """Return the names of the embeddings of view 0 behind a teacher; an empty tuple if there are none.

    Behind a probe are those that it was fitted to; behind a teacher that was fine-tuned are its own, if
    a probe on it put them into the store.

    Raises:
        LogitStoreError: the teacher is not in the store, or has changed.
    """
    members = find_teaching_members(store, corpus, split, taught_by)
    stored = store.embeddings.keys(corpus)
    names: dict[str, None] = {}
    for key, footer in store.read_footers(members).items():
        names |= dict.fromkeys(_list_embeddings(footer.record))
        names |= dict.fromkeys(
            each.backbone for each in stored if strip_fingerprint(each.backbone) == key.member
        )
    return tuple(names)


def _list_embeddings(record: Mapping[str, Any]) -> list[str]:
    return [each["embeddings"] for each in record.get("backbones", ())]


def list_needed_embeddings(
    names: Sequence[str],
    corpus: str,
    n_views: int | None,
    pools: Sequence["Pool"],
    responses: Path | None,
) -> list[EmbeddingKey]:
    """Return the keys of all embeddings that a student learns from.

    Args:
        names: as `find_teaching_embeddings` returns them.
        corpus: name of the corpus that it is trained on.
        n_views: number of views that it sees; None if it learns from the untouched clips.
        pools: the pools that it learns from too.
        responses: its folder of impulse responses; None is the synthetic set.
    """
    corpora = [corpus, *(pool.corpus.name for pool in pools if pool.corpus is not None)]
    return [
        find_view_key(EmbeddingKey(where, name), view, responses)
        for view in range(n_views or 1)
        for where in corpora
        for name in names
    ]


def read_teacher_embeddings(
    store: LogitStore,
    corpus: "Corpus",
    split: int,
    names: Sequence[str],
    n_views: int | None,
    pools: Sequence["Pool"],
    responses: Path | None,
) -> "TeacherEmbeddings":
    """Return the embeddings of the clips that a student learns from.

    Args:
        store: has the embeddings.
        corpus: the corpus that the student is trained on, without pools.
        split: 5, 10, 25, 50 or 100.
        names: as `find_teaching_embeddings` returns them.
        n_views: number of views that it sees; None if it learns from the untouched clips.
        pools: the pools that it learns from too, in their order.
        responses: its folder of impulse responses; None is the synthetic set.

    Raises:
        MissingEmbeddings: the store lacks some.
    """
    from students.features import TeacherEmbeddings

    foreign = [(pool.corpus.name, pool.rows) for pool in pools if pool.corpus is not None]
    own = [corpus.rows(split, "fit"), *(pool.rows for pool in pools if pool.corpus is None)]
    parts = [(corpus.name, np.unique(np.concatenate(own))), *foreign]

    def read(where: str, view: int, rows: np.ndarray) -> np.ndarray:
        keys = [find_view_key(EmbeddingKey(where, name), view, responses) for name in names]
        # The store has float16, so nothing is lost.
        blocks = [store.embeddings.read(key, rows).astype(np.float16) for key in keys]
        return np.concatenate(blocks, axis=1)

    views = [
        np.concatenate([read(where, view, rows) for where, rows in parts])
        for view in range(n_views or 1)
    ]
    n_foreign = sum(len(rows) for _, rows in foreign)
    rows = np.concatenate([parts[0][1], len(corpus) + np.arange(n_foreign)])
    return TeacherEmbeddings(tuple(names), rows, views[0] if n_views is None else np.stack(views))
