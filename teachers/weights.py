"""Weights into a model, key by key; heads for other classes start anew."""

import functools
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from teachers.fetch import WeightsError

logger = logging.getLogger(__name__)

Weights = Mapping[str, Tensor]
Translate = Callable[[nn.Module, Weights], Weights]
"""Brings the keys and shapes of a foreign state dict to those of the model."""

MAX_LISTED = 20


class UnfitWeights(WeightsError, ValueError):
    """A file is no state dict, or its keys or shapes are not those of the architecture."""

    def __init__(self, file: str, problem: str, way_out: str) -> None:
        self.parts = (file, problem, way_out)
        self.file, self.problem, self.way_out = self.parts
        super().__init__(f"{file} {problem}\n{way_out}")


def load_weights(
    model: nn.Module,
    file: Path,
    head: tuple[str, ...],
    *,
    fresh_head: bool = False,
    translate: Translate | None = None,
) -> None:
    """Fill `model` from a state dict, key by key, in place.

    Args:
        model: gets the weights; where the head is replaced, it keeps its own.
        file: a state dict, as .safetensors or by torch.save; code in it is never run.
        head: layers whose size depends on the classes: replaced if made for another number of
            classes, or left out of the file, and said so.
        fresh_head: replace them even if they fit.
        translate: applied to what the file holds.

    Raises:
        UnfitWeights: not a state dict, or other keys are missing, unknown or of another shape.
    """
    stored = read_weights(file)
    if translate is not None:
        stored = translate(model, stored)
    own = model.state_dict()
    fresh = {
        key
        for layer in head
        for key in _keys_of(layer, own)
        if fresh_head or _is_for_other_classes(layer, own, stored)
    }
    wrong = _misfits(own, stored, fresh)
    if wrong:
        listed = "\n  ".join(wrong[:MAX_LISTED])
        more = f"\n  and {len(wrong) - MAX_LISTED} more" if len(wrong) > MAX_LISTED else ""
        raise UnfitWeights(
            str(file),
            f"does not fit {type(model).__name__}:\n  {listed}{more}",
            "Give weights of this architecture with these arguments, or --weights none",
        )
    if fresh:
        _say_fresh(str(file), ", ".join(key for key in own if key in fresh))
    model.load_state_dict({key: own[key] if key in fresh else stored[key] for key in own})


def read_weights(file: Path) -> Weights:
    """The tensors of a file by key, on the CPU.

    Raises:
        UnfitWeights: it holds something else, or code.
        OSError: it cannot be read.
    """
    try:
        if file.suffix == ".safetensors":
            stored = safetensors.torch.load_file(file)
        else:
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # Bytes that are no state dict make the readers fail in more ways than can be listed.
    except Exception as error:
        raise _unreadable(file, _why_unreadable(file, error)) from error
    if not isinstance(stored, Mapping):
        raise _unreadable(file, f"holds a {type(stored).__name__}, not tensors by name")
    odd = [str(key) for key, value in stored.items() if not isinstance(value, Tensor)]
    if odd:
        raise _unreadable(file, f"holds other things than tensors: {', '.join(odd[:MAX_LISTED])}")
    return stored


def _unreadable(file: Path, problem: str) -> UnfitWeights:
    return UnfitWeights(
        str(file),
        f"is no state dict: it {problem}",
        "If it was downloaded, delete it, and it is fetched again; else give a file of "
        "`torch.save(model.state_dict(), ...)` or .safetensors",
    )


def _why_unreadable(file: Path, error: Exception) -> str:
    with file.open("rb") as opened:
        begins = opened.read(512).lstrip()
    if not begins:
        return "is empty"
    if begins.startswith(b"<"):
        return "is a web page"
    # What torch says itself ends in advice to run the code of the file.
    calls = re.search(r"GLOBAL ([\w.]+)", str(error))
    if calls:
        return f"would call {calls[1]}, and code in weights is never run"
    return f"cannot be read ({type(error).__name__}), so it is cut off or of another kind"


def _keys_of(layer: str, tensors: Mapping[str, Any]) -> list[str]:
    return [key for key in tensors if key.startswith(f"{layer}.")]


def _is_for_other_classes(layer: str, own: Weights, stored: Weights) -> bool:
    """Whether a layer is absent, or whole and of another size in its first dimension alone."""
    keys = _keys_of(layer, own)
    if not any(key in stored for key in keys):
        return True
    if not all(key in stored for key in keys):
        return False
    pairs = [(own[key].shape, stored[key].shape) for key in keys]
    return any(a != b for a, b in pairs) and all(
        len(a) == len(b) and a[1:] == b[1:] for a, b in pairs
    )


def _misfits(own: Weights, stored: Weights, fresh: set[str]) -> list[str]:
    # Shapes first: of the same network in another width, they tell the most.
    wrong = [
        f"{key}: shape {tuple(stored[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in stored and key not in fresh and stored[key].shape != own[key].shape
    ]
    wrong += [f"missing {key}" for key in own if key not in stored and key not in fresh]
    return wrong + [f"unknown {key}" for key in stored if key not in own]


@functools.cache
def _say_fresh(file: str, keys: str) -> None:
    """Once per process: a head that starts anew is expected, and yet should not go unnoticed."""
    logger.warning("a fresh head: weights=%s replaced=%s", file, keys)
