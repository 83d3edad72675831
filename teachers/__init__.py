"""From clips to logits: four families of teachers and how they learn."""

from teachers.catalogue import build
from teachers.finetune import finetune
from teachers.recipes import RECIPES, TeacherRecipe
from teachers.weights import MissingWeights, UnfitWeights

__all__ = ["RECIPES", "MissingWeights", "TeacherRecipe", "UnfitWeights", "build", "finetune"]
