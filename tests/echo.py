"""The parts of a corpus, a feed and a student that an objective uses.

N clips of the corpus, B clips in a batch, K classes, C channels, F mel bands, T frames.
"""

from collections.abc import Sequence

import numpy as np
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE
from torch import Tensor, nn

from students import Distillation, StudentRecipe, TeacherLogits
from students.groups import GROUP_OF_SCENE
from students.objective import DistillationObjective
from students.student import Student
from training import Batch

N, K = 12, 10
SCENES = tuple(sorted(GROUP_OF_SCENE))
RECIPE_OF_ECHO = StudentRecipe(
    name="echo",
    model="isotropic",
    front_end=FRONT_END,
    augmentation=AUGMENTATION,
    training=RECIPE,
    distillation=Distillation(),
    device_loss_weight=0.0,
)


class Echo(Student):
    """A student whose inputs are its features and its logits."""

    n_features = K

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Identity()

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return the inputs, [B, K]."""
        return inputs_BCFT.flatten(1)


class Corpus:
    """A corpus of twelve clips; device a recorded the first half."""

    name, scenes, has_several_labels = "tau", SCENES, False

    def __len__(self) -> int:
        return N

    def rows(self, split: int, *folds: str) -> np.ndarray:
        """Return the rows of all clips."""
        return np.arange(N)

    def column(self, name: str) -> np.ndarray:
        """Return the recording devices."""
        return np.where(np.arange(N) < N // 2, "a", "b")


class Feed:
    """A feed of that corpus on the CPU."""

    corpus = Corpus()

    def to_device(self, values: np.ndarray) -> Tensor:
        """Return the same values as a tensor."""
        return torch.from_numpy(values)


def normal(seed: int, *shape: int) -> Tensor:
    """Return normal numbers that are the same in every test."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TEACHER_NK = 2 * normal(5, N, K)
LABELS_N = torch.arange(N) % K


def objective_of(
    recipe: StudentRecipe = RECIPE_OF_ECHO,
    logits: Tensor = TEACHER_NK,
    student: Student | None = None,
) -> DistillationObjective:
    """Return the student's objective, taught by these logits if the recipe distils."""
    soft = None if recipe.distillation is None else TeacherLogits("oracle", logits.numpy())
    return DistillationObjective(recipe, student or Echo(), Feed(), 100, soft)


def batch_of(
    rows: Sequence[int], seed: int = 7, view: int = 0, inputs: Tensor | None = None
) -> Batch:
    """Return a batch of clips a quarter into a run, with random inputs."""
    rows_B = np.asarray(rows)
    inputs = normal(seed, len(rows_B), 1, 1, K) if inputs is None else inputs
    return Batch(inputs, LABELS_N[rows_B], rows_B, 0.25, view)
