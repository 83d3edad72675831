"""A student out of the store is the one that was taught."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE, tiny_corpus

from logit_store import LogitKey, LogitStore
from report.dcase.entrant import load_entrant, predict_evaluation_clips, predict_test_clips
from report.dcase.meta import SubmissionError, check_declared
from students import RECIPES, drop_teachers, int8
from students.distill import distill
from students.int8 import train_in_int8
from students.recipe import Int8Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def taught(corpus, tmp_path_factory):
    """A store, and the key of a student that was taught for an epoch."""
    folder = tmp_path_factory.mktemp("taught")
    store = LogitStore(folder / "store")
    store.write_clips("tau", corpus.clips_table())
    recipe = replace(
        drop_teachers(RECIPES["isotropic"]),
        arguments={"filters": 8, "depth": 2, "patch": 4},
        front_end=FRONT_END,
        augmentation=AUGMENTATION,
        training=replace(RECIPE, max_epochs=1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(folder / "cache"))
        key = distill(recipe, corpus, 100, 0, store, None, responses=None, device=CPU)
        yield store, key


def test_its_logits_are_those_of_its_training(taught, corpus):
    store, key = taught
    entrant = load_entrant(store, key, corpus, "fp32")
    counted = []
    logits_NK = predict_evaluation_clips(entrant, corpus, store, CPU, counted.append)
    # The store keeps float16: 11 bits.
    np.testing.assert_allclose(logits_NK, store.read([key])[0], rtol=2**-11, atol=1e-6)
    assert sum(counted) == len(corpus)
    assert entrant.complexity.params == store.read_record(key)["params"]


def test_weights_of_16_bits_are_those_that_predict(taught, corpus):
    store, key = taught
    whole, halved = (load_entrant(store, key, corpus, precision) for precision in ("fp32", "fp16"))
    for before, after in zip(
        whole.student.state_dict().values(), halved.student.state_dict().values(), strict=True
    ):
        assert torch.equal(after, before.half().to(before.dtype))
    logits = [predict_evaluation_clips(each, corpus, store, CPU) for each in (whole, halved)]
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.05


def test_results_are_of_the_test_clips_alone(taught, corpus):
    store, key = taught
    entrant = load_entrant(store, key, corpus, "fp32")
    counted = []
    found = predict_test_clips(entrant, corpus, store, CPU, counted.append)
    test = corpus.rows(100, "test")
    expected = predict_evaluation_clips(entrant, corpus, store, CPU)[test]
    # In batches of another size sums may go another way.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert sum(counted) == len(test)


def test_a_student_fine_tuned_in_int8_is_submitted_as_it_was_fine_tuned(
    taught, corpus, monkeypatch
):
    store, before = taught
    settings = Int8Recipe(epochs=1, learning_rate=1e-3)
    key = train_in_int8(before, settings, corpus, store, None, responses=None, device=CPU)
    monkeypatch.setattr(int8, "calibrate", None)
    entrant = load_entrant(store, key, corpus, "int8")
    logits_NK = predict_evaluation_clips(entrant, corpus, store, CPU)
    # What it learnt in was a simulation: a sum between two integers may be rounded to either.
    expected_NK = store.read([key])[0]
    assert np.abs(logits_NK - expected_NK).max() < 0.1 * np.abs(expected_NK).max()
    assert entrant.complexity == load_entrant(store, before, corpus, "fp32").complexity
    assert entrant.parameter_bytes == entrant.complexity.params < entrant.file_bytes
    with pytest.raises(SubmissionError, match="fine-tuned in int8 and is exact only in int8"):
        load_entrant(store, key, corpus, "fp16")


@pytest.mark.parametrize(
    ("pools", "declared"), [(["rest"], None), (["unlabelled"], 0), (["tau_0123456789ab"], 1)]
)
def test_pools_that_the_rules_forbid_are_refused_and_others_must_be_declared(
    taught, corpus, monkeypatch, pools, declared
):
    store, key = taught
    entry = {"pools": [{"name": name, "clips": 9} for name in pools], "alone": False, "share": None}
    original = LogitStore.read_record
    monkeypatch.setattr(
        LogitStore, "read_record", lambda self, key: original(self, key) | {"first_pool": entry}
    )
    if declared is None:
        with pytest.raises(SubmissionError, match="the rules allow the clips of the split only"):
            load_entrant(store, key, corpus, "fp32")
        return
    entrant = load_entrant(store, key, corpus, "fp32")
    assert entrant.pools == tuple(pools)
    texts = {"system": {"external_datasets": [{}] * declared}}
    if declared:
        check_declared(texts, entrant.pools)
    else:
        with pytest.raises(
            SubmissionError, match="external_datasets: 0 declared, expected at least 1"
        ):
            check_declared(texts, entrant.pools)


def test_a_student_of_one_that_learnt_from_a_forbidden_pool_is_refused(taught, corpus, monkeypatch):
    store, key = taught
    pool = {"pools": [{"name": "rest", "clips": 9}], "alone": False, "share": None}
    teacher = LogitKey("tau", 100, "teacher-0")
    own = store.read_record(key) | {"ensemble": teacher.member}
    records = {key: own, teacher: {"kind": "student", "pool": pool}}
    monkeypatch.setattr(LogitStore, "read_record", lambda self, key: records[key])
    with pytest.raises(
        SubmissionError, match="was taught by teacher-0, which learnt from the pool"
    ):
        load_entrant(store, key, corpus, "fp32")
