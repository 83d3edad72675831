"""Students are trained with channels last in memory, which changes nothing but the duration."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import RECIPE, tiny_feed
from tiny_student import CPU, TINY_STUDENT, make_teacher_logits

from logit_store import LogitStore
from students.distill import distill, make_run
from training import Batch, Ema, checkpoint

TINY = replace(
    TINY_STUDENT,
    training=replace(RECIPE, max_epochs=3, keep=Ema(decay=0.9)),
    device_loss_weight=0.025,
)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("isotropic", {"filters": 8, "depth": 2, "patch": 4}),
        ("isotropic_v2", {"filters": 8, "depth": 2, "patch": 4}),
        ("recursive", {"filters": 8, "patch": 4}),
        ("bcbl8", {}),
        ("cp_mobile_2023", {"base_channels": 8}),
        ("rep_mobile", {"base_channels": 8}),
    ],
)
def test_loss_and_gradients_are_those_of_channels_first(corpus, tmp_path, model, arguments):
    feed = tiny_feed(corpus, tmp_path)
    recipe = replace(TINY, model=model, arguments=arguments)
    rows_B = corpus.rows(100, "fit")[:8]
    labels_B = torch.from_numpy(corpus.labels()[rows_B])
    batch = Batch(feed.make_view(rows_B, 1), labels_B, rows_B, 0.5)
    found = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        run, student = make_run(feed, recipe, 100, 0, make_teacher_logits(corpus))
        run.module.to(memory_format=memory_format).train()
        loss = run.objective(batch)
        loss.backward()
        gradients = {name: p.grad for name, p in student.named_parameters()}
        found.append((loss.detach(), gradients))
    # Float32, the same sums in another order, and normalised: gradients of 1 that cancel.
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_wide_weights_are_stored_with_channels_last(corpus, tmp_path):
    _, student = make_run(tiny_feed(corpus, tmp_path), TINY, 100, 0, make_teacher_logits(corpus))
    wide = [p for p in student.parameters() if p.ndim == 4 and p[0, :, 0, 0].numel() > 1]
    assert wide
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)


def test_a_student_that_is_interrupted_ends_in_the_same_bits(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    # A checkpoint after every step, whatever it costs.
    monkeypatch.setattr(checkpoint, "SHARE_OF_TIME", 1e9)

    class Interrupted(Exception):
        pass

    def learn(name, on_epoch):
        store = LogitStore(tmp_path / name)
        store.write_clips("tau", corpus.clips_table())
        arguments = (TINY, corpus, 100, 0, store, make_teacher_logits(corpus))
        return store.read([distill(*arguments, responses=None, device=CPU, on_epoch=on_epoch)])

    def interrupt(figures):
        raise Interrupted

    for _ in range(2):
        with pytest.raises(Interrupted):
            learn("interrupted", interrupt)
    epochs = []
    found = learn("interrupted", epochs.append)
    assert len(epochs) == TINY.training.max_epochs - 2
    np.testing.assert_array_equal(found, learn("whole", epochs.append))
