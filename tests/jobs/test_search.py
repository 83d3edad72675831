"""Searches: what is planned, what is refused, what survives a kill (N clips, K classes)."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from audio.corpora import tau
from jobs import student_runs
from jobs.budget import Budget
from jobs.command import UserError, Where, prepare
from jobs.journal import Journal, Lesson, Trial, checkpoint_object
from jobs.progress import Watcher
from jobs.proposals import Grid, Sampled, candidates
from jobs.race import find_contenders, places_of, ranked, run_race
from jobs.search import plan, propose
from jobs.search_options import SearchOptions
from jobs.student_runs import StudentsOptions
from logit_store import LogitKey, LogitStore
from students.search_space import SPACES, find_space, found_recipe

IDENTITY = {"space": "isotropic", "epochs": 3}


@pytest.fixture(scope="module")
def corpus(commands):
    return tau.read(commands.corpus)


@pytest.fixture
def store(tmp_path, corpus):
    made = LogitStore(tmp_path / "store")
    made.write_clips("tau", corpus.clips_table())
    return made


def options(**changes):
    return SearchOptions(**{"corpus": "tau", "split": 25, "no_teacher": True} | changes)


def trial_of(point, taught_by=None, seed=0, **changes):
    """A trial that costs nothing."""
    known = {"point": point, "taught_by": taught_by, "seed": seed}
    return Trial(macs=1_000, parameter_bytes=100, **known | changes)


def ended(trial, *losses, state="done"):
    trial.state, trial.losses = state, list(losses)
    trial.accuracies = [0.5] * len(losses)
    return trial


def test_of_the_published_grid_361_points_are_within_the_budget(corpus, store):
    planned = plan(options(space="grid540"), corpus, store)
    assert planned.taught_by is None
    journal = Journal(store, planned.name, planned.identity)
    proposals, n_wanted = propose(planned, journal)
    assert n_wanted == 361
    assert len(journal.in_state("over_budget")) == 540 - 361
    todo = list(candidates(journal, proposals, trial_of, None))
    assert len(todo) == 361
    assert len({trial.id for trial in todo}) == 361


def test_a_grid_over_the_budget_is_refused(corpus, store):
    planned = plan(options(space="baseline", max_macs=1_000), corpus, store)
    channels = {"arguments.base_channels": (8, 16)}
    narrow = replace(planned, space=replace(planned.space, dimensions=channels), sampler="grid")
    with pytest.raises(UserError, match="all 2 points are over the budget: .* at most 1,000"):
        propose(narrow, Journal(store, "none", IDENTITY))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "--trials 0: expected 1 or more"),
        ({"epochs": -1}, "--epochs -1"),
        ({"seeds": (0, 1)}, "a search takes one"),
        ({"sampler": "grid"}, "space isotropic has ranges"),
        ({"recipe": "cp_mobile_2023"}, "varies the architecture isotropic"),
        ({"recipe": "nobody"}, "no student recipe nobody"),
        ({"name": "a/b"}, "--name 'a/b'"),
        ({"no_teacher": False}, "split 25 has no ensemble"),
        ({"space": "grid540", "no_teacher": False, "ensemble": "x"}, "has no ensemble named x"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(corpus, store, changes, message):
    with pytest.raises(UserError, match=message):
        plan(options(**changes), corpus, store)


def test_the_same_options_name_the_same_search_and_others_another(corpus, store):
    few = plan(options(space="baseline", trials=3), corpus, store)
    many = plan(options(space="baseline", trials=30, cpus_per_run=2), corpus, store)
    longer = plan(options(space="baseline", trials=3, epochs=20), corpus, store)
    assert few.name == many.name
    assert longer.name != few.name


def test_what_a_search_found_is_taught_by_its_name(corpus, store):
    searched = plan(options(space="baseline", name="first"), corpus, store)
    journal = Journal(store, searched.name, searched.identity)
    journal.add(ended(searched.trial_of({"arguments.base_channels": 16}), 0.5))
    taught = StudentsOptions(corpus="tau", recipes=("search:first",), splits=(25,))
    (task,) = student_runs.plan(taught, corpus, store, {25: None})
    assert task.arguments["recipe"].arguments["base_channels"] == 16
    with pytest.raises(UserError, match="--recipes search:second: .*see python jobs/search.py"):
        student_runs.plan(replace(taught, recipes=("search:second",)), corpus, store, {25: None})
    Journal(store, "race", IDENTITY).add(ended(trial_of({}), 0.5))
    with pytest.raises(UserError, match="--recipes search:race: its result has no 'recipe'"):
        student_runs.plan(replace(taught, recipes=("search:race",)), corpus, store, {25: None})


def test_a_search_of_that_name_with_other_options_is_refused(store):
    Journal(store, "first", IDENTITY).add(trial_of({}))
    assert list(Journal(store, "first", IDENTITY).trials) == [trial_of({}).id]
    with pytest.raises(UserError, match="search first is in the store with epochs 3, and 4 was"):
        Journal(store, "first", IDENTITY | {"epochs": 4})


def test_the_journal_lists_the_best_first_and_those_that_came_further_before(store):
    journal = Journal(store, "first", IDENTITY)
    journal.add(
        ended(trial_of({"a": 1}), 0.1, state="stopped"),
        ended(trial_of({"a": 2}), 0.9, 0.8, 0.7),
        trial_of({"a": 3}, state="over_budget"),
        ended(trial_of({"a": 4}), 0.9, 0.9, 0.6),
        ended(trial_of({"a": 5}), 0.9, 0.9, state="diverged"),
    )
    document = json.loads(store.read_object(journal.document))
    assert [trial["point"]["a"] for trial in document["trials"]] == [4, 2, 1, 5, 3]
    assert document["trials"][0]["select_log_loss"] == 0.6
    again = Journal(store, "first", IDENTITY)
    assert again.ranked() == journal.ranked()


def test_a_trial_that_ends_leaves_no_checkpoint_and_neither_does_a_killed_driver(store):
    journal = Journal(store, "first", IDENTITY)
    running, gone = trial_of({"a": 1}), ended(trial_of({"a": 2}), 0.5)
    journal.add(running, gone)
    for trial in (running, gone):
        store.write_object(journal.checkpoint(trial), b"weights")
    Journal(store, "first", IDENTITY).sweep()
    assert store.has_object(journal.checkpoint(running))
    assert not store.has_object(journal.checkpoint(gone))
    journal.end(ended(running, 0.4))
    assert not store.has_object(journal.checkpoint(running))


def test_a_search_goes_on_with_what_was_begun_and_teaches_no_point_twice(store):
    grid = replace(SPACES["baseline"], dimensions={"arguments.base_channels": (8, 16, 24)})
    points = [{"arguments.base_channels": channels} for channels in (8, 16, 24)]
    journal = Journal(store, "first", IDENTITY)
    journal.add(ended(trial_of(points[1]), 0.5), trial_of(points[2]))
    todo = list(candidates(journal, Grid(grid), trial_of, 3))
    assert [trial.point for trial in todo] == [points[2], points[0]]


@pytest.mark.parametrize("sampler", ["optuna", "random"])
def test_points_over_the_budget_are_told_and_counted_but_never_taught(store, sampler):
    space = SPACES["isotropic"].alone()
    journal = Journal(store, "first", IDENTITY)

    def gated(point):
        over = point["arguments.filters"] > 64
        return trial_of(point, state="over_budget" if over else "running")

    todo = []
    for trial in candidates(journal, Sampled(space, sampler, 0, ()), gated, 8):
        journal.add(ended(trial, 1.0))
        todo.append(trial)
    assert len(todo) == 8
    assert all(trial.point["arguments.filters"] <= 64 for trial in todo)
    assert journal.in_state("over_budget")
    assert all(t.point["arguments.filters"] > 64 for t in journal.in_state("over_budget"))


def test_a_space_in_which_nothing_is_left_ends_the_search(store):
    space = replace(SPACES["baseline"], dimensions={"arguments.base_channels": (8, 16)}).alone()
    journal = Journal(store, "first", IDENTITY)
    todo = []
    for trial in candidates(journal, Sampled(space, "random", 0, ()), trial_of, 5):
        journal.add(ended(trial, 1.0))
        todo.append(trial.point["arguments.base_channels"])
    assert sorted(todo) == [8, 16]


def test_suggestions_follow_what_was_found_and_do_not_begin_again(store):
    space = replace(SPACES["recipe"], dimensions={"device_loss_weight": (0, 1, 2, 3)})
    first = Sampled(space, "optuna", 0, ())
    assert first.next() == Sampled(space, "optuna", 0, ()).next()
    known = [
        ended(trial_of({"device_loss_weight": w}), abs(w - 2.0))
        for w in (0, 1, 2, 3)
        for _ in "123"
    ]
    taught = Sampled(space, "optuna", 0, known)
    suggested = [taught.next()["device_loss_weight"] for _ in range(20)]
    assert suggested.count(2) > 10


def test_an_architecture_is_measured_once_and_its_cost_is_that_of_the_student(corpus):
    budget, space = Budget(corpus, "fp16", 30_000_000, 128_000), SPACES["isotropic"]
    point = {"arguments.filters": 64, "arguments.depth": 9, "training.weight_decay": 0.001}
    trial = budget.trial(space.recipe(point), point, None, 0)
    assert trial.state == "running"
    wide = point | {"arguments.filters": 96, "arguments.patch": 10}
    over = budget.trial(space.recipe(wide), wide, None, 0)
    assert over.state == "over_budget"
    assert over.parameter_bytes > 128_000
    assert "bytes of parameters at fp16" in str(over.error)


@pytest.fixture
def ensembles(corpus, store):
    """A teacher that knows much, one that knows little, and an ensemble of each; one more of a
    teacher that saw the test clips."""
    rng = np.random.default_rng(0)
    one_hot_NK = np.eye(3)[corpus.labels()]
    for name, sure, protocol in (
        ("wise", 3, "honest"),
        ("dull", 1, "honest"),
        ("sly", 9, "published"),
    ):
        key = LogitKey("tau", 25, f"{name}-0123456789ab")
        logits_NK = sure * one_hot_NK + rng.normal(0, 0.1, one_hot_NK.shape)
        store.write(key, logits_NK, {"kind": "teacher", "protocol": protocol})
        pin = {"member": key.member, "hash": store.footer(key).logits_hash, "weight": 1.0}
        document = {
            "members": [pin | {"temperature": 1.0}],
            "space": "logits",
            "fold": "select" if protocol == "honest" else "test",
        }
        store.write_ensemble("tau", 25, name, document)
    return store


def test_the_best_ensembles_and_the_best_teacher_are_raced(corpus, ensembles):
    contenders = find_contenders(ensembles, corpus, 25, 2)
    names = [teacher.name.partition("@")[0] for teacher in contenders]
    assert names == ["wise", "dull", "wise-0123456789ab"]
    assert contenders[0].loss < contenders[1].loss
    assert len(find_contenders(ensembles, corpus, 25, 1)) == 2


def test_a_race_without_ensembles_is_refused(corpus, store):
    with pytest.raises(UserError, match="split 25 has 0 ensembles and 0 teachers"):
        find_contenders(store, corpus, 25, 3)


def test_after_each_seed_the_better_half_goes_on_and_the_winner_is_the_best_on_average(store):
    from jobs.race import Teacher

    teachers = [Teacher(f"e{n}@0", 1.0) for n in range(5)]
    journal, rounds = Journal(store, "race", IDENTITY), []

    def carry_out(trials):
        rounds.append([trial.taught_by for trial in trials])
        for trial in trials:
            n = int(trial.taught_by[1])
            journal.add(ended(trial, n + (2.5 if trial.seed == 1 and n == 0 else 0.0)))
        return True

    assert run_race(teachers, (0, 1, 2), entrant, journal, carry_out)
    assert [len(each) for each in rounds] == [5, 3, 2]
    assert rounds[2] == ["e1@0", "e0@0"]
    places = ranked(places_of(teachers, (0, 1, 2), journal))
    assert [len(place.losses) for place in places] == [3, 3, 2, 1, 1]
    assert places[0].teacher.name == "e0@0"
    assert run_race(teachers, (0, 1, 2), entrant, journal, carry_out)
    assert len(rounds) == 3


def test_where_the_budget_ends_a_round_nobody_drops_out(store):
    from jobs.race import Teacher

    journal, rounds = Journal(store, "race", IDENTITY), []

    def carry_out(trials):
        rounds.append(trials)
        journal.add(ended(trials[0], 1.0))
        return False

    teachers = [Teacher(f"e{n}@0", 1.0) for n in range(5)]
    assert not run_race(teachers, (0, 1), entrant, journal, carry_out)
    assert len(rounds) == 1


def entrant(name, seed):
    return trial_of({}, taught_by=name, seed=seed)


@pytest.fixture
def attempted(commands, corpus, store, tmp_path, monkeypatch):
    """Carries out trials of two epochs here, without Ray; what each reported."""
    from jobs import trial

    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "reserved_device", lambda: torch.device("cpu"))
    prepare(corpus, store, {32_000})
    lesson = Lesson(
        where=Where("tau", str(commands.corpus), store.address),
        search="first",
        space=find_space("isotropic", "demo_isotropic").alone(),
        split=25,
        epochs=2,
        responses=None,
        cpus=1,
    )

    def attempt(point, at_most=None):
        reported = []

        def report(result):
            reported.append(result)
            if len(reported) == at_most:
                raise KeyboardInterrupt

        monkeypatch.setattr(trial.tune, "report", report)
        config = {"id": "0123", "point": point, "taught_by": None, "seed": 0, "unit": None}
        with contextlib.suppress(KeyboardInterrupt):
            trial.attempt(config, lesson)
        return reported

    return attempt


def test_a_trial_tells_again_what_its_checkpoint_has_behind_it_and_goes_on(attempted, store):
    point = {"arguments.filters": 32, "arguments.depth": 4, "arguments.patch": 10}
    first = attempted(point, at_most=1)
    again = attempted(point)
    assert [result["epoch"] for result in again] == [1, 2]
    assert again[0] == first[0]
    store.delete_object(checkpoint_object("first", "0123"))
    assert attempted(point) == again


def test_a_trial_tells_its_own_errors_and_that_it_diverged(attempted):
    (failed,) = attempted({"arguments.side": 3})
    assert failed["state"] == "failed"
    assert "has no dimension arguments.side" in failed["error"]
    (diverged,) = attempted({"arguments.filters": 32, "training.peak_learning_rate": 1e30})
    assert diverged["state"] == "diverged"


@pytest.mark.ray
@pytest.mark.usefixtures("address")
def test_a_killed_search_goes_on_and_leaves_its_result_and_nothing_else(
    commands, called, tmp_path, wait_for
):
    arguments = commands.arguments(
        "search",
        *("--split", "25", "--recipe", "demo_isotropic", "--no-teacher", "--name", "first"),
        *("--trials", "4", "--epochs", "2", "--no-halving"),
        store=tmp_path,
    )
    result = tmp_path / "search" / "v1" / "first" / "result.json"

    def states():
        return [trial["state"] for trial in json.loads(result.read_text())["trials"]]

    process = commands.start(*arguments)
    wait_for(lambda: result.exists() and "done" in states(), "the first trial to end", 300)
    process.kill()
    process.communicate()
    done = {t["id"]: t for t in json.loads(result.read_text())["trials"] if t["state"] == "done"}
    n_left = 4 - len(done)
    poor = commands.run(*arguments, "--machine", "aws-m7i-2xlarge", "--budget", "1e-9", code=1)
    assert f"not started: {n_left - 1} of {n_left} trials" in poor
    assert states().count("done") == len(done) + 1
    printed = commands.run(*arguments)
    assert f"{len(done) + 1} of 4 trials are done already" in printed
    assert "--recipes search:first --no-teacher" in printed
    document = json.loads(result.read_text())
    taught = [trial for trial in document["trials"] if trial["state"] != "over_budget"]
    assert [trial["state"] for trial in taught] == ["done"] * 4
    assert all(len(trial["losses"]) == 2 for trial in taught)
    assert [trial for trial in taught if trial["id"] in done] == sorted(
        done.values(), key=lambda trial: trial["select_log_loss"]
    )
    assert found_recipe(document).model == "isotropic"
    watcher = Watcher(LogitStore(tmp_path))
    killed, _, last = map(watcher.look, watcher.jobs())
    assert (killed.driver.search, killed.driver.state) == ("first", "running")
    assert last.counts() == {"done": 4 - len(done) - 1}
    assert all(unit.attempt.epoch == 2 for unit in last.units)
    assert not list(tmp_path.rglob("*.pt"))
    assert LogitStore(tmp_path).keys() == []
    assert "4 of 4 trials are done already" in called(*arguments)
