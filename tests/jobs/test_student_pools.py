"""Students that learn from pools: what is planned, refused, estimated and done (V views, N clips)."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from tiny import RECIPE
from tiny_student import TINY_STUDENT

from audio.corpora import tau
from audio.errors import CorpusError
from jobs.plan.comparison import Comparison
from jobs.plan.pools import find_used_pool, plan_pool, prepare_pools
from jobs.plan.students import (
    StudentsOptions,
    check_pool_options,
    plan_recipe,
    plan_students,
)
from jobs.plan.workload import find_workload
from jobs.worker import train
from jobs.worker.teacher_logits import read_teacher_logits
from jobs.worker.where import decode
from logit_store import LogitKey, LogitStore
from terminal.console import UserError
from training import PoolUse

RATE = 32_000
TEACHERS = ("wise-0123456789ab", "other-0123456789ab")
RECORD = {"kind": "teacher", "protocol": "honest", "recipe": {"name": "demo_mn"}, "seed": 3}


@pytest.fixture(scope="module")
def corpus(commands):
    return tau.read(commands.corpus)


@pytest.fixture(scope="module")
def word(tmp_path_factory):
    """CORPUS:ROOT of a pool of another corpus."""
    root = tmp_path_factory.mktemp("other")
    for number in range(6):
        file = root / ("hiss", "hum")[number % 2] / f"far{number}.wav"
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, np.random.default_rng(number).normal(0, 0.1, 16_000), 16_000)
    return f"folder:{root}"


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    """A store with two teachers of split 25, and the ensemble of both."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    made.write_clips("tau", corpus.clips_table())
    write_teachers(made, "tau", len(corpus), 2)
    keys = [LogitKey("tau", 25, member) for member in TEACHERS]
    pairs = [{"member": k.member, "hash": made.read_footer(k).logits_hash} for k in keys]
    document = {
        "space": "logits",
        "members": [pair | {"weight": 0.5, "temperature": 1.0} for pair in pairs],
        "candidates": pairs,
    }
    made.ensembles.write("tau", 25, "both", document)
    return made


@pytest.fixture(scope="module")
def predicted(corpus, store, word, tmp_path_factory):
    """The same store, whose teachers have predicted two views of the other corpus as well."""
    other = plan_pool([word], PoolUse(), corpus, 25).pool.pools[0].corpus
    store.write_clips(other.name, other.clips_table())
    write_teachers(store, other.name, len(other), 2, corpus.scenes)
    return other


def write_teachers(store, corpus, n_clips, n_views, classes=None):
    for number, member in enumerate(TEACHERS):
        for view in range(n_views):
            logits_NK = np.random.default_rng([number, view]).normal(0, 2, (n_clips, 3))
            store.write(LogitKey(corpus, 25, member, view), logits_NK, RECORD, classes=classes)


def options(**changes):
    asked = {"corpus": "tau", "recipes": ("demo_isotropic",), "splits": (25,)}
    return StudentsOptions(**asked | changes)


def planned(corpus, store, **changes):
    chosen = options(store=store.address, **changes)
    check_pool_options(chosen, store)
    return plan_students(chosen, corpus, store, {25: TEACHERS[0]})


def count_rest(corpus):
    return len(plan_pool(["rest"], PoolUse(), corpus, 25).pool)


def test_a_pool_makes_another_student_and_no_pool_the_one_of_before(corpus, store):
    (plain,), (with_pool,), (shared,) = (
        planned(corpus, store, **changes)
        for changes in ({}, {"pool": ("rest",)}, {"pool": ("rest",), "pool_share": 0.5})
    )
    assert plain.work.pool is None
    assert with_pool.work.pool.n_clips == count_rest(corpus) > 0
    assert len({task.keys for task in (plain, with_pool, shared)}) == 3


