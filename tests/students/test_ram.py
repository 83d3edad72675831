"""The RAM of students before they are trained."""

import pytest
from tiny_student import TINY_STUDENT

from jobs.plan.ram import find_ram, show_ram
from students import ram
from students.complexity import OverBudget
from students.distill import check_recipe
from students.errors import NoPlan

SMALL = {"filters": 8, "depth": 1, "patch": 4}
SHAPE = (1, 1, 16, 12)


@pytest.fixture
def made(monkeypatch, tmp_path):
    """The names of the students that were converted, of a machine that has planned none."""
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path))
    monkeypatch.setattr(ram, "_known", {})
    converted = []

    def note(model, arguments, **rest):
        converted.append(model)
        return len(converted)

    monkeypatch.setattr(ram, "make_untrained_model", note)
    monkeypatch.setattr(ram, "measure_ram", lambda model: 1_000 * model)
    return converted


def measure(model="isotropic", n_classes=3, **arguments):
    return ram.measure_architecture_ram(
        model, SMALL | arguments, input_shape=SHAPE, n_classes=n_classes
    )


def test_an_architecture_is_planned_once_on_a_machine(made, monkeypatch):
    assert [measure(), measure()] == [1_000, 1_000]
    monkeypatch.setattr(ram, "_known", {})
    assert measure() == 1_000
    assert measure(filters=16) == 2_000
    assert measure(n_classes=4) == 3_000
    assert len(made) == 3


def test_a_plan_of_other_code_or_a_damaged_one_is_made_again(made, monkeypatch, tmp_path):
    measure()
    for file in (tmp_path / "plans").iterdir():
        file.write_text("{")
    monkeypatch.setattr(ram, "_known", {})
    assert measure() == 2_000
    monkeypatch.setattr(ram, "_identify_code", lambda: "new")
    assert measure() == 3_000


def test_a_machine_that_keeps_nothing_plans_again(made, monkeypatch, tmp_path):
    (tmp_path / "plans").write_text("a file")
    assert measure() == 1_000
    monkeypatch.setattr(ram, "_known", {})
    assert measure() == 2_000


@pytest.mark.parametrize("place", ["make_untrained_model", "measure_ram"])
def test_a_student_without_a_plan_is_refused_where_ram_is_limited_and_else_trained(
    made, monkeypatch, capsys, corpus, place
):
    def refuse(*_, **__):
        raise (RuntimeError if place == "make_untrained_model" else NoPlan)("no\nFFT")

    monkeypatch.setattr(ram, place, refuse)
    with pytest.raises(NoPlan, match="student isotropic has no memory plan: .*no\\sFFT"):
        check_recipe(TINY_STUDENT, corpus, max_ram=1_000_000)
    check_recipe(TINY_STUDENT, corpus)
    assert find_ram(TINY_STUDENT, corpus) is None
    show_ram([(TINY_STUDENT, corpus)] * 2)
    (line,) = capsys.readouterr().out.replace("\n", " ").split("RAM on a device: ")[1:]
    assert line.startswith("tiny: student isotropic has no memory plan: ")


def test_why_there_is_no_plan_is_found_once_on_a_machine(made, monkeypatch):
    def refuse(model):
        raise NoPlan("operator GRU is unknown")

    monkeypatch.setattr(ram, "measure_ram", refuse)
    for _ in range(2):
        monkeypatch.setattr(ram, "_known", {})
        with pytest.raises(NoPlan, match="student isotropic has no memory plan: operator GRU"):
            measure()
    assert len(made) == 1


def test_a_wrong_argument_is_no_matter_of_the_plan(made):
    with pytest.raises(ValueError, match="no argument width"):
        measure(width=3)
    with pytest.raises(ValueError, match="patch") as caught:
        measure(patch=0)
    assert not isinstance(caught.value, NoPlan)
    assert made == []


def test_a_recipe_is_planned_for_the_clips_of_its_corpus_and_held_to_a_limit(
    made, monkeypatch, corpus
):
    asked = []

    def note(model, arguments, **rest):
        asked.append(rest)
        return 300

    monkeypatch.setattr(ram, "make_untrained_model", note)
    with pytest.raises(OverBudget, match="student tiny has 300,000 bytes of RAM in int8, expected"):
        check_recipe(TINY_STUDENT, corpus, max_ram=256_000)
    check_recipe(TINY_STUDENT, corpus, max_ram=300_000)
    shape = TINY_STUDENT.front_end.compute_shape(TINY_STUDENT.front_end.sample_rate)
    assert asked == [{"input_shape": (1, *shape), "n_classes": 3}]
