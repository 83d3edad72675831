import csv
import json
from pathlib import Path

import numpy as np
import pytest

from metrics import (
    accuracy,
    brier,
    calibration_error,
    group_devices,
    log_loss,
    log_softmax,
    macro_accuracy,
    score_groups,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "students"
TAU = {"real": ("a", "b", "c"), "seen": ("s1", "s2", "s3"), "unseen": ("s4", "s5", "s6")}


@pytest.fixture(scope="module")
def expected():
    return json.loads((GOLDEN / "metrics_expected.json").read_text())


@pytest.fixture(scope="module")
def predictions():
    with (GOLDEN / "metrics_predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    scenes = sorted({row["scene_label"] for row in rows})
    logits_NK = np.array([[float(row[f"logit_{scene}"]) for scene in scenes] for row in rows])
    scene_N = np.array([row["scene_label"] for row in rows])
    device_N = np.array([row["filename"].removesuffix(".wav").split("-")[-1] for row in rows])
    return logits_NK, np.searchsorted(scenes, scene_N), scene_N, device_N


def random_predictions(n=200, n_classes=7):
    generator = np.random.default_rng(0)
    logits_NK = generator.standard_normal((n, n_classes))
    return logits_NK, generator.integers(n_classes, size=n)


# Golden values are printed with nine digits.
def test_overall_metrics_are_the_published_ones(predictions, expected):
    logits_NK, labels_N, *_ = predictions
    assert len(labels_N) == expected["n"]
    assert accuracy(logits_NK, labels_N) == pytest.approx(expected["accuracy"], abs=1e-8)
    macro = expected["macro_avg_accuracy"]
    assert macro_accuracy(logits_NK, labels_N) == pytest.approx(macro, abs=1e-8)
    # Computed in float32: 1e-6.
    assert log_loss(logits_NK, labels_N) == pytest.approx(expected["logloss"], abs=1e-6)
    first = np.exp(log_softmax(logits_NK[0]))
    np.testing.assert_allclose(first, expected["softmax_of_row0"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("which", ["class_wise", "device_wise", "device_groups"])
def test_scores_of_groups_are_the_published_ones(predictions, expected, which):
    logits_NK, labels_N, scene_N, device_N = predictions
    groups_N = {
        "class_wise": scene_N,
        "device_wise": device_N,
        "device_groups": group_devices(device_N, **TAU),
    }[which]
    scores = score_groups(logits_NK, labels_N, groups_N)
    assert list(scores) == sorted(expected[which])
    for group, wanted in expected[which].items():
        assert scores[group].n == wanted["n"]
        assert scores[group].accuracy == pytest.approx(wanted["acc"], abs=1e-8)
        assert scores[group].log_loss == pytest.approx(wanted["logloss"], abs=1e-6)


def test_one_group_has_the_scores_of_all_clips():
    logits_NK, labels_N = random_predictions()
    (scores,) = score_groups(logits_NK, labels_N, ["all"] * 200).values()
    assert scores.accuracy == pytest.approx(accuracy(logits_NK, labels_N), rel=1e-12)
    assert scores.log_loss == pytest.approx(log_loss(logits_NK, labels_N), rel=1e-12)


def test_each_group_has_the_scores_of_its_clips_alone():
    logits_NK, labels_N = random_predictions()
    groups_N = np.arange(200) % 3
    for group, scores in score_groups(logits_NK, labels_N, groups_N).items():
        own = groups_N == int(group)
        assert scores.n == own.sum()
        assert scores.accuracy == pytest.approx(accuracy(logits_NK[own], labels_N[own]))
        assert scores.log_loss == pytest.approx(log_loss(logits_NK[own], labels_N[own]))


def test_macro_accuracy_is_the_mean_over_the_classes_that_occur():
    logits_NK = np.eye(5)[[0, 0, 0, 1, 3, 3]]
    labels_N = np.array([0, 0, 1, 1, 3, 3])
    # Class 0: 2 of 2, class 1: 1 of 2, class 3: 2 of 2; classes 2 and 4 do not occur.
    assert macro_accuracy(logits_NK, labels_N) == pytest.approx((1 + 0.5 + 1) / 3)


def test_macro_accuracy_does_not_change_when_one_class_is_repeated():
    logits_NK, labels_N = random_predictions()
    more = np.concatenate([np.arange(200), *[np.flatnonzero(labels_N == 2)] * 5])
    repeated = macro_accuracy(logits_NK[more], labels_N[more])
    assert repeated == pytest.approx(macro_accuracy(logits_NK, labels_N), rel=1e-12)
    assert accuracy(logits_NK[more], labels_N[more]) != accuracy(logits_NK, labels_N)


def test_the_log_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    assert log_loss(np.full((4, 8), 3.0), [0, 1, 2, 7]) == pytest.approx(np.log(8))


def test_log_loss_of_huge_logits_is_exact():
    assert log_loss([[1e4, -1e4], [1e4, -1e4]], [0, 1]) == 1e4


def test_log_softmax_sums_to_one_and_ignores_a_constant():
    logits_NK, _ = random_predictions()
    result = log_softmax(logits_NK)
    np.testing.assert_allclose(np.exp(result).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(logits_NK + 700), result, rtol=0, atol=1e-10)


def test_half_precision_logits_are_scored_in_double_precision():
    logits_NK, labels_N = random_predictions()
    half_NK = logits_NK.astype(np.float16)
    assert log_loss(half_NK, labels_N) == log_loss(half_NK.astype(np.float64), labels_N)


def test_the_brier_score_is_the_squared_distance_from_the_truth():
    # Probabilities 1/2, 1/4, 1/4 of the true class and the others, and equal ones.
    logits_NK = np.log([[0.5, 0.25, 0.25], [1, 1, 1]])
    expected = (0.5**2 + 2 * 0.25**2 + (2 / 3) ** 2 + 2 / 9) / 2
    assert brier(logits_NK, [0, 2]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("label", "expected"), [(0, 0), (1, 2)])
def test_the_brier_score_is_0_for_certainty_and_2_for_a_certain_error(label, expected):
    assert brier([[1000.0, -1000.0]], [label]) == expected


def test_the_calibration_error_equals_one_computed_by_hand():
    # The bin of 11/15...12/15: confidence 0.75 and 0.8, its upper border, and one hit of three.
    # The bin of 7/15...8/15: confidence 0.5, of two equal ones the first counts, and no hit.
    confidence_N = np.array([0.75, 0.75, 0.8 - 1e-12, 0.5])
    logits_NK = np.log(np.stack([confidence_N, 1 - confidence_N], axis=1))
    labels_N = [0, 1, 1, 1]
    in_one_bin = 3 / 4 * abs(2.3 / 3 - 1 / 3)
    assert calibration_error(logits_NK, labels_N) == pytest.approx(in_one_bin + 0.5 / 4, abs=1e-9)


def test_the_calibration_error_equals_that_of_a_loop_over_bins():
    logits_NK, labels_N = random_predictions(n=2000)
    confidence_N = np.exp(log_softmax(logits_NK)).max(axis=1)
    hit_N = logits_NK.argmax(axis=1) == labels_N
    expected = 0.0
    for i in range(15):
        inside = (confidence_N > i / 15) & (confidence_N <= (i + 1) / 15)
        if inside.any():
            gap = abs(confidence_N[inside].mean() - hit_N[inside].mean())
            expected += inside.mean() * gap
    assert calibration_error(logits_NK, labels_N) == pytest.approx(expected, rel=1e-9)


def test_certain_hits_are_calibrated_and_certain_errors_are_not():
    certain_NK = 1000 * np.eye(3)
    assert calibration_error(certain_NK, [0, 1, 2]) == 0
    assert calibration_error(certain_NK, [1, 2, 0]) == 1


@pytest.mark.parametrize("metric", [accuracy, brier, calibration_error, log_loss, macro_accuracy])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "at least one clip"),
        (np.zeros((2, 3)), np.zeros(3, int), r"\(2, 3\).*\(3,\)"),
        (np.zeros(3), np.zeros(3, int), r"\(3,\)"),
        (np.zeros((2, 3)), [0, 3], r"0\.\.\.3, expected 0\.\.\.2"),
        (np.zeros((2, 3)), [-1, 0], r"-1\.\.\.0"),
        (np.zeros((2, 3)), [0.0, 1.0], "float64, expected integers"),
        ([[0.0, 1.0], [np.nan, 0.0]], [0, 1], "not finite, first row 1"),
    ],
    ids=["none", "lengths", "one_axis", "too_large", "negative", "not_integers", "nan"],
)
def test_wrong_arguments_are_refused(metric, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(logits, labels)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="one per clip"):
        score_groups(np.zeros((2, 3)), [0, 1], ["a"])


def test_a_recording_device_in_no_set_is_refused_by_name():
    with pytest.raises(ValueError, match=r"\['s7'\] are in none"):
        group_devices(["a", "s7", "b"], **TAU)


def test_a_recording_device_in_two_sets_is_refused_by_name():
    with pytest.raises(ValueError, match=r"more than one.*\['s1'\]"):
        group_devices(["a"], real=["a"], seen=["s1"], unseen=["s1"])