def test_estimates_count_the_clips_of_the_pool_and_of_the_first_stage(corpus, store):
    def count(**changes):
        (task,) = planned(corpus, store, **changes)
        return find_workload(task.work, corpus, store)

    epochs, n_fit, n_rest = 4, len(corpus.rows(25, "fit")), count_rest(corpus)
    base, pooled = count(epochs=epochs), count(epochs=epochs, pool=("rest",))
    first = count(epochs=epochs, first_pool=("rest",))
    clips_per_epoch = planned(corpus, store)[0].work.recipe.training.clips_per_epoch
    each = [clips_per_epoch or n for n in (n_fit, n_fit + n_rest, n_rest)]
    assert (base.n_learnt, pooled.n_learnt) == (epochs * each[0], epochs * each[1])
    assert first.n_learnt == epochs * (each[0] + each[2])
    assert first.n_views == base.n_views + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"no_teacher": True, "pool": ("rest",)}, "clips without labels teach by the soft labels"),
        ({"ways": ("alone",), "pool": ("rest",)}, "no student here has any"),
        ({"pool_share": 0.5}, "--pool-share 0.5: there is no pool"),
        ({"ways": ("decoupled",), "pool": ("rest",)}, "decoupled .* needs the true class"),
        ({"ways": ("rsc",), "first_pool": ("rest",)}, "rsc .* needs the true class"),
    ],
)
def test_what_cannot_learn_from_a_pool_is_refused_before_it_runs(corpus, store, changes, message):
    with pytest.raises(UserError, match=message):
        planned(corpus, store, **changes)


def test_a_way_without_teachers_has_no_pool_and_says_so(corpus, store, capsys):
    alone, taught = planned(corpus, store, ways=("alone", "distilled"), pool=("rest",))
    assert (alone.work.pool, alone.work.taught_by) == (None, None)
    assert taught.work.pool is not None
    assert "learns from labels alone, so without the pool" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("record", "recipe"),
    [
        (RECORD, "demo_mn"),
        (
            RECORD
            | {"family": "probe", "backbones": [{"backbone": "aisfx"}, {"backbone": "mn10_as"}]},
            "probe:aisfx+mn10_as",
        ),
    ],
)
def test_missing_logits_of_a_pool_are_named_with_the_command_that_makes_them(
    corpus, word, tmp_path, record, recipe
):
    store = LogitStore(tmp_path)
    store.write_clips("tau", corpus.clips_table())
    store.write(LogitKey("tau", 25, TEACHERS[0]), np.zeros((len(corpus), 3)), record)
    with pytest.raises(UserError, match="has no soft labels for its clips") as refused:
        planned(corpus, store, pool=(word,))
    command = str(refused.value).rpartition(": ")[2]
    assert command.startswith("python jobs/teachers.py --corpus tau --store ")
    assert f"--recipes {recipe} --splits 25 --seeds 3 --pool folder:" in command


def test_a_pool_with_a_clip_of_test_is_refused_before_it_runs(corpus):
    with pytest.raises(CorpusError, match=r"judge in split 25 .*\(test\)"):
        plan_pool([f"folder:{corpus.root}/audio"], PoolUse(), corpus, 25)


