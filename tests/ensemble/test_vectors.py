"""Kernels over vectors of clips (M members, N clips, K classes)."""

import numpy as np
import pytest
from slow_selection import problem, slow_select

from ensemble import kernels, select
from ensemble.blocks import lay_out_by_class
from ensemble.kernels import CLIPS_PER_CHUNK
from ensemble.objectives import compute_products
from ensemble.stepwise import find_largest


@pytest.mark.parametrize("n", [1, 15, 16, 17, 23, 24, 511, 512, 513, CLIPS_PER_CHUNK + 5])
def test_clips_that_fill_no_vector_count_once(n: int) -> None:
    logits_MNK, labels_N = problem(9, n, n_classes=3, seed=5)
    selection = select(logits_MNK, labels_N, with_replacement=True, max_members=6)
    members, losses = slow_select(logits_MNK, labels_N, with_replacement=True, max_members=6)
    assert selection.members == members
    np.testing.assert_allclose(selection.losses, losses, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [16, 29, CLIPS_PER_CHUNK, 2 * CLIPS_PER_CHUNK + 15])
@pytest.mark.parametrize("count", [1, 4, 6])
def test_products_are_those_of_numpy(n: int, count: int) -> None:
    numbers_MKN = lay_out_by_class(problem(6, n, n_classes=3)[0].astype(np.float32))
    weights_KN = np.random.default_rng(0).random((3, n), np.float32)
    places_C = np.arange(count) * 3 * n
    found_CJ = compute_products(numbers_MKN.reshape(-1), places_C, weights_KN.reshape(-1), 3)
    products_CN = (weights_KN * numbers_MKN[:count].astype(float)).sum(axis=1)
    expected_CJ = np.add.reduceat(products_CN, np.arange(0, n, CLIPS_PER_CHUNK), axis=1)
    np.testing.assert_allclose(found_CJ, expected_CJ, rtol=0, atol=1e-4 * n**0.5)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("n_numbers", [16, 21, 24])
def test_a_member_is_added_once_to_a_sum_and_to_a_copy(n_numbers: int, in_place: bool) -> None:
    logits, before = np.random.default_rng(0).normal(size=(2, n_numbers))
    logits.setflags(write=False)
    expected, base = before + logits, np.empty(n_numbers, np.float32)
    after = before if in_place else np.empty(n_numbers)
    kernels.add_member(logits, 0, before, 0.25, after, base)
    np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(base, (expected * 0.25).astype(np.float32))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "numbers", [[1.5, -3.25, 0, 2], [-1, -7.5, -2, -0.0], [5, 0, 1, 2], [0] * 4, [-np.inf, 1, 2, 3]]
)
def test_the_largest_absolute_logit_is_found(kind: type[np.floating], numbers: list[float]) -> None:
    logits_MNK = np.array(numbers, kind).reshape(1, 2, 2)
    assert find_largest(lay_out_by_class(logits_MNK)) == [np.abs(numbers).max()]
