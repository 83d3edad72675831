"""The page that `make proof` writes: its commands, tables and verdicts, on a store with made-up logits."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from typed_commands import check, fenced

from audio.corpora import demo
from benchmarks.proof import Clock, list_proofs, parse_arguments
from benchmarks.proof_commands import (
    Proof,
    find_failures,
    have_teachers,
    refuse_other_teachers,
)
from benchmarks.proof_page import Proved, describe_results, draw_gains
from benchmarks.proof_tables import (
    GAIN,
    LOSS,
    NEITHER,
    FailedTeacher,
    Gain,
    ProvedSystem,
    format_systems,
    judge,
    measure_gains,
)
from jobs.schedule.job_log import JobLog
from logit_store import LogitKey, LogitStore, strip_fingerprint
from metrics import Interval
from report.summary import TOO_FEW_SEEDS
from terminal.console import UserError

NOTHING = Interval(value=0.0, low=-0.1, high=0.1)


def list_stored_systems(results):
    """The systems of the made-up store, as a proof would find those of its commands."""
    for each in results.systems:
        alone = each.kind == "student" and each.taught_by is None
        taught = each.kind == "student" and each.taught_by is not None
        name = strip_fingerprint(each.keys[0].member)
        yield ProvedSystem(
            name="ensemble" if each.reference else "student alone" if alone else name,
            kind=each.kind,
            split=each.split,
            keys=each.keys,
            reference=each.reference,
            against="student alone" if taught else None,
        )


@pytest.fixture(scope="module")
def proved(made, results):
    judged = tuple(judge(made.corpus, made.store, each) for each in list_stored_systems(results))
    return Proved(
        proof=Proof(
            corpus="tau",
            root="FOLDER_OF_MINE",
            store="runs/proof/tau",
            student="demo_isotropic",
            splits=(25, 100),
            seeds=(0, 1),
        ),
        corpus=made.corpus,
        store=made.store,
        judged=judged,
        gains=tuple(measure_gains(made.corpus, judged)),
    )


def test_every_command_of_a_proof_exists_and_accepts_its_options():
    options = parse_arguments(["--scenes", "FOLDER", "--max-steps", "3", "--seeds", "0", "1"])
    commands = [words for proof in list_proofs(options) for words in proof.list_commands()]
    assert len(commands) == 9
    for words in commands:
        check(words)


def test_students_learn_from_a_pool_on_all_splits_but_the_whole():
    (proof,) = list_proofs(parse_arguments([]))
    *_, pooled, _ = proof.list_commands()
    assert " ".join(pooled).endswith("--pool rest --seeds 0 1 2 3 4")
    assert pooled[pooled.index("--splits") :][1:3] == ["5", "25"]
    (whole,) = list_proofs(parse_arguments(["--splits", "100"]))
    assert not any("--pool" in words for words in whole.list_commands())


def test_scores_are_those_of_the_report(results, proved):
    expected = {(each.split, each.keys): each.summary for each in results.systems}
    found = {(each.system.split, each.system.keys): each.summary for each in proved.judged}
    assert found == expected
    table = format_systems(proved.judged)
    assert table.count("\n") == 1 + len(results.systems)
    assert all(f"{100 * each.accuracy.value:.1f} (" in table for each in expected.values())


def test_a_run_takes_what_its_record_says(proved):
    (ensemble, *_) = (each for each in proved.judged if each.system.kind == "ensemble")
    members = [each for each in proved.judged if set(each.system.keys) <= set(ensemble.system.keys)]
    seconds = [each.training_s for each in members if each.system.kind == "teacher"]
    assert ensemble.training_s == pytest.approx(sum(seconds))


def test_a_gain_is_the_difference_of_two_accuracies_on_one_split(proved):
    accuracies = {
        (each.system.split, each.system.name): each.summary.accuracy.value for each in proved.judged
    }
    assert [gain.split for gain in proved.gains] == [25, 100]
    for gain in proved.gains:
        pair = [accuracies[gain.split, name] for name in (gain.against, gain.name)]
        assert gain.difference.value == pytest.approx(pair[1] - pair[0])
        assert gain.verdict == TOO_FEW_SEEDS


@pytest.mark.parametrize(
    ("low", "high", "n_seeds", "verdict"),
    [
        (0.01, 0.2, 5, GAIN),
        (-0.2, -0.01, 5, LOSS),
        (-0.1, 0.2, 5, NEITHER),
        (0.01, 0.2, 2, TOO_FEW_SEEDS),
    ],
)
def test_only_an_interval_without_0_and_three_seeds_have_a_verdict(low, high, n_seeds, verdict):
    gain = Gain(
        name="taught",
        against="alone",
        split=25,
        n_seeds=n_seeds,
        difference=Interval(value=(low + high) / 2, low=low, high=high),
        unseen=NOTHING,
    )
    assert gain.verdict == verdict


def test_the_page_has_every_system_and_what_was_chosen(proved, results):
    page = describe_results([proved], 7200, "results.svg")
    rows = re.findall(r"^\| ([^|]+) \| \d+ \| [\d.]+ \(", page, re.MULTILINE)
    assert len(rows) == len(results.systems)
    assert "All commands took 2.0 h" in page
    assert "the ensemble, of 2 candidates these members (weights): teacher_4 (0.67)" in page
    assert "`demo_isotropic` of students/recipes.py: 10,000 parameters" in page
    assert "make proof SCENES=FOLDER" in page


def test_later_students_are_compared_on_the_demo_corpus_alone():
    proofs = list_proofs(parse_arguments(["--scenes", "FOLDER"]))
    later = [each.list_commands()[-1] for each in proofs if each.has_later_students]
    assert [" ".join(words[words.index("--splits") :]) for words in later] == [
        "--splits 25 --recipes demo_tf_sepnet demo_cnn_gru demo_rep_mobile --compare --seeds 0 1 2 3 4"
    ]
    (without,) = list_proofs(parse_arguments(["--splits", "100"]))
    assert not without.has_later_students


def test_later_students_have_a_table_of_their_own_and_are_counted_with_the_others(proved):
    students = tuple(each for each in proved.judged if each.system.kind == "student")
    page = describe_results(
        [replace(proved, later=students, later_gains=proved.gains)], 60, "results.svg"
    )
    alone, own = page.split("### tau, split 25: three later students")
    for each in proved.gains:
        assert f"| {each.name} | {each.against} |" in own.split("## Published figures")[0]
    assert f"Of {2 * len(proved.gains)} comparisons" in alone


def test_the_page_has_two_bars_and_says_that_they_are_two(proved):
    page = describe_results([proved], 60, "results.svg")
    development, evaluation = page.split("On the evaluation sets")
    assert "| CP-Mobile, taught by CP-ResNet and PaSST | - | - | - | - | 65.81 |" in development
    assert "| CP-Mobile | - | - | - | - | 62.7 |" in evaluation
    assert "No corpus above is TAU itself" in page


def test_the_page_names_no_folder_of_this_machine(proved):
    page = describe_results([proved], 60, "results.svg")
    assert "FOLDER_OF_MINE" not in page
    (block,) = fenced(page, "sh")
    assert block.count("--root FOLDER ") == 4


def test_the_picture_has_every_gain_and_is_small(proved):
    picture = draw_gains([proved])
    ElementTree.fromstring(picture)
    assert picture.count('aria-roledescription="point"') == len(proved.gains)
    assert len(picture.encode()) < 200_000


def test_a_store_with_other_teachers_is_refused(tmp_path):
    corpus, store = demo.read(), LogitStore(tmp_path)
    (proof,) = list_proofs(parse_arguments(["--splits", "25"]))
    refuse_other_teachers(proof, corpus, store)
    store.write_clips(corpus.name, corpus.clips_table())
    key = LogitKey(corpus.name, 25, "stranger-0123456789ab")
    store.write(key, np.zeros((len(corpus), len(corpus.scenes))), {"kind": "teacher"})
    with pytest.raises(UserError, match=r"stranger-0123456789ab.*give another --stores"):
        refuse_other_teachers(proof, corpus, store)


def test_a_teacher_that_failed_is_named_with_its_error_and_the_others_are_enough(tmp_path):
    corpus, store = demo.read(), LogitStore(tmp_path)
    arguments = ["--splits", "25", "--stores", str(tmp_path)]
    (proof,) = list_proofs(parse_arguments(arguments))
    assert not have_teachers(proof, corpus, store)
    store.write_clips(corpus.name, corpus.clips_table())
    first, *others = proof.plan_teachers(corpus, store).list_members()
    for task in others:
        logits_NK = np.zeros((len(corpus), len(corpus.scenes)))
        store.write(task.keys[0], logits_NK, {"kind": "teacher"})
    with JobLog(store) as log:
        log.plan([first], [False])
        log.note_end(first, "UnstorableLogits: too large\nand a traceback")
    assert have_teachers(proof, corpus, store)
    (failure,) = find_failures(proof, corpus, store)
    assert (failure.name, failure.split) == ("demo_mn", 25)
    assert failure.error == "UnstorableLogits: too large"


def test_the_page_names_a_teacher_that_failed(proved):
    failed = FailedTeacher(name="demo_dymn", split=25, error="UnstorableLogits: too large")
    page = describe_results([replace(proved, failures=(failed,))], 60.0, "results.svg")
    assert page.count("**demo_dymn failed**, so it has no row") == 1


def test_a_command_that_failed_ends_the_proof_unless_the_next_can_go_on(tmp_path):
    clock = Clock(tmp_path / "seconds.json")
    fails = ["python", "-c", "raise SystemExit(1)"]
    clock.run(fails, lambda: True)
    with pytest.raises(UserError, match="ended with code 1"):
        clock.run(fails, lambda: False)


def test_seconds_of_all_attempts_are_added_up(tmp_path):
    clock = Clock(tmp_path / "seconds.json")
    clock.run(["python", "-c", ""])
    first_s = clock.read()
    with pytest.raises(UserError, match="ended with code 3: correct that"):
        clock.run(["python", "-c", "raise SystemExit(3)"])
    assert clock.read() > first_s > 0
