"""The one training loop, for teachers and students.

Dimensions: B clips in a batch, N clips, K classes, C channels, F mel bands, T frames.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audio.feed import Feed
from audio.views import training_view
from metrics import log_loss, macro_accuracy
from training.averaging import Ema, Soup, fold_in, retake_statistics
from training.checkpoint import Checkpoint, Progress
from training.parallel import Workers, share_norms, together, workers
from training.recipe import (
    Protocol,
    TrainingRecipe,
    judging_fold,
    learning_folds,
    make_optimizer,
)
from training.step import descend

JUDGE_CACHE_BYTES = 512 * 1024**2
"""Inputs of the judging clips up to this size are computed once, not once per epoch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from: on several workers, this worker's share."""

    inputs_BCFT: Tensor
    labels_B: Tensor
    rows_B: np.ndarray
    progress: float
    """Share of the run's steps that are done, in [0, 1)."""
    view: int = 0
    """Which view of the clips the inputs are."""


Objective = Callable[[Batch], Tensor]
"""From a batch to its mean loss."""
LogitsOf = Callable[[Tensor], Tensor]
"""From inputs [B, C, F, T] to logits [B, K]."""
Figures = dict[str, float]
OnEpoch = Callable[[Figures], None]
"""Called after each epoch with its figures."""


@dataclass(frozen=True, slots=True)
class Run:
    """One module that learns one split of a corpus."""

    module: nn.Module
    """All that is optimised; a student's discriminator included."""
    objective: Objective
    logits_of: LogitsOf
    feed: Feed
    split: int
    recipe: TrainingRecipe
    seed: int
    protocol: Protocol = "honest"
    head: tuple[str, ...] = ()
    """Layers of the module that the recipe's `head_learning_rate` is for."""
    n_views: int | None = None
    """Epoch e, counted from 0, shows view e mod n_views of every clip, those that teachers store;
    None: a view that neither another epoch nor another seed shows."""

    def view(self, epoch: int) -> int:
        """The view that is learnt from in an epoch, counted from 0."""
        return training_view(self.seed, epoch) if self.n_views is None else epoch % self.n_views


def fit(run: Run, checkpoint: Checkpoint, on_epoch: OnEpoch) -> Progress:
    """Teach the run's module its split's clips; leave in it the weights to keep.

    Everything random is a function of seed, epoch, step and clip, so a run that is interrupted at
    any step and goes on from its checkpoint ends in the same weights, bit for bit on the same
    machine's CPU with the same number of threads. In a process group all workers call this, and
    each step is that of the whole batch.

    Raises:
        FloatingPointError: the loss is no longer finite; names the epoch.
        OSError: a checkpoint cannot be written; the one before it is still there.
    """
    learner, judge = _Learner(run, checkpoint), _Judge(run)
    progress = learner.progress
    while not learner.is_finished():
        began = time.monotonic() - progress.epoch_took_s
        loss = learner.learn_epoch(began)
        learnt_s = time.monotonic() - began
        epoch = progress.epochs_done + 1
        figures = {"epoch": epoch, "max_epochs": learner.max_epochs, "loss": loss}
        figures |= judge.figures()
        took_s = time.monotonic() - began
        figures |= {
            "learning_rate": learner.optimizer.param_groups[0]["lr"],
            "clips_per_s": learner.clips_per_epoch / learnt_s,
            "took_s": took_s,
            "time_left_s": took_s * (learner.max_epochs - epoch),
            "ended": time.time(),
        }
        learner.note_epoch(figures)
        on_epoch(figures)
    if run.recipe.keep == "best":
        run.module.load_state_dict(progress.best_weights)
    elif run.recipe.keep != "last":
        learner.load_average()
    return progress


@torch.no_grad()
def predict(module: nn.Module, logits_of: LogitsOf, inputs: Iterable[Tensor]) -> np.ndarray:
    """Logits of batches of inputs [B, C, F, T], one after the other: float32 [N, K]."""
    module.eval()
    return torch.cat([logits_of(inputs_BCFT).float() for inputs_BCFT in inputs]).cpu().numpy()


def predict_rows(run: Run, rows: np.ndarray, view: int = 0) -> np.ndarray:
    """Logits of one view of these clips, by all workers together: float32 [N, K]."""
    own = rows[workers().share(len(rows))]
    own_NK = predict(run.module, run.logits_of, run.feed.batches(own, view))
    return _gathered(own_NK, len(rows), run.feed.device)


