"""Which embeddings students' features learn from: found, refused at planning, and read."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from tiny import RECIPE
from tiny_student import TINY_STUDENT

from audio.corpora import tau
from jobs.plan.pools import plan_pool
from jobs.plan.students import StudentsOptions, plan_recipe
from jobs.worker import train
from jobs.worker.teacher_embeddings import find_teaching_embeddings, read_teacher_embeddings
from logit_store import EmbeddingKey, LogitKey, LogitStore
from students import FeatureDistillation
from terminal.console import UserError
from training import PoolUse

NET, OWN = "aisfx-0123456789ab", "wise-0123456789ab-ba9876543210"
PROBE, WISE, DEAF = "probe_aisfx-0123456789ab", "wise-0123456789ab", "deaf-0123456789ab"
DIMS = {NET: 4, OWN: 3}
LEARNER = replace(
    TINY_STUDENT,
    distillation=FeatureDistillation(),
    training=replace(RECIPE, max_epochs=1, max_steps=2),
)


@pytest.fixture(scope="module")
def corpus(commands):
    return tau.read(commands.corpus)


@pytest.fixture(scope="module")
def word(tmp_path_factory):
    """CORPUS:ROOT of a pool of another corpus."""
    root = tmp_path_factory.mktemp("other")
    (root / "hum").mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).normal(0, 0.1, 16_000)
        soundfile.write(root / "hum" / f"far{number}.wav", noise, 16_000)
    return f"folder:{root}"


@pytest.fixture(scope="module")
def store(corpus, word, tmp_path_factory):
    """A store with a probe, a teacher that was fine-tuned, and one without embeddings."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    made.write_clips("tau", corpus.clips_table())
    records = {PROBE: {"backbones": [{"embeddings": NET}]}, WISE: {}, DEAF: {}}
    other = plan_pool([word], PoolUse(), corpus, 25).pool.pools[0].corpus
    made.write_clips(other.name, other.clips_table())
    for member, record in records.items():
        common = {"kind": "teacher", "protocol": "honest", "recipe": {"name": "demo_mn"}, "seed": 0}
        for where, n_clips in (("tau", len(corpus)), (other.name, len(other))):
            key = LogitKey(where, 25, member)
            classes = None if where == "tau" else corpus.scenes
            made.write(key, np.zeros((n_clips, 3)) + np.eye(3)[0], common | record, classes=classes)
    for name, n_dims in DIMS.items():
        write_embeddings(made, EmbeddingKey("tau", name), len(corpus), n_dims)
    write_embeddings(made, EmbeddingKey("tau", NET, 1), len(corpus), DIMS[NET])
    return made


def write_embeddings(store, key, n_clips, n_dims):
    values_NE = np.random.default_rng(key.view).normal(0, 1, (n_clips, n_dims))
    store.embeddings.write(key, values_NE.astype(np.float16), {})


@pytest.fixture(scope="module")
def ensemble(corpus, store):
    keys = [LogitKey("tau", 25, member) for member in (PROBE, WISE)]
    pairs = [{"member": k.member, "hash": store.read_footer(k).logits_hash} for k in keys]
    weighed = [pair | {"weight": 0.5, "temperature": 1.0} for pair in pairs]
    document = {"space": "logits", "members": weighed, "candidates": pairs}
    return store.ensembles.write("tau", 25, "both", document)


def planned(corpus, store, taught_by, recipe=LEARNER, **changes):
    options = StudentsOptions(
        corpus="tau", root=str(corpus.root), store=store.address, splits=(25,), **changes
    )
    return plan_recipe(options, corpus, store, recipe, 25, taught_by)[0]


def test_embeddings_are_those_of_a_probe_and_of_a_fine_tuned_teacher_itself(store, ensemble):
    (reference,) = store.ensembles.find_all("tau", 25)
    found = {
        taught_by: find_teaching_embeddings(store, "tau", 25, taught_by)
        for taught_by in (PROBE, WISE, DEAF, reference)
    }
    assert found == {PROBE: (NET,), WISE: (OWN,), DEAF: (), reference: (NET, OWN)}


def test_the_student_of_features_is_another_one_and_says_from_which(corpus, store, capsys):
    plain = planned(corpus, store, PROBE, replace(LEARNER, distillation=TINY_STUDENT.distillation))
    assert plain.work.embeddings == ()
    task = planned(corpus, store, PROBE)
    assert task.work.embeddings == (NET,)
    assert task.keys != plain.keys
    assert "features learn to predict aisfx" in capsys.readouterr().out


def test_no_embedding_is_refused_at_planning(corpus, store):
    with pytest.raises(UserError, match=f"behind {DEAF} there is no embedding of corpus tau"):
        planned(corpus, store, DEAF)


def test_a_view_without_embeddings_is_refused_with_the_command_that_makes_them(
    corpus, store, monkeypatch
):
    monkeypatch.setattr("jobs.plan.students._check_teachers", lambda *given: None)
    for n_views, lacking in ((2, None), (4, "view 2, and 1 more")):
        way = FeatureDistillation(n_views=n_views)
        if lacking is None:
            assert planned(corpus, store, PROBE, replace(LEARNER, distillation=way)).work
            continue
        with pytest.raises(UserError, match=f"{lacking}: .* --recipes probe:aisfx --views 4$"):
            planned(corpus, store, PROBE, replace(LEARNER, distillation=way))


def test_a_pool_without_embeddings_is_refused(corpus, store, word):
    with pytest.raises(UserError, match=r"lacks those of corpus folder_\w+, view 0: .* --pool"):
        planned(corpus, store, PROBE, pool=(word,))
    assert planned(corpus, store, PROBE, pool=("rest",)).work.embeddings == (NET,)


def test_embeddings_that_are_read_stand_in_the_order_of_the_learnt_corpus(corpus, store, word):
    pools = plan_pool(["rest", word], PoolUse(), corpus, 25).pool.pools
    key = EmbeddingKey(pools[1].corpus.name, NET)
    store = LogitStore(store.address)
    if key not in store.embeddings:
        write_embeddings(store, key, len(pools[1]), DIMS[NET])
    read = read_teacher_embeddings(store, corpus, 25, (NET,), None, pools, None)
    own = np.union1d(corpus.rows(25, "fit"), pools[0].rows)
    np.testing.assert_array_equal(read.rows[: len(own)], own)
    np.testing.assert_array_equal(read.rows[len(own) :], len(corpus) + np.arange(len(pools[1])))
    expected = [store.embeddings.read(EmbeddingKey("tau", NET), own), store.embeddings.read(key)]
    np.testing.assert_array_equal(read.values, np.concatenate(expected).astype(np.float16))
    both = read_teacher_embeddings(store, corpus, 25, (NET, OWN), None, pools[:1], None)
    assert both.values.shape == (len(own), DIMS[NET] + DIMS[OWN])


def test_a_task_teaches_by_soft_labels_and_embeddings(corpus, store, monkeypatch, tmp_path):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path))
    monkeypatch.setattr(train, "find_reserved_device", lambda: torch.device("cpu"))
    task = planned(corpus, store, PROBE)
    assert task.work.run() == task.keys[0]
    assert store.read_record(task.keys[0])["embeddings"] == [NET]
