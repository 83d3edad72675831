"""Selection agrees with its slow, obvious version (M members, N clips, K classes)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_selection import problem, slow_loss, slow_select

from ensemble import PRESETS, Selection, select
from ensemble.blocks import lay_out_by_class
from ensemble.kernels import CLIPS_PER_CHUNK
from ensemble.objectives import EveryCandidate, LogLossOfLogits, LogLossOfProbabilities
from metrics import log_loss

SPACES = ("logits", "probabilities")
METRICS = ("log_loss", "macro_accuracy", "brier")


def check(
    selection: Selection, logits_MNK: np.ndarray, labels_N: np.ndarray, **options: Any
) -> None:
    members, path = slow_select(logits_MNK, labels_N, **options)
    assert selection.members == members
    np.testing.assert_allclose(selection.losses, path, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(
        selection.weights, np.bincount(members, minlength=len(logits_MNK)) / len(members)
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw members of any number, float type and size, with copies and constants among them."""
    n_members, n = draw(st.integers(1, 12)), draw(st.sampled_from([1, 2, 7, 64, 513, 1100]))
    n_classes = draw(st.sampled_from([2, 3, 10, 50]))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0, 200.0]))
    logits_MNK, labels_N = problem(
        n_members, n, n_classes, draw(st.integers(0, 10**6)), scale=scale
    )
    for copy in draw(st.lists(st.integers(0, n_members - 1), max_size=3)):
        logits_MNK[copy] = logits_MNK[draw(st.integers(0, n_members - 1))]
    for constant in draw(st.lists(st.integers(0, n_members - 1), max_size=2)):
        logits_MNK[constant] = draw(st.sampled_from([0.0, 3.0]))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    return logits_MNK.astype(dtype), labels_N


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    problem=problems(),
    space=st.sampled_from(SPACES),
    metric=st.sampled_from(METRICS),
    with_replacement=st.booleans(),
    max_members=st.integers(1, 9),
    patience=st.integers(0, 3),
)
def test_selection_is_that_of_the_slow_version_for_any_input(
    problem: tuple[np.ndarray, np.ndarray],
    **options: Any,
) -> None:
    check(select(*problem, **options), *problem, **options)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("space", SPACES)
def test_required_members_come_first_and_forbidden_ones_never(space: str, metric: str) -> None:
    logits_MNK, labels_N = problem(10, 300)
    free = select(logits_MNK, labels_N, space=space, metric=metric)
    worst = next(m for m in range(9, -1, -1) if m not in free.members[:2])
    options = {
        "space": space,
        "metric": metric,
        "required": (worst, free.members[1]),
        "forbidden": (free.members[0],),
    }
    selection = select(logits_MNK, labels_N, **options)
    assert selection.members[:2] == options["required"]
    check(selection, logits_MNK, labels_N, **options)


def test_required_members_stay_even_if_others_would_be_better_without_them() -> None:
    logits_MNK, labels_N = problem(4, 100)
    logits_MNK[:3] *= -20
    assert select(logits_MNK, labels_N, required=[3]).members == (3,)
    several = select(logits_MNK, labels_N, required=[0, 3], max_members=2)
    assert several.members == (0, 3)
    assert several.losses[1] == pytest.approx(slow_loss(logits_MNK[[0, 3]], labels_N), abs=1e-9)


def test_patience_finds_pairs_that_are_worth_more_than_one() -> None:
    # The first member alone is best; the others help only together, as their mistakes cancel.
    labels_N = np.zeros(2, int)
    good_NK = np.array([[1.0, 0], [1.0, 0]])
    left_NK, right_NK = np.array([[9.0, 0], [-3.0, 0]]), np.array([[-3.0, 0], [9.0, 0]])
    logits_MNK = np.stack([good_NK, left_NK, right_NK])
    assert select(logits_MNK, labels_N).members == (0,)
    patient = select(logits_MNK, labels_N, patience=1)
    assert patient.members == (0, 1, 2)
    assert patient.losses[1] > patient.losses[0] > patient.losses[2]
    check(patient, logits_MNK, labels_N, patience=1)


def test_the_best_prefix_is_returned_when_patience_ends() -> None:
    logits_MNK, labels_N = problem(20, 300)
    short = select(logits_MNK, labels_N)
    long = select(logits_MNK, labels_N, patience=100)
    assert long.members[: len(short.members)] == short.members
    assert long.losses[-1] == min(long.losses)


