"""Which nodes a cluster's autoscaler may add: a cluster that scales from zero has no GPU yet.

Ray tells of nodes that are there. What may come is known to its autoscaler: from a report in the
cluster's own memory, which some autoscalers make, or from the file that the autoscaler's process on
this machine was started with, as `ray up` does on the head, where submitted jobs run. The
autoscaler of KubeRay runs in a container of its own and tells nobody: there, --gpus-per-run says
that runs take GPUs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray._private.state import state

_FILE, _OF_CLUSTER = "--autoscaling-config=", "--gcs-address="


@dataclass(frozen=True, slots=True)
class NodeType:
    """Nodes that the autoscaler may add."""

    resources: Mapping[str, float]
    """Of one node, as Ray counts them: CPU, GPU, memory in bytes."""
    n_most: float
    """So many at most; infinite if there is no limit."""


def node_types() -> list[NodeType]:
    """What the autoscaler of the connected cluster may add; empty if it has none that tells."""
    reported = state.get_cluster_config()
    if reported is not None and reported.node_group_configs:
        return [
            NodeType(dict(each.resources), math.inf if each.max_count < 0 else each.max_count)
            for each in reported.node_group_configs
        ]
    address = ray.get_runtime_context().gcs_address
    for command in _commands():
        file = _option(command, _FILE)
        if file is not None and _option(command, _OF_CLUSTER) == address:
            return read_types(Path(file).expanduser())
    return []


def read_types(file: Path) -> list[NodeType]:
    """The node types of a cluster file, as `ray up` takes it; without the head, which is there."""
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    most = config.get("max_workers", 0)
    head = config["head_node_type"]
    return [
        NodeType(each.get("resources", {}), min(each.get("max_workers", most), most))
        for name, each in config["available_node_types"].items()
        if name != head
    ]


def _commands() -> Iterator[list[str]]:
    """Command lines of this machine's processes, as far as this user may see them."""
    for process in psutil.process_iter(["cmdline"]):
        yield process.info["cmdline"] or []


def _option(command: list[str], option: str) -> str | None:
    return next((word.removeprefix(option) for word in command if word.startswith(option)), None)
