"""From clips to logits: families of teachers, their published weights, and how they learn.

A name is imported when it is first used: recipes and runs are described where there is no torch.
The function that fine-tunes has the name of its module, `teachers.finetune`, which a lazy name
cannot share.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teachers.catalogue import (
        CATALOGUE,
        TeacherArchitecture,
        build,
        fetch_weights,
        find_architecture,
    )
    from teachers.errors import (
        DamagedWeights,
        MissingWeights,
        UnfitClips,
        UnfitWeights,
        UnknownTeacher,
        WeightsError,
    )
    from teachers.recipes import RECIPES, TeacherRecipe
    from teachers.run import TeacherRun
    from teachers.weights import load_weights

__all__ = [
    "CATALOGUE",
    "RECIPES",
    "DamagedWeights",
    "MissingWeights",
    "TeacherArchitecture",
    "TeacherRecipe",
    "TeacherRun",
    "UnfitClips",
    "UnfitWeights",
    "UnknownTeacher",
    "WeightsError",
    "build",
    "fetch_weights",
    "find_architecture",
    "load_weights",
]
# The one with torch last: a name is looked for in this order.
_MODULES = ("errors", "recipes", "catalogue", "run", "weights")


def __getattr__(name: str) -> Any:
    """Return one of the names above, from the first of these modules that has it."""
    if name in __all__:
        for module in (import_module(f"teachers.{each}") for each in _MODULES):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 'teachers' has no attribute {name!r}")
