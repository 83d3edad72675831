"""Which clips each step of a run learns from.

Dimensions: N clips that an epoch shuffles, P clips of a pool that has a share of its own, B clips in a
batch.
"""

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
    pool_P: np.ndarray | None = None
    """Clips of the pool if they have a share of each batch; else they are among `rows_N`."""
    pool_share: float = 0.0

    @classmethod
    def of(cls, run: Run) -> "StepPlan":
        """The steps of this run."""
        recipe = run.recipe
        rows_N, pool_P = _find_rows(run)
        n_clips = len(rows_N) + (0 if pool_P is None else len(pool_P))
        clips_per_epoch = recipe.clips_per_epoch or n_clips
        steps_per_epoch = len(list(split_into_batches(clips_per_epoch, recipe.batch_size)))
        planned = recipe.max_epochs * steps_per_epoch
        total_steps = min(planned, recipe.max_steps or planned)
        return cls(
            rows_N,
            run.seed,
            recipe.batch_size,
            clips_per_epoch,
            steps_per_epoch,
            total_steps,
            pool_P,
            0.0 if run.pool is None or run.pool.share is None else run.pool.share,
        )

    @property
    def max_epochs(self) -> int:
        """The number of epochs that begin, if the run does not stop early."""
        return -(-self.total_steps // self.steps_per_epoch)

    def draw_epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the rows [B] of each step of a whole epoch, also beyond the run's last step."""
        randomness = np.random.default_rng([self.seed, 0, epoch])
        parts = list(split_into_batches(self.clips_per_epoch, self.batch_size))
        if self.pool_P is not None:
            return self._draw_shares(parts, self.pool_P, randomness)
        order = _draw(self.rows_N, self.clips_per_epoch, randomness)
        return [order[part] for part in parts]

    def _draw_shares(
        self, parts: list[slice], pool_P: np.ndarray, randomness: np.random.Generator
    ) -> list[np.ndarray]:
        """Draw batches whose share of the pool is exact: what one rounds off, the next one gets."""
        until = [round(self.pool_share * part.stop) for part in parts]
        own = _draw(self.rows_N, self.clips_per_epoch - until[-1], randomness)
        pool = _draw(pool_P, until[-1], randomness)
        batches = []
        for part, start, stop in zip(parts, [0, *until], until, strict=False):
            rows_B = np.concatenate([own[part.start - start : part.stop - stop], pool[start:stop]])
            batches.append(randomness.permutation(rows_B))
        return batches


def _find_rows(run: Run) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the clips that an epoch shuffles, and those of a pool with a share of its own."""
    corpus, pool = run.feed.corpus, run.pool
    if pool is None:
        return corpus.rows(run.split, *find_learning_folds(run.protocol)), None
    pool_P = corpus.rows(run.split, "pool")
    if pool.alone:
        return pool_P, None
    own = corpus.rows(run.split, *find_learning_folds(run.protocol))
    return (np.concatenate([own, pool_P]), None) if pool.share is None else (own, pool_P)


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
    passes = max(1, -(-n_clips // len(rows_N)))
    return np.concatenate([randomness.permutation(rows_N) for _ in range(passes)])[:n_clips]
