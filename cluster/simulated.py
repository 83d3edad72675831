"""An autoscaling cluster on one machine: Ray's own autoscaler, with processes as nodes.

`python -m cluster.simulated --max-gpus 2` starts one, runs a job on it, and shows how nodes come
and go. The head runs no tasks. The GPUs are pretended: a task that reserves one runs on the CPU.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil

from cluster.ports import find_free_ports, is_listening
from disk import open_whole
from jobs.schedule.cluster import ROOT
from jobs.schedule.workers import PRETENDED_GPUS
from terminal import parse_options, run_program
from terminal.console import console
from terminal.tables import format_count
from terminal.values import NewFolder, Text, above, whole

PROGRAM = "python -m cluster.simulated"
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
"""The provider of Ray's own autoscaler tests: it starts processes in place of machines."""
HEAD_TYPE = "ray.head.default"
"""The provider expects this name."""
HEAD_ID = "f" * 51 + "00000"
"""The head's node ID: 28 bytes in hexadecimal."""
NODE_OBJECT_STORE_BYTES = 80 * 2**20
"""For each node, as all of them share one machine's memory."""
DEMO_JOB = (
    *("jobs/teachers.py", "--corpus", "demo", "--recipes", "demo_cpr", "demo_mn"),
    *("--splits", "25", "--gpus-per-run", "1", "--max-steps", "10"),
)
PATIENCE_S = 120.0
CHECK_EVERY_S = 0.2

Nodes = Annotated[int, whole(0, 64)]
"""All of them are processes of this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerType:
    """A type of worker nodes."""

    most: int
    """The largest number of such nodes that the autoscaler starts."""
    cpus: int = 1
    gpus: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the description of this type in a cluster file."""
        memory = {"object_store_memory": NODE_OBJECT_STORE_BYTES}
        resources = {"CPU": self.cpus, "GPU": self.gpus} | memory
        return {
            "resources": resources,
            "node_config": {},
            "min_workers": 0,
            "max_workers": self.most,
        }


@dataclass(frozen=True, slots=True)
class SimulatedCluster:
    """A simulated cluster that is running."""

    address: str
    """host:port, for RAY_ADDRESS."""
    dashboard: str
    """http address, for RAY_API_SERVER_ADDRESS."""
    folder: Path
    """Contains its sockets and logs."""

    def make_environment(self) -> dict[str, str]:
        """Return the environment variables with which a command uses this cluster and no other."""
        return _make_mode() | {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            # The nodes share a folder, so each of them shows the log lines of all.
            "RAY_DEDUP_LOGS": "1",
            PRETENDED_GPUS: "1",
        }

    def find_raylets(self) -> dict[str, psutil.Process]:
        """Return the process of each running worker node by the node's name."""
        raylets = {}
        for process in self._find_processes("raylet"):
            name = process.environ().get("RAY_CLOUD_INSTANCE_ID", "")
            if name and name != HEAD_ID:
                raylets[name] = process
        return raylets

    def count_nodes(self) -> Counter[str]:
        """Count the running worker nodes of each type."""
        return Counter(
            process.environ()["RAY_NODE_TYPE_NAME"] for process in self.find_raylets().values()
        )

    def kill_node(self, name: str) -> None:
        """Kill a node without a warning, as clouds do."""
        raylet = self.find_raylets()[name]
        for process in [raylet, *raylet.children(recursive=True)]:
            _kill(process)

    def kill_everything(self) -> None:
        """Kill all nodes and the head at once."""
        for process in self._find_processes():
            _kill(process)

    def _find_processes(self, name: str | None = None) -> Iterator[psutil.Process]:
        """Find the processes of this cluster by its folder in their command lines."""
        for process in psutil.process_iter(["name", "cmdline"]):
            command = " ".join(process.info["cmdline"] or [])
            if str(self.folder) in command and name in (None, process.info["name"]):
                yield process


@contextmanager
def start_simulated_cluster(
    workers: dict[str, WorkerType], *, idle_minutes: float = 0.1
) -> Iterator[SimulatedCluster]:
    """Start a cluster that begins without worker nodes, and end all its processes afterwards.

    Args:
        workers: types of nodes by their names.
        idle_minutes: a node that has been idle for this long is removed.

    Raises:
        RuntimeError: the cluster does not start; the message contains Ray's output.
    """
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        gcs, dashboard, agent = find_free_ports(3)
        cluster = SimulatedCluster(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", folder)
        file = folder / "cluster.json"
        file.write_text(json.dumps(describe_cluster(workers, cluster.address, idle_minutes)))
        command = [Path(sys.executable).parent / "ray", "start", "--head", "--block"]
        command += [f"--port={gcs}", f"--dashboard-port={dashboard}", "--num-cpus=0"]
        command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}"]
        command += [
            f"--object-store-memory={NODE_OBJECT_STORE_BYTES}",
            f"--autoscaling-config={file}",
        ]
        with (folder / "head.log").open("w+") as log:
            head = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_make_head_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                _wait_for_head(head, [gcs, dashboard, agent], log.name)
                yield cluster
            finally:
                # Ray does not end the processes that stand for nodes.
                cluster.kill_everything()
                head.kill()
                head.wait()


