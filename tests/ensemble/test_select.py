"""Selection agrees with its slow, obvious version (M members, N clips, K classes)."""

import numpy as np
import pytest

from ensemble import Selection, select
from ensemble.kernels import losses, tiles
from metrics import log_loss


def slow_select(
    logits_MNK: np.ndarray, labels_N: np.ndarray, *, with_replacement: bool, max_members: int
) -> tuple[list[int], list[float]]:
    """Every candidate's mean from scratch, in float64."""
    logits = logits_MNK.astype(np.float64)
    members: list[int] = []
    path: list[float] = []
    while len(members) < max_members:
        candidates = [m for m in range(len(logits)) if with_replacement or m not in members]
        if not candidates:
            break
        found = [log_loss(logits[[*members, m]].mean(axis=0), labels_N) for m in candidates]
        best = int(np.argmin(found))
        # Far above the rounding of float64, far below any gain in these tests.
        if path and found[best] >= path[-1] - 1e-13:
            break
        members.append(candidates[best])
        path.append(found[best])
    return members, path


def problem(
    n_members: int, n: int, n_classes: int = 10, seed: int = 0, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Members of different quality that share some of their mistakes."""
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, n_classes, n)
    shared_NK = rng.normal(0, 1.5, (n, n_classes))
    own_MNK = rng.normal(0, 1, (n_members, n, n_classes)) * rng.uniform(1, 3, (n_members, 1, 1))
    true_NK = 2.0 * np.eye(n_classes)[labels_N]
    return ((true_NK + shared_NK + own_MNK) * scale).astype(np.float32), labels_N


def check(
    selection: Selection,
    logits_MNK: np.ndarray,
    labels_N: np.ndarray,
    *,
    with_replacement: bool,
    max_members: int,
) -> None:
    members, path = slow_select(
        logits_MNK, labels_N, with_replacement=with_replacement, max_members=max_members
    )
    assert selection.members == tuple(members)
    np.testing.assert_allclose(selection.losses, path, rtol=0, atol=1e-9)


@pytest.mark.parametrize("with_replacement", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 300])
def test_selection_is_that_of_the_slow_version(n: int, seed: int, with_replacement: bool) -> None:
    logits_MNK, labels_N = problem(8, n, n_classes=5, seed=seed)
    selection = select(logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)
    check(selection, logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_a_large_selection_is_that_of_the_slow_version(with_replacement: bool) -> None:
    logits_MNK, labels_N = problem(30, 2000)
    selection = select(logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)
    check(selection, logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)
    assert len(selection.members) > 5


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_logits_of_any_size_are_safe(scale: float) -> None:
    logits_MNK, labels_N = problem(6, 100, scale=scale)
    selection = select(logits_MNK, labels_N)
    members, path = slow_select(logits_MNK, labels_N, with_replacement=False, max_members=6)
    assert selection.members == tuple(members)
    # Relative, as a loss of 1e5 has only 1e-11 digits left.
    np.testing.assert_allclose(selection.losses, path, rtol=1e-12, atol=1e-9)


def test_the_largest_floats_are_safe() -> None:
    largest = np.finfo(np.float32).max
    logits_MNK = np.array(
        [[[largest, -largest]], [[-largest, largest]], [[largest, 0]]], np.float32
    )
    assert select(logits_MNK, [0]).losses == (0.0,)
    assert select(logits_MNK[:2], [0]).members == (0,)
    assert select(logits_MNK[1:2], [0]).losses == (2 * float(largest),)


@pytest.mark.parametrize("n_classes", [1, 2, 300])
def test_any_number_of_classes_will_do(n_classes: int) -> None:
    logits_MNK, labels_N = problem(4, 50, n_classes=n_classes)
    selection = select(logits_MNK, labels_N)
    check(selection, logits_MNK, labels_N, with_replacement=False, max_members=4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_is_taken_as_it_is(dtype: type[np.floating]) -> None:
    logits_MNK = problem(5, 70)[0].astype(dtype)
    labels_N = problem(5, 70)[1]
    selection = select(logits_MNK, labels_N)
    check(selection, logits_MNK, labels_N, with_replacement=False, max_members=5)


def test_clips_side_by_side_in_memory_give_the_same_bits() -> None:
    logits_MNK, labels_N = problem(6, 77)
    other_MNK = np.ascontiguousarray(logits_MNK.transpose(0, 2, 1)).transpose(0, 2, 1)
    assert select(other_MNK, labels_N).losses == select(logits_MNK, labels_N).losses


@pytest.mark.parametrize("with_replacement", [False, True])
def test_the_order_of_members_changes_nothing_but_their_indices(with_replacement: bool) -> None:
    logits_MNK, labels_N = problem(12, 500)
    selection = select(logits_MNK, labels_N, with_replacement=with_replacement)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(12)
        other = select(logits_MNK[order], labels_N, with_replacement=with_replacement)
        assert tuple(order[list(other.members)].tolist()) == selection.members
        # The very same bits.
        assert other.losses == selection.losses
        np.testing.assert_array_equal(other.weights, selection.weights[order])


def test_of_equal_members_the_lowest_index_is_taken() -> None:
    logits_MNK, labels_N = problem(3, 200)
    doubled_MNK = logits_MNK[[2, 0, 1, 0, 2, 1]]
    first_of = {0: 1, 1: 2, 2: 0}
    single = select(logits_MNK, labels_N)
    doubled = select(doubled_MNK, labels_N)
    chosen = len(single.members)
    assert doubled.members[:chosen] == tuple(first_of[m] for m in single.members)
    assert doubled.losses[:chosen] == single.losses
    check(doubled, doubled_MNK, labels_N, with_replacement=False, max_members=6)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_more_of_the_same_member_is_no_gain(with_replacement: bool) -> None:
    logits_MNK, labels_N = problem(1, 100)
    same_MNK = np.repeat(logits_MNK, 5, axis=0)
    assert select(same_MNK, labels_N, with_replacement=with_replacement).members == (0,)


def test_one_member_is_an_ensemble_however_bad() -> None:
    logits_MNK, labels_N = problem(1, 40)
    selection = select(-10 * logits_MNK, labels_N)
    assert selection.members == (0,)
    assert selection.weights.tolist() == [1.0]
    assert selection.losses[0] == pytest.approx(log_loss(-10 * logits_MNK[0], labels_N), abs=1e-9)


def test_weights_are_the_shares_of_the_choices() -> None:
    logits_MNK, labels_N = problem(8, 300)
    selection = select(logits_MNK, labels_N, with_replacement=True)
    counts = np.bincount(selection.members, minlength=8)
    assert counts.max() > 1
    np.testing.assert_array_equal(selection.weights, counts / counts.sum())
    assert selection.weights.sum() == pytest.approx(1, abs=1e-15)
    mean_NK = np.tensordot(selection.weights, logits_MNK.astype(np.float64), axes=1)
    assert log_loss(mean_NK, labels_N) == pytest.approx(selection.losses[-1], abs=1e-9)


def test_every_addition_lowers_the_loss() -> None:
    selection = select(*problem(20, 400), with_replacement=True)
    assert (np.diff(selection.losses) < 0).all()


def test_max_members_bounds_the_choices() -> None:
    whole = select(*problem(10, 400), with_replacement=True, max_members=200)
    assert len(whole.members) > 3
    for with_replacement in (False, True):
        some = select(*problem(10, 400), with_replacement=with_replacement, max_members=2)
        assert len(some.members) == 2
        assert some.members == whole.members[:2]


def test_without_a_bound_selection_with_replacement_ends_after_50() -> None:
    logits_MNK, labels_N = problem(30, 3000)
    selection = select(logits_MNK, labels_N, with_replacement=True)
    longer = select(logits_MNK, labels_N, with_replacement=True, max_members=51)
    assert selection.members == longer.members[:50]


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (np.zeros((0, 4, 3)), np.zeros(4, int), "at least one of each"),
        (np.zeros((2, 0, 3)), np.zeros(0, int), "at least one of each"),
        (np.zeros((4, 3)), np.zeros(4, int), r"shape \(4, 3\)"),
        (np.zeros((2, 4, 3), int), np.zeros(4, int), "int64"),
        (np.full((2, 4, 3), np.nan), np.zeros(4, int), r"members \[0, 1\]"),
        (np.full((2, 4, 3), np.inf), np.zeros(4, int), "finite"),
        (np.full((2, 4, 3), 1e39), np.zeros(4, int), r"3\.4e\+38"),
        (np.zeros((2, 4, 3)), np.zeros(5, int), "expected 4 integers"),
        (np.zeros((2, 4, 3)), np.zeros(4), "float64"),
        (np.zeros((2, 4, 3)), np.array([0, 1, 2, 3]), r"0\.\.\.3, expected 0\.\.\.2"),
        (np.zeros((2, 4, 3)), np.array([0, 1, 2, -1]), r"-1\.\.\.2"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(
    logits: np.ndarray, labels: np.ndarray, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        select(logits, labels)


@pytest.mark.parametrize("max_members", [0, -1, 2.0, True])
def test_a_bound_that_is_no_number_of_members_is_refused(max_members: int) -> None:
    with pytest.raises(ValueError, match="max_members"):
        select(*problem(2, 10), max_members=max_members)


def test_the_kernel_gives_a_candidate_the_same_bits_whoever_else_is_tried() -> None:
    logits_MNK, labels_N = problem(7, 100)
    tiles_MPKB, labels_PB = tiles(logits_MNK, labels_N)
    sum_PKB = tiles_MPKB[2].astype(np.float64)
    every = losses(tiles_MPKB, sum_PKB, 1, labels_PB, np.arange(7))
    some = losses(tiles_MPKB, sum_PKB, 1, labels_PB, np.array([5, 1]))
    np.testing.assert_array_equal(some, every[[5, 1]])


def test_the_function_is_not_hidden_by_its_module() -> None:
    import ensemble
    import ensemble.combine
    import ensemble.select as module

    assert callable(ensemble.select)
    assert ensemble.select is select
    assert module is not None
