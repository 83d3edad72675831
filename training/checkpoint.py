"""All that is needed to continue in the middle of a run, as one object in the store.

The object is what `torch.save` writes, a zip file, followed by a digest of it. The readers of zip files
search for the table of contents from the end, so `torch.load` and `unzip` ignore the digest.
"""

import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from disk.tail import make_tail
from logit_store import LogitStore, MissingObject
from logit_store.seal import find_damage
from training.parallel import WorkerGroup

logger = logging.getLogger(__name__)

SHARE_OF_TIME = 0.05
"""The share of a run that checkpoints may take: a GB to slow storage is written less often than a
MB to a disk, and a kill costs little in both cases."""


class _Damaged(Exception):
    """The content of a checkpoint has changed since it was written."""


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    epochs_done: int = 0
    steps_done: int = 0
    """Steps of the present epoch."""
    loss_sum: float = 0.0
    """Sum of the losses of the clips of these steps."""
    epoch_took_s: float = 0.0
    """Seconds that these steps took."""
    epochs_shown: int = 0
    """Epochs whose metrics are in TensorBoard files."""
    best_epoch: int = 0
    best_loss: float = float("inf")
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    """Average of the parameters, if the recipe keeps one."""
    history: list[dict[str, float]] = field(default_factory=list)
    """`EpochMetrics.to_dict()` of each epoch."""


class Checkpoint:
    """A run's checkpoint, in the store, so that another node can continue from it.

    Args:
        store: holds it.
        name: of the object.
        on_save: called with the progress just before it is saved.
    """

    def __init__(
        self,
        store: LogitStore,
        name: str,
        on_save: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.store, self.name, self.on_save = store, name, on_save
        self._next = time.monotonic()

    def is_due(self) -> bool:
        """Return whether enough time has passed since the last one."""
        return time.monotonic() >= self._next

    def save(self, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Replace the saved state by the present one.

        Raises:
            OSError: it cannot be written, as on a full disk; the state before is still there.
        """
        started = time.monotonic()
        self.on_save(progress)
        state: dict[str, Any] = {slot: getattr(progress, slot) for slot in Progress.__slots__}
        state |= {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with buffer.getbuffer() as written:
            tail = make_tail(written)
        buffer.write(tail)
        self.store.objects.write(self.name, buffer.getbuffer())
        ended = time.monotonic()
        self._next = ended + (ended - started) / SHARE_OF_TIME

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the saved state into module and optimizer; return a new Progress if there is none.

        A damaged state is deleted, with a warning, and the run begins from its start.
        """
        state = self._read()
        if state is None:
            return Progress()
        module.load_state_dict(state.pop("module"))
        optimizer.load_state_dict(state.pop("optimizer"))
        return Progress(**state)

    def read_history(self) -> list[dict[str, float]]:
        """Return the metrics of the epochs before the saved state; none if there is no such state."""
        state = self._read()
        return [] if state is None else state["history"]

    def discard(self) -> None:
        """Delete it, once the result is stored."""
        if self.name in self.store.objects:
            self.store.objects.delete(self.name)

    def _read(self) -> dict[str, Any] | None:
        if self.name not in self.store.objects:
            return None
        try:
            return _decode(self.store.objects.read(self.name))
        except (MissingObject, FileNotFoundError):
            # Another worker of the run has found it damaged and deleted it.
            return None
        except _Damaged as error:
            place = self.store.objects.locate(self.name)
            logger.warning("%s: damaged, so the run begins from its start (%s)", place, error)
        # All workers of a run find the damage, and one of them deletes the checkpoint.
        if WorkerGroup.current().leads:
            self.discard()
        return None


def _decode(content: bytes) -> dict[str, Any]:
    """Return the state in a checkpoint.

    Raises:
        _Damaged: its content has changed.
    """
    damage = find_damage(content)
    if damage is not None:
        raise _Damaged(damage)
    # The tail is not cut off, which would copy the rest. Errors from here on, such as too little memory, are
    # not caused by the checkpoint.
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
