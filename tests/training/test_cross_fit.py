"""A member of two models, each of which learns without a part of the clips (N clips, K classes)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny import RECIPE, TinyModel, tiny_corpus, tiny_feed

from audio.parts import NO_PART, draw_parts
from logit_store import DamagedFile, LogitKey, LogitStore
from logit_store.verify import verify
from training import Run, fetch_weights, locate_weights, predict
from training.cross_fit import average_histories, cross_fit_and_store, open_parts
from training.errors import CrossFitted
from training.keys import locate_record
from training.parts import join_logits
from training.prediction import predict_rows

KEY = LogitKey("tau", 100, "tiny-000000000000")
N_EPOCHS = 3
TRAINING = replace(RECIPE, max_epochs=N_EPOCHS)


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return tiny_feed(tiny_corpus(folder), folder / "cache")


def make_run(feed):
    torch.manual_seed(0)
    model = TinyModel(len(feed.corpus.scenes))

    def objective(batch):
        return torch.nn.functional.cross_entropy(model(batch.inputs_BCFT), batch.labels_B)

    return Run(model, objective, model, feed, 100, TRAINING, seed=0)


def cross_fit(folder: Path, feed, on_epoch=lambda metrics: None, make=make_run) -> LogitStore:
    store = LogitStore(folder)
    store.write_clips("tau", feed.corpus.clips_table())
    whole = open_parts(make_run(feed), KEY, "teacher", 2, store)
    cross_fit_and_store(whole, make, KEY, "teacher", {}, store, on_epoch)
    return store


@pytest.fixture(scope="module")
def stored(feed, tmp_path_factory):
    return cross_fit(tmp_path_factory.mktemp("store"), feed)


def predict_with(store, feed, part):
    """Return the logits of all clips by one model, by its stored weights."""
    model = TinyModel(len(feed.corpus.scenes))
    weights = store.objects.read(locate_weights("teacher", KEY.member, part + 1))
    model.load_state_dict(safetensors.torch.load(weights))
    return predict(model, model, feed.iterate_batches(np.arange(len(feed.corpus))))


def test_logits_of_fit_come_from_the_model_that_left_them_out_all_others_from_the_mean(
    stored, feed
):
    (found_NK,) = stored.read([KEY])
    by_model = np.stack([predict_with(stored, feed, part) for part in (0, 1)])
    parts_N = draw_parts(feed.corpus, 100, 2)
    assert (by_model[0] != by_model[1]).any()
    for part in (0, 1):
        own = parts_N == part
        # Logits are stored as float16.
        np.testing.assert_allclose(found_NK[own], by_model[part][own], atol=2e-3)
    others = parts_N == NO_PART
    np.testing.assert_allclose(found_NK[others], by_model.mean(axis=0)[others], atol=2e-3)


def test_each_model_learns_from_the_other_part_only(feed, tmp_path):
    parts_N = draw_parts(feed.corpus, 100, 2)
    learnt: list[set[int]] = []

    def make_noting_run(narrow):
        run, rows = make_run(narrow), set()
        learnt.append(rows)

        def objective(batch):
            rows.update(batch.rows_B.tolist())
            return run.objective(batch)

        return replace(run, objective=objective)

    cross_fit(tmp_path, feed, make=make_noting_run)
    assert learnt == [set(np.flatnonzero(parts_N == 1 - part)) for part in range(2)]


@pytest.mark.parametrize("kills", [(1,), (2, 4), (3, 5, 6)])
def test_killed_in_any_model_it_ends_in_the_same_bits_and_trains_no_model_twice(
    stored, feed, tmp_path, kills
):
    left, epochs = list(kills), []

    def kill(metrics):
        epochs.append(metrics.epoch)
        if left and metrics.epoch == left[0]:
            left.pop(0)
            raise KeyboardInterrupt

    for _ in kills:
        with pytest.raises(KeyboardInterrupt):
            cross_fit(tmp_path, feed, kill)
        assert KEY not in LogitStore(tmp_path)
    store = cross_fit(tmp_path, feed, kill)
    assert (store.read([KEY]) == stored.read([KEY])).all()
    # Once an epoch of the second model was reported, none of the first one is.
    second = next(place for place, epoch in enumerate(epochs) if epoch > N_EPOCHS)
    assert min(epochs[second:]) > N_EPOCHS
    for part in (1, 2):
        name = locate_weights("teacher", KEY.member, part)
        assert store.objects.read(name) == stored.objects.read(name)


def test_epochs_are_counted_over_all_models(feed, tmp_path):
    metrics = []
    cross_fit(tmp_path, feed, metrics.append)
    assert [each.epoch for each in metrics] == list(range(1, 2 * N_EPOCHS + 1))
    assert {each.max_epochs for each in metrics} == {2 * N_EPOCHS}
    assert metrics[-1].time_left_s == 0


def test_the_record_says_what_became_of_each_model_and_has_the_mean_curve(stored):
    record = stored.objects.read_json(locate_record("teacher", KEY.member))
    models = [
        stored.objects.read_json(locate_record("teacher", KEY.member, part)) for part in (1, 2)
    ]
    assert record["cross_fit"] == 2
    assert [each["weights_sha256"] for each in record["parts"]] == [
        each["weights_sha256"] for each in models
    ]
    assert record["training_s"] == pytest.approx(sum(each["training_s"] for each in models))
    assert [each["loss"] for each in record["history"]] == pytest.approx(
        [(a["loss"] + b["loss"]) / 2 for a, b in zip(*(m["history"] for m in models), strict=True)]
    )
    files = {entry.name for entry in stored.files.find(f"teachers/v1/{KEY.member}/part_*/*")}
    assert sum("events.out.tfevents" in name for name in files) >= 2
    assert not any(name.endswith("checkpoint.pt") for name in files)


def test_a_mean_curve_goes_on_with_the_runs_that_have_not_stopped_and_its_times_grow():
    short = [{"epoch": 1, "loss": 4.0, "ended": 10.0}]
    long = [{"epoch": 1, "loss": 2.0, "ended": 20.0}, {"epoch": 2, "loss": 1.0, "ended": 15.0}]
    assert average_histories([short, long]) == [
        {"epoch": 1, "loss": 3.0, "ended": 20.0},
        {"epoch": 2, "loss": 1.0, "ended": 20.0},
    ]


def test_clips_of_another_corpus_get_the_mean_of_all_models(stored, feed):
    whole = open_parts(make_run(feed), KEY, "teacher", 2, stored)
    assert whole.parts is not None
    elsewhere = replace(whole, parts=replace(whole.parts, corpus="another"))
    found_NK = predict_rows(elsewhere, np.arange(len(feed.corpus)))
    by_model = np.stack([predict_with(stored, feed, part) for part in (0, 1)])
    np.testing.assert_allclose(found_NK, by_model.mean(axis=0), atol=1e-5)


def test_models_that_have_no_clip_to_predict_are_not_asked():
    asked = []

    def predict_part(part, places):
        asked.append(part)
        return np.full((len(places), 3), part)

    found = join_logits(np.array([2, 2]), 3, predict_part)
    assert (asked, found.tolist()) == ([2], [[2.0] * 3] * 2)


def test_verify_reads_the_weights_of_each_model_and_one_models_weights_are_refused(
    stored, feed, tmp_path
):
    assert verify(stored) == []
    with pytest.raises(CrossFitted, match="has the weights of 2 models"):
        fetch_weights(stored, "teacher", KEY.member)
    assert fetch_weights(stored, "teacher", KEY.member, part=2).is_file()
    spoilt = cross_fit(tmp_path, feed)
    name = locate_weights("teacher", KEY.member, 2)
    spoilt.objects.write(name, b"other" + spoilt.objects.read(name))
    (problem,) = verify(spoilt)
    assert problem.file.endswith("part_2/weights.safetensors")
    with pytest.raises(DamagedFile, match="part_2/record.json and the member's logits"):
        fetch_weights(spoilt, "teacher", KEY.member, part=2)
