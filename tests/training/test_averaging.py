from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import RECIPE, TinyModel, tiny_corpus, tiny_feed
from torch import nn
from torch.nn import functional

from logit_store import LogitStore
from training import Ema, Run, Soup, fit
from training.averaging import recompute_statistics, update_average
from training.checkpoint import Checkpoint
from training.steps import split_into_batches

NAME = "teachers/v1/tiny-0/checkpoint.pt"
EPOCHS = 5


class Killed(Exception):
    """Stands for anything that ends a process."""


class EveryStep(Checkpoint):
    """Saves after every step."""

    def is_due(self):
        return True


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return tiny_feed(tiny_corpus(folder), folder / "cache")


def make_run(feed, keep, **settings):
    torch.manual_seed(0)
    model = TinyModel(3)

    def objective(batch):
        return functional.cross_entropy(model(batch.inputs_BCFT), batch.labels_B)

    recipe = replace(RECIPE, max_epochs=EPOCHS, keep=keep, **settings)
    return Run(model, objective, model, feed, 100, recipe, 0)


def weights_after_every_step(feed, folder):
    """Return the linear layer of a run that keeps its last weights, step by step."""
    run, seen = make_run(feed, "last"), []
    step = run.objective

    def objective(batch):
        seen.append(run.module.linear.weight.detach().double().numpy().copy())
        return step(batch)

    fit(replace(run, objective=objective), Checkpoint(LogitStore(folder), NAME), lambda f: None)
    return [*seen[1:], run.module.linear.weight.detach().double().numpy()]


def kept(run, folder):
    fit(run, Checkpoint(LogitStore(folder), NAME), lambda metrics: None)
    return run.module.linear.weight.detach().numpy()


def steps_per_epoch(feed):
    return len(list(split_into_batches(len(feed.corpus.rows(100, "fit")), RECIPE.batch_size)))


def test_a_moving_average_follows_every_step(feed, tmp_path):
    average = None
    for step, weights in enumerate(weights_after_every_step(feed, tmp_path / "last")):
        decay = min(0.8, (1 + step) / (10 + step))
        average = weights if average is None else decay * average + (1 - decay) * weights
    found = kept(make_run(feed, Ema(decay=0.8)), tmp_path / "ema")
    # Float32 against float64, over some twenty steps.
    np.testing.assert_allclose(found, average, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("epochs", "counted"), [(3, 3), (50, EPOCHS)])
def test_a_soup_is_the_mean_of_the_last_epochs_ends(feed, tmp_path, epochs, counted):
    ends = weights_after_every_step(feed, tmp_path / "last")[
        steps_per_epoch(feed) - 1 :: steps_per_epoch(feed)
    ]
    assert len(ends) == EPOCHS
    found = kept(make_run(feed, Soup(epochs=epochs)), tmp_path / "soup")
    np.testing.assert_allclose(found, np.mean(ends[-counted:], axis=0), rtol=0, atol=1e-6)


def test_a_soup_counts_an_epoch_that_ends_early():
    # Two whole epochs of four steps and a half one.
    shares = [Soup(epochs=2).share(step, 4, 10) for step in range(10)]
    assert shares == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0.5]


def test_averaged_weights_have_statistics_of_their_own(feed, tmp_path):
    run = make_run(feed, Soup(epochs=3))
    kept(run, tmp_path / "soup")
    norm = run.module.norm
    # One epoch of the view that would come next, in the batches in which it would be learnt.
    order = np.random.default_rng([0, 0, EPOCHS]).permutation(feed.corpus.rows(100, "fit"))
    means = []
    for part in split_into_batches(len(order), RECIPE.batch_size):
        inputs_BCFT = feed.make_view(order[part], run.choose_view(EPOCHS))
        pooled = torch.cat([inputs_BCFT.mean(3), inputs_BCFT.std(3)], dim=2).flatten(1)
        means.append(pooled.mean(0).numpy())
    # Every batch counts the same; float32.
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean(means, axis=0), rtol=1e-4)
    assert norm.momentum == 0.1


@pytest.mark.parametrize("keep", [Ema(decay=0.9), Soup(epochs=3)], ids=["ema", "soup"])
def test_a_run_interrupted_anywhere_ends_in_the_same_average_bit_for_bit(feed, tmp_path, keep):
    whole = make_run(feed, keep)
    kept(whole, tmp_path / "whole")
    n_steps = EPOCHS * steps_per_epoch(feed)
    kills = sorted(np.random.default_rng(3).choice(n_steps, 4, replace=False).tolist())
    steps_done = 0

    def until_killed():
        run = make_run(feed, keep)

        def objective(batch):
            nonlocal steps_done
            if kills and steps_done == kills[0]:
                kills.pop(0)
                raise Killed
            steps_done += 1
            return run.objective(batch)

        checkpoint = EveryStep(LogitStore(tmp_path / "killed"), NAME)
        fit(replace(run, objective=objective), checkpoint, lambda metrics: None)
        return run

    for _ in range(4):
        with pytest.raises(Killed):
            until_killed()
    resumed = until_killed()
    for key, value in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[key], value), key


def test_a_module_without_normalisation_is_not_fed_for_statistics():
    def nothing():
        raise AssertionError("asked for a batch")
        yield

    recompute_statistics(nn.Linear(2, 2), lambda inputs: inputs, nothing())


def test_an_average_of_nothing_becomes_a_copy_that_does_not_follow():
    layer, average = nn.Linear(2, 2), {}
    update_average(average, layer, 0.5)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    assert torch.equal(average["weight"], before)
    update_average(average, layer, 0.25)
    torch.testing.assert_close(average["weight"], before + 0.25)


def test_a_soup_of_a_run_that_may_end_early_is_refused():
    with pytest.raises(ValueError, match=r"patience=3 and keep=Soup\(epochs=10\)"):
        replace(RECIPE, keep=Soup(), patience=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: Ema(decay=1.0), r"decay=1\.0"), (lambda: Soup(epochs=1), "epochs=1")],
)
def test_an_average_of_one_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
