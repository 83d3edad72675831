"""As much of a corpus, a feed and a student as an objective asks for.

N clips of the corpus, B clips in a batch, K classes, C channels, F mel bands, T frames.
"""

from collections.abc import Sequence

import numpy as np
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE
from torch import Tensor, nn

from students import Distillation, Soft, StudentRecipe
from students.objective import Objective
from students.student import Student
from students.two_tasks import GROUP_OF_SCENE
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
    """Its inputs are its features, and these its logits."""

    n_features = K

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Identity()

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """The inputs, [B, K]."""
        return inputs_BCFT.flatten(1)


class Corpus:
    """Twelve clips, the first half of device a."""

    name, scenes = "tau", SCENES

    def __len__(self) -> int:
        return N

    def rows(self, split: int, *folds: str) -> np.ndarray:
        """All of them."""
        return np.arange(N)

    def column(self, name: str) -> np.ndarray:
        """The recording devices."""
        return np.where(np.arange(N) < N // 2, "a", "b")


class Feed:
    """Of that corpus, on the CPU."""

    corpus = Corpus()

    def to_device(self, values: np.ndarray) -> Tensor:
        """The same values."""
        return torch.from_numpy(values)


def normal(seed: int, *shape: int) -> Tensor:
    """Numbers that are the same in every test."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TEACHER_NK = 2 * normal(5, N, K)
LABELS_N = torch.arange(N) % K


def objective_of(
    recipe: StudentRecipe = RECIPE_OF_ECHO,
    logits: Tensor = TEACHER_NK,
    student: Student | None = None,
) -> Objective:
    """What such a student minimises, taught by these logits if the recipe distils."""
    soft = None if recipe.distillation is None else Soft("oracle", logits.numpy())
    return Objective(recipe, student or Echo(), Feed(), 100, soft)


def batch_of(
    rows: Sequence[int], seed: int = 7, view: int = 0, inputs: Tensor | None = None
) -> Batch:
    """Clips of the corpus in a quarter of a run, with inputs of nothing in particular."""
    rows_B = np.asarray(rows)
    inputs = normal(seed, len(rows_B), 1, 1, K) if inputs is None else inputs
    return Batch(inputs, LABELS_N[rows_B], rows_B, 0.25, view)
