"""The soft labels with which an ensemble or a member of the store teaches a student.

Dimensions: V views, N clips, K classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from audio.pools import Pool
from ensemble.stored import average_members
from logit_store import LogitKey, LogitStore

if TYPE_CHECKING:
    from students import TeacherLogits


ROWS_AT_A_TIME = 100_000
"""Clips of a pool whose logits of all members are in memory at a time."""


def read_teacher_logits(
    store: LogitStore,
    corpus: str,
    split: int,
    taught_by: str,
    n_views: int | None,
    pools: Sequence[Pool] = (),
) -> "TeacherLogits":
    """Return the logits of a teacher: an ensemble, `NAME@HASH`, or a member.

    They are those of the untouched clips [N, K], or of stored views [V, N, K] if the student
    learns from views. The clips of pools of other corpora follow those of the corpus, as in
    `audio.pools.make_learning_corpus`.

    Raises:
        LogitStoreError: the teacher is not in the store, or has changed, or a member lacks a view or
            the clips of a pool.
    """
    # It needs torch, which takes seconds to import, and plans need only the names of members.
    from students import TeacherLogits

    members = find_teaching_members(store, corpus, split, taught_by)
    document = store.ensembles.read(corpus, split, taught_by) if "@" in taught_by else None

    def read(where: str, view: int, rows: np.ndarray | None) -> np.ndarray:
        keys = [replace(member, corpus=where) for member in members]
        if document is None:
            return store.read([replace(keys[0], view=view)], rows)[0]
        return average_members(store, keys, document, view, rows)

    views = []
    for view in range(n_views or 1):
        parts = [read(corpus, view, None)]
        for pool in pools:
            if pool.corpus is not None:
                n_parts = -(-len(pool) // ROWS_AT_A_TIME)
                some = np.array_split(pool.rows, n_parts)
                parts += [read(pool.corpus.name, view, rows) for rows in some]
        views.append(parts[0] if len(parts) == 1 else np.concatenate(parts))
    return TeacherLogits(taught_by, views[0] if n_views is None else np.stack(views), members)


def find_teaching_members(
    store: LogitStore, corpus: str, split: int, taught_by: str
) -> tuple[LogitKey, ...]:
    """Return view 0 of the members of an ensemble, `NAME@HASH`, or of the member of that name.

    Raises:
        LogitStoreError: it is not in the store, or a member's logits have changed since the
            ensemble was selected.
    """
    if "@" in taught_by:
        return tuple(store.ensembles.read_weights(corpus, split, taught_by))
    member = LogitKey(corpus, split, taught_by)
    store.read_footer(member)
    return (member,)
