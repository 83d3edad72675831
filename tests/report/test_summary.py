import numpy as np
import pytest
from tiny import tiny_corpus

from metrics import macro_accuracy
from report.summary import System, compare_systems, summarise


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


def logits(corpus, seed, skill):
    noise = np.random.default_rng(seed).standard_normal((len(corpus), 3))
    return (noise + skill * np.eye(3)[corpus.labels()]).astype(np.float32)


def test_figures_are_those_of_the_test_clips_and_means_over_seeds(corpus):
    runs = [logits(corpus, seed, 1.0) for seed in range(3)]
    rows = corpus.rows(100, "test")
    labels = corpus.labels()[rows]
    figures = summarise(corpus, System("x", 100, runs))
    expected = np.mean([macro_accuracy(run[rows], labels) for run in runs])
    assert figures.accuracy.value == pytest.approx(expected, rel=1e-12)
    assert figures.accuracy.low <= figures.accuracy.value <= figures.accuracy.high


def test_a_recording_device_is_unseen_when_the_training_clips_lack_it(corpus):
    devices = corpus.column("recording_device")
    run = 10 * np.eye(3)[corpus.labels()]
    run[devices == "s4"] = 10 * np.eye(3)[(corpus.labels()[devices == "s4"] + 1) % 3]
    figures = summarise(corpus, System("x", 100, [run]))
    assert figures.seen_accuracy == 1.0
    assert figures.unseen_accuracy == 0.0


def test_clips_outside_the_test_fold_change_nothing(corpus):
    run = logits(corpus, 0, 1.0)
    other = run.copy()
    other[corpus.rows(100, "fit", "select")] = 0
    first, second = (summarise(corpus, System("x", 100, [r])) for r in (run, other))
    assert first.accuracy == second.accuracy
    assert first.log_loss == second.log_loss


def test_a_system_compared_with_itself_differs_by_nothing(corpus):
    system = System("x", 100, [logits(corpus, 0, 1.0)])
    difference = compare_systems(corpus, system, system).difference
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_systems_of_other_splits_or_numbers_of_seeds_are_not_compared(corpus):
    run = logits(corpus, 0, 1.0)
    with pytest.raises(ValueError, match="expected the same split and number of seeds"):
        compare_systems(corpus, System("x", 100, [run]), System("y", 100, [run, run]))
