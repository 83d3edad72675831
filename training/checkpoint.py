"""All that is needed to go on in the middle of a run, as one object in the store."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from logit_store import LogitStore

SHARE_OF_TIME = 0.05
"""Of a run that checkpoints may take: a GB to slow storage is written less often than a MB to a
disk, and a kill costs little in both cases."""


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    epochs_done: int = 0
    steps_done: int = 0
    """Of the epoch that is being learnt."""
    loss_sum: float = 0.0
    """Of the clips of these steps."""
    epoch_took_s: float = 0.0
    """What these steps took, in seconds."""
    epochs_shown: int = 0
    """Epochs whose figures are in TensorBoard files."""
    best_epoch: int = 0
    best_loss: float = float("inf")
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    """Of the parameters, where the recipe keeps an average."""
    history: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """A run's checkpoint: in the store, so that another node can go on with it.

    Args:
        store: where it lies.
        name: the object.
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
        """Whether enough time went by since the last one."""
        return time.monotonic() >= self._next

    def save(self, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Replace what was saved by the present state.

        Raises:
            OSError: it cannot be written, as on a full disk; what was saved is still there.
        """
        started = time.monotonic()
        self.on_save(progress)
        state: dict[str, Any] = {slot: getattr(progress, slot) for slot in Progress.__slots__}
        state |= {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.store.write_object(self.name, buffer.getbuffer())
        ended = time.monotonic()
        self._next = ended + (ended - started) / SHARE_OF_TIME

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load what was saved into module and optimizer; a fresh Progress if nothing was."""
        state = self._saved()
        if state is None:
            return Progress()
        module.load_state_dict(state.pop("module"))
        optimizer.load_state_dict(state.pop("optimizer"))
        return Progress(**state)

    def history(self) -> list[dict[str, float]]:
        """Figures of the epochs that the saved run has behind it; none if nothing was saved."""
        state = self._saved()
        return [] if state is None else state["history"]

    def discard(self) -> None:
        """Forget it, once the result is stored."""
        if self.store.has_object(self.name):
            self.store.delete_object(self.name)

    def _saved(self) -> dict[str, Any] | None:
        if not self.store.has_object(self.name):
            return None
        content = io.BytesIO(self.store.read_object(self.name))
        return torch.load(content, map_location="cpu", weights_only=True)