def test_a_pool_with_the_audio_of_a_clip_that_judges_is_refused_once_it_is_decoded(
    corpus, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    other = tmp_path / "other"
    (other / "hiss").mkdir(parents=True)
    judging = corpus.column("file")[corpus.rows(25, "select")[0]]
    shutil.copy(corpus.root / judging, other / "hiss" / "innocent.wav")
    (task,) = planned(corpus, store, pool=("rest",))
    pool = plan_pool([f"folder:{other}"], PoolUse(), corpus, 25).work
    decode(corpus, {RATE})
    with pytest.raises(CorpusError, match=r"innocent = .* \(select\)"):
        prepare_pools([replace(task, work=replace(task.work, pool=pool))], corpus, store, {RATE})


def test_the_soft_labels_of_a_foreign_pool_follow_those_of_the_corpus(
    corpus, store, predicted, word
):
    pools = plan_pool([word], PoolUse(), corpus, 25).pool.pools
    (reference,) = store.ensembles.find_all("tau", 25)
    keys = [LogitKey(predicted.name, 25, member) for member in TEACHERS]
    of_pool_MPK = store.read(keys)
    by_one = read_teacher_logits(store, "tau", 25, TEACHERS[0], None, pools)
    by_all = read_teacher_logits(store, "tau", 25, reference, None, pools)
    own = len(corpus)
    assert by_all.logits.shape == (own + len(predicted), 3)
    np.testing.assert_array_equal(by_one.logits[own:], of_pool_MPK[0])
    np.testing.assert_allclose(by_all.logits[own:], of_pool_MPK.mean(0), atol=1e-5)
    views = read_teacher_logits(store, "tau", 25, TEACHERS[0], 2, pools).logits
    np.testing.assert_array_equal(views[1, own:], store.read([replace(keys[0], view=1)])[0])
    without = read_teacher_logits(store, "tau", 25, reference, None)
    np.testing.assert_array_equal(by_all.logits[:own], without.logits)


def test_a_comparison_shows_one_way_without_the_pool(corpus, store):
    chosen = options(store=store.address, compare=True, seeds=(0,), pool=("rest",))
    ways = Comparison.plan(chosen, corpus, store).groups[0].ways
    with_pool = {way.name.partition(" ")[2]: way.tasks[0].work.pool is not None for way in ways}
    assert with_pool == {
        "alone": False,
        "+ ensemble": False,
        "+ best teacher, pool": True,
        "+ ensemble, pool": True,
        "+ ensemble, adversarial, pool": True,
    }


def test_a_student_is_trained_further_with_the_pools_of_its_record(corpus, store, predicted, word):
    start = LogitKey("tau", 25, "tiny-0123456789ab")
    (task,) = planned(corpus, store, pool=(word, "rest"), pool_share=0.5)
    record = {"pool": task.work.pool.open(corpus, 25).describe(corpus)}
    assert find_used_pool(record, [word], corpus, start).work == task.work.pool
    assert find_used_pool({}, [], corpus, start) is None
    with pytest.raises(UserError, match="say where these are"):
        find_used_pool(record, [], corpus, start)
    with pytest.raises(UserError, match="learnt from no pool"):
        find_used_pool({}, [word], corpus, start)
    first, *others = record["pool"]["pools"]
    larger = record["pool"] | {"pools": [first | {"clips": 1_000}, *others]}
    with pytest.raises(UserError, match="learnt from the pool folder_.* .1,000 clips. and rest"):
        find_used_pool({"pool": larger}, [word], corpus, start)


def test_a_task_does_its_first_stage_before_it(corpus, store, monkeypatch, tmp_path):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path))
    monkeypatch.setattr(train, "find_reserved_device", lambda: torch.device("cpu"))
    chosen = options(
        root=str(corpus.root), store=store.address, pool=("rest",), first_pool=("rest",)
    )
    recipe = replace(TINY_STUDENT, training=replace(RECIPE, max_epochs=1))
    (task,) = plan_recipe(chosen, corpus, store, recipe, 25, TEACHERS[0])
    assert task.work.run() == task.keys[0]
    record = store.read_record(task.keys[0])
    first = LogitKey("tau", 25, record["start"])
    assert first.member.startswith("tiny_first-")
    assert store.read_record(first)["pool"] == record["first_pool"]
    assert (record["first_pool"]["alone"], record["pool"]["alone"]) == (True, False)


@pytest.mark.slow
def test_a_student_of_a_pool_goes_from_training_to_int8(called, commands, store):
    arguments = ["--corpus", "tau", "--root", commands.corpus, "--store", store.address]
    how = ["--recipes", "demo_isotropic", "--splits", 25, "--teacher", "wise", "--max-steps", 2]
    pools = ["--pool", "rest", "--pool-share", 0.5, "--first-pool", "rest"]
    called("jobs/students.py", *arguments, *how, *pools)
    stored = {key.member.rpartition("-")[0]: key for key in store.keys("tau", 25)}
    name = "demo_isotropic_after_first_pool"
    first, second = (store.read_record(stored[each]) for each in ("demo_isotropic_first", name))
    assert second["start"] == stored["demo_isotropic_first"].member
    assert second["first_pool"] == first["pool"]
    assert (first["pool"]["alone"], second["pool"]["share"]) == (True, 0.5)
    printed = called(
        "jobs/quantise.py",
        *arguments,
        "--student",
        name,
        "--splits",
        25,
        "--max-steps",
        2,
    )
    assert f"{name}_int8" in printed
