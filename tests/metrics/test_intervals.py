import numpy as np
import pytest
from scipy import stats

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


def test_draws_that_are_kept_are_those_that_would_be_drawn_anew(monkeypatch):
    pair = predictions()
    kept = [paired_bootstrap(*pair) for _ in range(2)]
    monkeypatch.setattr("metrics.intervals._MOST_KEPT", 0)
    assert kept == [paired_bootstrap(*pair)] * 2


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
        ({"first": np.zeros((2, 400, 4))}, r"2 seed\(s\) of the first system and 1 of the second"),
        ({"first": np.zeros((0, 400, 4))}, "logits of no seed"),
        ({"labels_N": np.full(400, 9)}, r"9\.\.\.9, expected 0\.\.\.3"),
        ({"second": np.zeros((399, 4))}, r"\(399, 4\)"),
    ],
)
def test_wrong_arguments_are_refused(changed, message):
    first_NK, second_NK, labels_N, recordings_N = predictions()
    arguments = {
        "first": first_NK,
        "second": second_NK,
        "labels_N": labels_N,
        "recordings_N": recordings_N,
    }
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(**(arguments | changed))


def seeds_of(n_seeds, *, spread=0.0, shared=0.0, n_recordings=40):
    """Return two systems' logits [A, N, K], labels and recordings.

    Each seed is better or worse by `spread` on all recordings; by `shared`, the same for both.
    """
    first_NK, second_NK, labels_N, recordings_N = predictions(n_recordings=n_recordings)
    truth_NK = np.eye(first_NK.shape[1])[labels_N]
    generator = np.random.default_rng(7)
    shared_A = shared * generator.standard_normal(n_seeds)
    systems = [
        [
            logits_NK + (effect + both) * truth_NK
            for effect, both in zip(own_A, shared_A, strict=True)
        ]
        for logits_NK in (first_NK, second_NK)
        for own_A in [spread * generator.standard_normal(n_seeds)]
    ]
    return *systems, labels_N, recordings_N


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize("metric", METRICS)
def test_one_seed_has_the_interval_over_recordings(metric):
    first_NK, second_NK, labels_N, recordings_N = predictions()
    plain = paired_bootstrap(first_NK, second_NK, labels_N, recordings_N, metric=metric)
    assert paired_bootstrap([first_NK], [second_NK], labels_N, recordings_N, metric=metric) == plain


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_seeds", [2, 3])
def test_seeds_that_do_the_same_change_nothing(metric, n_seeds):
    first_NK, second_NK, labels_N, recordings_N = predictions()
    one = paired_bootstrap(first_NK, second_NK, labels_N, recordings_N, metric=metric).difference
    all_seeds = ([first_NK] * n_seeds, [second_NK] * n_seeds)
    more = paired_bootstrap(*all_seeds, labels_N, recordings_N, metric=metric).difference
    assert (more.value, more.low, more.high) == pytest.approx(
        (one.value, one.low, one.high), rel=1e-9, abs=1e-9
    )


def test_two_seeds_have_the_interval_of_their_pooled_clips():
    first_ANK, _, labels_N, recordings_N = seeds_of(2, spread=1.0)
    pooled = bootstrap(np.concatenate(first_ANK), np.tile(labels_N, 2), np.tile(recordings_N, 2))
    found = bootstrap(first_ANK, labels_N, recordings_N)
    assert (found.low, found.high) == pytest.approx((pooled.low, pooled.high), rel=1e-12)


def test_the_value_is_the_mean_over_seeds():
    first_ANK, second_ANK, labels_N, recordings_N = seeds_of(4, spread=1.0)
    gains = [
        macro_accuracy(second, labels_N) - macro_accuracy(first, labels_N)
        for first, second in zip(first_ANK, second_ANK, strict=True)
    ]
    found = paired_bootstrap(first_ANK, second_ANK, labels_N, recordings_N, n_resamples=10)
    assert found.difference.value == pytest.approx(np.mean(gains), abs=1e-12)


def test_equal_recordings_leave_students_interval_of_the_seeds():
    # Each recording has the same clips, so only seeds differ: the interval is that of a t test.
    right_AN = np.tile(np.arange(10) < np.array([4, 6, 7, 9])[:, None], 6)
    logits_ANK = np.stack([right_AN, ~right_AN], axis=2).astype(float)
    found = bootstrap(logits_ANK, np.zeros(60, int), np.repeat(np.arange(6), 10), metric="accuracy")
    values = np.array([0.4, 0.6, 0.7, 0.9])
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((0.65 - half, min(1, 0.65 + half)), abs=1e-9)


def test_what_seeds_do_on_single_recordings_is_not_counted_twice():
    # A seed is right on each recording by a throw of a coin, so 12 seeds of 60 recordings are as
    # uncertain as 720 throws, but for Student's t with 11 degrees of freedom (1.12 times as wide).
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(30):
        right_AN = generator.random((12, 60)) < 0.5
        logits_ANK = np.stack([right_AN, ~right_AN], axis=2).astype(float)
        found = bootstrap(
            logits_ANK, np.zeros(60, int), np.arange(60), metric="accuracy", n_resamples=200
        )
        ratios.append(width(found) / (2 * 1.96 * np.sqrt(0.25 / 720)))
    # Counted twice, it would be 1.4 times as wide, and three times, 1.7.
    assert 0.95 < np.median(ratios) < 1.25


def test_seeds_that_differ_widen_the_interval():
    alike, apart = (
        bootstrap(first_ANK, labels_N, recordings_N)
        for first_ANK, _, labels_N, recordings_N in (seeds_of(5), seeds_of(5, spread=1.0))
    )
    assert width(apart) > 1.3 * width(alike)


def test_pairing_narrows_the_difference_if_the_same_seeds_are_bad():
    first_ANK, second_ANK, labels_N, recordings_N = seeds_of(5, shared=1.0)
    paired = paired_bootstrap(
        first_ANK, second_ANK, labels_N, recordings_N, metric="log_loss"
    ).difference
    mixed = paired_bootstrap(
        first_ANK, second_ANK[::-1], labels_N, recordings_N, metric="log_loss"
    ).difference
    assert paired.value == pytest.approx(mixed.value)
    assert width(paired) < 0.7 * width(mixed)


def test_swapping_systems_of_several_seeds_negates_the_difference():
    first_ANK, second_ANK, labels_N, recordings_N = seeds_of(3, spread=1.0)
    there = paired_bootstrap(first_ANK, second_ANK, labels_N, recordings_N)
    back = paired_bootstrap(second_ANK, first_ANK, labels_N, recordings_N)
    assert back.difference.low == pytest.approx(-there.difference.high, abs=1e-9)


def test_an_interval_of_accuracies_stays_between_0_and_1():
    right_AN = np.repeat([[True] * 12, [True] * 12, [False] * 12], 2, axis=1)
    logits_ANK = np.stack([right_AN, ~right_AN], axis=2).astype(float)
    found = bootstrap(logits_ANK, np.zeros(24, int), np.repeat(np.arange(12), 2), metric="accuracy")
    assert (found.low, found.high) == (0.0, 1.0)