def test_the_published_preset_is_the_greedy_path_over_mean_logits() -> None:
    logits_MNK, labels_N = problem(22, 700)
    check(select(logits_MNK, labels_N, **PRESETS["published"]), logits_MNK, labels_N)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_candidate_is_better_than_its_bound_or_off_by_more_than_the_error(
    dtype: type[np.floating], seed: int
) -> None:
    logits_MNK, labels_N = problem(40, 1300, seed=seed)
    logits_MNK = logits_MNK.astype(dtype)
    objectives = objectives_of(logits_MNK, labels_N)
    for space, objective in objectives.items():
        chosen: list[int] = []
        for member in (3, 5, 0, 5):
            objective.add(member)
            chosen.append(member)
            objective.sharpen(np.arange(40))
            losses_M = [slow_loss(logits_MNK[[*chosen, m]], labels_N, space) for m in range(40)]
            assert (objective.bound() <= losses_M).all()
            approximate_M = objective.approximate(np.arange(40), np.inf)
            assert np.abs(approximate_M - losses_M).max() <= objective.error
            # At the mean itself, the bound equals the loss except for rounding.
            assert objective.bound()[member] > losses_M[member] - 0.1


@pytest.mark.parametrize("space", SPACES)
def test_only_candidates_above_the_limit_are_given_up(space: str) -> None:
    logits_MNK, labels_N = problem(12, 3 * CLIPS_PER_CHUNK + 7)
    objective = objectives_of(logits_MNK, labels_N)[space]
    members = np.arange(12)
    for member in (3, 5):
        objective.compute(member)
        objective.add(member)
    objective.sharpen(members)
    losses_M = np.array([slow_loss(logits_MNK[[3, 5, m]], labels_N, space) for m in range(12)])
    limit = float(np.median(losses_M))
    found_M = objective.approximate(members, limit)
    given_up_M = np.isinf(found_M)
    assert (losses_M[given_up_M] > limit).all()
    assert np.abs(found_M - losses_M)[~given_up_M].max() <= objective.error
    # The worst candidate can be given up before the end.
    assert space == "probabilities" or given_up_M[losses_M.argmax()]


def objectives_of(logits_MNK: np.ndarray, labels_N: np.ndarray) -> dict[str, Any]:
    logits_MKN, exact_MNK = lay_out_by_class(logits_MNK), logits_MNK.astype(float)
    labels_N = labels_N.astype(np.int32)
    sizes_M = np.abs(exact_MNK).max(axis=2).mean(axis=1)
    return {
        "logits": LogLossOfLogits(logits_MKN, labels_N, sizes_M),
        "probabilities": LogLossOfProbabilities(logits_MKN, labels_N, sizes_M, small=True),
    }


