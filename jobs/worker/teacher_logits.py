"""The soft labels with which an ensemble or a member of the store teaches a student.

Dimensions: V views, N clips, K classes.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ensemble.stored import compute_ensemble_logits
from logit_store import LogitKey, LogitStore

if TYPE_CHECKING:
    from students import TeacherLogits


def read_teacher_logits(
    store: LogitStore, corpus: str, split: int, taught_by: str, n_views: int | None
) -> "TeacherLogits":
    """Return the logits of a teacher: an ensemble, `NAME@HASH`, or a member.

    They are those of the untouched clips [N, K], or of stored views [V, N, K] if the student
    learns from views.
    """
    # It needs torch, which takes seconds to import, and plans need only the names of members.
    from students import TeacherLogits

    members = find_teaching_members(store, corpus, split, taught_by)
    views = []
    for view in range(n_views or 1):
        if "@" in taught_by:
            views.append(compute_ensemble_logits(store, corpus, split, taught_by, view))
        else:
            views += list(store.read([replace(members[0], view=view)]))
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
