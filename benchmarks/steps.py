"""A training step of a teacher on inputs of any source, and the feed of its recipe.

B clips in a batch, C channels, F mel bands, T frames.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audio.corpora import demo
from audio.feed import Feed
from teachers.catalogue import build
from teachers.recipes import TeacherRecipe
from training.loop import descend
from training.optimizer import make_optimizer

Inputs = Callable[[], tuple[Tensor, Tensor]]
"""Makes the inputs [B, C, F, T] and labels [B] of a step."""


class Step:
    """A recipe's optimiser step, which is the same function for all inputs."""

    def __init__(self, recipe: TeacherRecipe, feed: Feed, n_clips: int) -> None:
        self.feed, self.n_clips = feed, n_clips
        n_classes = len(feed.corpus.scenes)
        model = build(recipe.model, n_classes=n_classes, weights="none", **recipe.arguments)
        self.model = model.to(feed.device).train()
        self.optimizer = make_optimizer(recipe.training, self.model, ())
        self._labels_N = torch.from_numpy(feed.corpus.labels()).to(feed.device)
        self._randomness = np.random.default_rng(0)
        self._random_inputs = torch.randn(n_clips, *feed.input_shape[1:], device=feed.device)
        self._view = 0

    def take(self, inputs: Inputs) -> None:
        """Take one optimiser step."""
        inputs_BCFT, labels_B = inputs()
        descend(
            lambda: functional.cross_entropy(self.model(inputs_BCFT)[0], labels_B),
            self.optimizer,
            self.feed.device,
        )

    def get_random(self) -> tuple[Tensor, Tensor]:
        """Return random inputs, which were made before."""
        return self._random_inputs, self._labels_N[: self.n_clips]

    def draw_clips(self) -> tuple[Tensor, Tensor]:
        """Return random clips of the corpus, another view each time."""
        rows_B = self._randomness.choice(len(self.feed.corpus), self.n_clips, replace=False)
        self._view += 1
        inputs_BCFT = self.feed.make_training_batch(rows_B, self._view, self._randomness)
        return inputs_BCFT, self._labels_N[self.feed.to_device(rows_B)]


def open_feed(recipe: TeacherRecipe, device: torch.device) -> Feed:
    """Open the feed of the demo corpus with the recipe's front-end and augmentation."""
    return Feed.open(
        demo.read(), recipe.front_end, recipe.augmentation, None, device, recipe.length
    )
