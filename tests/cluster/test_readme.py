"""What cluster/README.md tells people to type."""

import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import psutil
import pytest
import ray_settings
import tyro
from typed_commands import options_of, parse_ray

RAYS = ("raylet", "gcs_server")
RULE = ["gcloud", "compute", "firewall-rules", "create"]


@pytest.fixture(scope="module")
def readme(root):
    return (root / "cluster" / "README.md").read_text()


def blocks(text):
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def commands(readme):
    """Every command that is typed, in words: as far as the shell passes them to the program."""
    lines = "".join(blocks(readme)).splitlines()
    typed = re.findall(r"`((?:ray|python jobs)[^`]* (?:--|cluster/)[^`]*)`", readme)
    words = [shlex.split(line, comments=True) for line in [*lines, *typed]]
    return [list(itertools.takewhile(lambda word: word not in (">", "|"), line)) for line in words]


@pytest.fixture(scope="module")
def this_machine(readme):
    """The block that runs anywhere, but for its first line: the tests' environment is there."""
    section = readme[readme.index("## This machine") : readme.index("## AWS")]
    (block,) = blocks(section)
    activate, _, rest = block.partition("\n")
    assert activate == "source .venv/bin/activate"
    return rest


def test_every_ray_command_is_one_with_such_options(commands):
    said = [words[1:] for words in commands if words[0] == "ray"]
    assert len(said) > 10
    for words in said:
        parse_ray(words)


def test_the_check_of_rays_options_finds_one_that_there_is_not():
    with pytest.raises(click.NoSuchOption, match="--max-machines"):
        parse_ray(["up", "cluster/aws.yaml", "--max-machines", "2"])


def test_every_job_is_one_with_such_options(commands, root):
    jobs = [words[words.index("python") + 1 :] for words in commands if "python" in words]
    assert len(jobs) >= 2
    for script, *options in jobs:
        assert (root / script).is_file()
        tyro.cli(options_of(script), args=options)


def test_every_file_that_is_named_is_there(readme, commands, root):
    named = {word for words in commands for word in words if word.startswith("cluster/")}
    named |= {f"cluster/{name}" for name in re.findall(r"`([\w/-]+\.(?:yaml|py))`", readme)}
    assert len(named) > 6
    assert [name for name in sorted(named) if not (root / name).is_file()] == []


def test_on_google_the_world_reaches_ssh_and_nothing_else(commands):
    rules = [words for words in commands if words[:4] == RULE]
    assert len(rules) == 2
    for words in rules:
        inside = "--source-ranges=10.10.0.0/20" in words
        assert inside or "--allow=tcp:22" in words


@pytest.fixture
def nobody_elses_cluster():
    """`ray stop` ends all clusters of a user: where another runs, this is no place to try it."""
    names = {process.info["name"] for process in psutil.process_iter(["name"])}
    if names & set(RAYS):
        pytest.skip("a Ray cluster runs on this machine, which `ray stop` would end")


@pytest.mark.ray
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
    """What a shell says that stops at the first command that fails."""
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
