"""Laws of the PaSST teachers, shown on a model of one small block."""

import pytest
import torch
from torch import Tensor

from teachers.passt import PaSST, PatchDraw

SECOND = (2, 1, 128, 101)
NOTHING_DROPPED = {"frequency_patchout": 0, "time_patchout": 0, "unstructured_patchout": 0}


def small(**patchout: int) -> PaSST:
    torch.manual_seed(0)
    return PaSST(5, embed_dim=16, depth=1, heads=2, **(NOTHING_DROPPED | patchout))


def n_tokens(model: PaSST, x: Tensor) -> int:
    seen: list[int] = []
    handle = model.blocks[0].register_forward_hook(
        lambda _, inputs, __: seen.append(len(inputs[0][0]))
    )
    model(x)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("patchout", "expected"),
    [
        ({}, 110),
        ({"frequency_patchout": 6}, 56),
        ({"time_patchout": 5}, 50),
        ({"unstructured_patchout": 36}, 74),
        ({"frequency_patchout": 6, "time_patchout": 2, "unstructured_patchout": 10}, 34),
    ],
)
def test_patchout_drops_tokens_in_training_only(patchout, expected):
    model = small(**patchout)
    x = torch.randn(SECOND)
    assert n_tokens(model.train(), x) == expected
    assert n_tokens(model.eval(), x) == 110


def test_a_seed_makes_training_repeatable_and_evaluation_draws_nothing():
    model = small(frequency_patchout=6, time_patchout=2, unstructured_patchout=5).train()
    x = torch.randn(SECOND)
    logits = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        logits.append(model(x)[0])
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
    before = torch.get_rng_state()
    model.eval()(x)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_starts_at_every_one_of_the_time_positions_that_fit():
    model = small()
    # 91 places: the chance that 3,000 draws miss any of them is 4e-13.
    assert {model.draw_patches(9).time_offset for _ in range(3000)} == set(range(91))
    assert {model.draw_patches(99).time_offset for _ in range(20)} == {0}


def test_a_draw_keeps_ascending_places_and_each_as_often():
    model = small(frequency_patchout=6, time_patchout=3, unstructured_patchout=4)
    draws = [model.draw_patches(9) for _ in range(2000)]
    for name, n_places, n_kept in (("rows", 12, 6), ("columns", 9, 6), ("patches", 36, 32)):
        kept = torch.stack([getattr(draw, name) for draw in draws])
        assert kept.shape == (2000, n_kept)
        assert (kept.diff(dim=1) > 0).all()
        share = torch.bincount(kept.flatten(), minlength=n_places) / 2000
        # Five standard deviations of a share of 2,000 draws: 5 * sqrt(1/4 / 2000) = 0.056.
        torch.testing.assert_close(
            share, torch.full((n_places,), n_kept / n_places), rtol=0, atol=0.056
        )


def test_all_clips_of_a_batch_lose_the_same_patches():
    model = small(frequency_patchout=6, time_patchout=2, unstructured_patchout=5).train()
    logits_BK = model(torch.randn(1, 1, 128, 101).expand(4, -1, -1, -1))[0]
    # The same clip four times: only the order of sums may differ within a batch, in float32.
    torch.testing.assert_close(logits_BK, logits_BK[:1].expand(4, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("draw", "region"),
    [
        (PatchDraw(rows=torch.arange(11)), (slice(116, None), slice(None))),
        (PatchDraw(columns=torch.arange(1, 9)), (slice(None), slice(0, 10))),
        (PatchDraw(patches=torch.arange(1, 108)), (slice(0, 10), slice(0, 10))),
    ],
    ids=["last row", "first column", "first patch"],
)
def test_what_is_dropped_does_not_reach_the_logits(draw, region, monkeypatch):
    model = small().train()
    x = torch.randn(SECOND)
    changed = x.clone()
    changed[(slice(None), slice(None), *region)] += 1.0
    monkeypatch.setattr(model, "draw_patches", lambda n_columns: draw)
    assert torch.equal(model(x)[0], model(changed)[0])
    monkeypatch.setattr(model, "draw_patches", lambda n_columns: PatchDraw())
    assert not torch.equal(model(x)[0], model(changed)[0])


def test_the_time_offset_chooses_the_positions_of_the_columns(monkeypatch):
    model = small().train()
    x = torch.randn(SECOND)
    monkeypatch.setattr(model, "draw_patches", lambda n_columns: PatchDraw(time_offset=40))
    shifted = model(x)[0]
    with torch.no_grad():
        model.time_new_pos_embed.copy_(model.time_new_pos_embed.roll(-40, dims=3))
    assert torch.equal(model.eval()(x)[0], shifted)


def test_all_but_the_unused_head_learn():
    model = small(frequency_patchout=6).train()
    model(torch.randn(SECOND))[0].square().sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"head_dist.weight", "head_dist.bias"}


