import os
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import RECIPE, TinyModel, tiny_corpus, tiny_feed
from torch import nn
from torch.nn import functional

from logit_store import LogitKey, LogitStore, StoreFull
from metrics import log_loss
from training import Run, fit, list_view_keys, predict, store_views, train_and_store
from training.checkpoint import Checkpoint
from training.optimizer import make_optimizer
from training.steps import split_into_batches

KEY = LogitKey("tau", 100, "tiny-0")


class Killed(Exception):
    """Stands for anything that ends a process."""


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return tiny_feed(tiny_corpus(folder), folder / "cache")


@pytest.fixture
def store(tmp_path, feed):
    store = LogitStore(tmp_path / "store")
    store.write_clips("tau", feed.corpus.clips_table())
    return store


def make_run(feed, seed=0, recipe=RECIPE):
    torch.manual_seed(seed)
    model = TinyModel(3)

    def objective(batch):
        return functional.cross_entropy(model(batch.inputs_BCFT), batch.labels_B)

    return Run(model, objective, model, feed, 100, recipe, seed)


def learn(run, store, on_epoch=lambda metrics: None):
    return fit(run, Checkpoint(store, "teachers/v1/tiny-0/checkpoint.pt"), on_epoch)


def test_a_model_learns_tones_and_its_loss_falls(feed, store):
    run = make_run(feed, recipe=replace(RECIPE, max_epochs=12))
    history = learn(run, store).history
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    test_rows = feed.corpus.rows(100, "test")
    logits_NK = predict(run.module, run.compute_logits, feed.iterate_batches(test_rows))
    assert (logits_NK.argmax(1) == feed.corpus.labels()[test_rows]).mean() > 0.8


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(feed, tmp_path):
    weights = []
    for index, seed in enumerate((0, 0, 1)):
        run = make_run(feed, seed)
        learn(run, LogitStore(tmp_path / str(index)))
        weights.append(run.module.linear.weight.detach().numpy())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()


class EveryStep(Checkpoint):
    """Saves after every step."""

    def is_due(self):
        return True


def test_a_run_interrupted_at_5_random_steps_ends_in_the_same_bits(feed, store, tmp_path):
    whole = make_run(feed)
    expected = learn(whole, LogitStore(tmp_path / "whole"))
    n_steps = RECIPE.max_epochs * len(
        list(split_into_batches(len(feed.corpus.rows(100, "fit")), 8))
    )
    kills = sorted(np.random.default_rng(5).choice(n_steps, 5, replace=False).tolist())
    steps_done = 0

    def until_killed():
        run = make_run(feed)

        def objective(batch):
            nonlocal steps_done
            if kills and steps_done == kills[0]:
                kills.pop(0)
                torch.rand(7)  # another process has another state of the generator
                raise Killed
            steps_done += 1
            return run.objective(batch)

        checkpoint = EveryStep(store, "teachers/v1/tiny-0/checkpoint.pt")
        return run, fit(replace(run, objective=objective), checkpoint, lambda metrics: None)

    for _ in range(5):
        with pytest.raises(Killed):
            until_killed()
    resumed, progress = until_killed()
    assert steps_done == n_steps  # no step was taken twice
    for key, value in whole.module.state_dict().items():
        torch.testing.assert_close(resumed.module.state_dict()[key], value, rtol=0, atol=0)
    for name in ("loss", "select_log_loss", "learning_rate"):
        assert [f[name] for f in progress.history] == [f[name] for f in expected.history]
    assert (progress.best_epoch, progress.best_loss) == (expected.best_epoch, expected.best_loss)


def test_the_weights_of_the_epoch_with_the_lowest_log_loss_on_select_are_kept(feed, store):
    run = make_run(feed, recipe=replace(RECIPE, peak_learning_rate=1.0))
    progress = learn(run, store)
    rows = feed.corpus.rows(100, "select")
    logits_NK = predict(run.module, run.compute_logits, feed.iterate_batches(rows))
    best = min(metrics["select_log_loss"] for metrics in progress.history)
    assert log_loss(logits_NK, feed.corpus.labels()[rows]) == pytest.approx(best, rel=1e-6)
    assert progress.history[progress.best_epoch - 1]["select_log_loss"] == best


