from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_store import ReportStore

from logit_store.paths import logits_path
from metrics import log_loss, macro_accuracy
from report.objective import describe_objective
from report.results import Results
from students import RECIPES
from students.ways import apply_way


def names(results, kind, split=100):
    return sorted(system.name for system in results.list_systems(kind, split))


def test_the_seeds_of_a_recipe_are_one_system(results):
    alone, with_teachers = sorted(
        results.list_systems("student", 100), key=lambda each: each.taught_by is not None
    )
    assert alone.seeds == with_teachers.seeds == (0, 1)
    assert alone.taught_by is None
    assert with_teachers.name == "demo_isotropic from stepwise"
    assert len(results.list_systems("teacher")) == 8


def test_figures_are_means_over_seeds_on_the_test_clips(made, results):
    rows = made.corpus.rows(100, "test")
    labels = made.corpus.labels()[rows]
    for system in results.list_systems("student", 100):
        logits = [made.store.read([key], rows)[0] for key in system.keys]
        expected = np.mean([macro_accuracy(each, labels) for each in logits])
        assert system.summary.accuracy.value == pytest.approx(expected, abs=1e-12)
        expected = np.mean([log_loss(each, labels) for each in logits])
        assert system.summary.log_loss == pytest.approx(expected, rel=1e-6)


def test_logits_of_an_ensemble_are_the_weighted_mean_of_its_members(made, results):
    (ensemble,) = results.list_systems("ensemble", 25)
    rows = made.corpus.rows(25, "test")
    weights = made.store.ensembles.read_weights("tau", 25, ensemble.reference)
    expected = sum(weight * made.store.read([key], rows)[0] for key, weight in weights.items())
    (found,) = results.read_logits(ensemble)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_systems_are_in_order_of_split_kind_and_accuracy(results):
    told = [
        (system.split, ("teacher", "ensemble", "student").index(system.kind), -worth)
        for system in results.systems
        for worth in [system.summary.accuracy.value]
    ]
    assert told == sorted(told)


def test_recipes_of_one_name_are_named_by_what_differs(tmp_path):
    made = ReportStore(tmp_path)
    for number, epochs in enumerate((40, 120), start=1):
        recipe = {"name": "mn", "training": {"max_epochs": epochs, "batch_size": 32}}
        made.member("mn", number, 1.0, recipe=recipe)
    found = Results.of(made.store, made.corpus)
    assert names(found, "teacher") == ["mn (max_epochs=120)", "mn (max_epochs=40)"]


def test_systems_with_equal_recipes_have_a_hash_in_their_name(tmp_path):
    made = ReportStore(tmp_path)
    keys = [made.member("mn", number, 1.0, responses=f"set {number}") for number in (1, 2)]
    references = [made.ensemble("mean", members) for members in (keys, keys[::-1])]
    found = Results.of(made.store, made.corpus)
    assert names(found, "teacher") == ["mn 000000000001", "mn 000000000002"]
    digits = sorted(reference.partition("@")[2] for reference in references)
    assert names(found, "ensemble") == [f"ensemble mean {each}" for each in digits]


def test_a_system_is_published_as_soon_as_test_clips_chose_any_part_of_it(tmp_path):
    made = ReportStore(tmp_path)
    honest = made.member("honest", 1, 1.0)
    on_test = made.member("on_test", 2, 1.0, protocol="published")
    clean = made.ensemble("clean", [honest])
    with_member = made.ensemble("with_member", [honest, on_test])
    chosen_on_test = made.ensemble("chosen", [honest], fold="test")
    teachers = (None, clean, with_member, chosen_on_test, on_test.member)
    for number, taught_by in enumerate(teachers, start=10):
        made.student(number, 1.0, taught_by=taught_by, seed=0)
    found = Results.of(made.store, made.corpus)
    published = {each.name for each in found.systems if each.protocol == "published"}
    assert published == {
        "on_test (published)",
        "ensemble with_member (published)",
        "ensemble chosen (published)",
        "demo_isotropic from with_member (published)",
        "demo_isotropic from chosen (published)",
        "demo_isotropic from on_test (published)",
    }