@pytest.mark.parametrize("space", SPACES)
def test_most_candidates_of_a_large_selection_are_never_tried(
    space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = LogLossOfLogits if space == "logits" else LogLossOfProbabilities
    tried: list[int] = []
    approximate = kind.approximate

    def counted(self: Any, candidates: np.ndarray, limit: float) -> np.ndarray:
        tried.append(len(candidates))
        return approximate(self, candidates, limit)

    monkeypatch.setattr(kind, "approximate", counted)
    # Members are similar, as in real pools.
    logits_MNK, labels_N = problem(60, 2000)
    logits_MNK = logits_MNK[:1] + 0.15 * logits_MNK
    selection = select(logits_MNK, labels_N, space=space)
    # Nothing is known before the first choice.
    n_others = sum(60 - step for step in range(1, len(selection.members) + 1))
    assert 0 < sum(tried) - 60 < n_others / 2


@pytest.mark.parametrize("with_replacement", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 300])
def test_selection_is_that_of_the_slow_version(n: int, seed: int, with_replacement: bool) -> None:
    logits_MNK, labels_N = problem(8, n, n_classes=5, seed=seed)
    selection = select(logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)
    check(selection, logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_a_large_selection_is_that_of_the_slow_version(with_replacement: bool) -> None:
    logits_MNK, labels_N = problem(30, 2 * CLIPS_PER_CHUNK + 300)
    selection = select(logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)
    check(selection, logits_MNK, labels_N, with_replacement=with_replacement, max_members=12)
    assert len(selection.members) > 5


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_logits_of_any_size_are_safe(scale: float) -> None:
    logits_MNK, labels_N = problem(6, 100, scale=scale)
    selection = select(logits_MNK, labels_N)
    members, path = slow_select(logits_MNK, labels_N)
    assert selection.members == members
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
def test_any_number_of_classes_is_accepted(n_classes: int) -> None:
    logits_MNK, labels_N = problem(4, 50, n_classes=n_classes)
    selection = select(logits_MNK, labels_N)
    check(selection, logits_MNK, labels_N)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_is_used_as_it_is(dtype: type[np.floating]) -> None:
    logits_MNK = problem(5, 70)[0].astype(dtype)
    labels_N = problem(5, 70)[1]
    selection = select(logits_MNK, labels_N)
    check(selection, logits_MNK, labels_N)


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
        # Exactly equal bits.
        assert other.losses == selection.losses
        np.testing.assert_array_equal(other.weights, selection.weights[order])


def test_the_lowest_index_of_equal_members_is_chosen() -> None:
    logits_MNK, labels_N = problem(3, 200)
    doubled_MNK = logits_MNK[[2, 0, 1, 0, 2, 1]]
    first_of = {0: 1, 1: 2, 2: 0}
    single = select(logits_MNK, labels_N)
    doubled = select(doubled_MNK, labels_N)
    chosen = len(single.members)
    assert doubled.members[:chosen] == tuple(first_of[m] for m in single.members)
    assert doubled.losses[:chosen] == single.losses
    check(doubled, doubled_MNK, labels_N)


@pytest.mark.parametrize("with_replacement", [False, True])
def test_copies_of_a_member_are_no_gain(with_replacement: bool) -> None:
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
        (np.full((2, 4, 3), np.nan), np.zeros(4, int), "members 0, 1"),
        (np.full((2, 4, 3), np.inf), np.zeros(4, int), "finite"),
        (np.full((2, 4, 3), 1e39), np.zeros(4, int), r"3\.4e\+38"),
        (np.zeros((2, 4, 3)), np.zeros(5, int), "expected 4 integers"),
        (np.zeros((2, 4, 3)), np.zeros(4), "float64"),
        (np.zeros((2, 4, 3)), np.array([0, 1, 2, 3]), r"0\.\.\.3, expected 0\.\.\.2"),
        (np.zeros((2, 4, 3)), np.array([0, 1, 2, -1]), r"-1\.\.\.2"),
    ],
)
def test_unsuitable_logits_and_labels_are_refused(
    logits: np.ndarray, labels: np.ndarray, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        select(logits, labels)


@pytest.mark.parametrize("max_members", [0, -1, 2.0, True])
def test_a_bound_that_is_not_a_number_of_members_is_refused(max_members: int) -> None:
    with pytest.raises(ValueError, match="max_members"):
        select(*problem(2, 10), max_members=max_members)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": "odds"}, "space 'odds', expected 'logits' or 'probabilities'"),
        ({"metric": "accuracy"}, "metric 'accuracy', expected one of log_loss"),
        ({"patience": -1}, "patience -1"),
        ({"required": [3]}, r"required members \[3\], expected 0\.\.\.2"),
        ({"required": [0, 0]}, "takes replacement"),
        ({"required": [0, 1], "max_members": 1}, "2 members are required"),
        ({"required": [1], "forbidden": [1, 2]}, r"\[1\] are required and forbidden"),
        ({"forbidden": [-1]}, r"forbidden members \[-1\]"),
        ({"forbidden": [0, 1, 2]}, "all 3 members are forbidden"),
        ({"names": ["a", "b"]}, "2 names, expected 3"),
        ({"names": ["a", "b", "a"]}, r"names \['a'\]"),
    ],
)
def test_unsuitable_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        select(*problem(3, 10), **options)


def test_a_member_with_a_value_that_is_not_finite_is_refused_by_name() -> None:
    logits_MNK, labels_N = problem(3, 600)
    for value in (np.nan, np.inf, -np.inf):
        for dtype in (np.float16, np.float32, np.float64):
            wrong_MNK = logits_MNK.astype(dtype)
            wrong_MNK[1, 599, 9] = value
            with pytest.raises(ValueError, match="logits of members passt hold"):
                select(wrong_MNK, labels_N, names=["cnn", "passt", "beats"])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("space", SPACES)
def test_the_first_name_of_equal_members_is_chosen_in_any_order(space: str, metric: str) -> None:
    logits_MNK, labels_N = problem(4, 200)
    doubled_MNK = np.concatenate([logits_MNK, logits_MNK])
    names = [f"{kind}{m}" for kind in "ba" for m in range(4)]
    options = {"space": space, "metric": metric, "max_members": 6}
    selection = select(doubled_MNK, labels_N, names=names, **options)
    assert names[selection.members[0]].startswith("a")
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(8)
        other = select(doubled_MNK[order], labels_N, names=[names[m] for m in order], **options)
        assert [names[order[m]] for m in other.members] == [names[m] for m in selection.members]
        assert other.losses == selection.losses


def test_large_logits_take_the_same_path_as_small_ones() -> None:
    logits_MNK, labels_N = problem(6, 300)
    objective = objectives_of(logits_MNK, labels_N)["logits"]
    careful = EveryCandidate(
        lay_out_by_class(logits_MNK),
        labels_N.astype(np.int32),
        space="logits",
        metric="log_loss",
    )
    for member in (4, 1):
        assert objective.compute(member) == pytest.approx(careful.compute(member), abs=1e-13)
        objective.add(member)
        careful.add(member)
