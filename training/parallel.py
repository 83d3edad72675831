"""One run on several workers: which part each takes, and what they exchange.

B clips of a batch, C channels, N of anything. Without a process group there is one worker, which
does everything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """The workers of a run, and which of them this process is."""

    rank: int
    size: int

    @classmethod
    def current(cls) -> "WorkerGroup":
        """The workers of the present process group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls(0, 1)

    @property
    def leads(self) -> bool:
        """Whether this worker writes and prints for all."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return which of n things this worker takes; shares differ by one at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def count(self, n: int) -> int:
        """Return how many of n things this worker takes."""
        part = self.share(n)
        return part.stop - part.start

    def weight(self, n: int) -> float:
        """Return the weight of this worker's mean over its share of n in the mean of all means."""
        return self.count(n) * self.size / n

    def gather(self, own: Tensor, n: int) -> Tensor:
        """Return all n things, in order, if each worker brings its share."""
        if self.size == 1:
            return own
        counts = [WorkerGroup(rank, self.size).count(n) for rank in range(self.size)]
        # Collectives need equal sizes; shares differ by one at most.
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def mean(self, own: Tensor) -> Tensor:
        """Return the mean over all workers."""
        if self.size == 1:
            return own
        total = own.clone()
        dist.all_reduce(total)
        return total / self.size

    def wait(self) -> None:
        """Wait until all workers are here."""
        if self.size > 1:
            dist.barrier()


def share_gradients(
    module: nn.Module, objective: Callable[[Any], Tensor]
) -> Callable[[Any], Tensor]:
    """Return the objective with gradients that are averaged over all workers' clips.

    Several workers with equal module and optimiser then take the step that one worker would take
    with the whole batch (Li et al. 2020, arXiv:2006.15704).
    """
    if WorkerGroup.current().size == 1:
        return objective
    # A static graph ignores parameters that never get a gradient, such as PaSST's head_dist.
    # Statistics need no broadcast: shared normalisations count the same clips everywhere.
    return DistributedDataParallel(
        _Loss(module, objective), static_graph=True, broadcast_buffers=False
    )


class _Loss(nn.Module):
    """What the distributed wrapper needs: a module that owns the parameters and gives the loss."""

    def __init__(self, module: nn.Module, objective: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.module, self.objective = module, objective

    def forward(self, batch: Any) -> Tensor:
        return self.objective(batch)


def share_norms(module: nn.Module) -> None:
    """Make all batch normalisations of `module` see the clips of all workers, in place."""
    if WorkerGroup.current().size == 1:
        return
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SharedBatchNorm.of(child))


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation over the clips of all workers, on any device.

    (torch.nn.SyncBatchNorm works on GPUs only.) Parameters, buffers and keys are those of the
    normalisation that it replaces.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> "SharedBatchNorm":
        """A shared normalisation that continues with the parameters and statistics of `norm`."""
        shared = cls(norm.num_features, norm.eps, norm.momentum)
        shared.weight, shared.bias = norm.weight, norm.bias
        shared.running_mean, shared.running_var = norm.running_mean, norm.running_var
        shared.num_batches_tracked = norm.num_batches_tracked
        return shared.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"input of shape {tuple(input.shape)}, expected (B, C, ...)")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, ...) to the same shape."""
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        x = input.float()
        count = x.new_full((1,), x.numel() / x.shape[1])
        summed = _SumOverWorkers.apply(torch.cat([x.sum(axes), count]))
        count = summed[-1].detach()
        mean_C = summed[:-1] / count
        shape = (1, -1, *(1 for _ in axes[1:]))
        centred = x - mean_C.view(shape)
        variance_C = _SumOverWorkers.apply(centred.square().sum(axes)) / count
        self._update_statistics(mean_C.detach(), variance_C.detach() * count / (count - 1))
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centred * scale_C.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _update_statistics(self, mean_C: Tensor, variance_C: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, momentum)
        self.running_var.lerp_(variance_C, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


class _SumOverWorkers(torch.autograd.Function):
    """The sum over all workers; its gradient is the sum of all workers' gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
