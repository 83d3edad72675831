"""Searches: what is planned, what is refused, what survives a kill (N clips, K classes)."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from audio.corpora import tau
from jobs.plan import students
from jobs.plan.students import StudentsOptions
from jobs.search import make_proposals, plan_search, plan_without_ram
from jobs.trials.journal import Journal, Trial, TrialSettings, find_checkpoint_object
from jobs.trials.limits import StudentLimits
from jobs.trials.options import SearchOptions
from jobs.trials.proposals import Grid, generate_trials
from jobs.trials.race import find_contenders, find_places, rank_places, run_race
from jobs.trials.sampled import Sampled
from jobs.worker.where import Where, prepare
from logit_store import LogitKey, LogitStore
from students.errors import NoPlan
from students.search_space import SEARCH_SPACES, find_space
from terminal.console import UserError

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


def make_trial(point, taught_by=None, seed=0, **changes):
    """Return a trial that costs nothing."""
    known = {"point": point, "taught_by": taught_by, "seed": seed}
    return Trial(macs=1_000, parameter_bytes=100, **known | changes)


def ended(trial, *losses, state="done"):
    trial.state, trial.losses = state, list(losses)
    trial.accuracies = [0.5] * len(losses)
    return trial


def test_361_points_of_the_published_grid_are_within_the_budget(corpus, store):
    planned = plan_search(options(space="grid540"), corpus, store)
    assert planned.taught_by is None
    journal = Journal(store, planned.name, planned.identity)
    proposals, n_wanted = make_proposals(planned, journal)
    assert n_wanted == 361
    assert len(journal.find_trials("over_budget")) == 540 - 361
    todo = list(generate_trials(journal, proposals, make_trial, None))
    assert len(todo) == 361
    assert len({trial.id for trial in todo}) == 361


def test_a_grid_over_the_budget_is_refused(corpus, store):
    planned = plan_search(options(space="baseline", max_macs=1_000), corpus, store)
    channels = {"arguments.base_channels": (8, 16)}
    narrow = replace(planned, space=replace(planned.space, dimensions=channels), sampler="grid")
    with pytest.raises(UserError, match="all 2 points are over the budget: .* at most 1,000"):
        make_proposals(narrow, Journal(store, "none", IDENTITY))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0, 1)}, "a search takes one"),
        ({"sampler": "grid"}, "space isotropic has ranges"),
        ({"recipe": "cp_mobile_2023"}, "varies the architecture isotropic"),
        ({"recipe": "nobody"}, "no student recipe nobody"),
        ({"no_teacher": False}, "split 25 has no ensemble"),
        ({"space": "grid540", "no_teacher": False, "ensemble": "x"}, "has no ensemble named x"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(corpus, store, changes, message):
    with pytest.raises(UserError, match=message):
        plan_search(options(**changes), corpus, store)


def test_the_same_options_name_the_same_search_and_others_another(corpus, store):
    few = plan_search(options(space="baseline", trials=3), corpus, store)
    many = plan_search(options(space="baseline", trials=30, cpus_per_run=2), corpus, store)
    longer = plan_search(options(space="baseline", trials=3, epochs=20), corpus, store)
    assert few.name == many.name
    assert longer.name != few.name


def test_what_a_search_found_is_taught_by_its_name(corpus, store):
    searched = plan_search(options(space="baseline", name="first"), corpus, store)
    journal = Journal(store, searched.name, searched.identity)
    journal.add(ended(searched.make_trial({"arguments.base_channels": 16}), 0.5))
    taught = StudentsOptions(corpus="tau", recipes=("search:first",), splits=(25,))
    (task,) = students.plan_students(taught, corpus, store, {25: None})
    assert task.work.recipe.arguments["base_channels"] == 16
    with pytest.raises(UserError, match="--recipes search:second: .*see python jobs/search.py"):
        students.plan_students(
            replace(taught, recipes=("search:second",)), corpus, store, {25: None}
        )
    Journal(store, "race", IDENTITY).add(ended(make_trial({}), 0.5))
    with pytest.raises(UserError, match="--recipes search:race: its result has no 'recipe'"):
        students.plan_students(replace(taught, recipes=("search:race",)), corpus, store, {25: None})


def test_a_search_of_that_name_with_other_options_is_refused(store):
    Journal(store, "first", IDENTITY).add(make_trial({}))
    assert list(Journal(store, "first", IDENTITY).trials) == [make_trial({}).id]
    with pytest.raises(UserError, match="search first is in the store with epochs 3, and 4 was"):
        Journal(store, "first", IDENTITY | {"epochs": 4})


def test_the_journal_lists_the_best_first_and_those_that_came_further_before(store):
    journal = Journal(store, "first", IDENTITY)
    journal.add(
        ended(make_trial({"a": 1}), 0.1, state="stopped"),
        ended(make_trial({"a": 2}), 0.9, 0.8, 0.7),
        make_trial({"a": 3}, state="over_budget"),
        ended(make_trial({"a": 4}), 0.9, 0.9, 0.6),
        ended(make_trial({"a": 5}), 0.9, 0.9, state="diverged"),
    )
    document = json.loads(store.objects.read(journal.document))
    assert [trial["point"]["a"] for trial in document["trials"]] == [4, 2, 1, 5, 3]
    assert document["trials"][0]["select_log_loss"] == 0.6
    again = Journal(store, "first", IDENTITY)
    assert again.rank() == journal.rank()


def test_a_trial_that_ends_leaves_no_checkpoint_and_neither_does_a_killed_driver(store):
    journal = Journal(store, "first", IDENTITY)
    running, gone = make_trial({"a": 1}), ended(make_trial({"a": 2}), 0.5)
    journal.add(running, gone)
    for trial in (running, gone):
        store.objects.write(journal.find_checkpoint(trial), b"weights")
    Journal(store, "first", IDENTITY).sweep()
    assert journal.find_checkpoint(running) in store.objects
    assert journal.find_checkpoint(gone) not in store.objects
    journal.end(ended(running, 0.4))
    assert journal.find_checkpoint(running) not in store.objects


def test_a_search_goes_on_with_what_was_begun_and_teaches_no_point_twice(store):
    grid = replace(SEARCH_SPACES["baseline"], dimensions={"arguments.base_channels": (8, 16, 24)})
    points = [{"arguments.base_channels": channels} for channels in (8, 16, 24)]
    journal = Journal(store, "first", IDENTITY)
    journal.add(ended(make_trial(points[1]), 0.5), make_trial(points[2]))
    todo = list(generate_trials(journal, Grid(grid), make_trial, 3))
    assert [trial.point for trial in todo] == [points[2], points[0]]


@pytest.mark.parametrize("sampler", ["optuna", "random"])
def test_points_over_the_budget_are_noted_and_counted_but_never_trained(store, sampler):
    space = SEARCH_SPACES["isotropic"].drop_teachers()
    journal = Journal(store, "first", IDENTITY)

    def gated(point):
        over = point["arguments.filters"] > 64
        return make_trial(point, state="over_budget" if over else "running")

    todo = []
    for trial in generate_trials(journal, Sampled(space, sampler, 0, ()), gated, 8):
        journal.add(ended(trial, 1.0))
        todo.append(trial)
    assert len(todo) == 8
    assert all(trial.point["arguments.filters"] <= 64 for trial in todo)
    assert journal.find_trials("over_budget")
    assert all(t.point["arguments.filters"] > 64 for t in journal.find_trials("over_budget"))


def test_a_space_in_which_nothing_is_left_ends_the_search(store):
    space = replace(
        SEARCH_SPACES["baseline"], dimensions={"arguments.base_channels": (8, 16)}
    ).drop_teachers()
    journal = Journal(store, "first", IDENTITY)
    todo = []
    for trial in generate_trials(journal, Sampled(space, "random", 0, ()), make_trial, 5):
        journal.add(ended(trial, 1.0))
        todo.append(trial.point["arguments.base_channels"])
    assert sorted(todo) == [8, 16]


def test_suggestions_follow_what_was_found_and_do_not_begin_again(store):
    space = replace(SEARCH_SPACES["recipe"], dimensions={"device_loss_weight": (0, 1, 2, 3)})
    first = Sampled(space, "optuna", 0, ())
    assert first.suggest() == Sampled(space, "optuna", 0, ()).suggest()
    known = [
        ended(make_trial({"device_loss_weight": w}), abs(w - 2.0))
        for w in (0, 1, 2, 3)
        for _ in "123"
    ]
    taught = Sampled(space, "optuna", 0, known)
    suggested = [taught.suggest()["device_loss_weight"] for _ in range(20)]
    assert suggested.count(2) > 10


def test_an_architecture_is_measured_once_and_its_cost_is_that_of_the_student(corpus):
    limits, space = StudentLimits(corpus, "fp16", 30_000_000, 128_000), SEARCH_SPACES["isotropic"]
    point = {"arguments.filters": 64, "arguments.depth": 9, "training.weight_decay": 0.001}
    trial = limits.make_trial(space.make_recipe(point), point, None, 0)
    assert trial.state == "running"
    wide = point | {"arguments.filters": 96, "arguments.patch": 10}
    over = limits.make_trial(space.make_recipe(wide), wide, None, 0)
    assert over.state == "over_budget"
    assert over.parameter_bytes > 128_000
    assert "bytes of parameters at fp16" in str(over.error)


def test_a_search_finds_students_that_fit_the_ram_of_a_device_and_plans_no_others(
    corpus, store, monkeypatch
):
    planned = []

    def measure(recipe, corpus):
        planned.append(recipe.arguments["base_channels"])
        if planned[-1] == 16:
            raise NoPlan("operator Sin is unknown")
        return 11_000 * planned[-1]

    monkeypatch.setattr("students.ram.measure_recipe_ram", measure)
    changes = {"space": "baseline", "max_ram": 256_000, "max_bytes": 45_000}
    search = plan_search(options(**changes), corpus, store)
    channels = {"arguments.base_channels": (8, 16, 20, 24, 32)}
    narrow = replace(search, space=replace(search.space, dimensions=channels))
    trials = narrow.list_trials()
    assert [each.ram for each in trials if each.state == "running"] == [88_000, 220_000]
    assert [str(each.error).partition(", ")[0] for each in trials if each.state != "running"] == [
        "operator Sin is unknown",
        f"student {trials[3].error.split()[1]} has 264,000 bytes of RAM in int8",
        f"student {trials[4].error.split()[1]} has 60,406 bytes of parameters at int8",
    ]
    # 32 channels are over the budget without it.
    assert set(planned) == {8, 16, 20, 24}


def test_a_search_without_a_limit_of_ram_plans_none_and_keeps_the_name_that_it_had(
    corpus, store, monkeypatch
):
    monkeypatch.setattr("students.ram.measure_recipe_ram", None)
    free = plan_search(options(space="baseline"), corpus, store)
    assert "max_ram" not in free.identity
    assert free.list_trials()[0].ram is None
    monkeypatch.setattr("students.ram.measure_recipe_ram", lambda recipe, corpus: 100_000)
    asked = options(space="baseline", max_ram=500_000)
    limited = plan_search(asked, corpus, store)
    assert limited.name != free.name
    assert limited.list_trials()[0].ram == 100_000
    counted = plan_without_ram(limited, asked, corpus, store)
    assert (counted.name, counted.list_trials()[0].ram) == (limited.name, None)


@pytest.fixture
def ensembles(corpus, store):
    """A store with a good and a weak teacher, and an ensemble of each, and one more ensemble of a
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
        pin = {"member": key.member, "hash": store.read_footer(key).logits_hash, "weight": 1.0}
        document = {
            "members": [pin | {"temperature": 1.0}],
            "space": "logits",
            "fold": "select" if protocol == "honest" else "test",
        }
        store.ensembles.write("tau", 25, name, document)
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
    from jobs.trials.race import Contender

    teachers = [Contender(f"e{n}@0", 1.0) for n in range(5)]
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
    places = rank_places(find_places(teachers, (0, 1, 2), journal))
    assert [len(place.losses) for place in places] == [3, 3, 2, 1, 1]
    assert places[0].teacher.name == "e0@0"
    assert run_race(teachers, (0, 1, 2), entrant, journal, carry_out)
    assert len(rounds) == 3


