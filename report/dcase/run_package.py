"""Calls the functions of an inference package as the organisers' scripts do, in a process of its own.

`main` reads QUESTIONS, a JSON file with `devices`, `dummy` and `clips` (pairs of a file and a device id), and
prints one line of JSON: what the functions returned, or the error. Nothing of the project is on its path
until they have, so a package that needs the project fails; then PROJECT counts the networks.
"""

import copy
import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

FUNCTIONS = {
    "load_model": ("model_file_path",),
    "load_inputs": ("file_paths", "device_ids", "model"),
    "get_model_for_device": ("model", "device_id"),
    "predict": ("file_paths", "device_ids", "model_file_path", "use_cuda"),
}
"""The functions that a module must have, and the parameters that the scripts name."""


def answer(module: Any, asked: dict[str, Any], project: str) -> dict[str, Any]:
    """Return what the functions of a module return; the project counts the networks."""
    lacking = []
    for name, parameters in FUNCTIONS.items():
        function = getattr(module, name, None)
        known = inspect.signature(function).parameters if callable(function) else {}
        lacking += [f"{name}({each})" for each in parameters if each not in known]
    if lacking:
        return {"lacking": lacking}
    model, devices = module.load_model(), asked["devices"]
    inputs = module.load_inputs([asked["dummy"]] * len(devices), devices, model)
    networks = {device: module.get_model_for_device(model, device) for device in devices}
    files, ids = (list(each) for each in zip(*asked["clips"], strict=True))
    logits, classes = module.predict(
        file_paths=files, device_ids=ids, model_file_path=None, use_cuda=False
    )
    sys.path.append(project)
    from students.complexity.count import measure_complexity

    counted = {}
    for (device, network), tensor in zip(networks.items(), inputs, strict=True):
        shape = list(tensor.shape)
        counted[device] = {
            "shape": shape,
            "bytes": sum(each.numel() * each.element_size() for each in network.parameters()),
            "macs": measure_complexity(copy.deepcopy(network).float(), shape).macs,
        }
    return {
        "networks": counted,
        "n_state": len(model.model.state_dict()),
        "logits": [each.tolist() for each in logits],
        "classes": list(classes),
    }


def main(folder: str, package: str, module: str, questions: str, project: str) -> None:
    """Print what a module of a package answers."""
    sys.path[:] = [folder, *(each for each in sys.path if each)]
    try:
        found = importlib.import_module(f"{package}.{module}")
        answered = answer(found, json.loads(Path(questions).read_text()), project)
    except Exception as error:  # noqa: BLE001 - whatever a foreign package raises is its answer
        answered = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(answered) + "\n")
