"""The image: its linter, and which files of the project it contains."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from docker.utils import exclude_paths


@pytest.fixture(scope="module")
def dockerfile(root):
    return root / "cluster" / "kuberay" / "Dockerfile"


@pytest.fixture(scope="module")
def context(root):
    """Return the files that Docker gets, by the rules of .dockerignore."""
    rules = (root / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    # Docker gets the rules themselves, but does not copy them.
    given = exclude_paths(str(root), rules) - {".dockerignore"}
    return {name for name in given if (root / name).is_file()}


def lint(dockerfile):
    hadolint = Path(sys.executable).with_name("hadolint")
    return subprocess.run(
        [hadolint, "--no-color", dockerfile], capture_output=True, text=True, check=False
    )


def test_the_linter_finds_nothing(dockerfile):
    found = lint(dockerfile)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_linter_would_find_an_image_without_a_version(dockerfile, tmp_path):
    worse = tmp_path / "Dockerfile"
    worse.write_text(re.sub(r"FROM python:\S+", "FROM python", dockerfile.read_text()))
    assert "DL3006" in lint(worse).stdout


def test_the_image_does_not_run_as_root(dockerfile):
    users = re.findall(r"^USER (.+)$", dockerfile.read_text(), re.MULTILINE)
    assert users[-1] == "1000:1000"


def test_all_packages_and_the_lock_get_into_the_image(root, context):
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    for package in settings["root_packages"]:
        assert f"{package}/__init__.py" in context
    assert {"requirements.lock", "jobs/pipeline.py", "jobs/_root.py", "LICENSE"} <= context
    code = {str(path.relative_to(root)) for path in (root / "jobs").glob("*.py")}
    assert code <= context


def test_nothing_else_gets_into_the_image(root, context):
    allowed = {
        rule[1:] for rule in (root / ".dockerignore").read_text().split("\n") if rule[:1] == "!"
    }
    assert {name.partition("/")[0] for name in context} <= allowed
    assert not [name for name in context if "__pycache__" in name]
    megabytes = sum((root / name).stat().st_size for name in context) / 1e6
    # Most of it is the demo's recordings; a store or a corpus would be larger.
    assert megabytes < 20


def test_every_machine_has_the_same_python(root, dockerfile):
    (image,) = re.findall(r"^FROM python:(3\.\d+)", dockerfile.read_text(), re.MULTILINE)
    (node,) = re.findall(r"--python (3\.\d+)", (root / "cluster" / "set_up_node.sh").read_text())
    assert image == node
