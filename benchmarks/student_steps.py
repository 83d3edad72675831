"""A training step of a student on inputs of any source, as `students.distill` takes it.

B clips in a batch, N clips of the corpus, K classes.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from audio.clips import Corpus
from audio.corpora import demo
from students import StudentRecipe, TeacherLogits
from students.distill import prepare_run
from students.groups import GROUP_OF_SCENE
from students.losses import soft_label_loss
from students.objective import DistillationObjective
from training import Batch
from training.loop import descend
from training.optimizer import make_optimizer

SPLIT = 100


class StudentStep:
    """A recipe's optimiser step on the demo corpus, which is the same function for all inputs.

    Args:
        recipe: of a student; if it distils, its soft labels are random.
        n_clips: number of clips in a batch.
        device: where it is trained.
        memory_format: of the model's weights; the outputs of its layers have the same.
    """

    def __init__(
        self,
        recipe: StudentRecipe,
        n_clips: int,
        device: torch.device,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        corpus = read_demo_with_tau_scenes()
        soft = (
            None if recipe.distillation is None else draw_teacher_logits(len(corpus), corpus.scenes)
        )
        run, self.student = prepare_run(
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
        """Take one optimiser step."""
        descend(lambda: self.run.objective(batch), self.optimizer, self.feed.device)

    def get_random(self) -> Batch:
        """Return a batch of random inputs, which was made before."""
        return self._random

    def draw_clips(self) -> Batch:
        """Return a batch of random clips of the corpus, another view each time."""
        self._view += 1
        rows_B = self._draw()
        inputs_BCFT = self.feed.make_training_batch(rows_B, self._view, self._randomness)
        return self._batch(inputs_BCFT, rows_B)

    def learn_from_soft_labels(self) -> None:
        """Do all that soft labels cost: look them up, and compute their loss and its gradient."""
        objective = self.run.module
        assert isinstance(objective, DistillationObjective)
        assert objective.soft_labels is not None
        rows_B = self.feed.to_device(self._random.rows_B)
        soft_BK = objective.soft_labels.look_up(self._view, rows_B)
        soft_label_loss(self._logits_BK, soft_BK, 2.0).mean().backward()

    def _draw(self) -> np.ndarray:
        return self._randomness.choice(self._rows, self.n_clips, len(self._rows) < self.n_clips)

    def _batch(self, inputs_BCFT: Tensor, rows_B: np.ndarray | None = None) -> Batch:
        rows_B = self._draw() if rows_B is None else rows_B
        labels_B = self._labels_N[self.feed.to_device(rows_B)]
        return Batch(inputs_BCFT, labels_B, rows_B, 0.5, self._view)


def keep_only_model(recipe: StudentRecipe) -> StudentRecipe:
    """Return the recipe without soft labels and discriminator: the same model and optimiser."""
    return replace(recipe, distillation=None, device_loss_weight=0.0)


def read_demo_with_tau_scenes() -> Corpus:
    """Read the demo corpus with the names of TAU's scenes, whose groups two-task students know."""
    corpus = demo.read()
    called = dict(zip(corpus.scenes, GROUP_OF_SCENE, strict=False))
    scenes = pa.array([called[scene] for scene in corpus.table["scene"].to_pylist()])
    at = corpus.table.column_names.index("scene")
    return replace(corpus, table=corpus.table.set_column(at, "scene", scenes))


def draw_teacher_logits(n_clips: int, scenes: tuple[str, ...]) -> TeacherLogits:
    """Return random logits in place of a teacher's."""
    logits_NK = np.random.default_rng(0).normal(0, 4, (n_clips, len(scenes)))
    return TeacherLogits("random", logits_NK.astype(np.float32))
