import shutil
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, results
from benchmarks.gpu import Sizes, measure_parts, say_not_measured
from benchmarks.gpu_steps import measure_recipe_step
from benchmarks.students_on_gpu import measure_at_once

CPU = torch.device("cpu")
SMALL = Sizes(
    recipes=("tiny_isotropic", "demo_mn"),
    compiled=(),
    student="tiny_isotropic",
    n_clips=4,
    rounds=1,
    calls=1,
    fit_clips=16,
    select_clips=4,
    at_once=(),
)


@pytest.fixture
def page(tmp_path, monkeypatch) -> Path:
    """Return where the results are written."""
    file = tmp_path / "RESULTS.md"
    monkeypatch.setattr(gpu, "FILE", file)
    monkeypatch.setattr(results, "FILE", file)
    return file


def test_small_sizes_give_all_parts_of_the_section_on_a_cpu():
    steps, projection, at_once, compiled = measure_parts(CPU, SMALL)
    assert [line.split(" | ")[0] for line in steps.splitlines()[2:]] == [
        "| tiny_isotropic",
        "| demo_mn",
    ]
    assert projection.startswith("tiny_isotropic: 150 epochs of 16 clips")
    assert len(at_once.splitlines()) == len(compiled.splitlines()) == 2


def test_the_speed_of_a_step_is_clips_over_seconds_and_no_memory_on_a_cpu():
    speed = measure_recipe_step("tiny_isotropic", CPU, rounds=1, calls=1, n_clips=4)
    assert speed.n_clips == 4
    assert speed.memory is None
    assert speed.whole_over_bare == pytest.approx(speed.clips_per_s / speed.bare_clips_per_s)


def test_without_a_gpu_the_page_says_that_nothing_is_measured_yet(page):
    say_not_measured()
    say_not_measured()
    assert page.read_text().count("Not measured yet") == 1


def test_figures_of_a_gpu_are_not_replaced_where_there_is_none(page):
    page.write_text(f"# Results\n\n## {gpu.TITLE}\n\n| recipe |\n")
    with pytest.raises(SystemExit, match="has figures of a GPU"):
        say_not_measured()
    assert "| recipe |" in page.read_text()


@pytest.mark.slow
def test_students_that_train_at_once_are_timed_together():
    assert measure_at_once("tiny_isotropic", CPU, 2, 2) > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs g++")
# torch imports a module of its own that torch deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_a_compiled_step_can_be_measured():
    from benchmarks.gpu_steps import measure_compiled

    assert measure_compiled("tiny_isotropic", CPU, rounds=1, calls=1, n_clips=4) > 0
