"""An autoscaling cluster on one machine: Ray's own autoscaler, and nodes that are processes here.

`python -m cluster.simulated --max-gpus 2` starts one, runs a job on it, and shows how nodes come
and go. Its head computes nothing; its GPUs are pretended, and what reserves one computes on the CPU.
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
from typing import Any

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)
from rich.console import Console

from cluster.ports import free_ports, listens
from jobs.cluster import ON_LOOPBACK, PRETENDED_GPUS, ROOT
from terminal import parsed

PROVIDER = f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}"
OBJECT_STORE_BYTES = 80 * 2**20
"""Of each node: all of them share one machine's memory."""
DEMO_JOB = (
    *("jobs/teachers.py", "--corpus", "demo", "--recipes", "demo_cpr", "demo_mn"),
    *("--splits", "25", "--gpus-per-run", "1", "--max-steps", "10"),
)
PATIENCE_S = 120.0
CHECK_EVERY_S = 0.2
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """A type of worker nodes."""

    most: int
    """The autoscaler never starts more."""
    cpus: int = 1
    gpus: int = 0

    def node_type(self) -> dict[str, Any]:
        """As a cluster file says it."""
        memory = {"object_store_memory": OBJECT_STORE_BYTES}
        resources = {"CPU": self.cpus, "GPU": self.gpus} | memory
        return {
            "resources": resources,
            "node_config": {},
            "min_workers": 0,
            "max_workers": self.most,
        }


@dataclass(frozen=True, slots=True)
class SimulatedCluster:
    """One that runs."""

    address: str
    """host:port, for RAY_ADDRESS."""
    dashboard: str
    """http address, for RAY_API_SERVER_ADDRESS."""
    folder: Path
    """Of its sockets and logs."""

    def environment(self) -> dict[str, str]:
        """Variables with which a command uses this cluster, and no other."""
        return _mode() | {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            # Each node shows what all of them wrote, as they share a folder.
            "RAY_DEDUP_LOGS": "1",
            PRETENDED_GPUS: "1",
        }

    def raylets(self) -> dict[str, psutil.Process]:
        """The process of each worker node that runs, by the node's name."""
        found = {}
        for process in self._processes("raylet"):
            name = process.environ().get("RAY_CLOUD_INSTANCE_ID", "")
            if name and name != FAKE_HEAD_NODE_ID:
                found[name] = process
        return found

    def nodes(self) -> Counter[str]:
        """How many worker nodes of each type run."""
        return Counter(
            process.environ()["RAY_NODE_TYPE_NAME"] for process in self.raylets().values()
        )

    def kill_node(self, name: str) -> None:
        """Take a node away as a cloud does, without a warning."""
        raylet = self.raylets()[name]
        for process in [raylet, *raylet.children(recursive=True)]:
            _kill(process)

    def kill_everything(self) -> None:
        """Take away all nodes and the head, at once."""
        for process in self._processes():
            _kill(process)

    def _processes(self, name: str | None = None) -> Iterator[psutil.Process]:
        """Those that belong to this cluster, whoever started them."""
        for process in psutil.process_iter(["name", "cmdline"]):
            told = " ".join(process.info["cmdline"] or [])
            if str(self.folder) in told and name in (None, process.info["name"]):
                yield process


@contextmanager
def simulated_cluster(
    workers: dict[str, Workers], *, idle_minutes: float = 0.1
) -> Iterator[SimulatedCluster]:
    """Start a cluster that scales from no node at all, and end all of it afterwards.

    Args:
        workers: types of nodes by their names.
        idle_minutes: a node that has had nothing to do for so long goes.

    Raises:
        RuntimeError: it does not start; has what Ray said.
    """
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        gcs, dashboard, agent = free_ports(3)
        made = SimulatedCluster(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", folder)
        file = folder / "cluster.json"
        file.write_text(json.dumps(cluster_file(workers, made.address, idle_minutes)))
        command = [Path(sys.executable).parent / "ray", "start", "--head", "--block"]
        command += [f"--port={gcs}", f"--dashboard-port={dashboard}", "--num-cpus=0"]
        command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}"]
        command += [f"--object-store-memory={OBJECT_STORE_BYTES}", f"--autoscaling-config={file}"]
        with (folder / "head.log").open("w+") as log:
            head = subprocess.Popen(
                command, cwd=ROOT, env=_head_environment(), stdout=log, stderr=subprocess.STDOUT
            )
            try:
                _wait_for_head(head, [gcs, dashboard, agent], log.name)
                yield made
            finally:
                # The nodes are processes that nobody else would end.
                made.kill_everything()
                head.kill()
                head.wait()


