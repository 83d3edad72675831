"""The report on a corpus whose clips have several labels, or none."""

import numpy as np
import pytest
from report_store import report_store

from metrics import average_precisions, log_loss, mean_average_precision
from report.as_text import read_system, show_systems
from report.contents import choose_contents
from report.results import Results


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    made = report_store(tmp_path_factory.mktemp("several"), several=True, splits=(100,))
    return Results.of(made.store, made.corpus)


def test_the_page_shows_map_and_log_loss_and_no_accuracy(several, figure):
    sections = [section(several) for section in choose_contents(several.corpus)]
    names = [section.name for section in sections]
    assert "classes" in names
    assert not {"groups", "mistakes", "listen"} & {*names}
    ranking = figure(sections[0], "leaderboard")
    assert "mAP %" in ranking.html
    figures = [each for section in sections for each in section.figures]
    words = [each.title for each in (*sections, *figures)]
    shown = " ".join([*words, *(each.caption for each in figures), sections[0].html])
    assert "mAP against split size" in shown
    assert "ccura" not in shown
    rows = ranking.table.to_pylist()
    for row in rows:
        system = next(
            each
            for each in several.systems
            if (each.name, each.split) == (row["system"], row["split"])
        )
        truth, seen = several.clips[row["split"]].labels, several.clips[row["split"]].seen
        logits = list(several.read_logits(system))
        scores = [mean_average_precision(each, truth) for each in logits]
        assert row["accuracy"] == pytest.approx(100 * np.mean(scores))
        on_seen = [mean_average_precision(each[seen], truth[seen]) for each in logits]
        assert row["seen"] == pytest.approx(100 * np.mean(on_seen))
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["log_loss"] == pytest.approx(np.mean([log_loss(each, truth) for each in logits]))


def test_each_class_has_its_average_precision_beside_chance(several, figure):
    section = next(
        section(several)
        for section in choose_contents(several.corpus)
        if section.__name__ == "build_classes"
    )
    rows = figure(section, "precision-by-class").table.to_pylist()
    row = next(each for each in rows if (each["role"], each["class"]) == ("best teacher", "rain"))
    system = several.featured[int(row["split"])]["best teacher"]
    test, k = several.clips[system.split], several.corpus.scenes.index("rain")
    (logits_PK,) = several.read_logits(system)
    assert row["precision"] == pytest.approx(100 * average_precisions(logits_PK, test.labels)[k])
    assert row["chance"] == pytest.approx(100 * test.labels[:, k].mean())


def test_the_terminal_says_map(several, capsys):
    system = several.list_systems("student", 100)[0]
    show_systems(several.corpus, [read_system(several.store, "student", system.keys)])
    printed = capsys.readouterr().out
    assert "mAP is in %" in printed
    assert "accuracy" not in printed
