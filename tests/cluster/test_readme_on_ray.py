"""The commands of cluster/README.md for one machine, run on Ray."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import ray_settings
from typed_commands import fenced

RAYS = ("raylet", "gcs_server")


@pytest.fixture(scope="module")
def this_machine(readme):
    """Return the block for one machine without its first line, which activates the environment."""
    section = readme[readme.index("## This machine") : readme.index("## AWS")]
    (block,) = fenced(section, "sh")
    activate, _, rest = block.partition("\n")
    assert activate == "source .venv/bin/activate"
    return rest


@pytest.fixture
def nobody_elses_cluster():
    """Skip the test if another cluster of the user runs, because `ray stop` would end it too."""
    names = {process.info["name"] for process in psutil.process_iter(["name"])}
    if names & set(RAYS):
        pytest.skip("a Ray cluster runs on this machine, which `ray stop` would end")


@pytest.mark.usefixtures("nobody_elses_cluster")
def test_the_commands_for_one_machine_work_and_only_loopback_listens(this_machine, root, tmp_path):
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as ray_folder:
        environment = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")}
        environment |= {
            "HOME": str(tmp_path),
            "RAY_TMPDIR": ray_folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            **ray_settings.ENVIRONMENT,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        typed = this_machine.replace("/tmp/tutti", str(tmp_path / "store"))
        before_the_end, _, stop = typed.rpartition("ray stop")
        assert stop.strip() == ""
        try:
            printed = type_in(before_the_end, environment, root)
            listening = addresses_listened_on()
            on_command_lines = " ".join(all_command_lines())
        finally:
            type_in("ray stop", environment, root)
    token = (tmp_path / ".ray" / "auth_token").read_text().strip()
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert "[1/1] demo_cpr split 25 seed 0: done in" in printed
    assert "SUCCEEDED" in printed
    assert '"ray_version"' in printed
    assert len(token) > 20
    assert token not in printed
    assert token not in on_command_lines
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def type_in(commands, environment, root):
    """Return the output of a shell that stops at the first command that fails."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def rays_processes():
    for process in psutil.process_iter(["name", "cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["name"] in RAYS or "ray/dashboard" in line or line.startswith("ray::"):
            yield process


def addresses_listened_on():
    found = set()
    for process in rays_processes():
        connections = process.net_connections("tcp")
        found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def all_command_lines():
    return (" ".join(process.cmdline()) for process in rays_processes())
