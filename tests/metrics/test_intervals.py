import numpy as np
import pytest

from metrics import accuracy, bootstrap, log_loss, macro_accuracy, paired_bootstrap

METRICS = {"macro_accuracy": macro_accuracy, "accuracy": accuracy, "log_loss": log_loss}


def predictions(seed=0, n_recordings=40, clips_each=10, n_classes=4, skill=1.0):
    """Return the logits of two systems, the second better, and labels and recordings."""
    generator = np.random.default_rng(seed)
    recordings_N = np.repeat(np.arange(n_recordings), clips_each)
    labels_N = generator.integers(n_classes, size=n_recordings)[recordings_N]
    hardness_N = generator.standard_normal(n_recordings)[recordings_N]
    truth_NK = np.eye(n_classes)[labels_N]

    def system(skill):
        noise_NK = generator.standard_normal(truth_NK.shape)
        return (skill + hardness_N)[:, None] * truth_NK + noise_NK

    return system(skill), system(skill + 0.5), labels_N, recordings_N


def slow_resamples(logits_NK, labels_N, recordings_N, metric, n_resamples, seed):
    """Return the metric of each resample, computed on the drawn clips themselves."""
    names = np.unique(recordings_N)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(n_resamples):
        drawn = names[generator.integers(len(names), size=len(names))]
        rows = np.concatenate([np.flatnonzero(recordings_N == name) for name in drawn])
        values.append(METRICS[metric](logits_NK[rows], labels_N[rows]))
    return np.array(values)


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_equal_those_of_resampling_the_clips(metric):
    # Seven recordings of four classes: classes are missing from many resamples.
    first_NK, second_NK, labels_N, recordings_N = predictions(n_recordings=7, clips_each=3)
    first_R, second_R = (
        slow_resamples(logits_NK, labels_N, recordings_N, metric, n_resamples=300, seed=5)
        for logits_NK in (first_NK, second_NK)
    )
    comparison = paired_bootstrap(
        first_NK, second_NK, labels_N, recordings_N, metric=metric, n_resamples=300, seed=5
    )
    for interval, resampled_R in [
        (comparison.first, first_R),
        (comparison.second, second_R),
        (comparison.difference, second_R - first_R),
    ]:
        low, high = np.quantile(resampled_R, [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_values_are_the_metrics_of_the_clips_themselves(metric):
    first_NK, second_NK, labels_N, recordings_N = predictions()
    comparison = paired_bootstrap(
        first_NK, second_NK, labels_N, recordings_N, metric=metric, n_resamples=10
    )
    first, second = (METRICS[metric](logits, labels_N) for logits in (first_NK, second_NK))
    assert comparison.first.value == pytest.approx(first, rel=1e-12)
    assert comparison.second.value == pytest.approx(second, rel=1e-12)
    assert comparison.difference.value == pytest.approx(second - first, rel=1e-9)


def test_a_system_does_not_differ_from_itself():
    first_NK, _, labels_N, recordings_N = predictions()
    difference = paired_bootstrap(first_NK, first_NK, labels_N, recordings_N).difference
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_swapping_the_systems_negates_the_difference():
    first_NK, second_NK, labels_N, recordings_N = predictions()
    there = paired_bootstrap(first_NK, second_NK, labels_N, recordings_N)
    back = paired_bootstrap(second_NK, first_NK, labels_N, recordings_N)
    assert (back.first, back.second) == (there.second, there.first)
    assert back.difference.low == pytest.approx(-there.difference.high, rel=1e-9)
    assert back.difference.high == pytest.approx(-there.difference.low, rel=1e-9)


def test_pairing_narrows_the_difference_if_the_same_recordings_are_hard():
    first_NK, second_NK, labels_N, recordings_N = predictions()
    comparison = paired_bootstrap(first_NK, second_NK, labels_N, recordings_N, metric="log_loss")
    widths = [interval.high - interval.low for interval in (comparison.first, comparison.second)]
    assert comparison.difference.high - comparison.difference.low < 0.7 * np.hypot(*widths)


def test_a_system_alone_has_the_same_interval_as_in_a_comparison():
    first_NK, second_NK, labels_N, recordings_N = predictions()
    comparison = paired_bootstrap(first_NK, second_NK, labels_N, recordings_N, seed=3)
    assert bootstrap(first_NK, labels_N, recordings_N, seed=3) == comparison.first


def test_order_of_clips_and_names_of_recordings_do_not_matter():
    first_NK, second_NK, labels_N, recordings_N = predictions()
    order = np.random.default_rng(1).permutation(len(labels_N))
    names_N = np.array([f"city-{number:03}" for number in recordings_N])
    mixed = paired_bootstrap(first_NK[order], second_NK[order], labels_N[order], names_N[order])
    assert mixed == paired_bootstrap(first_NK, second_NK, labels_N, recordings_N)


def test_the_seed_determines_the_interval():
    first_NK, _, labels_N, recordings_N = predictions()
    results = [bootstrap(first_NK, labels_N, recordings_N, seed=seed) for seed in (1, 1, 2)]
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_recordings_of_identical_clips_are_as_uncertain_as_single_clips():
    first_NK, _, labels_N, recordings_N = predictions(clips_each=1)
    tenfold = bootstrap(
        np.repeat(first_NK, 10, axis=0), np.repeat(labels_N, 10), np.repeat(recordings_N, 10)
    )
    assert tenfold == bootstrap(first_NK, labels_N, recordings_N)


def test_the_interval_contains_the_truth_as_often_as_its_level_says():
    truth, contained = 0.7, 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        hit_N = np.repeat(generator.random(80) < truth, 3)
        logits_NK = np.stack([hit_N, ~hit_N], axis=1).astype(float)
        interval = bootstrap(
            logits_NK,
            np.zeros(240, int),
            np.repeat(np.arange(80), 3),
            metric="accuracy",
            n_resamples=400,
            seed=seed,
        )
        contained += interval.low <= truth <= interval.high
    # 95 % of 200 is 190; four standard deviations of a binomial are 12. If clips were drawn instead
    # of recordings, the interval would contain the truth in 74 % of the cases, 148.
    assert 178 <= contained <= 200


def test_a_higher_level_gives_a_wider_interval():
    first_NK, _, labels_N, recordings_N = predictions()
    narrow, wide = (
        bootstrap(first_NK, labels_N, recordings_N, level=level) for level in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metric": "f1"}, "metric='f1'"),
        ({"level": 1.0}, r"level=1\.0"),
        ({"level": 95}, "level=95"),
        ({"n_resamples": 0}, "n_resamples=0"),
        ({"recordings_N": np.zeros(400)}, r"1 recording\(s\), expected at least 2"),
        ({"recordings_N": np.zeros(3)}, "one per clip"),
        ({"labels_N": np.full(400, 9)}, r"9\.\.\.9, expected 0\.\.\.3"),
        ({"second_NK": np.zeros((399, 4))}, r"\(399, 4\)"),
    ],
)
def test_wrong_arguments_are_refused(changed, message):
    first_NK, second_NK, labels_N, recordings_N = predictions()
    arguments = {
        "first_NK": first_NK,
        "second_NK": second_NK,
        "labels_N": labels_N,
        "recordings_N": recordings_N,
    }
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(**(arguments | changed))
