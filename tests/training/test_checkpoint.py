"""A checkpoint is resumed as it was saved, or not at all."""

import io
import zipfile

import pytest
import torch
from torch import nn

from logit_store import LogitStore
from training.checkpoint import Checkpoint, Progress

HISTORY = [{"epoch": 1, "loss": 0.5}]


def make_learner(seed):
    torch.manual_seed(seed)
    module = nn.Linear(6, 5)
    return module, torch.optim.AdamW(module.parameters())


@pytest.fixture
def checkpoint(tmp_path):
    """Return the checkpoint of a module after one step."""
    module, optimizer = make_learner(0)
    module(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    checkpoint = Checkpoint(LogitStore(tmp_path / "store"), "teachers/v1/tiny-0/checkpoint.pt")
    checkpoint.save(Progress(epochs_done=1, history=HISTORY), module, optimizer)
    return checkpoint


def file_of(checkpoint):
    return checkpoint.store.objects.fetch(checkpoint.name)


def cut_digest(content):
    """Return a checkpoint as it was before there were digests."""
    return content[: content.rindex(b"\ntutti-blake2b:")]


def keep_half(content):
    return content[: len(content) // 2]


def keep_nothing(content):
    return b""


def flip_a_weight(content):
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        weights = opened.read("archive/data/0")
    return flip(content, content.index(weights) + 3)


def flip_the_digest(content):
    return flip(content, len(content) - 1)


def flip(content, place):
    spoilt = bytearray(content)
    spoilt[place] ^= 64
    return bytes(spoilt)


@pytest.mark.parametrize(
    ("before", "spoil"),
    [(bytes, each) for each in (keep_half, keep_nothing, flip_a_weight, flip_the_digest)]
    + [(cut_digest, each) for each in (keep_half, flip_a_weight)],
)
def test_a_damaged_checkpoint_is_set_aside_with_one_line_and_the_run_begins_from_its_start(
    checkpoint, caplog, before, spoil
):
    file = file_of(checkpoint)
    file.write_bytes(spoil(before(file.read_bytes())))
    module, optimizer = make_learner(1)
    assert checkpoint.resume(module, optimizer) == Progress()
    (line,) = caplog.messages
    assert line.startswith(f"{file}: damaged, so the run begins from its start (")
    assert not file.exists()
    assert torch.equal(module.weight, make_learner(1)[0].weight)
    assert checkpoint.read_history() == []
    assert len(caplog.messages) == 1


def test_a_checkpoint_with_a_flipped_bit_is_read_right_or_set_aside(checkpoint, caplog):
    content = file_of(checkpoint).read_bytes()
    for place in range(0, len(content), len(content) // 100):
        checkpoint.store.objects.write(checkpoint.name, flip(content, place))
        caplog.clear()
        history = checkpoint.read_history()
        # Without its mark, a digest is not looked for: all else is whole then.
        assert (history, len(caplog.messages)) in (([], 1), (HISTORY, 0))


def test_a_checkpoint_is_resumed_with_a_digest_and_from_before_there_were_any(checkpoint):
    file = file_of(checkpoint)
    content = file.read_bytes()
    for each in (content, cut_digest(content)):
        file.write_bytes(each)
        module, optimizer = make_learner(1)
        assert checkpoint.resume(module, optimizer) == Progress(epochs_done=1, history=HISTORY)
        assert not torch.equal(module.weight, make_learner(1)[0].weight)
        assert optimizer.state_dict()["state"][0]["step"] == 1


def test_torch_and_unzip_read_a_checkpoint_as_it_is(checkpoint):
    file = file_of(checkpoint)
    assert torch.load(file, weights_only=True)["history"] == HISTORY
    assert torch.load(file, weights_only=True, mmap=True)["module"].keys() == {"weight", "bias"}
    with zipfile.ZipFile(file) as opened:
        assert opened.testzip() is None


def test_too_little_memory_to_read_an_old_checkpoint_does_not_delete_it(checkpoint, monkeypatch):
    def fail(archive):
        raise MemoryError

    file = file_of(checkpoint)
    file.write_bytes(cut_digest(file.read_bytes()))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", fail)
    with pytest.raises(MemoryError):
        checkpoint.read_history()
    assert file.exists()
