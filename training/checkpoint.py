"""All that is needed to continue in the middle of a run, as one object in the store.

The object is what `torch.save` writes, a zip file, followed by a digest of it. Zip files are read
from where their table is, so `torch.load` and `unzip` read the object as it is.
"""

import hashlib
import io
import logging
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from logit_store import LogitStore, MissingObject
from training.parallel import WorkerGroup

logger = logging.getLogger(__name__)

SHARE_OF_TIME = 0.05
"""The share of a run that checkpoints may take: a GB to slow storage is written less often than a
MB to a disk, and a kill costs little in both cases."""

_MARK = b"\ntutti-blake2b:"
"""Stands before the digest; checkpoints that were written before there was one end without."""
_DIGEST_BYTES = 32


class _Damaged(Exception):
    """A checkpoint is not as it was written."""


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
            digest = _compute_digest(written)
        buffer.write(_MARK + digest)
        self.store.objects.write(self.name, buffer.getbuffer())
        ended = time.monotonic()
        self._next = ended + (ended - started) / SHARE_OF_TIME

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Load the saved state into module and optimizer; return a new Progress if there is none.

        A state that is not as it was saved is deleted, with a warning, and there is none.
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
            # Another worker of the run found it damaged, and deleted it.
            return None
        except _Damaged as error:
            place = self.store.objects.locate(self.name)
            logger.warning("%s: damaged, so the run begins from its start (%s)", place, error)
        # All workers of a run find it damaged; one deletes it.
        if WorkerGroup.current().leads:
            self.discard()
        return None


def _compute_digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _decode(content: bytes) -> dict[str, Any]:
    """Return the state in a checkpoint.

    Raises:
        _Damaged: it is not as it was written.
    """
    end = len(content) - len(_MARK) - _DIGEST_BYTES
    if end <= 0 or content[end : end + len(_MARK)] != _MARK:
        _check_sums(content)
    elif _compute_digest(memoryview(content)[:end]) != content[-_DIGEST_BYTES:]:
        raise _Damaged("its digest is another")
    # Not cut at `end`, which would copy it: the digest is not in the way. What fails from here on,
    # as for want of memory, is not the checkpoint's fault.
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_sums(content: bytes) -> None:
    """Compare the parts of a zip file with their check sums, which torch does not.

    Raises:
        _Damaged: a part differs, or it is no such file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            damaged = opened.testzip()
    except Exception as error:  # damage shows in a dozen ways
        raise _Damaged(" ".join(str(error).split())) from error
    if damaged is not None:
        raise _Damaged(f"the check sum of {damaged} is another")
