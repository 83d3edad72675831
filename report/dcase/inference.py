"""The inference package that DCASE 2025 task 1 asks for: a Python package, and what its scripts leave.

    Doe_UNI_task1/Doe_UNI_task1_1.py        load_model, load_inputs, get_model_for_device, predict
    Doe_UNI_task1/ckpts/Doe_UNI_task1_1.ckpt
    Doe_UNI_task1/models/                   the networks and the front-end: modules of this project
    Doe_UNI_task1/resources/dummy.wav       one second that networks are counted on
    predictions/Doe_UNI_task1_1/            output.csv, complexity.json, test_accuracy.json, model_state_dict.pt
    requirements.txt, setup.py, README.md, LICENSE

The organisers' test_complexity.py and evaluate_submission.py, laid beside it, run on it as they are.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import soundfile
import torch

from report.dcase.challenge import COUNTED_DEVICES, name_inference_package
from report.dcase.vendor import ROOT, copy_modules, find_file, list_requirements, rewrite_imports
from students.branches import fold_branches
from students.catalogue import ARCHITECTURES, resolve_arguments
from students.complexity import Complexity, Precision
from students.per_device import DeviceStudents

MODULE = "report.dcase.inference_module"
DUMMY_RATE = 44_100
_PYTHON = ">=3.11"


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Predictions:
    """What the organisers' scripts leave beside the package."""

    output: bytes
    """The file of predictions, as it is submitted."""
    test_accuracy: float
    """Share of the test clips of the development set that are right, in percent."""


def make_inference_package(
    label: str,
    students: DeviceStudents,
    model: str,
    arguments: Mapping[str, Any],
    scenes: tuple[str, ...],
    precision: Precision,
    complexity: Complexity,
    predictions: Predictions,
) -> dict[str, bytes]:
    """Return the files of a package by their paths; equal parts give equal bytes.

    Args:
        label: The label of the system.
        students: Its networks.
        model: The name of their architecture.
        arguments: The architecture's arguments.
        scenes: Names of the classes, in the order of the logits.
        precision: fp16 or fp32: the precision of the weights.
        complexity: What each of the networks costs.
        predictions: What the scripts leave.

    Raises:
        ValueError: A module cannot be copied into the package.
    """
    package = name_inference_package(label)
    prefix = f"{package}.models"
    network = ARCHITECTURES[model].network
    own = find_file(MODULE).read_text(encoding="utf-8")
    modules = ["audio.front_ends", "audio.log_mel", "students.branches"]
    copied = copy_modules([*modules, f"students.{network.partition('.')[0]}"], prefix)
    checkpoint = {
        "network": network,
        "arguments": resolve_arguments(model, **arguments),
        "front_end": asdict(students.front_end),
        "classes": list(scenes),
        "precision": precision,
        "devices": list(students.by_device),
        "weights": [
            # Rounded when they are loaded, after branches have become one convolution.
            _round(student.state_dict(), "fp32")
            for student in (students.general, *students.by_device.values())
        ],
    }
    texts = {
        f"{package}/{label}.py": rewrite_imports(own, prefix),
        **{f"{package}/models/{path}": text for path, text in copied.items()},
        **{f"{package}/{each}__init__.py": "" for each in _PACKAGES},
        "requirements.txt": _list_requirements([own, *copied.values()], package),
        "setup.py": _SETUP.format(package=package, python=_PYTHON),
        "README.md": _README.format(package=package, label=label, number=label[-1]),
        "LICENSE": (ROOT / "LICENSE").read_text(encoding="utf-8"),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files |= {
        f"{package}/ckpts/{label}.ckpt": _save(checkpoint),
        f"{package}/resources/dummy.wav": _make_dummy(),
    }
    folder = f"predictions/{label}"
    return files | {
        f"{folder}/output.csv": predictions.output,
        f"{folder}/complexity.json": describe_complexity(complexity, precision),
        f"{folder}/test_accuracy.json": _encode(
            {"Test Accuracy": round(predictions.test_accuracy, 2)}
        ),
        f"{folder}/model_state_dict.pt": _save(_join_states(students, precision)),
    }


_PACKAGES = ("", "ckpts/", "resources/", "models/", "models/audio/", "models/students/")


def describe_complexity(complexity: Complexity, precision: Precision) -> bytes:
    """Return complexity.json as the organisers' script writes it: all networks are of one size."""
    macs, n_bytes = complexity.macs, complexity.parameter_bytes(precision)
    one = {"MACs": macs, "Params": n_bytes}
    per_device = dict.fromkeys(COUNTED_DEVICES, one)
    return _encode({"per_device": per_device, "max_MACs": macs, "max_Params": n_bytes})


def _round(weights: Mapping[str, torch.Tensor], precision: Precision) -> dict[str, torch.Tensor]:
    """Return weights at a precision; counts stay whole numbers."""
    kind = torch.float16 if precision == "fp16" else torch.float32
    return {
        name: (tensor.to(kind) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in weights.items()
    }


def _join_states(students: DeviceStudents, precision: Precision) -> dict[str, torch.Tensor]:
    """Return the state of all networks under the names that they have in the package."""
    named = {"general": students.general}
    named |= {f"by_device.{name}": each for name, each in students.by_device.items()}
    return {
        f"{prefix}.{name}": tensor
        for prefix, student in named.items()
        for name, tensor in _round(fold_branches(student).state_dict(), precision).items()
    }


def _save(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _make_dummy() -> bytes:
    noise = np.random.default_rng(0).normal(0, 0.1, DUMMY_RATE)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, DUMMY_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _encode(document: object) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def _list_requirements(texts: list[str], package: str) -> str:
    names = list_requirements(texts, package)
    return "".join(f"{name}>={version(name).partition('+')[0]}\n" for name in names)


_SETUP = """from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="{package}",
    version="1.0",
    packages=find_packages(),
    package_data={{"{package}": ["ckpts/*.ckpt", "resources/*"]}},
    install_requires=Path("requirements.txt").read_text().splitlines(),
    python_requires="{python}",
)
"""
_README = """# {package}: inference package for DCASE 2025 task 1

`{package}.{label}` has the four functions that the challenge asks for: `predict`, `load_model`, `load_inputs`
and `get_model_for_device`. `predictions/{label}/` has what the organisers' scripts leave.

    pip install -e .
    python test_complexity.py --submission_name {package} --submission_index {number}
    python evaluate_submission.py --submission_name {package} --submission_index {number} \\
        --dev_set_dir DEVELOPMENT_SET --eval_set_dir EVALUATION_SET

Both scripts are the organisers': https://github.com/CPJKU/dcase2025_task1_inference.
"""