def test_an_ensemble_whose_logits_changed_is_left_out_with_the_reason(tmp_path):
    made = ReportStore(tmp_path)
    key = made.member("mn", 1, 1.0)
    made.ensemble("mean", [key])
    zeros_NK = np.zeros((len(made.corpus), 3), np.float32)
    made.store.write(key, zeros_NK, {"kind": "teacher", "recipe": "mn"})
    found = Results.of(made.store, made.corpus)
    assert [each.kind for each in found.systems] == ["teacher"]
    (reason,) = found.left_out
    assert reason.startswith("mean@")
    assert key.member in reason


def test_a_system_with_damaged_logits_is_left_out_with_the_reason(tmp_path):
    made = ReportStore(tmp_path)
    damaged, _ = (made.member(f"mn{n}", n, 1.0) for n in (1, 2))
    made.store.members()
    path = Path(made.store.files.locate(logits_path(damaged)))
    with pq.ParquetFile(path) as file:
        last = file.metadata.row_group(0).column(3)
    content = bytearray(path.read_bytes())
    content[last.data_page_offset + last.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    found = Results.of(made.store, made.corpus)
    assert [each.name for each in found.systems] == ["mn2"]
    (reason,) = found.left_out
    assert reason.startswith("mn1 of split 100")
    assert str(path) in reason


def test_the_cost_of_an_ensemble_is_the_sum_over_its_members(tmp_path):
    made = ReportStore(tmp_path)
    one, two = (made.member(f"mn{n}", n, 1.0, macs=n * 100, params=n * 10) for n in (1, 2))
    unknown = made.member("imported", 3, 1.0)
    made.ensemble("known", [one, two])
    made.ensemble("unknown", [one, unknown])
    known, other = Results.of(made.store, made.corpus).list_systems("ensemble")
    if known.name != "ensemble known":
        known, other = other, known
    assert (known.cost.macs, known.cost.parameter_bytes) == (300, 4 * 30)
    assert known.cost.training_s == 60.0 * (1 + 2)
    assert (other.cost.macs, other.cost.parameter_bytes) == (None, None)


def test_a_student_fine_tuned_in_int8_has_one_byte_for_each_parameter(tmp_path):
    made = ReportStore(tmp_path)
    made.member("int8", 1, 1.0, kind="student", macs=5, params=7, quantisation={"epochs": 1})
    (student,) = Results.of(made.store, made.corpus).systems
    assert student.cost.parameter_bytes == 7
    assert student.objective is None


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("alone+plain", "alone"),
        ("distilled", "distilled+adversarial"),
        ("plain+mixup=0.4", "distilled+mixup=0.4"),
        ("decoupled+adversarial=0.1+soup", "decoupled+adversarial=0.1+soup"),
        ("plain+dist+standardized+temperature=4+labels=0.3", None),
        ("plain+published+confident+rsc+ema=0.9", None),
        ("modulated=0.5+plain", "distilled+modulated=0.5"),
        ("features=0.5+views=4", "distilled+features=0.5+views=4+adversarial"),
        (
            "rsc_features=0.33+rsc_clips=0.1",
            "distilled+adversarial+rsc_features=0.33+rsc_clips=0.1",
        ),
        ("views=4+rsc=0.2", "distilled+views=4+adversarial+rsc=0.2"),
    ],
)
def test_the_objective_of_a_student_is_in_the_words_of_the_command_line(way, words):
    recipe = RECIPES["isotropic"]
    found = describe_objective(apply_way(recipe, way))
    if words is not None:
        assert found == words
    # Applied to a recipe without a discriminator, the words give the same objective.
    assert describe_objective(apply_way(apply_way(recipe, "plain"), found)) == found


def test_systems_with_different_numbers_of_seeds_are_not_compared(results):
    (ensemble,) = results.list_systems("ensemble", 100)
    student = results.list_systems("student", 100)[0]
    with pytest.raises(ValueError, match="expected the same split and number of seeds"):
        results.compare(ensemble, student)
    difference = results.compare(student, student).difference
    assert (difference.low, difference.high) == (0.0, 0.0)
