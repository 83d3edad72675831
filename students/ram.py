"""The RAM of a student on a device, known before it is trained.

It is the peak of the memory plan of its C program (`students.c`), no estimate: the student is built
with random weights, converted to int8 as an export converts it, and planned. That takes seconds, so a
plan is kept, in the process and in $TUTTI_CACHE/plans, for as long as the code that makes it is the same.

Dimensions: B clips in a batch, C channels, F mel bands, T frames.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from audio.clips import Corpus
from disk import find_cache_folder, write_whole
from logit_store import fingerprint
from students.c.ram import measure_ram
from students.catalogue import build, resolve_arguments
from students.errors import NoPlan
from students.export.onnx_file import convert_student
from students.export.onnx_int8 import convert_to_integers
from students.quantise import calibrate, quantise, remove_rounding
from students.recipe import StudentRecipe

_LIBRARIES = ("torch", "onnx", "onnxscript")
"""What decides the operators of a converted student, besides our own code."""
_known: dict[str, int | str] = {}
"""The bytes of each architecture that this process has asked for, or why it has no plan."""


def measure_architecture_ram(
    model: str, arguments: Mapping[str, Any], *, input_shape: Sequence[int], n_classes: int
) -> int:
    """Return the bytes of RAM that a student takes in int8, for a clip, without the front-end.

    Args:
        model: one of `students.catalogue.ARCHITECTURES`.
        arguments: overrides of the architecture's arguments.
        input_shape: shape of one clip, (1, C, F, T).
        n_classes: number of classes.

    Raises:
        NoPlan: it cannot be converted, or has an operator that the C program does not know.
        ValueError: arguments that the architecture does not have, or an input that it cannot take.
    """
    what = (model, resolve_arguments(model, **arguments), tuple(input_shape), n_classes)
    name = fingerprint((*what, _identify_code()))
    if name not in _known:
        _known[name] = _read_or_measure(name, model, arguments, input_shape, n_classes)
    found = _known[name]
    if isinstance(found, str):
        raise NoPlan(f"student {model} has no memory plan: {found}")
    return found


def measure_recipe_ram(recipe: StudentRecipe, corpus: Corpus) -> int:
    """Return the same for the student of a recipe and a clip of a corpus.

    Raises:
        as for `measure_architecture_ram`.
    """
    front_end = recipe.front_end
    shape_CFT = front_end.compute_shape(round(corpus.clip_duration_s * front_end.sample_rate))
    return measure_architecture_ram(
        recipe.model,
        recipe.arguments,
        input_shape=(1, *shape_CFT),
        n_classes=len(corpus.scenes),
    )


def make_untrained_model(
    model: str, arguments: Mapping[str, Any], *, input_shape: Sequence[int], n_classes: int
) -> onnx.ModelProto:
    """Return the int8 model of a student with random weights, norms and ranges, always the same ones.

    Its operators and shapes are those of the trained student.

    Args, Raises:
        as for `measure_architecture_ram`; and whatever torch raises for a network that it cannot convert.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = build(model, n_classes=n_classes, input_shape=input_shape[1:], **arguments)
        _settle(student.eval())
        simulated = quantise(student, input_shape)
        calibrate(simulated, [torch.randn(tuple(input_shape))])
    in_float32 = convert_student(remove_rounding(simulated), input_shape)
    return convert_to_integers(in_float32, simulated)


def _read_or_measure(
    name: str, model: str, arguments: Mapping[str, Any], input_shape: Sequence[int], n_classes: int
) -> int | str:
    """Return what is kept: the bytes, or why there is no plan; if there is nothing, plan, and keep it."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        kept = json.loads(_find_file(name).read_text())
        return kept["refused"] if "refused" in kept else int(kept["ram"])
    # An argument or input that does not fit is no matter of the plan.
    build(model, n_classes=n_classes, input_shape=input_shape[1:], **arguments)
    try:
        made = make_untrained_model(model, arguments, input_shape=input_shape, n_classes=n_classes)
    except Exception as error:  # noqa: BLE001 - exporters raise anything; such a student can be trained
        return f"ONNX has no form of it: {' '.join(str(error).split())}"
    found: int | str
    try:
        found = measure_ram(made)
    except NoPlan as error:
        found = str(error)
    told = {"student": model, "refused" if isinstance(found, str) else "ram": found}
    # Where nothing can be kept, the next process plans again.
    with contextlib.suppress(OSError):
        write_whole(_find_file(name), json.dumps(told).encode())
    return found


def _find_file(name: str) -> Path:
    return find_cache_folder() / "plans" / f"{name}.json"


@cache
def _identify_code() -> str:
    """Return a digest of all that decides a plan: this package, and the libraries that convert."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".py", ".c", ".h"}:
            digest.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
    digest.update(" ".join(version(each) for each in _LIBRARIES).encode())
    return digest.hexdigest()


@torch.no_grad()
def _settle(student: nn.Module) -> None:
    """Move all parameters and norms from 0 and 1, which a conversion might leave out."""
    for parameter in student.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.track_running_stats:
            nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
