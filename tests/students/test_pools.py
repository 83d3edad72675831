"""Students that learn from clips without labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from corpus_files import write_corpus
from tiny import RECIPE
from tiny_student import CPU, TINY_STUDENT, make_teacher_logits, open_store

from audio.corpora import tau
from audio.pools import find_pools, make_pool_corpus
from logit_store import LogitKey
from students import TeacherLogits, UnfitPool, drop_teachers
from students.distill import distill
from students.int8 import train_in_int8
from students.keys import make_student_key
from students.objective import DistillationObjective
from students.pools import StudentPool
from students.recipe import Int8Recipe
from students.stages import Start
from students.stored import load_student
from training import PoolUse, train_and_store

SPLIT = 25
LONG = replace(
    TINY_STUDENT, training=replace(RECIPE, max_epochs=20, clips_per_epoch=40, keep="last")
)
SHORT = replace(TINY_STUDENT, training=replace(RECIPE, max_epochs=1))


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    with open_store(tmp_path_factory.mktemp("pools"), corpus) as store:
        yield store


def pool_of(corpus, *words, use=PoolUse(), open_corpus=None):  # noqa: B008 - a frozen value
    return StudentPool(pools=find_pools(corpus, SPLIT, words, open_corpus), use=use)


def taught(recipe, corpus, store, soft, seed=0, **how):
    return distill(recipe, corpus, SPLIT, seed, store, soft, responses=None, device=CPU, **how)


def test_an_epoch_has_the_clips_of_fit_with_labels_and_those_of_the_pool_without(
    corpus, store, monkeypatch
):
    batches, compute_loss = [], DistillationObjective.compute_loss

    def keep_batch(self, batch):
        batches.append(batch)
        return compute_loss(self, batch)

    monkeypatch.setattr(DistillationObjective, "compute_loss", keep_batch)
    pool = pool_of(corpus, "rest")
    key = taught(SHORT, corpus, store, make_teacher_logits(corpus), pool=pool)
    rows = np.concatenate([batch.rows_B for batch in batches])
    labels = torch.cat([batch.labels_B for batch in batches]).numpy()
    rest = pool.pools[0].rows
    expected = np.sort(np.concatenate([corpus.rows(SPLIT, "fit"), rest]))
    np.testing.assert_array_equal(np.sort(rows), expected)
    truth = np.where(np.isin(rows, rest), -1, corpus.labels()[rows])
    np.testing.assert_array_equal(labels, truth)
    assert store.read([key]).shape == (1, len(corpus), 3)


@pytest.mark.slow
def test_a_student_learns_what_only_a_pool_tells(corpus, store):
    pool = pool_of(corpus, "rest", use=PoolUse(alone=True))
    # Its teachers call a bus of the pool a park, and know nothing of all other clips.
    soft = make_teacher_logits(corpus, [0, 2, 2])
    logits, rows = np.zeros_like(soft.logits), pool.pools[0].rows
    logits[rows] = soft.logits[rows]
    key = taught(LONG, corpus, store, replace(soft, logits=logits), pool=pool)
    buses = np.intersect1d(corpus.rows(SPLIT, "test"), np.flatnonzero(corpus.labels() == 1))
    assert (store.read([key])[0][buses].argmax(1) == 2).mean() > 0.7


def test_the_record_says_which_pool_and_how_much_of_it(corpus, store):
    pool = pool_of(corpus, "rest", use=PoolUse(share=0.5))
    key = taught(SHORT, corpus, store, make_teacher_logits(corpus), pool=pool)
    entry = store.read_record(key)["pool"]
    assert entry["clips"] == len(pool) > 0
    assert entry["pools"][0]["name"] == "rest"
    assert entry["hours"] == pytest.approx(len(pool) / 3600, abs=1e-4)
    assert (entry["share"], entry["alone"]) == (0.5, False)


def test_a_pool_of_another_corpus_follows_the_own_clips_and_is_not_stored(corpus, store, tmp_path):
    other = make_pool_corpus(tau.read(write_corpus(tmp_path / "other", recordings=3)))
    pool = pool_of(corpus, "tau:other", open_corpus=lambda word: other)
    learning = pool.make_corpus(corpus, SPLIT)
    assert len(learning) == len(corpus) + len(other)
    assert (learning.labels()[len(corpus) :] == -1).all()
    logits_NK = np.concatenate([make_teacher_logits(corpus).logits, np.zeros((len(other), 3))])
    key = taught(SHORT, corpus, store, TeacherLogits("oracle", logits_NK), pool=pool)
    assert store.read([key]).shape == (1, len(corpus), 3)
    assert store.read_record(key)["pool"]["pools"][0]["name"] == other.name


def test_a_first_stage_leaves_the_weights_that_the_second_one_begins_with(
    corpus, store, monkeypatch
):
    soft = make_teacher_logits(corpus)
    pool = pool_of(corpus, "rest", use=PoolUse(alone=True))
    first = taught(replace(SHORT, name="tiny_first"), corpus, store, soft, pool=pool)
    begun = []

    def keep_start(run, *given, **named):
        begun.append(run.module.student.state_dict()["model.0.weight"].clone())
        train_and_store(run, *given, **named)

    monkeypatch.setattr("students.distill.train_and_store", keep_start)
    key = taught(SHORT, corpus, store, soft, start=Start(first, "pool"))
    left = load_student(store, first, 3).student.state_dict()["model.0.weight"]
    assert torch.equal(begun[0], left)
    record = store.read_record(key)
    assert (record["start"], record["first_pool"]["alone"]) == (first.member, True)
    assert "pool" not in record


def test_a_pool_is_in_the_name_of_a_student_only_if_it_is_used(corpus):
    def name(**how):
        return make_student_key(SHORT, corpus, SPLIT, 0, None, "stepwise@0", **how).member

    # As before there were pools: the fingerprint of a recipe that has none.
    plain = name()
    assert plain == name(pool=None, start=None)
    rest = pool_of(corpus, "rest")
    uses = [PoolUse(), PoolUse(share=0.5), PoolUse(alone=True)]
    names = {
        plain,
        name(start=Start(LogitKey("tau", SPLIT, "a-0"), "pool")),
        *(name(pool=replace(rest, use=use)) for use in uses),
    }
    assert len(names) == 5
    with pytest.raises(UnfitPool, match="learns from labels alone"):
        make_student_key(drop_teachers(SHORT), corpus, SPLIT, 0, None, None, pool=rest)


def test_int8_continues_with_the_pool_that_the_student_had_and_no_other(corpus, store):
    soft, pool = make_teacher_logits(corpus), pool_of(corpus, "rest")
    start = taught(SHORT, corpus, store, soft, seed=5, pool=pool)
    settings = Int8Recipe(epochs=1, learning_rate=1e-3)

    def tune(**how):
        return train_in_int8(
            start, settings, corpus, store, soft, responses=None, device=CPU, **how
        )

    with pytest.raises(UnfitPool, match="learnt from the pool rest"):
        tune()
    with pytest.raises(UnfitPool, match="share 0.5"):
        tune(pool=replace(pool, use=PoolUse(share=0.5)))
    key = tune(pool=pool)
    assert store.read_record(key)["pool"] == store.read_record(start)["pool"]
