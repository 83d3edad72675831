"""From soft labels to a small model.

The names below are imported when they are first used: `python -m students.classify`, a module of this
package, runs on devices without torch. The function that trains a student, `distill`, is in the module
of that name, which a lazy name cannot share.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from students.catalogue import ARCHITECTURES, build
    from students.checks import check_teachers
    from students.errors import NoStudent, UnfitPool, UnfitSoftLabels
    from students.recipe import (
        Challenge,
        Decoupled,
        Dist,
        Distillation,
        FeatureDistillation,
        Int8Recipe,
        Mixup,
        StudentRecipe,
    )
    from students.recipes import RECIPES, drop_teachers
    from students.soft import TeacherLogits
    from students.views import check_views

__all__ = [
    "ARCHITECTURES",
    "RECIPES",
    "Challenge",
    "Decoupled",
    "Dist",
    "Distillation",
    "FeatureDistillation",
    "Int8Recipe",
    "Mixup",
    "NoStudent",
    "StudentRecipe",
    "TeacherLogits",
    "UnfitPool",
    "UnfitSoftLabels",
    "build",
    "check_teachers",
    "check_views",
    "drop_teachers",
]

# The last of them needs torch.
_MODULES = ("errors", "catalogue", "recipe", "recipes", "views", "checks", "soft")


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first used."""
    if name in __all__:
        for module in (import_module(f"students.{each}") for each in _MODULES):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 'students' has no attribute {name!r}")
