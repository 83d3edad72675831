"""All that is needed to go on after an epoch, as one object in the store."""

import io
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from logit_store import LogitStore


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    epochs_done: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run's checkpoint: in the store, so that another node can go on with it."""

    store: LogitStore
    name: str

    def save(self, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Replace what was saved by the present state."""
        state: dict[str, Any] = {slot: getattr(progress, slot) for slot in Progress.__slots__}
        state |= {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.store.write_object(self.name, buffer.getvalue())

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load what was saved into module and optimizer; a fresh Progress if nothing was."""
        if not self.store.has_object(self.name):
            return Progress()
        content = io.BytesIO(self.store.read_object(self.name))
        state = torch.load(content, map_location="cpu", weights_only=True)
        module.load_state_dict(state.pop("module"))
        optimizer.load_state_dict(state.pop("optimizer"))
        return Progress(**state)

    def discard(self) -> None:
        """Forget it, once the result is stored."""
        if self.store.has_object(self.name):
            self.store.delete_object(self.name)
