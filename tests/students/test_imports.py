import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "onnx", "onnxruntime", "scipy", "ray", "numba", "matplotlib"}
MODULES = (
    "catalogue",
    "checks",
    "complexity",
    "device.boards",
    "device.chips",
    "device.options",
    "errors",
    "export.options",
    "keys",
    "recipe",
    "recipes",
    "records",
    "search_space",
    "views",
    "ways",
)


def list_heavy_imports(*arguments):
    """Run Python in a new process, and return the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "students" in imported
    return sorted(HEAVY & imported)


def test_recipes_names_and_errors_need_no_heavy_package():
    program = "\n".join(f"import students.{name}" for name in MODULES)
    assert list_heavy_imports("-c", f"{program}\nfrom students import RECIPES, NoStudent") == []


@pytest.mark.parametrize("command", ["export", "complexity", "device"])
def test_help_needs_no_heavy_package(command):
    assert list_heavy_imports("-m", f"students.{command}", "--help") == []
