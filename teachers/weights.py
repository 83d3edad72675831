"""Loads weights into a model, key by key; a head for other classes starts from random weights."""

import functools
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from logit_store.declared import find_packed_record
from teachers.errors import UnfitWeights

logger = logging.getLogger(__name__)

Weights = Mapping[str, Tensor]
Translate = Callable[[nn.Module, Weights], Weights]
"""Converts the keys and shapes of a foreign state dict to those of the model."""

MAX_LISTED = 20


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
        model: receives the weights; a fresh head keeps those that it has.
        file: a state dict, as .safetensors or by torch.save; code in it is never run.
        head: layers whose size depends on the classes; they stay fresh, with a warning, if the file
            has them for another number of classes or not at all.
        fresh_head: they stay fresh even if they fit.
        translate: applied to the contents of the file.

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
        for key in _list_keys(layer, own)
        if fresh_head or _is_for_other_classes(layer, own, stored)
    }
    wrong = _find_misfits(own, stored, fresh)
    if wrong:
        listed = "\n  ".join(wrong[:MAX_LISTED])
        more = f"\n  and {len(wrong) - MAX_LISTED} more" if len(wrong) > MAX_LISTED else ""
        raise UnfitWeights(
            str(file),
            f"does not fit {type(model).__name__}:\n  {listed}{more}",
            "Give weights of this architecture with these arguments, or --weights none",
        )
    if fresh:
        _warn_of_fresh_head(str(file), ", ".join(key for key in own if key in fresh))
    model.load_state_dict({key: own[key] if key in fresh else stored[key] for key in own})


def read_weights(file: Path) -> Weights:
    """Return the tensors of a file by key, on the CPU.

    Raises:
        UnfitWeights: it holds something else, or code.
        OSError: it cannot be read.
    """
    try:
        if file.suffix == ".safetensors":
            stored = safetensors.torch.load_file(file)
        elif packed := find_packed_record(file):
            raise _make_unreadable_error(file, packed)
        else:
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, UnfitWeights):
        raise
    # On bytes that are not a state dict the readers fail in more ways than can be listed.
    except Exception as error:
        raise _make_unreadable_error(file, _find_problem(file, error)) from error
    if not isinstance(stored, Mapping):
        raise _make_unreadable_error(file, f"holds a {type(stored).__name__}, not tensors by name")
    odd = [str(key) for key, value in stored.items() if not isinstance(value, Tensor)]
    if odd:
        raise _make_unreadable_error(
            file, f"holds other things than tensors: {', '.join(odd[:MAX_LISTED])}"
        )
    return stored


def _make_unreadable_error(file: Path, problem: str) -> UnfitWeights:
    return UnfitWeights(
        str(file),
        f"is not a state dict: it {problem}",
        "If it was downloaded, delete it to fetch it again; otherwise give a file of "
        "`torch.save(model.state_dict(), ...)` or .safetensors",
    )


def _find_problem(file: Path, error: Exception) -> str:
    with file.open("rb") as opened:
        begins = opened.read(512).lstrip()
    if not begins:
        return "is empty"
    if begins.startswith(b"<"):
        return "is a web page"
    # torch's own message ends with the advice to run the code in the file.
    calls = re.search(r"GLOBAL ([\w.]+)", str(error))
    if calls:
        return f"would call {calls[1]}, and code in weights is never run"
    return f"cannot be read ({type(error).__name__}), so it is truncated or of another kind"


def _list_keys(layer: str, tensors: Mapping[str, Any]) -> list[str]:
    return [key for key in tensors if key.startswith(f"{layer}.")]


def _is_for_other_classes(layer: str, own: Weights, stored: Weights) -> bool:
    """Return whether a layer is absent, or complete and of another size in its first dimension only."""
    keys = _list_keys(layer, own)
    if not any(key in stored for key in keys):
        return True
    if not all(key in stored for key in keys):
        return False
    pairs = [(own[key].shape, stored[key].shape) for key in keys]
    return any(a != b for a, b in pairs) and all(
        len(a) == len(b) and a[1:] == b[1:] for a, b in pairs
    )


def _find_misfits(own: Weights, stored: Weights, fresh: set[str]) -> list[str]:
    # Shapes first: they say the most if it is the same network in another width.
    wrong = [
        f"{key}: shape {tuple(stored[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in stored and key not in fresh and stored[key].shape != own[key].shape
    ]
    wrong += [f"missing {key}" for key in own if key not in stored and key not in fresh]
    return wrong + [f"unknown {key}" for key in stored if key not in own]


@functools.cache
def _warn_of_fresh_head(file: str, keys: str) -> None:
    """Warn once per process: a fresh head is expected, but should not go unnoticed."""
    logger.warning("a fresh head: weights=%s replaced=%s", file, keys)
