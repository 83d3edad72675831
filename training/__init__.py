"""What all training has in common: the loop, its schedule, its checkpoints, and what it stores.

A name is imported when it is first used: recipes and keys are read where there is no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.epoch_metrics import EpochMetrics, OnEpoch
    from training.keys import list_view_keys, locate_weights, make_member_key
    from training.loop import fit
    from training.member import store_pool, store_views, train_and_store
    from training.pool_use import PoolUse
    from training.prediction import predict
    from training.provenance import find_commit
    from training.recipe import Ema, Protocol, Soup, TrainingRecipe
    from training.run import Batch, Run
    from training.schedule import RampHoldLinear, WarmupCosine
    from training.stored_weights import fetch_weights

__all__ = [
    "Batch",
    "Ema",
    "EpochMetrics",
    "OnEpoch",
    "PoolUse",
    "Protocol",
    "RampHoldLinear",
    "Run",
    "Soup",
    "TrainingRecipe",
    "WarmupCosine",
    "fetch_weights",
    "find_commit",
    "fit",
    "list_view_keys",
    "locate_weights",
    "make_member_key",
    "predict",
    "store_pool",
    "store_views",
    "train_and_store",
]
# Those without torch first: a name is looked for in this order.
_MODULES = (
    "recipe",
    "pool_use",
    "schedule",
    "epoch_metrics",
    "provenance",
    "keys",
    "stored_weights",
    "run",
    "prediction",
    "loop",
    "member",
)


def __getattr__(name: str) -> Any:
    """Return one of the names above, from the first of these modules that has it."""
    if name in __all__:
        for module in (import_module(f"training.{each}") for each in _MODULES):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 'training' has no attribute {name!r}")
