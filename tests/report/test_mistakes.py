import numpy as np
import pytest
from report_store import slow_logits

from metrics import accuracy, calibration_error, log_loss
from report.mistakes import build_mistakes


@pytest.fixture(scope="module")
def section(results):
    return build_mistakes(results)


def pooled(made, results, row):
    """Return logits and labels of the test clips of all seeds of a row's system."""
    system = results.featured[int(row["split"])][row["role"]]
    labels = made.corpus.labels()[made.corpus.rows(system.split, "test")]
    logits = slow_logits(made, system)
    return np.concatenate(logits), np.tile(labels, len(logits))


def test_confusions_are_counted_clip_by_clip(made, results, section, figure):
    table = figure(section, "confusion-matrix").table.to_pylist()
    assert len(table) == 2 * 5 * 9
    for row in table:
        logits, labels = pooled(made, results, row)
        true, said = (made.corpus.scenes.index(row[each]) for each in ("scene", "taken for"))
        clips = sum(
            label == true and each.argmax() == said
            for each, label in zip(logits, labels, strict=True)
        )
        assert row["clips"] == clips
        assert row["share"] == pytest.approx(100 * clips / (labels == true).sum())
        assert row["who"] == f"{row['role']}, split {row['split']}"


def test_bins_hold_the_clips_of_which_a_system_is_equally_sure(made, results, section, figure):
    table = figure(section, "reliability").table.to_pylist()
    for row in table:
        logits, labels = pooled(made, results, row)
        upper = row["sure up to"] / 100
        found = []
        for each, label in zip(logits, labels, strict=True):
            largest = 1 / np.exp(each - each.max()).sum()
            if upper - 1 / 15 < largest <= upper:
                found.append((largest, each.argmax() == label))
        sure, right = 100 * np.mean(found, axis=0)
        assert row["clips"] == len(found)
        assert (row["sure"], row["right"]) == pytest.approx((sure, right), abs=1e-3)
    assert sum(row["clips"] for row in table) == 2 * 12 * (3 + 2 * 2)


def test_calibration_errors_are_those_of_the_clips(made, results, section, figure):
    for row in figure(section, "calibration-error").table.to_pylist():
        logits, labels = pooled(made, results, row)
        # Ensembles of the store are means in float32.
        assert row["calibration error"] == pytest.approx(
            100 * calibration_error(logits, labels), abs=1e-3
        )
        assert row["right"] == pytest.approx(100 * accuracy(logits, labels))
        assert row["log loss"] == pytest.approx(log_loss(logits, labels), abs=1e-5)


def test_the_matrix_shows_one_system_and_no_empty_cell_has_a_number(section, figure, marks):
    shown = figure(section, "confusion-matrix")
    drawn = marks(shown)
    of_first = [row for row in shown.table.to_pylist() if row["who"] == "student taught, split 100"]
    assert drawn["rect"] == 9
    assert drawn["text"] == sum(row["clips"] > 0 for row in of_first) < 9


def test_the_diagram_has_a_dot_for_each_bin_of_a_split(section, figure, marks):
    shown = figure(section, "reliability")
    drawn = marks(shown)
    assert drawn["symbol"] == sum(row["split"] == "100" for row in shown.table.to_pylist())
    assert drawn["line"] == 5
    assert drawn["rule"] == 1
