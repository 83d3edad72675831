"""Ensembles of members that are in a store, selected by the command (M members, N clips)."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from audio.corpora import tau
from ensemble import mean_logits, select
from ensemble.stored import compute_ensemble_logits
from jobs import ensemble as ensemble_command
from jobs.plan.ensembles import (
    EnsembleOptions,
    find_candidates,
    find_input,
    parse_settings,
    show_ensemble,
)
from jobs.worker.select import (
    ReadCandidates,
    SelectEnsemble,
    SelectionSettings,
    measure_agreement,
)
from logit_store import LogitKey, LogitStore
from metrics import log_loss
from terminal.console import UserError
from training.recipe import find_judging_fold

FAMILIES = ("mobilenet", "mobilenet", "passt", "passt", "cp_resnet")


@pytest.fixture(scope="module")
def corpus(commands):
    return tau.read(commands.corpus)


@pytest.fixture(scope="module")
def store(corpus, compiled, tmp_path_factory):
    """A store with five members of two splits, which are right more often than not."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    made.write_clips("tau", corpus.clips_table())
    rng = np.random.default_rng(0)
    certain_NK = 2.0 * np.eye(len(corpus.scenes))[corpus.labels()]
    for split in (25, 100):
        for m, family in enumerate(FAMILIES):
            noise_NK = rng.normal(0, 1 + m / 4, certain_NK.shape)
            record = {"kind": "teacher", "family": family, "protocol": "honest", "recipe": f"t{m}"}
            made.write(LogitKey("tau", split, f"t{m}-{split:012x}"), certain_NK + noise_NK, record)
    return made


def select_among_all(store, split, fold="select", **settings):
    """Select with these settings among all members; return the ensemble and its document."""
    members = tuple(key.member for key in store.keys("tau", split))
    candidates = ReadCandidates(
        store=store.address, corpus="tau", split=split, members=members, fold=fold
    )
    work = SelectEnsemble(input=candidates, name="mine", settings=SelectionSettings(**settings))
    reference = work.run_on(candidates.run())
    return reference, store.ensembles.read("tau", split, reference)


def test_the_ensemble_is_what_selection_by_hand_gives(corpus, store):
    rows = corpus.rows(100, "select")
    keys = store.keys("tau", 100)
    expected = select(store.read(keys, rows), corpus.labels()[rows])
    reference, document = select_among_all(store, 100)
    assert document["order"] == [keys[m].member for m in expected.members]
    assert document["losses"] == pytest.approx(expected.losses, abs=1e-12)
    assert document["clips"] == len(rows)
    assert document["optimism"]["nested"] > document["optimism"]["selected_on"]
    assert select_among_all(store, 100)[0] == reference
    assert store.ensembles.find_all("tau", 100).count(reference) == 1


def test_the_agreement_of_members_is_the_share_of_clips_with_the_same_class():
    logits_MNK = np.eye(3)[[[0, 1, 2, 0], [0, 1, 0, 1]]]
    assert measure_agreement(logits_MNK).tolist() == [[1.0, 0.5], [0.5, 1.0]]


def test_a_selection_is_found_again_until_its_candidates_its_settings_or_its_name_change(store):
    members = tuple(key.member for key in store.keys("tau", 25))
    read = ReadCandidates(
        store=store.address, corpus="tau", split=25, members=members, fold="select"
    )
    work = SelectEnsemble(input=read, name="again", settings=SelectionSettings(max_members=1))
    assert work.find_result(store) is None
    reference = work.run_on(read.run())
    assert work.find_result(store) == reference
    fewer = replace(read, members=members[1:])
    for other in (
        replace(work, name="other"),
        replace(work, settings=SelectionSettings(max_members=2)),
        replace(work, input=fewer),
        replace(work, input=replace(read, fold="test")),
    ):
        assert other.find_result(store) is None
    # Selecting it again makes it the newest of its name, so it must not be skipped.
    replace(work, input=fewer).run_on(fewer.run())
    assert work.find_result(store) is None


def test_a_dry_run_decodes_no_record_of_the_catalogue_and_looks_for_no_gpu(
    store, monkeypatch, capsys
):
    before = store.ensembles.find_all("tau", 25)
    monkeypatch.delattr("logit_store.catalogue._decode_footer")
    monkeypatch.delattr("jobs.plan.records.find_device")
    options = EnsembleOptions(corpus="tau", store=store.address, name="dry", dry_run=True)
    assert ensemble_command.main(options) == 0
    printed = capsys.readouterr().out
    assert "ensemble dry split 25" in printed
    assert "2 runs to do" in printed
    assert store.ensembles.find_all("tau", 25) == before


def test_students_see_the_weighted_mean_of_calibrated_members(corpus, store):
    how = {"space": "probabilities", "calibrate": True, "weights": "convex", "bags": 3}
    reference, document = select_among_all(store, 25, **how)
    keys = [LogitKey("tau", 25, each["member"]) for each in document["members"]]
    by_hand_NK = mean_logits(
        store.read(keys),
        [each["weight"] for each in document["members"]],
        temperatures_M=[each["temperature"] for each in document["members"]],
        space="probabilities",
    )
    seen_NK = compute_ensemble_logits(store, "tau", 25, reference)
    np.testing.assert_array_equal(seen_NK, by_hand_NK)
    rows = corpus.rows(25, "select")
    loss = log_loss(seen_NK[rows], corpus.labels()[rows])
    # The members' logits are rounded to float32 once they are calibrated.
    assert loss == pytest.approx(document["optimism"]["selected_on"], abs=1e-5)
    assert all(each["temperature"] != 1 for each in document["members"])


def test_required_members_are_in_from_the_start(store):
    required = f"t4-{100:012x}"
    assert select_among_all(store, 100, required=(required,))[1]["order"][0] == required


