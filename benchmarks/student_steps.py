"""A training step of a student, with inputs from anywhere, as `students.distill` takes it.

B clips in a batch, N clips of the corpus, K classes.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from audio.clips import Corpus
from audio.corpora import demo
from students import Soft, StudentRecipe
from students.distill import student_run
from students.losses import soft_label_loss
from students.objective import Objective
from students.two_tasks import GROUP_OF_SCENE
from training import Batch
from training.recipe import make_optimizer
from training.step import descend

SPLIT = 100


class StudentStep:
    """A recipe's optimiser step over the demo corpus: the same function whatever the inputs are.

    Args:
        recipe: of a student; one that distils has random soft labels.
        n_clips: B.
        device: where it learns.
        memory_format: of the model's weights, which its layers' outputs follow.
    """

    def __init__(
        self,
        recipe: StudentRecipe,
        n_clips: int,
        device: torch.device,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        corpus = demo_of_tau_scenes()
        soft = None if recipe.distillation is None else random_soft(len(corpus), corpus.scenes)
        run, self.student = student_run(
            recipe, corpus, SPLIT, 0, soft, responses=None, device=device
        )
        module = run.module.train()
        module.to(memory_format=memory_format)  # pyrefly: ignore[no-matching-overload]
        self.run, self.n_clips, self.feed = run, n_clips, run.feed
        self.optimizer = make_optimizer(recipe.training, module, ())
        self._rows = corpus.rows(SPLIT, "fit")
        self._labels_N = torch.from_numpy(corpus.labels()).to(device)
        self._randomness = np.random.default_rng(0)
        self._view = 0
        self._random = self._batch(torch.randn(n_clips, *self.feed.input_shape[1:], device=device))
        self._logits_BK = torch.randn(n_clips, len(corpus.scenes), device=device).requires_grad_()

    def take(self, batch: Batch) -> None:
        """One optimiser step."""
        descend(lambda: self.run.objective(batch), self.optimizer, self.feed.device)

    def random(self) -> Batch:
        """What costs nothing."""
        return self._random

    def fed(self) -> Batch:
        """Clips of the corpus, another view each time."""
        self._view += 1
        rows_B = self._draw()
        inputs_BCFT = self.feed.training_batch(rows_B, self._view, self._randomness)
        return self._batch(inputs_BCFT, rows_B)

    def listen(self) -> None:
        """What soft labels alone cost: the look-up, their loss and its gradient."""
        objective = self.run.module
        assert isinstance(objective, Objective)
        assert objective.soft_labels is not None
        rows_B = self.feed.to_device(self._random.rows_B)
        soft_BK = objective.soft_labels.of(self._view, rows_B)
        soft_label_loss(self._logits_BK, soft_BK, 2.0).mean().backward()

    def _draw(self) -> np.ndarray:
        return self._randomness.choice(self._rows, self.n_clips, len(self._rows) < self.n_clips)

    def _batch(self, inputs_BCFT: Tensor, rows_B: np.ndarray | None = None) -> Batch:
        rows_B = self._draw() if rows_B is None else rows_B
        labels_B = self._labels_N[self.feed.to_device(rows_B)]
        return Batch(inputs_BCFT, labels_B, rows_B, 0.5, self._view)


def bare(recipe: StudentRecipe) -> StudentRecipe:
    """The same model and optimiser without soft labels and discriminator."""
    return replace(recipe, distillation=None, device_loss_weight=0.0)


def demo_of_tau_scenes() -> Corpus:
    """The demo corpus with its scenes called as TAU's: students of two tasks know their groups."""
    corpus = demo.read()
    called = dict(zip(corpus.scenes, GROUP_OF_SCENE, strict=False))
    scenes = pa.array([called[scene] for scene in corpus.table["scene"].to_pylist()])
    at = corpus.table.column_names.index("scene")
    return replace(corpus, table=corpus.table.set_column(at, "scene", scenes))


def random_soft(n_clips: int, scenes: tuple[str, ...]) -> Soft:
    """Soft labels of nothing in particular."""
    logits_NK = np.random.default_rng(0).normal(0, 4, (n_clips, len(scenes)))
    return Soft("random", logits_NK.astype(np.float32))