def cluster_file(workers: dict[str, Workers], address: str, idle_minutes: float) -> dict[str, Any]:
    """What `ray start --autoscaling-config` reads: a cluster file whose machines are processes.

    Args:
        workers: types of nodes by their names.
        address: host:port of the head.
        idle_minutes: a node that has had nothing to do for so long goes.
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
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": address,
        },
        "available_node_types": {FAKE_HEAD_NODE_TYPE: head}
        | {name: kind.node_type() for name, kind in workers.items()},
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    } | {f"{name}_commands": [] for name in commands}


def _mode() -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", ON_LOOPBACK: "0"}


def _head_environment() -> dict[str, str]:
    token = Path("~/.ray/auth_token").expanduser()
    if not token.exists() and "RAY_AUTH_TOKEN" not in os.environ:
        token.parent.mkdir(exist_ok=True)
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return (
        kept
        | {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")}
        | _mode()
        | {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "RAY_USAGE_STATS_ENABLED": "0",
            PRETENDED_GPUS: "1",
        }
    )


def _wait_for_head(head: subprocess.Popen[bytes], ports: list[int], log: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not all(listens(port) for port in ports):
        if head.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the simulated cluster does not start: {Path(log).read_text()}")
        time.sleep(CHECK_EVERY_S)


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the command."""

    max_gpus: int = 2
    """Nodes with a (pretended) GPU, at most."""
    max_cpu_nodes: int = 1
    """Nodes without one, at most."""
    idle_minutes: float = 0.1
    """A node that has had nothing to do for so long goes."""
    job: tuple[str, ...] = DEMO_JOB
    """What runs on it: a file in jobs/ and its options."""
    store: Path | None = None
    """Where the job writes; a folder that is thrown away, if not given."""


def main(options: Options) -> int:
    """Run a job on a simulated autoscaling cluster, and show how its nodes come and go.

    Example:
        python -m cluster.simulated --max-gpus 2
    """
    workers = {
        "cpu": Workers(most=options.max_cpu_nodes),
        "gpu": Workers(most=options.max_gpus, gpus=1),
    }
    with (
        tempfile.TemporaryDirectory() as thrown_away,
        simulated_cluster(workers, idle_minutes=options.idle_minutes) as made,
    ):
        console.print(f"head: {made.address}, dashboard: {made.dashboard}")
        store = str((options.store or Path(thrown_away)).absolute())
        command = [sys.executable, *options.job, "--store", store]
        environment = os.environ | made.environment()
        with subprocess.Popen(command, cwd=ROOT, env=environment) as job:
            most = _show_nodes(made, until=lambda: job.poll() is not None)
        _show_status(made)
        _show_nodes(made, until=lambda: not made.nodes())
        _show_status(made)
    console.print(f"at most {_told(most)}; now none")
    return job.returncode


def _show_nodes(made: SimulatedCluster, until: Callable[[], bool]) -> Counter[str]:
    """Print a line whenever nodes came or went; the most that there were of each type."""
    most: Counter[str] = Counter()
    before, started = None, time.monotonic()
    while not until():
        now = made.nodes()
        most |= now
        if now != before:
            console.print(f"{time.monotonic() - started:4.0f} s: {_told(now)}")
        before = now
        time.sleep(1)
    return most


def _told(nodes: Counter[str]) -> str:
    return ", ".join(f"{n} {kind} nodes" for kind, n in sorted(nodes.items())) or "no worker node"


def _show_status(made: SimulatedCluster) -> None:
    ray = Path(sys.executable).parent / "ray"
    subprocess.run(
        [ray, "status", f"--address={made.address}"],
        env=os.environ | made.environment(),
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main(parsed(Options, "python -m cluster.simulated", main.__doc__ or "")))
