import numpy as np
import pytest
from report_store import ReportStore, slow_logits

from metrics import macro_accuracy
from report.distillation import ALL, MEAN, build_distillation
from report.results import Results
from report.summary import TOO_FEW_SEEDS


@pytest.fixture(scope="module")
def section(results):
    return build_distillation(results)


@pytest.fixture(scope="module")
def rows(section):
    return section.figures[0].table.to_pylist()


def pair(results, split):
    taught, alone = sorted(
        results.list_systems("student", split), key=lambda each: each.taught_by is None
    )
    return alone, taught


def gain_of(made, results, split, seed, *, unseen):
    """Return the gain for a seed in points, in the simplest way."""
    test = made.corpus.rows(split, "test")
    inside = np.ones(len(test), dtype=bool)
    if unseen:
        inside = made.corpus.column("recording_device")[test] == "s4"
    labels = made.corpus.labels()[test][inside]
    alone, taught = (
        macro_accuracy(slow_logits(made, each)[seed][inside], labels)
        for each in pair(results, split)
    )
    return 100 * (taught - alone)


@pytest.mark.parametrize("split", [25, 100])
def test_gains_are_differences_of_the_same_seed_and_their_mean(made, results, rows, split):
    for clips in (ALL, "unseen recording devices"):
        of_it = [
            row
            for row in rows
            if row["against"].endswith(f"split {split}") and row["clips"] == clips
        ]
        gains = [gain_of(made, results, split, seed, unseen=clips != ALL) for seed in (0, 1)]
        found = {row["what"]: row["gain"] for row in of_it}
        assert found == pytest.approx(
            {MEAN: np.mean(gains), "seed 0": gains[0], "seed 1": gains[1]}
        )


@pytest.mark.parametrize("unseen", [False, True])
def test_intervals_are_those_of_the_paired_comparison(results, rows, unseen):
    alone, taught = pair(results, 100)
    expected = results.compare(alone, taught, unseen_only=unseen).difference
    row = next(
        row
        for row in rows
        if row["against"].endswith("split 100")
        and row["what"] == MEAN
        and (row["clips"] != ALL) == unseen
    )
    assert (row["low"], row["high"]) == (100 * expected.low, 100 * expected.high)


def test_seeds_are_dots_and_means_have_intervals(section, marks):
    drawn = marks(section.figures[0])
    assert drawn["symbol"] == 2 + 4
    assert drawn["rule"] == 1 + 2


def test_two_seeds_are_too_few_to_tell(section):
    assert section.text.count(TOO_FEW_SEEDS.capitalize()) == 2
    assert "over recordings alone" in section.text
    assert "excludes 0" not in section.text


def test_three_seeds_tell_a_gain_from_chance(new_store):
    teacher = new_store.member("teacher", 99, 2.0)
    for seed in range(3):
        new_store.student(1 + seed, 0.0, taught_by=None, seed=seed)
        new_store.student(11 + seed, 9.0, taught_by=teacher.member, seed=seed)
    text = build_distillation(Results.of(new_store.store, new_store.corpus)).text
    assert "The interval excludes 0 for 1: " in text
    assert "over recordings and seeds" in text
    assert TOO_FEW_SEEDS not in text.lower()


@pytest.fixture
def new_store(tmp_path):
    return ReportStore(tmp_path)


def test_only_seeds_that_both_have_are_compared(new_store):
    for number, seed in enumerate((0, 1, 2), start=1):
        new_store.student(number, 0.5, taught_by=None, seed=seed)
    teacher = new_store.member("teacher", 9, 2.0)
    for number, seed in enumerate((2, 1), start=11):
        new_store.student(number, 1.5, taught_by=teacher.member, seed=seed)
    results = Results.of(new_store.store, new_store.corpus)
    (shown,) = build_distillation(results).figures
    whats = [row["what"] for row in shown.table.to_pylist() if row["clips"] == ALL]
    assert whats == [MEAN, "seed 1", "seed 2"]


def test_a_student_without_a_counterpart_alone_is_not_compared(new_store):
    teacher = new_store.member("teacher", 1, 2.0)
    new_store.student(2, 1.5, taught_by=teacher.member, seed=0)
    section = build_distillation(Results.of(new_store.store, new_store.corpus))
    assert not section.figures
    assert "No student" in section.text
