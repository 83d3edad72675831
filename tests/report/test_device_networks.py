"""What the report shows of students with a network per recording device."""

import numpy as np
import pytest
from report_store import ReportStore

from metrics import macro_accuracy
from report.device_networks import build_device_figures
from report.results import Results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with a general student of two seeds, and its networks per device."""
    made = ReportStore(tmp_path_factory.mktemp("made"))
    for seed in (0, 1):
        general = made.student(10 + seed, 0.5, taught_by=None, seed=seed)
        record = made.store.read_record(general)
        made.member(
            "demo_isotropic_alone_per_device",
            20 + seed,
            1.5,
            kind="student",
            seed=seed,
            recipe=record["recipe"],
            start=general.member,
            ensemble=general.member,
            per_device={"devices": ["a", "b"]},
            macs=1_000_000,
            params=10_000,
        )
    return made


@pytest.fixture(scope="module")
def results(made):
    return Results.of(made.store, made.corpus)


def test_seeds_are_one_system_though_each_has_a_general_student_of_its_own(results):
    names = {each.name: each.n_seeds for each in results.list_systems("student")}
    assert names == {
        "demo_isotropic_alone": 2,
        "demo_isotropic_alone_per_device from demo_isotropic_alone": 2,
    }


def test_the_table_shows_general_and_device_specific_macro_accuracy(results, made):
    (figure,) = build_device_figures(results)
    (row,) = figure.table.to_pylist()
    rows = made.corpus.rows(100, "test")
    labels_P = made.corpus.labels()[rows]
    known_P = np.isin(made.corpus.column("recording_device")[rows], ["a", "b"])
    assert 0 < known_P.sum() < len(known_P)

    def score(system, some_P):
        logits = results.read_logits(system)
        found = [macro_accuracy(each[some_P], labels_P[some_P]) for each in logits]
        return pytest.approx(100 * np.mean(found), abs=0.01)

    by_name = {each.name: each for each in results.list_systems("student")}
    general = by_name["demo_isotropic_alone"]
    specific = next(each for name, each in by_name.items() if name != general.name)
    assert row["general"] == score(general, np.ones_like(known_P))
    assert row["device-specific"] == score(specific, np.ones_like(known_P))
    assert row["device-specific, known devices"] == score(specific, known_P)
    assert row["gain"] == pytest.approx(row["device-specific"] - row["general"], abs=0.02)
    assert row["from"] <= row["gain"] <= row["to"]
    assert row["networks"] == 3


def test_a_store_without_such_students_has_no_such_table(tmp_path):
    made = ReportStore(tmp_path)
    made.student(1, 0.5, taught_by=None, seed=0)
    assert build_device_figures(Results.of(made.store, made.corpus)) == ()