def _gathered(own_NK: np.ndarray, n: int, device: torch.device) -> np.ndarray:
    return workers().gather(torch.from_numpy(own_NK).to(device), n).cpu().numpy()


class _Judge:
    """What the module is worth on the clips that decide about a run."""

    def __init__(self, run: Run) -> None:
        self._run, self._fold = run, judging_fold(run.protocol)
        rows = run.feed.corpus.rows(run.split, self._fold)
        self._labels_N = run.feed.corpus.labels()[rows]
        self._rows = rows[workers().share(len(rows))]
        self._kept: list[Tensor] | None = None
        if run.feed.input_bytes(self._rows) <= JUDGE_CACHE_BYTES:
            self._kept = list(run.feed.batches(self._rows))

    def figures(self) -> Figures:
        """Log loss in nats and macro accuracy in 0...1, named after the fold."""
        run = self._run
        own_NK = predict(run.module, run.logits_of, self._kept or run.feed.batches(self._rows))
        logits_NK = _gathered(own_NK, len(self._labels_N), run.feed.device)
        return {
            f"{self._fold}_log_loss": log_loss(logits_NK, self._labels_N),
            f"{self._fold}_accuracy": macro_accuracy(logits_NK, self._labels_N),
        }


class _Learner:
    """A run's optimiser, and how far it has come."""

    def __init__(self, run: Run, checkpoint: Checkpoint) -> None:
        recipe, corpus = run.recipe, run.feed.corpus
        share_norms(run.module)
        if recipe.norm_momentum is not None:
            _set_norm_momentum(run.module, recipe.norm_momentum)
        self.run, self.checkpoint, self.team = run, checkpoint, workers()
        self.optimizer = make_optimizer(recipe, run.module, run.head)
        self.progress = checkpoint.resume(run.module, self.optimizer)
        average, device = self.progress.average, run.feed.device
        self.progress.average = {name: value.to(device) for name, value in average.items()}
        self.objective = together(run.module, run.objective)
        self.labels_N = torch.from_numpy(corpus.labels()).to(run.feed.device)
        self.rows = corpus.rows(run.split, *learning_folds(run.protocol))
        self.clips_per_epoch = recipe.clips_per_epoch or len(self.rows)
        self.steps_per_epoch = len(list(batches(self.clips_per_epoch, recipe.batch_size)))
        planned = recipe.max_epochs * self.steps_per_epoch
        self.total_steps = min(planned, recipe.max_steps or planned)
        self.max_epochs = -(-self.total_steps // self.steps_per_epoch)
        """Begun, if it never stops early."""

    def is_finished(self) -> bool:
        """Whether the run has waited long enough for something better, or has no step left."""
        progress, patience = self.progress, self.run.recipe.patience
        waited = progress.epochs_done - progress.best_epoch
        if patience is not None and waited >= patience:
            return True
        return progress.epochs_done * self.steps_per_epoch >= self.total_steps

    def learn_epoch(self, began: float) -> float:
        """What is left of the present epoch; its mean loss per clip.

        Args:
            began: the clock when the epoch began, had it never been interrupted.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        run, progress = self.run, self.progress
        epoch, recipe = progress.epochs_done, run.recipe
        before = epoch * self.steps_per_epoch
        todo = self._rows_of_steps(epoch)[: self.total_steps - before]
        loss_sum = torch.tensor(progress.loss_sum, device=run.feed.device)
        run.module.train()
        for index in range(progress.steps_done, len(todo)):
            if index > progress.steps_done and self._saves():
                progress.loss_sum, progress.steps_done = float(loss_sum), index
                progress.epoch_took_s = time.monotonic() - began
                self.checkpoint.save(progress, run.module, self.optimizer)
            loss_sum += self._step(epoch, before + index, todo[index]) * len(todo[index])
        mean_loss = float(loss_sum) / sum(map(len, todo))
        if not np.isfinite(mean_loss):
            raise FloatingPointError(
                f"the loss of epoch {epoch + 1} is {mean_loss}: lower the peak learning rate "
                f"({recipe.peak_learning_rate}) or lengthen the warm-up ({recipe.schedule})"
            )
        return mean_loss

    def note_epoch(self, figures: Figures) -> None:
        """Take down an epoch's end, and keep its weights if they are the best."""
        progress, recipe = self.progress, self.run.recipe
        progress.epochs_done += 1
        progress.steps_done, progress.loss_sum, progress.epoch_took_s = 0, 0.0, 0.0
        progress.history.append(figures)
        judged = figures[f"{judging_fold(self.run.protocol)}_log_loss"]
        if judged < progress.best_loss:
            progress.best_loss, progress.best_epoch = judged, progress.epochs_done
            if recipe.keep == "best":
                weights = self.run.module.state_dict()
                progress.best_weights = {k: v.detach().cpu().clone() for k, v in weights.items()}
        if self._saves():
            self.checkpoint.save(progress, self.run.module, self.optimizer)

    def load_average(self) -> None:
        """Put the average of the weights into the module, with statistics that are its own."""
        run, epoch = self.run, self.progress.epochs_done
        run.module.load_state_dict(self.progress.average, strict=False)

        def inputs() -> Iterator[Tensor]:
            # One epoch more, in which nothing is learnt.
            for index, rows_B in enumerate(self._rows_of_steps(epoch)[: self.total_steps]):
                _seed_step(run.seed, self.total_steps + index, self.team)
                yield run.feed.view(rows_B[self.team.share(len(rows_B))], run.view(epoch))

        retake_statistics(run.module, run.logits_of, inputs())

    def _rows_of_steps(self, epoch: int) -> list[np.ndarray]:
        """The clips of each step of an epoch."""
        randomness = np.random.default_rng([self.run.seed, 0, epoch])
        order = _draw(self.rows, self.clips_per_epoch, randomness)
        parts = batches(self.clips_per_epoch, self.run.recipe.batch_size)
        return [order[part] for part in parts]

    def _saves(self) -> bool:
        # All workers have the same state: one of them writes it.
        return self.team.leads and self.checkpoint.is_due()

    def _step(self, epoch: int, step: int, rows_B: np.ndarray) -> Tensor:
        """Take one optimiser step; the batch's mean loss, on its device."""
        run, feed, n_clips = self.run, self.run.feed, len(rows_B)
        factor = run.recipe.schedule.factor(step, self.steps_per_epoch, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        randomness = _seed_step(run.seed, step, self.team)
        share = self.team.share(n_clips)
        view = run.view(epoch)
        inputs_BCFT = feed.training_batch(
            rows_B,
            view,
            randomness,
            share,
            lambda own: self.team.gather(own, n_clips),
        )
        labels_B = self.labels_N[feed.to_device(rows_B[share])]
        batch = Batch(inputs_BCFT, labels_B, rows_B[share], step / self.total_steps, view)
        weight = self.team.weight(n_clips)
        loss = descend(lambda: self.objective(batch) * weight, self.optimizer, feed.device)
        if isinstance(run.recipe.keep, Ema | Soup):
            share_of_step = run.recipe.keep.share(step, self.steps_per_epoch, self.total_steps)
            fold_in(self.progress.average, run.module, share_of_step)
        return self.team.mean(loss)


def batches(n_clips: int, batch_size: int) -> Iterator[slice]:
    """So many clips in batches; a single one left over joins the batch before it.

    Batch normalisation cannot learn from one clip.
    """
    starts = list(range(0, n_clips, batch_size))
    if len(starts) > 1 and n_clips - starts[-1] == 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], n_clips], strict=True):
        yield slice(start, end)


def _seed_step(seed: int, step: int, team: Workers) -> np.random.Generator:
    """Start anew all that is random in a step, so that it depends on no step before it.

    Dropout and patchout draw from torch's generators, Freq-MixStyle from the returned one. On the
    CPU's generator all workers draw the same, as patchout must; on its GPU each drops its own.
    """
    drawn = int(np.random.SeedSequence([seed, 1, step]).generate_state(1)[0])
    torch.manual_seed(drawn)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(drawn + team.rank)
    return np.random.default_rng([seed, 2, step])


def _draw(rows: np.ndarray, n_clips: int, randomness: np.random.Generator) -> np.ndarray:
    """So many of the rows in random order, none twice more often than another."""
    passes = -(-n_clips // len(rows))
    return np.concatenate([randomness.permutation(rows) for _ in range(passes)])[:n_clips]


def _set_norm_momentum(module: nn.Module, momentum: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum
