"""What learning has in common: the loop, its schedule, its checkpoints, what it leaves behind."""

from training.loop import Batch, Figures, OnEpoch, Run, fit, predict
from training.member import learn_and_store, member_key, store_views, view_keys, weights_object
from training.provenance import code_commit
from training.recipe import Protocol, TrainingRecipe
from training.schedule import RampHoldLinear, WarmupCosine

__all__ = [
    "Batch",
    "Figures",
    "OnEpoch",
    "Protocol",
    "RampHoldLinear",
    "Run",
    "TrainingRecipe",
    "WarmupCosine",
    "code_commit",
    "fit",
    "learn_and_store",
    "member_key",
    "predict",
    "store_views",
    "view_keys",
    "weights_object",
]
