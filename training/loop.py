"""The one training loop, for teachers and students.

Dimensions: B clips in a batch, N clips, K classes, C channels, F mel bands, T frames.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from audio.feed import Feed
from audio.views import training_view
from metrics import accuracy, log_loss
from training.checkpoint import Checkpoint, Progress
from training.schedule import warmup_cosine

SELECT_CACHE_BYTES = 512 * 1024**2
"""Inputs of the `select` clips up to this size are computed once, not once per epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecipe:
    """How long, how fast and with what a module learns. AdamW, one learning rate for all."""

    max_epochs: int
    batch_size: int
    peak_learning_rate: float
    warmup_steps: int = 2000
    """Steps of the linear warm-up; a half cosine to 0 follows."""
    weight_decay: float = 1e-3
    """On every parameter, norms and biases included, as published."""
    clips_per_epoch: int | None = None
    """An epoch is so many clips, whatever the split holds: a part of them, another each time, or
    all of them several times. None is each clip once."""
    norm_momentum: float | None = None
    """Of all batch normalisations; None leaves the architecture's (0.01 in MobileNets: too slow
    for runs of a few hundred steps)."""
    patience: int | None = None
    """Stop after so many epochs without a lower log loss on `select`; None never stops early."""
    keep: Literal["best", "last"] = "last"
    """Which epoch's weights remain: that of the lowest log loss on `select`, or the last."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from."""

    inputs_BCFT: Tensor
    labels_B: Tensor
    rows_B: np.ndarray
    progress: float
    """Share of the run's steps that are done, in [0, 1)."""


Objective = Callable[[Batch], Tensor]
"""From a batch to its mean loss."""
LogitsOf = Callable[[Tensor], Tensor]
"""From inputs [B, C, F, T] to logits [B, K]."""
OnEpoch = Callable[[dict[str, float]], None]
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


def fit(run: Run, checkpoint: Checkpoint, on_epoch: OnEpoch) -> Progress:
    """Teach the run's module on the `fit` clips; leave in it the weights to keep.

    Everything random is a function of seed, epoch and clip, so a run that is interrupted and goes
    on from its checkpoint ends in the same weights, bit for bit on the same machine's CPU with
    the same number of threads.

    Raises:
        FloatingPointError: the loss is no longer finite; names the epoch.
    """
    corpus, recipe = run.feed.corpus, run.recipe
    select_rows = corpus.rows(run.split, "select")
    select_labels_N = corpus.labels()[select_rows]
    kept_inputs = None
    if run.feed.input_bytes(select_rows) <= SELECT_CACHE_BYTES:
        kept_inputs = list(run.feed.batches(select_rows))
    optimizer = torch.optim.AdamW(
        run.module.parameters(), lr=recipe.peak_learning_rate, weight_decay=recipe.weight_decay
    )
    if recipe.norm_momentum is not None:
        _set_norm_momentum(run.module, recipe.norm_momentum)
    progress = checkpoint.resume(run.module, optimizer)
    while not _finished(progress, recipe):
        started = time.monotonic()
        loss = _train_epoch(run, optimizer, progress.epochs_done)
        inputs = kept_inputs or run.feed.batches(select_rows)
        logits_NK = predict(run.module, run.logits_of, inputs)
        figures = {
            "epoch": progress.epochs_done + 1,
            "loss": loss,
            "select_log_loss": log_loss(logits_NK, select_labels_N),
            "select_accuracy": accuracy(logits_NK, select_labels_N),
            "took_s": time.monotonic() - started,
        }
        _note_epoch(progress, run.module, figures, recipe)
        checkpoint.save(progress, run.module, optimizer)
        on_epoch(figures)
    if recipe.keep == "best":
        run.module.load_state_dict(progress.best_weights)
    return progress


@torch.no_grad()
def predict(module: nn.Module, logits_of: LogitsOf, inputs: Iterable[Tensor]) -> np.ndarray:
    """Logits of batches of inputs [B, C, F, T], one after the other: float32 [N, K]."""
    module.eval()
    return torch.cat([logits_of(inputs_BCFT).float().cpu() for inputs_BCFT in inputs]).numpy()


def _train_epoch(run: Run, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    """One epoch on the `fit` clips; the mean loss per clip."""
    feed, recipe = run.feed, run.recipe
    labels_N, fit_rows = feed.corpus.labels(), feed.corpus.rows(run.split, "fit")
    run.module.train()
    # Dropout and patchout draw from torch's generator; the order of clips and Freq-MixStyle from
    # numpy's. Both start anew each epoch, so that an epoch does not depend on those before it.
    torch.manual_seed(int(np.random.SeedSequence([run.seed, epoch]).generate_state(1)[0]))
    randomness = np.random.default_rng([run.seed, epoch])
    epoch_rows = _draw(fit_rows, recipe.clips_per_epoch or len(fit_rows), randomness)
    batches = list(_batches(epoch_rows, recipe.batch_size))
    total_steps = recipe.max_epochs * len(batches)
    loss_sum = torch.zeros((), device=feed.device)
    for index, rows_B in enumerate(batches):
        step = epoch * len(batches) + index
        factor = warmup_cosine(step, recipe.warmup_steps, total_steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_learning_rate * factor
        batch = Batch(
            inputs_BCFT=feed.training_batch(rows_B, training_view(run.seed, epoch), randomness),
            labels_B=torch.from_numpy(labels_N[rows_B]).to(feed.device),
            rows_B=rows_B,
            progress=step / total_steps,
        )
        loss_sum += _step(run.objective, batch, optimizer) * len(rows_B)
    mean_loss = float(loss_sum) / len(epoch_rows)
    if not np.isfinite(mean_loss):
        raise FloatingPointError(
            f"the loss of epoch {epoch + 1} is {mean_loss}: lower the peak learning rate "
            f"({recipe.peak_learning_rate}) or lengthen the warm-up ({recipe.warmup_steps} steps)"
        )
    return mean_loss


def _draw(rows: np.ndarray, n_clips: int, randomness: np.random.Generator) -> np.ndarray:
    """So many of the rows in random order, none twice more often than another."""
    passes = -(-n_clips // len(rows))
    return np.concatenate([randomness.permutation(rows) for _ in range(passes)])[:n_clips]


def _step(objective: Objective, batch: Batch, optimizer: torch.optim.Optimizer) -> Tensor:
    """Take one optimiser step; the loss, detached and still on its device."""
    loss = objective(batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _set_norm_momentum(module: nn.Module, momentum: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = momentum


def _batches(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """The rows in batches; a single one left over joins the batch before it.

    Batch normalisation cannot learn from one clip.
    """
    ends = list(range(batch_size, len(rows), batch_size))
    if ends and len(rows) - ends[-1] == 1:
        ends.pop()
    yield from np.split(rows, ends)


def _finished(progress: Progress, recipe: TrainingRecipe) -> bool:
    waited = progress.epochs_done - progress.best_epoch
    stopped = recipe.patience is not None and waited >= recipe.patience
    return stopped or progress.epochs_done >= recipe.max_epochs


def _note_epoch(
    progress: Progress, module: nn.Module, figures: dict[str, float], recipe: TrainingRecipe
) -> None:
    progress.epochs_done += 1
    progress.history.append(figures)
    if figures["select_log_loss"] < progress.best_loss:
        progress.best_loss = figures["select_log_loss"]
        progress.best_epoch = progress.epochs_done
        if recipe.keep == "best":
            progress.best_weights = {
                key: value.detach().cpu().clone() for key, value in module.state_dict().items()
            }
