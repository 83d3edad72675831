import numpy as np
import pyarrow.compute as pc
import pytest
from report_store import OPTIMISM, ReportStore

import report.ensembles
from audio.parts import OUT_OF_FOLD, find_judging_rows
from report.ensembles import build_ensembles
from report.honesty import build_honesty
from report.results import Results


@pytest.fixture(scope="module")
def section(results):
    return build_ensembles(results)


def test_the_path_is_that_of_the_document(results, section, figure):
    rows = figure(section, "path-of-losses").table.to_pylist()
    documents = [each.document for each in results.list_systems("ensemble")]
    assert [(row["member"], row["loss"]) for row in rows] == [
        step
        for document in reversed(documents)
        for step in zip(document["order"], document["losses"], strict=True)
    ]
    assert [row["added"] for row in rows[:2]] == ["1. teacher_4", "2. teacher_3"]


def test_weights_are_those_of_the_document_and_sum_to_one(results, section, figure):
    rows = figure(section, "weights").table.to_pylist()
    for ensemble in results.list_systems("ensemble"):
        of_it = [row for row in rows if row["ensemble"].startswith(ensemble.reference)]
        assert sum(row["weight"] for row in of_it) == pytest.approx(1)
        assert [row["logits"] for row in of_it] == [
            member["hash"] for member in ensemble.document["members"]
        ]


def test_agreement_is_the_share_of_equal_answers_on_select(made, results, section, figure):
    (ensemble,) = results.list_systems("ensemble", 100)
    clips = made.corpus.rows(100, "select")
    said = [made.store.read([key])[0].argmax(axis=1)[clips] for key in ensemble.keys]
    agreement = 100 * np.mean(said[0] == said[1])
    rows = [
        row
        for row in figure(section, "agreement").table.to_pylist()
        if row["ensemble"].endswith("split 100")
    ]
    assert [row["agreement"] for row in rows] == pytest.approx([100, agreement, agreement, 100])
    assert [row["number"] for row in rows] == [1, 2, 1, 2]


def test_the_loss_on_test_is_shown_with_the_losses_of_the_selection(results, section, figure):
    rows = figure(section, "optimism").table.to_pylist()
    for ensemble in results.list_systems("ensemble"):
        of_it = [row for row in rows if row["ensemble"].startswith(ensemble.reference)]
        assert [row["log loss"] for row in of_it] == [
            OPTIMISM["selected_on"],
            OPTIMISM["nested"],
            ensemble.summary.log_loss,
        ]
        assert [row["low"] for row in of_it] == [None, pytest.approx(0.7), None]
        assert [row["high"] for row in of_it] == [None, pytest.approx(1.1), None]


def test_all_charts_are_drawn_one_ensemble_at_a_time(section, figure, marks):
    assert marks(figure(section, "path-of-losses"))["symbol"] == 2
    assert marks(figure(section, "weights"))["rect"] == 2
    agreement = marks(figure(section, "agreement"))
    assert (agreement["rect"], agreement["text"]) == (4, 4)
    optimism = marks(figure(section, "optimism"))
    assert (optimism["symbol"], optimism["rule"]) == (6, 2)


def test_only_the_members_of_the_largest_weights_are_compared(tmp_path, figure, marks, monkeypatch):
    monkeypatch.setattr(report.ensembles, "MOST_MEMBERS", 3)
    monkeypatch.setattr(report.ensembles, "MOST_NUMBERED_MEMBERS", 2)
    made = ReportStore(tmp_path)
    made.ensemble("wide", [made.member(f"teacher_{n}", n, 1.0) for n in range(5)])
    shown = figure(build_ensembles(Results.of(made.store, made.corpus)), "agreement")
    expected = ["1. teacher_0", "2. teacher_1", "3. teacher_2"]
    assert shown.table["member"].unique().to_pylist() == expected
    drawn = marks(shown)
    assert (drawn["rect"], drawn["text"]) == (9, 0)


def test_without_an_ensemble_the_section_names_the_command_that_selects_one(tmp_path):
    made = ReportStore(tmp_path)
    made.member("teacher", 1, 1.0)
    section = build_ensembles(Results.of(made.store, made.corpus))
    assert not section.figures
    assert "python jobs/ensemble.py" in section.text


def test_an_ensemble_that_cannot_be_read_is_named(tmp_path):
    made = ReportStore(tmp_path)
    made.ensemble("stepwise", [made.member("teacher", 1, 1.0)])
    made.member("teacher", 1, 2.0)
    section = build_ensembles(Results.of(made.store, made.corpus))
    assert "Left out: stepwise@" in section.text


def test_an_ensemble_of_another_program_is_left_out_by_name(tmp_path):
    made = ReportStore(tmp_path)
    key = made.member("teacher", 1, 1.0)
    pin = {"member": key.member, "hash": made.store.read_footer(key).logits_hash, "weight": 1.0}
    document = {"space": "logits", "members": [pin | {"temperature": 1.0}]}
    reference = made.store.ensembles.write(made.corpus.name, 100, "foreign", document)
    text = build_ensembles(Results.of(made.store, made.corpus)).text
    assert f"Left out: {reference} of split 100: another program wrote it" in text
    assert "(order, losses, clips, fold, candidates, settings, optimism)" in text


def test_an_ensemble_that_was_selected_out_of_fold_says_so(tmp_path, figure):
    made = ReportStore(tmp_path)
    keys = [made.member(f"teacher_{n}", n, 1.0, cross_fit=2) for n in range(2)]
    made.member("teacher_0", 7, 1.0)
    made.ensemble("stepwise", keys, fold=OUT_OF_FOLD)
    results = Results.of(made.store, made.corpus)
    section = build_ensembles(results)
    assert "fit+select clips that it was selected on (of fit by models that" in section.text
    said = made.store.read(keys)[:, find_judging_rows(made.corpus.table, 100, OUT_OF_FOLD)]
    agreement = 100 * np.mean(said[0].argmax(axis=1) == said[1].argmax(axis=1))
    rows = figure(section, "agreement").table.to_pylist()
    assert [row["agreement"] for row in rows] == pytest.approx([100, agreement, agreement, 100])
    # A cross-fitted teacher is not another seed of the one that learnt all of fit.
    names = {each.name for each in results.list_systems("teacher")}
    assert names == {"teacher_0 (cross-fitted)", "teacher_1 (cross-fitted)", "teacher_0"}
    (honest,) = (
        build_honesty(results).figures[0].table.filter(pc.field("kind") == "ensemble").to_pylist()
    )
    assert honest["chosen on"] == "select, some on fit out of fold too"
