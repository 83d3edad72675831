"""From soft labels to a small model.

What is named here is imported when it is first asked for: `python -m students.classify`, a module
of this package, runs where there is no torch. What teaches a student, `distill`, is in the module
of that name, which a lazy name cannot share.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from students.catalogue import ARCHITECTURES, build
    from students.challenge import Challenge
    from students.checks import check_teachers
    from students.losses import Decoupled, Dist
    from students.mixup import Mixup
    from students.recipes import RECIPES, Distillation, StudentRecipe, alone
    from students.soft import Soft, UnfitSoftLabels
    from students.views import check_views

__all__ = [
    "ARCHITECTURES",
    "RECIPES",
    "Challenge",
    "Decoupled",
    "Dist",
    "Distillation",
    "Mixup",
    "Soft",
    "StudentRecipe",
    "UnfitSoftLabels",
    "alone",
    "build",
    "check_teachers",
    "check_views",
]

_MODULES = ("catalogue", "challenge", "checks", "losses", "mixup", "recipes", "soft", "views")


def __getattr__(name: str) -> Any:
    """One of the names above, from the first of these modules that has it."""
    if name in __all__:
        for module in (import_module(f"students.{each}") for each in _MODULES):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 'students' has no attribute {name!r}")
