"""The notebooks run from their first cell to their last and draw their pictures."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour.ipynb"
ISOTROPIC = ROOT / "docs" / "isotropic.ipynb"
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
def run_notebook(tmp_path, monkeypatch):
    """Runs a notebook in a copy of docs/ in a folder, and returns its outputs."""

    def run(file, folder):
        (folder / "docs").mkdir()
        shutil.copy(file, folder / "docs")
        monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            monkeypatch.setenv(name, str(folder / name.lower()))
        notebook = nbformat.read(file, as_version=4)
        resources = {"metadata": {"path": str(folder / "docs")}}
        client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources)
        client.execute()
        return [output for cell in code(notebook) for output in cell.outputs]

    return run


@pytest.fixture
def outputs(demo_folder, compiled, run_notebook):
    """The outputs of the tour beside a store like the demo's."""
    return run_notebook(TOUR, demo_folder)


def test_the_notebook_shows_the_members_and_three_pictures_and_complains_of_nothing(outputs):
    assert [each.name for each in outputs if each.output_type == "stream"] == []
    shown = [each.data for each in outputs if "data" in each]
    assert any("demo_dymn" in data["text/plain"] for data in shown)
    (figure,) = (data["text/plain"] for data in shown if "image/png" in data)
    assert "with 3 Axes" in figure


def test_isotropics_cells_build_teach_and_show_it(tmp_path, monkeypatch):
    """The same cells in this process, and two steps: a notebook's own process takes long to start."""
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    cells = [cell.source for cell in code(nbformat.read(ISOTROPIC, as_version=4))]
    assert cells[0] == "%cd -q .."
    names = {}
    for source in cells[1:]:
        exec(source.replace("max_epochs=4", "max_steps=2"), names)  # noqa: S102 - cells of ours
    assert names["key"] in names["store"]
    assert names["features_ND"].shape == (len(names["rows"]), 64)
    assert len(names["plt"].gcf().axes) == 2
    names["plt"].close()


@pytest.mark.slow
def test_isotropic_is_built_counted_taught_and_shown_and_complains_of_nothing(
    tmp_path, run_notebook, monkeypatch
):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    outputs = run_notebook(ISOTROPIC, tmp_path)
    assert [each.name for each in outputs if each.output_type == "stream"] == []
    shown = [each.data for each in outputs if "data" in each]
    assert "29747914" in shown[0]["text/plain"]
    assert "47946" in shown[0]["text/plain"]
    (figure,) = (data["text/plain"] for data in shown if "image/png" in data)
    assert "with 2 Axes" in figure
    assert ISOTROPIC.stat().st_size < MAX_BYTES