def test_where_the_budget_ends_a_round_nobody_drops_out(store):
    from jobs.trials.race import Contender

    journal, rounds = Journal(store, "race", IDENTITY), []

    def carry_out(trials):
        rounds.append(trials)
        journal.add(ended(trials[0], 1.0))
        return False

    teachers = [Contender(f"e{n}@0", 1.0) for n in range(5)]
    assert not run_race(teachers, (0, 1), entrant, journal, carry_out)
    assert len(rounds) == 1


def entrant(name, seed):
    return make_trial({}, taught_by=name, seed=seed)


@pytest.fixture
def attempted(commands, corpus, store, tmp_path, monkeypatch):
    """Runs trials of two epochs in this process; returns what each reported."""
    from jobs.trials import trial

    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "find_reserved_device", lambda: torch.device("cpu"))
    prepare(corpus, store, {32_000})
    settings = TrialSettings(
        where=Where("tau", str(commands.corpus), store.address),
        search="first",
        space=find_space("isotropic", "demo_isotropic").drop_teachers(),
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
        work = trial.RunTrial(settings=settings, id="0123", point=point, taught_by=None, seed=0)
        with contextlib.suppress(KeyboardInterrupt):
            trial.run_trial({"id": work.id, "work": work, "log": None})
        return reported

    return attempt


def test_a_trial_reports_the_epochs_before_its_checkpoint_again_and_goes_on(attempted, store):
    point = {"arguments.filters": 32, "arguments.depth": 4, "arguments.patch": 10}
    first = attempted(point, at_most=1)
    again = attempted(point)
    assert [result["epoch"] for result in again] == [1, 2]
    assert again[0] == first[0]
    store.objects.delete(find_checkpoint_object("first", "0123"))
    assert attempted(point) == again


def test_a_trial_reports_its_own_errors_and_that_it_diverged(attempted):
    (failed,) = attempted({"arguments.side": 3})
    assert failed["state"] == "failed"
    assert "has no dimension arguments.side" in failed["error"]
    (diverged,) = attempted({"arguments.filters": 32, "training.peak_learning_rate": 1e30})
    assert diverged["state"] == "diverged"


def test_a_search_is_refused_without_ray(commands, called, tmp_path):
    search = ("--split", "25", "--no-teacher", "--trials", "1", "--epochs", "1")
    printed = called(*commands.arguments("search", *search, store=tmp_path), code=1)
    assert "error: TUTTI_IN_PROCESS=1: this command needs Ray" in printed
