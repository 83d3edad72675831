"""The notebook runs from its first cell to its last and draws its pictures."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour.ipynb"
MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def tour():
    return nbformat.read(TOUR, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_20_lines_of_code_in_a_small_file(tour):
    lines = [line for cell in code(tour) for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 20
    assert TOUR.stat().st_size < MAX_BYTES


@pytest.fixture
def outputs(tour, demo_folder, compiled, monkeypatch):
    """The outputs of a run beside a store like the demo's, in a copy of docs/."""
    (demo_folder / "docs").mkdir()
    shutil.copy(TOUR, demo_folder / "docs")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(demo_folder / name.lower()))
    resources = {"metadata": {"path": str(demo_folder / "docs")}}
    NotebookClient(tour, timeout=300, kernel_name="python3", resources=resources).execute()
    return [output for cell in code(tour) for output in cell.outputs]


def test_the_notebook_shows_the_members_and_three_pictures_and_complains_of_nothing(outputs):
    assert [each.name for each in outputs if each.output_type == "stream"] == []
    shown = [each.data for each in outputs if "data" in each]
    assert any("demo_dymn" in data["text/plain"] for data in shown)
    (figure,) = (data["text/plain"] for data in shown if "image/png" in data)
    assert "with 3 Axes" in figure
