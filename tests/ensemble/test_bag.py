"""Bags of recordings (M members, N clips, K classes)."""

from typing import Any

import numpy as np
import pytest
from slow_selection import problem, slow_loss

from ensemble import BaggedSelection, mean_logits, select, select_in_bags
from ensemble.bag import _sum_as_rows
from ensemble.together import Group, _SharedLosses
from metrics import log_loss


@pytest.fixture(scope="module")
def logits_MNK() -> np.ndarray:
    return problem(8, 400, 5)[0]


@pytest.fixture(scope="module")
def labels_N() -> np.ndarray:
    return problem(8, 400, 5)[1]


GROUPS_N = np.array([f"city-{i // 10}" for i in range(400)])


def test_weights_are_the_mean_of_selections_on_halves_of_the_recordings(
    logits_MNK: np.ndarray, labels_N: np.ndarray
) -> None:
    found = select_in_bags(logits_MNK, labels_N, GROUPS_N, n_bags=6)
    randomness, weights = np.random.default_rng(0), []
    groups = np.unique(GROUPS_N)
    for bag in found.bags:
        rows = np.isin(GROUPS_N, groups[randomness.choice(40, 20, replace=False)])
        assert rows.sum() == 200
        expected = select(logits_MNK[:, rows], labels_N[rows])
        assert bag.members == expected.members
        assert bag.losses == expected.losses
        weights.append(expected.weights)
    np.testing.assert_array_equal(found.weights, np.mean(weights, axis=0))
    assert found.weights.sum() == pytest.approx(1, abs=1e-15)
    assert len({bag.members for bag in found.bags}) > 1


@pytest.mark.parametrize("kind", [np.float16, np.float32])
# Small bags go on alone; large ones choose the same members for longer.
@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize(
    ("scale", "options"),
    [
        (0.3, {}),
        (1.0, {"with_replacement": True, "max_members": 9}),
        (1.0, {"patience": 2, "required": [7, 2], "forbidden": [0, 5]}),
        # Too large for float32: bags follow one another.
        (60.0, {}),
    ],
)
def test_bags_together_select_as_each_alone_to_the_last_bit(
    kind: type[np.floating], share: float, scale: float, options: dict[str, Any]
) -> None:
    # More members than are worth a tangent, equal ones among them; recordings in pieces.
    logits_MNK, labels_N = problem(50, 1300, 4, seed=3, scale=scale)
    logits_MNK[9] = logits_MNK[8]
    logits_MNK, groups_N = logits_MNK.astype(kind), np.arange(1300) // 7 % 90
    found = select_in_bags(logits_MNK, labels_N, groups_N, n_bags=5, share=share, seed=1, **options)
    randomness = np.random.default_rng(1)
    for bag in found.bags:
        rows = np.isin(groups_N, randomness.choice(90, round(90 * share), replace=False))
        expected = select(logits_MNK[:, rows], labels_N[rows], **options)
        assert (bag.members, bag.losses) == (expected.members, expected.losses)
        np.testing.assert_array_equal(bag.weights, expected.weights)
    weights_M, chosen = np.zeros(50), list(found.members)
    weights_M[chosen] = found.weights[chosen] / found.weights[chosen].sum()
    assert found.losses[-1] == log_loss(mean_logits(logits_MNK, weights_M), labels_N)


