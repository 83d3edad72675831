"""What true labels count for students of teachers that were cross-fitted."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from students.recipe import Distillation, StudentRecipe

CROSS_FITTED_SHARE = 0.9
"""Share of the loss given to the true labels (docs/decisions/0020; OURS)."""


def trust_labels(recipe: StudentRecipe, teachers: Iterable[Mapping[str, Any]]) -> StudentRecipe:
    """Return the recipe with CROSS_FITTED_SHARE of true labels if a teacher is cross-fitted.

    Soft labels of clips that a teacher did not learn are wrong for some of them, where the usual
    share, 0.02, takes for granted that they are right. Clips without a label have no true one, so for
    them nothing changes. A share other than the usual one is a choice, and stays.

    Args:
        recipe: of the student.
        teachers: the records of the members that teach it.
    """
    way = recipe.distillation
    if way is None or way.hard_label_weight != Distillation().hard_label_weight:
        return recipe
    if not any(record.get("cross_fit") for record in teachers):
        return recipe
    return replace(recipe, distillation=replace(way, hard_label_weight=CROSS_FITTED_SHARE))
