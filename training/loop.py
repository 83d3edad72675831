"""The one training loop, for teachers and students.

Dimensions: B clips in a batch, N clips of the corpus, C channels, F mel bands, T frames.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from training.averaging import recompute_statistics, update_average
from training.checkpoint import Checkpoint, Progress
from training.epoch_metrics import EpochMetrics, OnEpoch
from training.freed_memory import keep_freed_memory
from training.optimizer import make_optimizer
from training.parallel import WorkerGroup, share_gradients, share_norms
from training.prediction import Judge
from training.recipe import Ema, Soup
from training.run import Batch, Run
from training.steps import StepPlan, seed_step


@keep_freed_memory()
def fit(run: Run, checkpoint: Checkpoint, on_epoch: OnEpoch) -> Progress:
    """Train the run's module on the clips of its split; leave the weights to keep in it.

    Everything random is a function of seed, epoch, step and clip. A run that is interrupted at any
    step and continues from its checkpoint therefore ends in the same weights, bit for bit on the
    same machine's CPU with the same number of threads. In a process group all workers call this,
    and together they take each step of the whole batch.

    Raises:
        FloatingPointError: the loss is no longer finite; names the epoch.
        OSError: a checkpoint cannot be written; the one before it is still there.
    """
    learner, judge = _Learner(run, checkpoint), Judge(run)
    while not learner.is_finished():
        began = time.monotonic() - learner.progress.epoch_took_s
        loss = learner.train_epoch(began)
        train_s = time.monotonic() - began
        log_loss, accuracy = judge.measure()
        took_s = time.monotonic() - began
        epoch, max_epochs = learner.progress.epochs_done + 1, learner.plan.max_epochs
        metrics = EpochMetrics(
            epoch=epoch,
            max_epochs=max_epochs,
            loss=loss,
            judging_fold=judge.fold,
            score=judge.score,
            log_loss=log_loss,
            accuracy=accuracy,
            learning_rate=learner.optimizer.param_groups[0]["lr"],
            clips_per_s=learner.plan.clips_per_epoch / train_s,
            took_s=took_s,
            time_left_s=took_s * (max_epochs - epoch),
            ended=time.time(),
        )
        learner.end_epoch(metrics)
        on_epoch(metrics)
    learner.load_weights_to_keep()
    return learner.progress


class _Learner:
    """The module, optimiser and progress of a run; everything that a checkpoint holds."""

    def __init__(self, run: Run, checkpoint: Checkpoint) -> None:
        share_norms(run.module)
        if run.recipe.norm_momentum is not None:
            _set_norm_momentum(run.module, run.recipe.norm_momentum)
        self.run, self.checkpoint, self.workers = run, checkpoint, WorkerGroup.current()
        self.plan = StepPlan.of(run)
        self.optimizer = make_optimizer(run.recipe, run.module, run.head)
        self.progress = checkpoint.resume(run.module, self.optimizer)
        average, device = self.progress.average, run.feed.device
        self.progress.average = {name: value.to(device) for name, value in average.items()}
        self.objective = share_gradients(run.module, run.objective)
        self.labels_N = torch.from_numpy(run.feed.corpus.truth()).to(device)

    def train_epoch(self, began: float) -> float:
        """Take the steps that are left of the present epoch; return its mean loss per clip.

        Args:
            began: the clock when the epoch began, as if it had never been interrupted.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        progress, plan = self.progress, self.plan
        epoch = progress.epochs_done
        first_step = epoch * plan.steps_per_epoch
        rows_of_steps = plan.draw_epoch(epoch)[: plan.total_steps - first_step]
        loss_sum = torch.tensor(progress.loss_sum, device=self.run.feed.device)
        self.run.module.train()
        for index in range(progress.steps_done, len(rows_of_steps)):
            if index > progress.steps_done and self._must_save():
                progress.loss_sum, progress.steps_done = float(loss_sum), index
                progress.epoch_took_s = time.monotonic() - began
                self._save()
            rows_B = rows_of_steps[index]
            loss_sum += self._train_step(epoch, first_step + index, rows_B) * len(rows_B)
        mean_loss = float(loss_sum) / sum(map(len, rows_of_steps))
        if not np.isfinite(mean_loss):
            recipe = self.run.recipe
            raise FloatingPointError(
                f"the loss of epoch {epoch + 1} is {mean_loss}: lower the peak learning rate "
                f"({recipe.peak_learning_rate}) or lengthen the warm-up ({recipe.schedule})"
            )
        return mean_loss

    def _train_step(self, epoch: int, step: int, rows_B: np.ndarray) -> Tensor:
        """Take one optimiser step; return the batch's mean loss, on its device."""
        recipe, plan = self.run.recipe, self.plan
        factor = recipe.schedule.factor(step, plan.steps_per_epoch, plan.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        batch = self._make_batch(epoch, step, rows_B)
        weight = self.workers.weight(len(rows_B))
        loss = descend(lambda: self.objective(batch) * weight, self.optimizer, self.run.feed.device)
        if isinstance(recipe.keep, Ema | Soup):
            share = recipe.keep.share(step, plan.steps_per_epoch, plan.total_steps)
            update_average(self.progress.average, self.run.module, share)
        return self.workers.mean(loss)

    def _make_batch(self, epoch: int, step: int, rows_B: np.ndarray) -> Batch:
        """Return this worker's slice of the clips, with the random changes of the view and the step."""
        feed, view, n_clips = self.run.feed, self.run.choose_view(epoch), len(rows_B)
        randomness = seed_step(self.run.seed, step, self.workers.rank)
        share = self.workers.share(n_clips)
        inputs_BCFT = feed.make_training_batch(
            rows_B, view, randomness, share, lambda own: self.workers.gather(own, n_clips)
        )
        labels_B = self.labels_N[feed.to_device(rows_B[share])]
        return Batch(inputs_BCFT, labels_B, rows_B[share], step / self.plan.total_steps, view)

    def is_finished(self) -> bool:
        """Return whether no step is left, or patience has run out."""
        progress, patience = self.progress, self.run.recipe.patience
        if patience is not None and progress.epochs_done - progress.best_epoch >= patience:
            return True
        return progress.epochs_done * self.plan.steps_per_epoch >= self.plan.total_steps

    def end_epoch(self, metrics: EpochMetrics) -> None:
        """Record an epoch's end, and keep its weights if they are the best."""
        progress = self.progress
        progress.epochs_done += 1
        progress.steps_done, progress.loss_sum, progress.epoch_took_s = 0, 0.0, 0.0
        progress.history.append(metrics.to_dict())
        if metrics.log_loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = metrics.log_loss, progress.epochs_done
            if self.run.recipe.keep == "best":
                weights = self.run.module.state_dict()
                progress.best_weights = {k: v.detach().cpu().clone() for k, v in weights.items()}
        if self._must_save():
            self._save()

    def load_weights_to_keep(self) -> None:
        """Put the weights that the recipe keeps into the module."""
        module, keep = self.run.module, self.run.recipe.keep
        if keep == "best":
            module.load_state_dict(self.progress.best_weights)
        elif keep != "last":
            module.load_state_dict(self.progress.average, strict=False)
            recompute_statistics(module, self.run.compute_logits, self._draw_statistics_epoch())

    def _draw_statistics_epoch(self) -> Iterator[Tensor]:
        """Yield the inputs of one more epoch, to recompute statistics; no step is taken on them."""
        run, plan, epoch = self.run, self.plan, self.progress.epochs_done
        for index, rows_B in enumerate(plan.draw_epoch(epoch)[: plan.total_steps]):
            seed_step(run.seed, plan.total_steps + index, self.workers.rank)
            yield run.feed.make_view(
                rows_B[self.workers.share(len(rows_B))], run.choose_view(epoch)
            )

    def _must_save(self) -> bool:
        # All workers have the same state: one of them writes it.
        return self.workers.leads and self.checkpoint.is_due()

    def _save(self) -> None:
        self.checkpoint.save(self.progress, self.run.module, self.optimizer)


def descend(
    compute_loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer, device: torch.device
) -> Tensor:
    """Take one step down the gradient of a loss.

    Args:
        compute_loss: the forward pass, to a loss on the device.
        optimizer: of the parameters.
        device: on a GPU products are in bfloat16, which needs no loss scaling; weights are float32.

    Returns:
        The loss, detached and still on its device.
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss = compute_loss()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _set_norm_momentum(module: nn.Module, momentum: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum
