"""What learning has in common: the loop, its schedule, its checkpoints, what it leaves behind."""

from training.averaging import Ema, Soup
from training.loop import Batch, Figures, OnEpoch, Run, fit, predict
from training.member import learn_and_store, member_key, store_views, view_keys, weights_object
from training.provenance import code_commit
from training.recipe import Protocol, TrainingRecipe
from training.schedule import RampHoldLinear, WarmupCosine

__all__ = [
    "Batch",
    "Ema",
    "Figures",
    "OnEpoch",
    "Protocol",
    "RampHoldLinear",
    "Run",
    "Soup",
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
