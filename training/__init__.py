"""What learning has in common: the loop, its schedule, its checkpoints, what it leaves behind."""

from training.loop import Batch, OnEpoch, Run, TrainingRecipe, fit, predict
from training.member import learn_and_store
from training.provenance import code_commit

__all__ = [
    "Batch",
    "OnEpoch",
    "Run",
    "TrainingRecipe",
    "code_commit",
    "fit",
    "learn_and_store",
    "predict",
]
