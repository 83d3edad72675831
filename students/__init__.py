"""From soft labels to a small model."""

from students.distill import Soft, build, distill
from students.recipes import RECIPES, Distillation, StudentRecipe, alone

__all__ = ["RECIPES", "Distillation", "Soft", "StudentRecipe", "alone", "build", "distill"]
