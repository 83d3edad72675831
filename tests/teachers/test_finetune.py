from dataclasses import replace

import pyarrow as pa
import pytest
import safetensors.torch
import torch
from corpus_files import write_corpus

from audio.corpora import tau
from logit_store import LogitStore, WrongRowOrder
from teachers import RECIPES, TeacherRun
from teachers.finetune import finetune
from teachers.run import make_teacher_key
from training import WarmupCosine, locate_weights

CPU = torch.device("cpu")
SMALL = {"embed_dim": 24, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(folder / "cache"))
        yield tau.read(write_corpus(folder / "tau"))


@pytest.fixture
def store(tmp_path, corpus):
    store = LogitStore(tmp_path)
    store.write_clips("tau", corpus.clips_table())
    return store


def small(name, **training):
    """Return a recipe with a PaSST of one block that takes one step."""
    recipe = RECIPES[name]
    changes = {"max_steps": 1, "max_epochs": 1, "batch_size": 8, **training}
    first = recipe.first_stage
    return replace(
        recipe,
        weights="none",
        arguments=SMALL,
        front_end=RECIPES["passt_dir_fms"].front_end,
        training=replace(recipe.training, **changes),
        first_stage=first and replace(first, weights="none", arguments=SMALL),
    )


def train(store, run, corpus, **options):
    key = finetune(run, corpus, store, responses=None, device=CPU, **options)
    return key, safetensors.torch.load(store.objects.read(locate_weights("teacher", key.member)))


def test_a_second_stage_starts_from_the_first_ones_weights_with_fresh_heads(store, corpus):
    first = TeacherRun(recipe=small("passt_standard"), split=100)
    first_key, before = train(store, first, corpus)
    # Without a step: what is stored is what it started from.
    still = small("passt_sit", peak_learning_rate=0.0, head_learning_rate=0.0)
    # Another seed: with the same one the fresh heads would begin like the first ones.
    second = TeacherRun(recipe=still, split=25, seed=1, start=first_key.member)
    key, after = train(store, second, corpus)
    assert before.keys() == after.keys()
    for name, weights in after.items():
        is_head = name.startswith(("head.", "head_dist."))
        # The fresh head's normalisation and biases begin at 1 and 0, as any do.
        if weights.ndim > 1:
            assert torch.equal(weights, before[name]) != is_head, name
    assert store.read_record(key)["start"] == first_key.member


def test_in_a_second_stage_only_the_heads_learn_fast(store, corpus):
    first = TeacherRun(recipe=small("passt_standard"), split=100)
    first_key, before = train(store, first, corpus)
    slow = small("passt_sit", peak_learning_rate=0.0, head_learning_rate=1e-2)
    second = TeacherRun(recipe=slow, split=25, start=first_key.member)
    _, after = train(store, second, corpus)
    assert all(
        torch.equal(weights, before[name])
        for name, weights in after.items()
        if not name.startswith(("head.", "head_dist."))
    )
    assert after["head.1.bias"].abs().max() > 0


def test_views_of_a_stored_teacher_come_from_its_weights_without_training_again(store, corpus):
    recipe = small("passt_dir_fms", schedule=WarmupCosine(warmup_steps=0))
    run = TeacherRun(recipe=recipe, split=25)
    key, weights = train(store, run, corpus)
    epochs = []
    again, unchanged = train(store, run, corpus, n_views=2, on_epoch=epochs.append)
    assert (again, epochs) == (key, [])
    assert all(torch.equal(weights[name], unchanged[name]) for name in weights)
    untouched, changed = store.read([key, replace(key, view=1)])
    assert (untouched != changed).any()


def test_a_teachers_record_contains_the_cost_of_the_model(store, corpus):
    run = TeacherRun(recipe=small("passt_dir_fms"), split=25)
    key, weights = train(store, run, corpus)
    record = store.read_record(key)
    assert record["params"] == sum(weight.numel() for weight in weights.values())
    # Each weight of a block multiplies every patch.
    in_blocks = sum(w.numel() for name, w in weights.items() if "blocks" in name and w.ndim == 2)
    assert record["macs"] > 100 * in_blocks > 0


def test_a_stored_teacher_is_not_trained_again(store, corpus):
    run = TeacherRun(recipe=small("passt_dir_fms"), split=25)
    assert make_teacher_key(run, corpus, None) not in store
    key, _ = train(store, run, corpus)
    epochs = []
    assert finetune(run, corpus, store, responses=None, device=CPU, on_epoch=epochs.append) == key
    assert epochs == []


def test_a_teacher_that_predicts_the_clips_in_another_order_is_not_stored(store, corpus):
    table = corpus.table.take(pa.array(range(len(corpus))[::-1]))
    rows = pa.array(range(len(corpus)), pa.int32())
    reversed_corpus = replace(corpus, table=table.set_column(0, table.schema.field("row"), rows))
    run = TeacherRun(recipe=small("passt_standard"), split=100)
    with pytest.raises(WrongRowOrder, match="LogitStore.read_clips"):
        finetune(run, reversed_corpus, store, responses=None, device=CPU)
    assert store.keys() == []


def test_the_store_knows_a_teachers_family(store, corpus):
    train(store, TeacherRun(recipe=small("passt_standard"), split=100), corpus)
    assert store.members()["family"].to_pylist() == ["passt"]
    assert store.sql("select member from members where family != 'passt'").num_rows == 0


def test_a_cross_fitted_teacher_has_another_name_and_its_views_come_from_its_models(store, corpus):
    run = TeacherRun(recipe=small("passt_dir_fms"), split=100, cross_fit=2)
    assert make_teacher_key(run, corpus, None) != make_teacher_key(
        replace(run, cross_fit=None), corpus, None
    )
    key = finetune(run, corpus, store, responses=None, device=CPU)
    epochs = []
    finetune(run, corpus, store, responses=None, device=CPU, n_views=2, on_epoch=epochs.append)
    assert epochs == []
    untouched, changed = store.read([key, replace(key, view=1)])
    assert (untouched != changed).any()
    assert store.read_record(key)["cross_fit"] == 2


def test_only_the_honest_protocol_leaves_a_part_of_fit_out(corpus):
    run = TeacherRun(recipe=small("passt_dir_fms"), split=100, cross_fit=2, protocol="published")
    with pytest.raises(ValueError, match="cross_fit=2 by the published protocol"):
        make_teacher_key(run, corpus, None)
