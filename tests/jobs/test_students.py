"""Who teaches which student, and which are refused before they learn (N clips, V views)."""

from dataclasses import replace

import numpy as np
import pytest

from audio.corpora import tau
from jobs.command import UserError
from jobs.students import StudentsOptions, find_teachers, plan
from jobs.units import soft_of
from logit_store import LogitKey, LogitStore, MissingLogits

TEACHERS = ("wise-0123456789ab", "other-0123456789ab", "other-ba9876543210")


@pytest.fixture(scope="module")
def corpus(commands):
    return tau.read(commands.corpus)


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    """Three teachers of a split, the first with two views, and an ensemble of two of them."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    made.write_clips("tau", corpus.clips_table())
    rng = np.random.default_rng(0)
    for member in TEACHERS:
        for view in range(2 if member.startswith("wise") else 1):
            logits_NK = rng.normal(0, 2, (len(corpus), len(corpus.scenes)))
            key = LogitKey("tau", 25, member, view)
            made.write(key, logits_NK, {"kind": "teacher", "protocol": "honest"})
    return made


def options(**changes):
    return StudentsOptions(corpus="tau", recipes=("demo_isotropic",), splits=(25,), **changes)


def planned(corpus, store, tmp_path, **changes):
    chosen = options(store=str(tmp_path), **changes)
    return plan(chosen, corpus, store, {25: None})


def test_a_member_teaches_by_its_name_with_or_without_fingerprint(store):
    for name in ("wise", TEACHERS[0]):
        assert find_teachers(options(teacher=name), "tau", store) == {25: TEACHERS[0]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "nobody"}, "split 25 has 0 members called so"),
        ({"teacher": "other"}, "split 25 has 2 members called so"),
        ({"teacher": "wise", "no_teacher": True}, "exclude each other"),
        ({"teacher": "wise", "ensemble": "all"}, "exclude each other"),
        ({"ensemble": "best@0123"}, "split 25 has no ensemble named best@0123"),
    ],
)
def test_who_teaches_must_be_clear(store, changes, message):
    with pytest.raises(UserError, match=message):
        find_teachers(options(**changes), "tau", store)


def test_a_student_learns_from_a_members_logits(store):
    soft = soft_of(store, "tau", 25, TEACHERS[1], None)
    assert soft.name == TEACHERS[1]
    np.testing.assert_array_equal(soft.logits, store.read([LogitKey("tau", 25, TEACHERS[1])])[0])


def test_each_view_has_the_soft_labels_of_that_view(store):
    soft = soft_of(store, "tau", 25, TEACHERS[0], 2)
    first = LogitKey("tau", 25, TEACHERS[0])
    assert soft.members == (first,)
    expected_VNK = store.read([first, replace(first, view=1)])
    np.testing.assert_array_equal(soft.logits, expected_VNK)
    with pytest.raises(MissingLogits, match="tau/25/wise-0123456789ab/2"):
        soft_of(store, "tau", 25, TEACHERS[0], 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_macs": 1_000_000}, "demo_isotropic.*1,?000,?000"),
        ({"max_bytes": 40_000}, "demo_isotropic.*int8.*40,?000"),
        ({"precision": "fp32"}, "demo_isotropic.*fp32.*128,?000"),
    ],
)
def test_a_student_over_the_budget_is_refused_before_it_learns(
    corpus, store, tmp_path, changes, message
):
    assert len(planned(corpus, store, tmp_path)) == 1
    with pytest.raises(UserError, match=message):
        planned(corpus, store, tmp_path, **changes)