def describe_cluster(
    workers: dict[str, WorkerType], address: str, idle_minutes: float
) -> dict[str, Any]:
    """Return the cluster file for `ray start --autoscaling-config`, whose machines are processes.

    Args:
        workers: types of nodes by their names.
        address: host:port of the head.
        idle_minutes: a node that has been idle for this long is removed.
    """
    head = {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    commands = ("initialization", "setup", "head_setup", "worker_setup")
    return {
        "cluster_name": "simulated",
        "max_workers": sum(kind.most for kind in workers.values()),
        "idle_timeout_minutes": idle_minutes,
        "upscaling_speed": 1.0,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": address,
        },
        "available_node_types": {HEAD_TYPE: head}
        | {name: kind.describe() for name, kind in workers.items()},
        "head_node_type": HEAD_TYPE,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    } | {f"{name}_commands": [] for name in commands}


def _make_mode() -> dict[str, str]:
    from jobs.schedule.ray_private import LOOPBACK_VARIABLE

    return {"RAY_AUTH_MODE": "token", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", LOOPBACK_VARIABLE: "0"}


def _make_head_environment() -> dict[str, str]:
    token = Path("~/.ray/auth_token").expanduser()
    if not token.exists() and "RAY_AUTH_TOKEN" not in os.environ:
        with open_whole(token) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secrets.token_hex(32).encode())
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return (
        kept
        | {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
        | _make_mode()
        | {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
            "RAY_USAGE_STATS_ENABLED": "0",
            PRETENDED_GPUS: "1",
        }
    )


def _wait_for_head(head: subprocess.Popen[bytes], ports: list[int], log: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not all(is_listening(port) for port in ports):
        if head.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the simulated cluster does not start: {Path(log).read_text()}")
        time.sleep(CHECK_EVERY_S)


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


PROGRAM = "python -m cluster.simulated"


@dataclass(frozen=True, kw_only=True)
class SimulatedClusterOptions:
    """Options of `python -m cluster.simulated`."""

    max_gpus: Nodes = 2
    """The largest number of nodes with a (pretended) GPU."""
    max_cpu_nodes: Nodes = 1
    """The largest number of nodes without a GPU."""
    idle_minutes: Annotated[float, above(0, to=24 * 60)] = 0.1
    """A node that has been idle for this long is removed."""
    job: tuple[Text, ...] = DEMO_JOB
    """The job to run on the cluster: a file in jobs/ and its options."""
    store: NewFolder | None = None
    """The store that the job writes to; by default a temporary folder."""


def main(options: SimulatedClusterOptions) -> int:
    """Run a job on a simulated autoscaling cluster, and show how its nodes come and go.

    Example:
        python -m cluster.simulated --max-gpus 2
    """
    workers = {
        "cpu": WorkerType(most=options.max_cpu_nodes),
        "gpu": WorkerType(most=options.max_gpus, gpus=1),
    }
    with (
        tempfile.TemporaryDirectory() as temporary,
        start_simulated_cluster(workers, idle_minutes=options.idle_minutes) as cluster,
    ):
        console.print(f"head: {cluster.address}, dashboard: {cluster.dashboard}")
        store = str((options.store or Path(temporary)).absolute())
        command = [sys.executable, *options.job, "--store", store]
        environment = os.environ | cluster.make_environment()
        with subprocess.Popen(command, cwd=ROOT, env=environment) as job:
            most = _show_nodes(cluster, until=lambda: job.poll() is not None)
        _show_status(cluster)
        _show_nodes(cluster, until=lambda: not cluster.count_nodes())
        _show_status(cluster)
    console.print(f"at most {_describe_nodes(most)}; now none")
    return job.returncode


def _show_nodes(cluster: SimulatedCluster, until: Callable[[], bool]) -> Counter[str]:
    """Print a line whenever nodes come or go; return the largest number of nodes of each type."""
    most: Counter[str] = Counter()
    before, started = None, time.monotonic()
    while not until():
        now = cluster.count_nodes()
        most |= now
        if now != before:
            console.print(f"{time.monotonic() - started:4.0f} s: {_describe_nodes(now)}")
        before = now
        time.sleep(1)
    return most


def _describe_nodes(nodes: Counter[str]) -> str:
    return (
        ", ".join(format_count(n, f"{kind} node") for kind, n in sorted(nodes.items()))
        or "no worker node"
    )


def _show_status(cluster: SimulatedCluster) -> None:
    ray = Path(sys.executable).parent / "ray"
    subprocess.run(
        [ray, "status", f"--address={cluster.address}"],
        env=os.environ | cluster.make_environment(),
        check=True,
    )


if __name__ == "__main__":
    run_program(
        PROGRAM, lambda: main(parse_options(SimulatedClusterOptions, PROGRAM, main.__doc__ or ""))
    )