def test_without_weights_linear_layers_and_positions_start_small():
    torch.manual_seed(0)
    model = PaSST(5, embed_dim=96, depth=1, heads=2)
    fc1 = model.get_parameter("blocks.0.mlp.fc1.weight")
    # 36,864 and 9,504 numbers, and cutting at +-2 (a hundred deviations) changes nothing.
    assert fc1.std().item() == pytest.approx(0.02, rel=0.03)
    assert model.time_new_pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.get_parameter("blocks.0.mlp.fc1.bias").abs().max() == 0


@pytest.mark.parametrize("n_frames", [16, 25, 998, 1005])
def test_every_length_up_to_99_columns_is_taken(n_frames):
    model = small()
    n_columns = (n_frames - 6) // 10
    for training in (True, False):
        assert n_tokens(model.train(training), torch.randn(1, 1, 128, n_frames)) == (
            12 * n_columns + 2
        )


@pytest.mark.parametrize(
    ("stride", "frames", "rows", "columns"),
    [
        (10, 998, 12, 99),
        (12, 998, 10, 83),
        (14, 998, 9, 71),
        (16, 998, 8, 62),
        (10, 2000, 12, 200),
        (10, 3200, 12, 320),
        # A grid of a few seconds is fine for a teacher from scratch.
        (16, 200, 8, 12),
    ],
)
def test_a_grid_has_a_position_for_every_row_and_column(stride, frames, rows, columns):
    torch.manual_seed(0)
    model = PaSST(
        5, embed_dim=16, depth=1, heads=2, **NOTHING_DROPPED, stride=stride, frames=frames
    )
    assert model.freq_new_pos_embed.shape == (1, 16, rows, 1)
    assert model.time_new_pos_embed.shape == (1, 16, 1, columns)
    for training in (True, False):
        for n_frames in (16, 101, 16 + stride * columns - 1):
            n_columns = (n_frames - 16) // stride + 1
            assert n_tokens(model.train(training), torch.randn(1, 1, 128, n_frames)) == (
                rows * n_columns + 2
            )
    with pytest.raises(ValueError, match=rf"1 to {columns} columns.*got {16 + stride * columns}"):
        model(torch.zeros(1, 1, 128, 16 + stride * columns))


def test_patchout_and_starts_follow_the_grid():
    torch.manual_seed(0)
    model = PaSST(
        5, embed_dim=16, depth=1, heads=2, frequency_patchout=6, stride=16, frames=200
    ).train()
    # 6 columns of 101 frames, in 12 positions: 7 places; missing one in 1,000 draws has p = 1e-66.
    draws = [model.draw_patches(6) for _ in range(1000)]
    assert {draw.time_offset for draw in draws} == set(range(7))
    assert n_tokens(model, torch.randn(1, 1, 128, 101)) == (8 - 6) * 6 + 2


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 256, 65), r"\(B, 1, 128, T\), got \(2, 1, 256, 65\)"),
        ((2, 3, 128, 101), r"got \(2, 3, 128, 101\)"),
        ((1, 128, 101), r"got \(1, 128, 101\)"),
        ((2, 1, 128, 15), "16 to 1005 frames .*got 15"),
        ((2, 1, 128, 1006), "16 to 1005 frames .*got 1006"),
    ],
)
def test_other_inputs_are_refused_by_their_shape(shape, message):
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frequency_patchout": 12}, "frequency_patchout is 12, expected 0 to 11"),
        ({"frequency_patchout": -1}, "frequency_patchout is -1"),
        ({"time_patchout": 99}, "time_patchout is 99, expected 0 to 98"),
        ({"unstructured_patchout": 12 * 99}, "unstructured_patchout is 1188"),
        ({"heads": 5, "embed_dim": 16}, "embed_dim 16 is not a multiple of the 5 heads"),
        ({"n_classes": 0}, "n_classes is 0"),
        ({"stride": 8}, "stride is 8, expected .* 10, 12, 14, 16"),
        ({"stride": 0}, "stride is 0"),
        ({"frames": 15}, "frames is 15, expected at least 16"),
        ({"stride": 16, "frequency_patchout": 8}, "frequency_patchout is 8, expected 0 to 7"),
    ],
)
def test_impossible_settings_are_refused_by_their_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        PaSST(**({"n_classes": 5, "depth": 1} | NOTHING_DROPPED | arguments))


@pytest.mark.parametrize(
    ("patchout", "message"),
    [
        ({"time_patchout": 9}, "time_patchout is 9, expected 0 to 8"),
        ({"unstructured_patchout": 108}, "unstructured_patchout is 108, expected 0 to 107"),
    ],
)
def test_patchout_that_leaves_nothing_of_a_short_clip_is_refused(patchout, message):
    with pytest.raises(ValueError, match=message):
        small(**patchout).train()(torch.randn(SECOND))
