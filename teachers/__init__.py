"""From clips to logits: families of teachers, their published weights, and how they learn."""

from teachers.catalogue import (
    CATALOGUE,
    Architecture,
    UnknownTeacher,
    architecture,
    build,
    fetch_weights,
)
from teachers.fetch import DamagedWeights, MissingWeights, WeightsError
from teachers.finetune import TeacherRun, UnfitClips, finetune
from teachers.recipes import RECIPES, TeacherRecipe
from teachers.weights import UnfitWeights, load_weights

__all__ = [
    "CATALOGUE",
    "RECIPES",
    "Architecture",
    "DamagedWeights",
    "MissingWeights",
    "TeacherRecipe",
    "TeacherRun",
    "UnfitClips",
    "UnfitWeights",
    "UnknownTeacher",
    "WeightsError",
    "architecture",
    "build",
    "fetch_weights",
    "finetune",
    "load_weights",
]
