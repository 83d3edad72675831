"""Which clips each step of a run learns from (N clips of the split, B clips in a batch)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from training.recipe import find_learning_folds
from training.run import Run


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The steps of a run: their number, and the clips and the randomness of each."""

    rows_N: np.ndarray
    seed: int
    batch_size: int
    clips_per_epoch: int
    steps_per_epoch: int
    total_steps: int

    @classmethod
    def of(cls, run: Run) -> "StepPlan":
        """The steps of this run."""
        recipe = run.recipe
        rows_N = run.feed.corpus.rows(run.split, *find_learning_folds(run.protocol))
        clips_per_epoch = recipe.clips_per_epoch or len(rows_N)
        steps_per_epoch = len(list(split_into_batches(clips_per_epoch, recipe.batch_size)))
        planned = recipe.max_epochs * steps_per_epoch
        total_steps = min(planned, recipe.max_steps or planned)
        return cls(
            rows_N, run.seed, recipe.batch_size, clips_per_epoch, steps_per_epoch, total_steps
        )

    @property
    def max_epochs(self) -> int:
        """The number of epochs that begin, if the run does not stop early."""
        return -(-self.total_steps // self.steps_per_epoch)

    def draw_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows [B] of each step of a whole epoch, also beyond the run's last step."""
        randomness = np.random.default_rng([self.seed, 0, epoch])
        order = _draw(self.rows_N, self.clips_per_epoch, randomness)
        parts = split_into_batches(self.clips_per_epoch, self.batch_size)
        return [order[part] for part in parts]


def split_into_batches(n_clips: int, batch_size: int) -> Iterator[slice]:
    """Yield the clips of each batch; if a single clip is left over, it joins the batch before it.

    Batch normalisation cannot learn from one clip.
    """
    starts = list(range(0, n_clips, batch_size))
    if len(starts) > 1 and n_clips - starts[-1] == 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], n_clips], strict=True):
        yield slice(start, end)


def seed_step(seed: int, step: int, rank: int) -> np.random.Generator:
    """Seed everything that is random in a step, so that it depends on no step before it.

    Dropout and patchout draw from torch's generators, Freq-MixStyle from the returned one. On the
    CPU's generator all workers draw the same, which patchout needs; on the GPU each worker drops
    different activations.
    """
    step_seed = int(np.random.SeedSequence([seed, 1, step]).generate_state(1)[0])
    torch.manual_seed(step_seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(step_seed + rank)
    return np.random.default_rng([seed, 2, step])


def _draw(rows_N: np.ndarray, n_clips: int, randomness: np.random.Generator) -> np.ndarray:
    """Draw n_clips rows in random order, each the same number of times, or once more."""
    passes = -(-n_clips // len(rows_N))
    return np.concatenate([randomness.permutation(rows_N) for _ in range(passes)])[:n_clips]