def test_a_run_stops_when_patience_runs_out(feed, store):
    impatient = replace(RECIPE, peak_learning_rate=1e-12, max_epochs=50, patience=3)
    frozen = make_run(feed, recipe=impatient)
    for layer in frozen.module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = 0.0
    progress = learn(frozen, store)
    assert progress.epochs_done == progress.best_epoch + 3 < 50


def test_cached_inputs_of_select_change_nothing_but_the_time(feed, tmp_path, monkeypatch):
    kept = learn(make_run(feed), LogitStore(tmp_path / "kept"))
    monkeypatch.setattr("training.prediction.JUDGE_CACHE_BYTES", 0)
    computed = learn(make_run(feed), LogitStore(tmp_path / "computed"))
    for first, second in zip(kept.history, computed.history, strict=True):
        assert first["select_log_loss"] == second["select_log_loss"]


@pytest.mark.parametrize("clips", [10, 50])
def test_an_epoch_has_as_many_clips_as_asked_and_none_much_more_often_than_others(
    feed, store, clips
):
    seen = []
    run = make_run(feed, recipe=replace(RECIPE, max_epochs=10, clips_per_epoch=clips))

    def objective(batch):
        seen.append(batch.rows_B)
        return run.objective(batch)

    learn(replace(run, objective=objective), store)
    rows = np.concatenate(seen)
    fit_rows = feed.corpus.rows(100, "fit")
    assert len(rows) == 10 * clips
    assert set(rows.tolist()) == set(fit_rows.tolist())
    first_epoch = np.unique(rows[:clips], return_counts=True)[1]
    assert first_epoch.max() == -(-clips // len(fit_rows))


def test_the_momentum_of_normalisations_is_the_recipes(feed, store):
    run = make_run(feed, recipe=replace(RECIPE, max_epochs=1, norm_momentum=0.37))
    learn(run, store)
    assert run.module.norm.momentum == 0.37


def test_a_loss_that_is_not_finite_ends_the_run_with_its_epoch(feed, store):
    run = make_run(feed)
    broken = replace(run, objective=lambda batch: run.objective(batch) * float("nan"))
    with pytest.raises(FloatingPointError, match="the loss of epoch 1 is nan"):
        learn(broken, store)


def test_batches_hold_every_clip_once_and_never_a_single_one():
    def sizes(n_clips):
        parts = list(split_into_batches(n_clips, 8))
        assert [i for part in parts for i in range(n_clips)[part]] == list(range(n_clips))
        return [part.stop - part.start for part in parts]

    assert sizes(17) == [8, 9]
    assert sizes(16) == [8, 8]
    assert sizes(5) == [5]
    assert sizes(1) == [1]


def test_a_run_ends_after_its_last_step_in_the_middle_of_an_epoch(feed, store):
    seen = []
    run = make_run(feed, recipe=replace(RECIPE, max_steps=7))

    def objective(batch):
        seen.append(len(batch.rows_B))
        return run.objective(batch)

    progress = learn(replace(run, objective=objective), store)
    assert len(seen) == 7
    assert progress.epochs_done == -(-7 // (42 // 8))


def test_the_published_protocol_learns_select_and_lets_test_judge(feed, store):
    seen = []
    run = make_run(feed, recipe=replace(RECIPE, max_epochs=2))

    def objective(batch):
        seen.append(batch.rows_B)
        return run.objective(batch)

    progress = learn(replace(run, objective=objective, protocol="published"), store)
    taught = set(feed.corpus.rows(100, "fit", "select").tolist())
    assert set(np.concatenate(seen).tolist()) == taught
    rows = feed.corpus.rows(100, "test")
    logits_NK = predict(run.module, run.compute_logits, feed.iterate_batches(rows))
    assert log_loss(logits_NK, feed.corpus.labels()[rows]) == pytest.approx(
        progress.best_loss, rel=1e-6
    )
    assert "select_log_loss" not in progress.history[0]


def test_the_head_learns_at_its_own_rate(feed, store):
    recipe = replace(
        RECIPE, max_epochs=1, peak_learning_rate=0.0, head_learning_rate=1e-2, weight_decay=0.0
    )
    run = replace(make_run(feed, recipe=recipe), head=("linear",))
    before = {key: value.clone() for key, value in run.module.named_parameters()}
    learn(run, store)
    for key, value in run.module.named_parameters():
        assert torch.equal(value, before[key]) == (not key.startswith("linear."))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(feed, small_disk):
    store = LogitStore(small_disk / "store")
    name = "teachers/v1/tiny-0/checkpoint.pt"

    def fill(metrics):
        if metrics.epoch == 2:
            status = os.statvfs(small_disk)
            (small_disk / "other").write_bytes(bytes((status.f_bfree - 2) * status.f_bsize))

    with pytest.raises(StoreFull, match=r"checkpoint\.pt: no space left .* another place"):
        fit(make_run(feed), EveryStep(store, name), fill)
    assert [path.name for path in (small_disk / "store").rglob("*") if path.is_file()] == [
        "checkpoint.pt"
    ]
    (small_disk / "other").unlink()
    whole = make_run(feed)
    learn(whole, LogitStore(small_disk / "whole"))
    resumed = make_run(feed)
    assert Checkpoint(store, name).resume(
        resumed.module, make_optimizer(RECIPE, resumed.module, ())
    ).epochs_done in (1, 2)
    resumed = make_run(feed)
    learn(resumed, store)
    assert torch.equal(resumed.module.linear.weight, whole.module.linear.weight)


def test_a_stored_run_leaves_logits_weights_and_record_and_no_checkpoint(feed, store):
    run = make_run(feed)
    train_and_store(run, KEY, "teacher", run.module, {"seed": 0}, store, lambda metrics: None)
    logits_NK = predict(
        run.module, run.compute_logits, feed.iterate_batches(np.arange(len(feed.corpus)))
    )
    # The store keeps float16: 11 bits.
    np.testing.assert_allclose(store.read([KEY])[0], logits_NK, rtol=2**-11, atol=1e-6)
    record = store.read_record(KEY)
    assert record["kind"] == "teacher"
    assert record["epochs"] == RECIPE.max_epochs
    assert record["versions"]["torch"].startswith("2.")
    assert "teachers/v1/tiny-0/weights.safetensors" in store.objects
    assert "teachers/v1/tiny-0/checkpoint.pt" not in store.objects
    assert record["protocol"] == "honest"


def shown_epochs(store):
    """Return the epochs in the TensorBoard files of a run, in the order of the files."""
    folder = store.objects.fetch("teachers/v1/tiny-0/record.json").parent
    accumulator = EventAccumulator(str(folder)).Reload()
    return [event.step for event in accumulator.Scalars("select_log_loss")]


def test_the_tensorboard_files_of_a_killed_run_continue_where_they_ended(feed, store):
    run = make_run(feed)

    def kill_in_epoch_4(metrics):
        if metrics.epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        train_and_store(run, KEY, "teacher", run.module, {}, store, kill_in_epoch_4)
    again = make_run(feed)
    train_and_store(again, KEY, "teacher", again.module, {}, store, lambda metrics: None)
    assert shown_epochs(store) == [1, 2, 3, 4, 5, 6]


def test_views_are_stored_beside_the_untouched_clips(feed, store):
    run = make_run(feed)
    train_and_store(run, KEY, "teacher", run.module, {"seed": 0}, store, lambda metrics: None)
    store_views(run, KEY, 3, store)
    keys = list_view_keys(KEY, 3)
    assert store.keys("tau", view=None) == list(keys)
    everything = np.arange(len(feed.corpus))
    for key, logits_NK in zip(keys, store.read(keys), strict=True):
        expected_NK = predict(
            run.module, run.compute_logits, feed.iterate_batches(everything, key.view)
        )
        # The store keeps float16: 11 bits.
        np.testing.assert_allclose(logits_NK, expected_NK, rtol=2**-11, atol=1e-6)
    assert store.read_record(keys[2])["view"] == 2
