"""The rules for an inference package of DCASE 2025 task 1: what it holds, and what its functions return.

Dimensions: N clips, K classes.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from report.dcase import run_package
from report.dcase.challenge import (
    CHALLENGE_SCENES,
    COUNTED_DEVICES,
    LABEL_FORM,
    is_label,
    name_inference_package,
)
from report.dcase.problems import BrokenRule
from report.dcase.unpack import DAMAGED, check_entries, describe_damage
from report.dcase.validate_output import check_output
from report.dcase.vendor import ROOT
from students.complexity import MAX_BYTES, MAX_MACS

TOLERANCE = 1e-3
"""Probabilities of a clip may differ so much from those in output.csv: other batches, other sums."""
TIMEOUT_S = 600

_RUN = "import runpy, sys; runpy.run_path(sys.argv[1])['main'](*sys.argv[2:])"
"""Runs the function of a file without its folder on the path."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip of the evaluation set that the package is asked about."""

    file: Path
    filename: str
    """Its name in output.csv."""
    device_id: str


class _Cost(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    MACs: int
    Params: int


class _Complexity(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    per_device: dict[str, _Cost]
    max_MACs: int
    max_Params: int


class _Network(BaseModel):
    shape: list[int]
    bytes: int
    macs: int


class _Answer(BaseModel):
    """What `run_package` says of a package that has the functions."""

    networks: dict[str, _Network]
    logits: list[list[float]]
    classes: list[str]


def check_inference_package(
    package: Path | bytes, samples: Sequence[Sample] = (), n_clips: int | None = None
) -> list[BrokenRule]:
    """Find every rule that an inference package breaks. It runs the code of the package.

    Args:
        package: The ZIP file, or its bytes.
        samples: Clips of the evaluation set, whose rows in output.csv are compared.
        n_clips: The number of clips in the evaluation set, if it is known.

    Raises:
        OSError: The file does not exist or cannot be read.
    """
    name = package.name if isinstance(package, Path) else "package"
    content = package.read_bytes() if isinstance(package, Path) else package
    try:
        with ZipFile(io.BytesIO(content)) as archive, tempfile.TemporaryDirectory() as folder:
            if broken := list(check_entries(name, archive)):
                return broken
            archive.extractall(folder)
            labels = _find_labels(archive.namelist())
            if not labels:
                expected = f"a module {LABEL_FORM}.py in a package of its name without the number"
                return [BrokenRule(file=name, value="holds no such module", expected=expected)]
            return [
                rule
                for label in labels
                for rule in _check_system(Path(folder), label, samples, n_clips)
            ]
    except DAMAGED as error:
        return [describe_damage(name, error)]


def _find_labels(names: Sequence[str]) -> list[str]:
    """Return the labels of the systems of a package."""
    paths = [PurePosixPath(each) for each in names]
    modules = {path.stem for path in paths if len(path.parts) == 2 and path.suffix == ".py"}
    folders = {path.parts[0] for path in paths if len(path.parts) > 1}
    return sorted(
        each for each in modules if is_label(each) and name_inference_package(each) in folders
    )


def _check_system(
    folder: Path, label: str, samples: Sequence[Sample], n_clips: int | None
) -> Iterator[BrokenRule]:
    package = name_inference_package(label)
    left = f"predictions/{label}"
    needed = [
        f"{package}/__init__.py",
        f"{package}/resources/__init__.py",
        f"{package}/resources/dummy.wav",
        "requirements.txt",
        "setup.py",
        *(f"{left}/{each}" for each in ("output.csv", "complexity.json", "test_accuracy.json")),
    ]
    missing = [each for each in needed if not (folder / each).is_file()]
    yield from (
        BrokenRule(file=each, value="missing", expected=f"it beside {package}/{label}.py")
        for each in missing
    )
    if missing:
        return
    output = (folder / left / "output.csv").read_bytes()
    broken_rows = list(check_output(f"{left}/output.csv", output, n_clips))
    yield from broken_rows
    yield from _check_accuracy(folder, f"{left}/test_accuracy.json")
    known, broken = _read_complexity(folder, f"{left}/complexity.json")
    yield from broken
    module = f"{package}/{label}.py"
    answered = _ask(folder, label, samples)
    if "networks" not in answered:
        lacking = ", ".join(answered.get("lacking", ()))
        value = f"lacks {lacking}" if lacking else answered.get("error", "no answer")
        yield BrokenRule(file=module, value=value, expected="the functions of the challenge")
        return
    try:
        answer = _Answer.model_validate(answered)
    except ValidationError as error:
        first = error.errors()[0]
        place, value = ".".join(map(str, first["loc"])), repr(first["input"])[:80]
        yield BrokenRule(file=module, place=place, value=value, expected=first["msg"])
        return
    yield from _check_networks(module, answer.networks, known)
    # Rows that break rules of their own cannot be compared.
    yield from _check_logits(module, answer, samples, {} if broken_rows else _read_rows(output))


def _check_accuracy(folder: Path, file: str) -> Iterator[BrokenRule]:
    try:
        document = json.loads((folder / file).read_bytes())
    except (ValueError, RecursionError) as error:
        yield BrokenRule(file=file, value=str(error), expected="JSON")
        return
    value = document.get("Test Accuracy") if isinstance(document, dict) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= 100):
        yield BrokenRule(
            file=file, place="Test Accuracy", value=repr(value), expected="a percentage, 0 ... 100"
        )


def _read_complexity(folder: Path, file: str) -> tuple[_Complexity | None, list[BrokenRule]]:
    """Return what complexity.json says, and the rules that it breaks."""
    try:
        found = TypeAdapter(_Complexity).validate_json((folder / file).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        rule = BrokenRule(
            file=file,
            place=place,
            value=repr(first["input"])[:80],
            expected=f"per_device with MACs and Params, max_MACs, max_Params ({first['msg']})",
        )
        return None, [rule]
    broken = []
    if tuple(found.per_device) != COUNTED_DEVICES:
        broken.append(
            BrokenRule(
                file=file,
                place="per_device",
                value=", ".join(found.per_device) or "nothing",
                expected=", ".join(COUNTED_DEVICES),
            )
        )
    for name, limit in (("MACs", MAX_MACS), ("Params", MAX_BYTES)):
        most = max((getattr(each, name) for each in found.per_device.values()), default=0)
        told = getattr(found, f"max_{name}")
        if told != most:
            expected = f"{most:,}, the largest of the devices"
            broken.append(
                BrokenRule(file=file, place=f"max_{name}", value=f"{told:,}", expected=expected)
            )
        if most > limit:
            expected = f"at most {limit:,}"
            broken.append(BrokenRule(file=file, place=name, value=f"{most:,}", expected=expected))
    return found, broken


def _ask(folder: Path, label: str, samples: Sequence[Sample]) -> Mapping[str, Any]:
    """Return what the package answers, in a process that has nothing of the project."""
    package = name_inference_package(label)
    dummy = str(folder / package / "resources" / "dummy.wav")
    clips = [(str(sample.file), sample.device_id) for sample in samples] or [(dummy, "a")]
    questions = folder / "questions.json"
    devices = [*COUNTED_DEVICES, "unknown"]
    questions.write_text(json.dumps({"devices": devices, "dummy": dummy, "clips": clips}))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _RUN, run_package.__file__, str(folder), package, label]
    command += [str(questions), str(ROOT)]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {TIMEOUT_S} s"}
    # The package may print too, before it answers and after.
    for line in reversed(done.stdout.splitlines()):
        try:
            answered = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(answered, dict):
            return answered
    told = done.stderr.strip()[-300:]
    return {"error": told or f"no answer, and the exit code {done.returncode}"}


def _check_networks(
    file: str, networks: Mapping[str, _Network], known: _Complexity | None
) -> Iterator[BrokenRule]:
    """Compare the cost of each device's network with complexity.json and the limits."""
    for device, network in networks.items():
        if network.shape[:1] != [1]:
            yield BrokenRule(
                file=file,
                place="load_inputs",
                value=f"a tensor of shape {tuple(network.shape)}",
                expected="(1, ...): the input of one file",
            )
        told = known.per_device.get(device) if known else None
        figures = {"MACs": (network.macs, MAX_MACS), "Params": (network.bytes, MAX_BYTES)}
        for name, (figure, limit) in figures.items():
            place, value = f"get_model_for_device(model, {device!r})", f"{figure:,} {name}"
            if told is not None and getattr(told, name) != figure:
                expected = f"{getattr(told, name):,} as in complexity.json"
                yield BrokenRule(file=file, place=place, value=value, expected=expected)
            if not 0 < figure <= limit:
                yield BrokenRule(file=file, place=place, value=value, expected=f"1 ... {limit:,}")


def _check_logits(
    file: str,
    answer: _Answer,
    samples: Sequence[Sample],
    rows: Mapping[str, Mapping[str, str]],
) -> Iterator[BrokenRule]:
    """Compare what the package predicts with the rows of output.csv."""
    classes = answer.classes
    if sorted(classes) != sorted(CHALLENGE_SCENES):
        yield BrokenRule(
            file=file,
            place="predict",
            value=f"classes {', '.join(classes)}",
            expected=", ".join(CHALLENGE_SCENES),
        )
        return
    expected_shape = (max(1, len(samples)), len(CHALLENGE_SCENES))
    lengths = {len(each) for each in answer.logits}
    if len(answer.logits) != expected_shape[0] or lengths != {expected_shape[1]}:
        yield BrokenRule(
            file=file,
            place="predict",
            value=f"{len(answer.logits)} lists of {sorted(lengths)} logits",
            expected=f"{expected_shape[0]} of {expected_shape[1]}, one for each file",
        )
        return
    if not np.isfinite(answer.logits).all():
        value = "logits that are not finite"
        yield BrokenRule(file=file, place="predict", value=value, expected="finite numbers")
        return
    for sample, logits_K in zip(samples, answer.logits, strict=False):
        row = rows.get(sample.filename)
        if row is None:
            continue
        told_K = [float(row[scene]) for scene in classes]
        difference = float(np.abs(_soften(logits_K) - np.array(told_K)).max())
        if difference > TOLERANCE:
            yield BrokenRule(
                file=file,
                place=f"predict({sample.filename!r}, {sample.device_id!r})",
                value=f"probabilities that differ by {difference:.4f} from output.csv",
                expected=f"at most {TOLERANCE}",
            )


def _read_rows(output: bytes) -> dict[str, dict[str, str]]:
    table = csv.DictReader(io.StringIO(output.decode()), delimiter="\t")
    return {row["filename"]: row for row in table}


def _soften(logits_K: Sequence[float]) -> np.ndarray:
    shifted = np.exp(np.array(logits_K) - max(logits_K))
    return shifted / shifted.sum()
