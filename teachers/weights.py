"""Published weights: find them on this machine, check them, load them; new heads."""

import logging
import os
from pathlib import Path

import torch
from torch import nn

logger = logging.getLogger(__name__)


class MissingWeights(FileNotFoundError):
    """A published checkpoint is not on this machine."""

    def __init__(self, address: str, place: Path) -> None:
        self.address, self.place = address, place
        super().__init__(
            f"no file {place}\n"
            f"Download {address}\nto that place ($TUTTI_WEIGHTS names another folder), or start "
            "from random weights: --weights none"
        )

    def __reduce__(self) -> tuple[type, tuple[str, Path]]:
        """Made anew from its parts on the other side of a process border."""
        return type(self), (self.address, self.place)


class UnfitWeights(ValueError):
    """A checkpoint's keys or shapes are not those of the architecture."""


def weights_folder() -> Path:
    """Where checkpoints lie on this machine: $TUTTI_WEIGHTS, else ~/.cache/tutti/weights."""
    named = os.environ.get("TUTTI_WEIGHTS")
    return Path(named) if named else Path.home() / ".cache" / "tutti" / "weights"


def find_weights(address: str) -> Path:
    """The local copy of a published checkpoint.

    Raises:
        MissingWeights: it is not in `weights_folder()`.
    """
    place = weights_folder() / address.rsplit("/", 1)[1]
    if not place.is_file():
        raise MissingWeights(address, place)
    return place


def load_weights(model: nn.Module, file: Path, head: tuple[str, ...]) -> None:
    """Fill `model` from a state dict, key by key; layers of `head` may be of another size.

    Raises:
        UnfitWeights: other keys are missing, unknown or of another shape; all are listed.
    """
    stored = torch.load(file, map_location="cpu", weights_only=True)
    own = model.state_dict()
    fresh = [
        key
        for key in own
        if key.startswith(tuple(f"{layer}." for layer in head))
        and (key not in stored or stored[key].shape != own[key].shape)
    ]
    wrong = [f"missing {key}" for key in own if key not in stored and key not in fresh]
    wrong += [f"unknown {key}" for key in stored if key not in own]
    wrong += [
        f"{key}: shape {tuple(stored[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in stored and key not in fresh and stored[key].shape != own[key].shape
    ]
    if wrong:
        listed = "\n  ".join(wrong)
        raise UnfitWeights(f"{file} does not fit {type(model).__name__}:\n  {listed}")
    if fresh:
        logger.info("weights file=%s fresh=%s", file, ",".join(fresh))
    model.load_state_dict(own | {key: stored[key] for key in own if key not in fresh})