@pytest.mark.parametrize(("kind", "n_groups"), [(np.float16, 1), (np.float32, 2)])
def test_bags_that_chose_the_same_members_in_another_order_share_their_exact_sums(
    kind: type[np.floating], n_groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two members, each of which knows half of the recordings: bags begin with either, and then need the other.
    labels_N, noise = np.arange(800) % 4, np.random.default_rng(0)
    knows_2N = np.arange(800) // 10 % 2 == np.arange(2)[:, None]
    logits_MNK = noise.normal(size=(2, 800, 4)) + 3 * knows_2N[:, :, None] * np.eye(4)[labels_N]
    entered: list[int] = []
    enter = _SharedLosses.enter

    def count(self: _SharedLosses, group: Group, *, in_place: bool) -> None:
        entered.append(len(group.members))
        enter(self, group, in_place=in_place)

    monkeypatch.setattr(_SharedLosses, "enter", count)
    found = select_in_bags(logits_MNK.astype(kind), labels_N, np.arange(800) // 10, n_bags=12)
    assert {bag.members for bag in found.bags} == {(0, 1), (1, 0)}
    assert entered.count(1) == 2
    assert entered.count(2) == n_groups


@pytest.mark.parametrize("n_classes", [2, 7, 8, 10, 19, 128, 300])
def test_sums_of_columns_are_those_of_numpys_rows_to_the_last_bit(n_classes: int) -> None:
    rows_NK = np.exp(np.random.default_rng(0).normal(size=(50, n_classes)))
    np.testing.assert_array_equal(_sum_as_rows(rows_NK.T.copy()), rows_NK.sum(axis=1))


def test_members_are_those_that_a_bag_chose_heaviest_first(
    logits_MNK: np.ndarray, labels_N: np.ndarray
) -> None:
    found = select_in_bags(logits_MNK, labels_N, GROUPS_N, n_bags=3, max_members=2)
    assert set(found.members) == {m for bag in found.bags for m in bag.members}
    assert (np.diff(found.weights[list(found.members)]) <= 0).all()


def test_one_bag_has_all_required_members() -> None:
    logits_MNK, labels_N = problem(8, 60, 4)
    options: Any = {"required": [3, 5, 1], "max_members": 5}
    bagged = select_in_bags(logits_MNK, labels_N, np.arange(60), n_bags=1, share=1, **options)
    alone = select(logits_MNK, labels_N, **options)
    assert bagged.bags[0].members == alone.members
    assert bagged.bags[0].losses == alone.losses


@pytest.mark.parametrize("metric", ["log_loss", "macro_accuracy", "brier"])
@pytest.mark.parametrize("space", ["logits", "probabilities"])
def test_the_loss_is_that_of_one_selection_if_a_bag_holds_everything(
    logits_MNK: np.ndarray, labels_N: np.ndarray, space: str, metric: str
) -> None:
    options = {"space": space, "metric": metric, "max_members": 3}
    found = select_in_bags(logits_MNK, labels_N, GROUPS_N, n_bags=1, share=1.0, **options)
    whole = select(logits_MNK, labels_N, **options)
    assert set(found.members) == set(whole.members)
    # Weights are equal here.
    for n in range(1, len(found.members) + 1):
        loss = slow_loss(logits_MNK[list(found.members[:n])], labels_N, space, metric)
        # The weighted mean is rounded to float32.
        assert found.losses[n - 1] == pytest.approx(loss, abs=1e-6)


def test_the_seed_decides_and_the_type_of_floats_does_not(
    logits_MNK: np.ndarray, labels_N: np.ndarray
) -> None:
    def weights(logits_MNK: np.ndarray, seed: int) -> list[float]:
        found: BaggedSelection = select_in_bags(logits_MNK, labels_N, GROUPS_N, n_bags=4, seed=seed)
        return found.weights.tolist()

    half_MNK = logits_MNK.astype(np.float16)
    single_MNK = half_MNK.astype(np.float32)
    assert weights(half_MNK, 1) == weights(single_MNK, 1)
    assert weights(single_MNK, 1) != weights(single_MNK, 2)


def test_a_bag_of_few_recordings_holds_at_least_one(
    logits_MNK: np.ndarray, labels_N: np.ndarray
) -> None:
    found = select_in_bags(logits_MNK, labels_N, np.zeros(400, int), n_bags=2, share=0.1)
    assert found.bags[0].losses == select(logits_MNK, labels_N).losses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_bags": 0}, "n_bags 0"),
        ({"share": 0.0}, r"share 0\.0"),
        ({"share": 1.5}, r"share 1\.5"),
        ({"groups_N": GROUPS_N[1:]}, r"groups of shape \(399,\)"),
        ({"labels_N": np.zeros(399, int)}, r"labels of shape \(399,\)"),
        ({"metric": "error"}, "metric 'error'"),
    ],
)
def test_unsuitable_input_is_refused(
    logits_MNK: np.ndarray, labels_N: np.ndarray, options: dict[str, Any], words: str
) -> None:
    arguments: dict[str, Any] = {"labels_N": labels_N, "groups_N": GROUPS_N} | options
    with pytest.raises(ValueError, match=words):
        select_in_bags(logits_MNK, **arguments)
