import numpy as np
import pytest
from report_store import ReportStore, slow_logits

from metrics import bootstrap, macro_accuracy
from report.groups import build_groups
from report.results import Results


@pytest.fixture(scope="module")
def section(results):
    return build_groups(results)


def right(made, system):
    """Return whether each test clip is correct, a row for each seed."""
    labels = made.corpus.labels()[made.corpus.rows(system.split, "test")]
    return np.array([logits.argmax(axis=1) == labels for logits in slow_logits(made, system)])


@pytest.mark.parametrize("what", ["recording device", "scene", "city"])
def test_accuracies_of_groups_are_shares_of_right_clips(made, results, section, figure, what):
    table = figure(section, f"accuracy-by-{what.replace(' ', '-')}").table.to_pylist()
    column = made.corpus.column(what.replace(" ", "_"))
    n_groups = len(np.unique(column[made.corpus.rows(100, "test")]))
    assert len(table) == 2 * 5 * n_groups
    for row in table:
        system = results.featured[int(row["split"])][row["role"]]
        inside = column[made.corpus.rows(system.split, "test")] == row[what].split(",")[0]
        assert row["system"] == system.name
        assert row["clips"] == inside.sum()
        assert row["accuracy"] == pytest.approx(100 * right(made, system)[:, inside].mean())


def test_intervals_are_over_the_recordings_of_a_group(made, results, section, figure):
    row = next(
        row
        for row in figure(section, "accuracy-by-city").table.to_pylist()
        if row["role"] == "student taught" and row["split"] == "100"
    )
    rows = made.corpus.rows(100, "test")
    logits = slow_logits(made, results.featured[100]["student taught"])
    labels, recordings = made.corpus.labels()[rows], made.corpus.column("recording")[rows]
    interval = bootstrap(logits, labels, recordings, metric="accuracy")
    assert (row["low"], row["high"]) == (100 * interval.low, 100 * interval.high)


def test_a_group_of_one_recording_has_no_interval(section, figure):
    rows = figure(section, "accuracy-by-scene").table.to_pylist()
    assert {(row["low"], row["high"]) for row in rows} == {(None, None)}


def test_unseen_recording_devices_are_called_so(section, figure):
    rows = figure(section, "accuracy-by-recording-device").table.to_pylist()
    assert {row["recording device"] for row in rows} == {"a", "b", "s1", "s4, unseen"}


def test_the_gap_is_that_of_macro_accuracies(made, results, section, figure):
    rows = figure(section, "seen-and-unseen-recording-devices").table.to_pylist()
    assert len(rows) == 2 * 5 * 2
    for row in rows:
        system = results.featured[int(row["split"])][row["role"]]
        test = made.corpus.rows(system.split, "test")
        unseen = made.corpus.column("recording_device")[test] == "s4"
        inside = unseen if row["recording devices"] == "unseen" else ~unseen
        labels = made.corpus.labels()[test][inside]
        values = [macro_accuracy(each[inside], labels) for each in slow_logits(made, system)]
        assert row["accuracy"] == pytest.approx(100 * np.mean(values), abs=1e-3)


def test_all_charts_are_drawn_one_split_at_a_time(section, figure, marks):
    drawn = marks(figure(section, "accuracy-by-recording-device"))
    assert (drawn["rect"], drawn["text"]) == (20, 20)
    assert marks(figure(section, "seen-and-unseen-recording-devices"))["symbol"] == 10


def test_a_corpus_without_cities_says_so(tmp_path):
    made = ReportStore(tmp_path)
    made.member("teacher", 1, 1.0)
    table = made.corpus.table
    place = table.column_names.index("city")
    nowhere = table.set_column(place, "city", [["unknown"] * len(made.corpus)])
    corpus = type(made.corpus)(name="tau", root=made.corpus.root, table=nowhere)
    section = build_groups(Results.of(made.store, corpus))
    assert "accuracy-by-city" not in [each.name for each in section.figures]
    assert "The corpus does not name cities." in section.text
