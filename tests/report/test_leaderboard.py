import json
from dataclasses import replace
from typing import get_args

import pytest
import vl_convert
from report_store import ReportStore

from audio.clips import SPLITS
from report.budgets import build_budgets
from report.choice import MEDIAN
from report.dcase.challenge import CHALLENGE_SCENES
from report.leaderboard import build_ranking
from report.published import JudgingClips, read_published
from report.results import Results
from report.split_sizes import build_split_sizes


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    """Return systems of several costs, some worse at a higher cost, one of unknown cost."""
    made = ReportStore(tmp_path_factory.mktemp("priced"))
    for number, (macs, skill) in enumerate(
        [(10, 0.2), (10, 1.0), (20, 0.5), (50, 3.0), (40, 0.1), (90, 2.0)], start=1
    ):
        made.member(f"mn{number}", number, skill, macs=macs, params=macs)
    made.member("on_test", 8, 5.0, macs=5, params=5, protocol="published")
    made.member("imported", 9, 1.0)
    return Results.of(made.store, made.corpus)


def test_the_leaderboard_has_a_row_for_each_system_with_its_figures(results):
    (figure,) = build_ranking(results).figures
    rows = figure.table.to_pylist()
    assert len(rows) == len(results.systems) == 14
    assert rows == sorted(rows, key=lambda row: (-row["split"], -row["accuracy"]))
    systems = {(system.name, system.split): system for system in results.systems}
    for row in rows:
        system = systems[row["system"], row["split"]]
        accuracy = system.summary.accuracy
        assert (row["low"], row["high"]) == (100 * accuracy.low, 100 * accuracy.high)
        assert row["accuracy"] == 100 * accuracy.value
        assert row["training_h"] == pytest.approx(system.cost.training_s / 3600)
        assert f"<strong>{row['accuracy']:.1f}</strong>" in figure.html
    assert figure.html.count('<th scope="row"') == 14


def test_a_student_has_the_ram_of_its_record_and_what_has_no_program_a_dash(tmp_path):
    made = ReportStore(tmp_path)
    made.member("known", 1, 1.0, kind="student", params=7, ram=115_200)
    made.ensemble("mean", [made.member("mn", 2, 1.0)])
    made.member("older", 3, 1.0, kind="student", params=7)
    (figure,) = build_ranking(Results.of(made.store, made.corpus)).figures
    found = {row["system"]: row["ram"] for row in figure.table.to_pylist()}
    assert found.pop("known") == 115_200
    assert set(found.values()) == {None}
    assert "115 kB" in figure.html


def test_the_cards_show_systems_of_the_largest_split(results):
    html = build_ranking(results).html
    assert html.count('<li class="card"') == 4
    for role, system in results.featured[100].items():
        accuracy = f"{100 * system.summary.accuracy.value:.1f} <small>%"
        assert role == MEDIAN or accuracy in html


def test_systems_that_were_judged_on_test_are_marked(tmp_path):
    made = ReportStore(tmp_path)
    made.member("honest", 1, 1.0)
    made.member("tested", 2, 1.0, protocol="published")
    (figure,) = build_ranking(Results.of(made.store, made.corpus)).figures
    rows = figure.html.split("<tr ")[1:]
    assert [("judged on test" in row, 'class="alarm"' in row) for row in rows] == [
        ("tested" in row, "tested" in row) for row in rows
    ]


def test_names_are_escaped(tmp_path):
    made = ReportStore(tmp_path)
    for number, note in enumerate(("<i>", "<b>"), start=1):
        made.member("noted", number, 1.0, recipe={"name": "noted", "note": note})
    section = build_ranking(Results.of(made.store, made.corpus))
    for html in (section.html, section.figures[0].html):
        assert "(note=&lt;" in html
        assert "(note=<" not in html


def test_a_store_without_logits_has_a_leaderboard_that_says_so(tmp_path):
    made = ReportStore(tmp_path)
    section = build_ranking(Results.of(made.store, made.corpus))
    assert section.figures == ()
    assert "no logits of corpus tau" in section.text


def test_systems_on_the_front_are_not_beaten_at_the_same_cost(priced):
    macs, _ = build_budgets(priced).figures
    rows = macs.table.to_pylist()
    honest = [row for row in rows if row["protocol"] == "honest"]
    assert (len(rows), len(honest)) == (7, 6)
    for row in honest:
        beaten = any(
            (other["macs"] <= row["macs"] and other["accuracy"] > row["accuracy"])
            or (other["macs"] < row["macs"] and other["accuracy"] == row["accuracy"])
            for other in honest
        )
        assert row["on_front"] == (not beaten)
    assert [row["on_front"] for row in rows if row not in honest] == [False]
    assert "Not shown: 1 systems" in macs.caption


@pytest.fixture
def of_tau(results):
    """The results as if the corpus had TAU's scenes."""
    scenes = [CHALLENGE_SCENES[row % 10] for row in range(len(results.corpus))]
    place = results.corpus.table.column_names.index("scene")
    table = results.corpus.table.set_column(place, "scene", [scenes])
    return replace(results, corpus=replace(results.corpus, table=table))


def test_published_figures_are_shown_only_for_their_scenes(results, of_tau):
    (figure,) = build_split_sizes(results).figures
    assert set(figure.table["source"].to_pylist()) == {None}
    (figure,) = build_split_sizes(of_tau).figures
    assert "DCASE 2024 baseline" in figure.table["system"].to_pylist()


def test_published_figures_are_percent_of_a_split_with_a_source():
    for clips in get_args(JudgingClips):
        figures = list(read_published(clips))
        assert len({(each.system, each.split) for each in figures}) == len(figures)
        for each in figures:
            assert each.split in SPLITS
            assert 30 < each.accuracy < 80
            assert each.source


def test_figures_of_the_evaluation_set_are_no_bar_on_the_development_set(of_tau):
    (figure,) = build_split_sizes(of_tau).figures
    shown = {
        (row["system"], row["split"], row["accuracy"])
        for row in figure.table.to_pylist()
        if row["source"]
    }
    every = {
        clips: {(each.system, each.split, each.accuracy) for each in read_published(clips)}
        for clips in get_args(JudgingClips)
    }
    assert shown == every["development"]
    assert not shown & every["evaluation"]
    drawn = json.dumps(figure.chart.to_dict())
    assert "CP-Mobile, taught by" in drawn
    assert "Recursiv 2x3" not in drawn


@pytest.mark.parametrize("section", [build_split_sizes, build_budgets])
def test_charts_are_drawn_with_a_mark_for_each_system(section, priced):
    for figure in section(priced).figures:
        svg = vl_convert.vegalite_to_svg(figure.chart.to_dict())
        points = svg.split("mark-symbol role-mark")[-1]
        assert points.count("<path") >= figure.table.num_rows
