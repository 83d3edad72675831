"""What the training loop takes: one module that learns one split of a corpus.

Dimensions: B clips in a batch, K classes, C channels, F mel bands, T frames.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from audio.feed import Feed
from audio.views import training_view
from training.parts import Parts
from training.pool_use import PoolUse
from training.recipe import Protocol, TrainingRecipe


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from; with several workers, this worker's share of it."""

    inputs_BCFT: Tensor
    labels_B: Tensor
    """True classes, int64 [B], -1 without a label; of corpora with several labels a clip int8 [B, K]: 1, 0,
    and rows of -1."""
    rows_B: np.ndarray
    progress: float
    """Share of the run's steps that are done, in [0, 1)."""
    view: int = 0
    """Which view of the clips the inputs are."""


Objective = Callable[[Batch], Tensor]
"""From a batch to its mean loss."""
ForwardPass = Callable[[Tensor], Tensor]
"""From inputs [B, C, F, T] to logits [B, K]."""


@dataclass(frozen=True, slots=True)
class Run:
    """One module that learns one split of a corpus."""

    module: nn.Module
    """Everything that is optimised, including a student's discriminator."""
    objective: Objective
    compute_logits: ForwardPass
    feed: Feed
    split: int
    recipe: TrainingRecipe
    seed: int
    protocol: Protocol = "honest"
    head: tuple[str, ...] = ()
    """Layers of the module that the recipe's `head_learning_rate` is for."""
    n_views: int | None = None
    """Epoch e, counted from 0, shows view e mod n_views of every clip, which teachers store; None
    shows a view that no other epoch and no other seed shows."""
    parts: Parts | None = None
    """The models of a cross-fitted member, which predict in turn; None: the module is all."""
    pool: PoolUse | None = None
    """How it learns from the clips in the fold `pool` of the feed's corpus; None: it sees none."""

    def choose_view(self, epoch: int) -> int:
        """Return the view that an epoch, counted from 0, learns from."""
        return training_view(self.seed, epoch) if self.n_views is None else epoch % self.n_views