def test_the_published_protocol_judges_on_test_and_says_so(corpus, store, capsys):
    reference, document = select_among_all(store, 25, find_judging_fold("published"))
    rows = corpus.rows(25, "test")
    expected = select(store.read(store.keys("tau", 25), rows), corpus.labels()[rows])
    assert document["losses"] == pytest.approx(expected.losses, abs=1e-12)
    show_ensemble(store, "tau", 25, reference)
    printed = capsys.readouterr().out
    assert "log loss on test" in printed
    assert "test clips that a selection did not see" in printed


def test_candidates_are_what_query_and_names_leave(store):
    options = EnsembleOptions(corpus="tau", query="family != 'passt'", forbid=("t0",))
    found = find_candidates(options, store)
    assert found == {split: (f"t1-{split:012x}", f"t4-{split:012x}") for split in (25, 100)}


def test_a_query_on_members_may_end_with_a_remark(store):
    options = EnsembleOptions(corpus="tau", query="family = 'passt' or false -- transformers")
    assert {len(members) for members in find_candidates(options, store).values()} == {2}


@pytest.mark.parametrize(
    "query",
    [
        "1=1); copy (select 1) to 'x.parquet'",
        "true; copy (select 1) to 'x.parquet'",
        "true) or (true",
        "member in (select member from predictions where fold = 'test')",
    ],
)
def test_a_query_on_members_is_one_expression_and_sees_no_other_table(
    store, query, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root = Path(store.address)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="expected one expression over the columns of the view mem"):
        find_candidates(EnsembleOptions(corpus="tau", query=query), store)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.iterdir())


def test_many_selections_share_one_reading(commands, called, store, tmp_path):
    options = ("--average", "logits,probabilities", "--replacement", "both", "--splits", "25")
    options += ("--query", "family != 'passt'", "--name", "cnn_only", "--plot", str(tmp_path))
    printed = called(*commands.arguments("ensemble", *options, store=store.address))
    assert "[4/4]" in printed
    assert "of optimism (95 % interval" in printed
    for space in ("logits", "probabilities"):
        for way in ("without", "with"):
            name = f"cnn_only-{space}-{way}"
            document = store.ensembles.read("tau", 25, name)
            assert document["space"] == space
            assert document["settings"]["with_replacement"] == (way == "with")
            assert len(document["candidates"]) == 3
            assert sum(each["weight"] for each in document["members"]) == pytest.approx(1)
            assert store.ensembles.find("tau", 25, name) in printed
    pictures = sorted(tmp_path.glob("*.svg"))
    assert len(pictures) == 4
    assert all(ElementTree.parse(each).getroot().tag.endswith("svg") for each in pictures)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"require": ("t9",)}, "--require t9: no candidate of split 25 has this name"),
        (
            {"query": "seed = 9"},
            r"has 10 members of corpus tau .*, but --query seed = 9 leaves none: ",
        ),
        (
            {"forbid": ("t0", "t1", "t2", "t3", "t4"), "splits": (25,)},
            r"5 members .* \[25\], but --f",
        ),
        (
            {"splits": (5,)},
            r"has no teachers .* for split \[5\]: run python jobs/teachers.py first",
        ),
        ({"splits": (5,), "query": "true"}, r"has no teachers .* for split \[5\]: run"),
        (
            {"query": "famly = 1"},
            r"--query famly = 1: .*\"family\".*; expected columns: member, [a-z_, ]+$",
        ),
    ],
)
def test_options_that_make_no_sense_are_one_error(store, options, words):
    asked = EnsembleOptions(corpus="tau", **options)
    with pytest.raises(UserError, match=words):
        parse_settings(asked), find_candidates(asked, store)


@pytest.fixture(scope="module")
def cross_fitted(corpus, compiled, tmp_path_factory):
    """A store with three cross-fitted members of split 100, and one that has learnt all of fit."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    made.write_clips("tau", corpus.clips_table())
    rng = np.random.default_rng(1)
    certain_NK = 2.0 * np.eye(len(corpus.scenes))[corpus.labels()]
    for m, more in enumerate(({"cross_fit": 2}, {"cross_fit": 2}, {"cross_fit": 5}, {})):
        record = {"kind": "teacher", "protocol": "honest", "recipe": f"t{m}", **more}
        noise_NK = rng.normal(0, 1 + m / 4, certain_NK.shape)
        made.write(LogitKey("tau", 100, f"t{m}-{m:012x}"), certain_NK + noise_NK, record)
    return made


def test_out_of_fold_fit_and_select_judge_together(corpus, cross_fitted):
    options = EnsembleOptions(corpus="tau", judge="out-of-fold", forbid=("t3",))
    (members,) = find_candidates(options, cross_fitted).values()
    read = find_input(options, cross_fitted, 100, members)
    found = read.run()
    rows = np.sort(np.concatenate([corpus.rows(100, fold) for fold in ("fit", "select")]))
    assert found.labels_N.tolist() == corpus.labels()[rows].tolist()
    work = SelectEnsemble(input=read, name="both", settings=SelectionSettings())
    document = cross_fitted.ensembles.read("tau", 100, work.run_on(found))
    assert (document["fold"], document["clips"]) == ("fit+select", len(rows))
    assert document["optimism"]["n_folds"] == len(np.unique(corpus.column("recording")[rows]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--judge out-of-fold: t3-000000000003 may have learnt the fit clips"),
        ({"protocol": "published"}, "has no teachers"),
    ],
)
def test_a_candidate_that_has_learnt_the_clips_does_not_face_them(cross_fitted, options, words):
    with pytest.raises(UserError, match=words):
        find_candidates(EnsembleOptions(corpus="tau", judge="out-of-fold", **options), cross_fitted)
