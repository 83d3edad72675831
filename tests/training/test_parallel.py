"""Two processes that train one model together, over gloo."""

import json
import multiprocessing
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import RECIPE, TinyModel, tiny_corpus, tiny_feed
from torch import nn
from torch.nn import functional

from logit_store import LogitKey, LogitStore
from training import Run, list_view_keys, store_views, train_and_store
from training.parallel import SharedBatchNorm, WorkerGroup

KEY = LogitKey("tau", 100, "tiny-0")
# No dropout: each of several workers drops different activations.
SHARED_RECIPE = replace(RECIPE, max_epochs=3, batch_size=10)


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    tiny_feed(tiny_corpus(folder), folder / "cache")
    return folder


class Unused(nn.Module):
    """A model with a part that never gets a gradient, as PaSST has."""

    def __init__(self):
        super().__init__()
        self.tiny, self.unused = TinyModel(3), nn.Linear(2, 2)
        self.tiny.dropout.p = 0.0

    def forward(self, inputs_BCFT):
        return self.tiny(inputs_BCFT)


def train(corpus_folder, store):
    """Train and store a member by all workers; return its history and its weights."""
    from audio.corpora import tau

    feed = tiny_feed(tau.read(corpus_folder / "tau"), corpus_folder / "cache")
    store.write_clips("tau", feed.corpus.clips_table())
    torch.manual_seed(0)
    model = Unused()

    def objective(batch):
        return functional.cross_entropy(model(batch.inputs_BCFT), batch.labels_B)

    run = Run(model, objective, model, feed, 100, SHARED_RECIPE, 0)
    train_and_store(run, KEY, "teacher", model, {}, store, lambda metrics: None)
    store_views(run, KEY, 2, store)
    record = json.loads(store.objects.read("teachers/v1/tiny-0/record.json"))
    return record["history"], model.state_dict()


def train_as_worker(rank, size, port, corpus_folder, out):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size
    )
    history, weights = train(corpus_folder, LogitStore(out / "store"))
    torch.save((history, weights), out / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_workers_train_as_one_would(corpus_folder, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Both workers are forked from one process that has imported torch: that takes seconds.
    multiprocessing.set_forkserver_preload(["torch.distributed"])
    arguments = (2, port, corpus_folder, tmp_path)
    mp.start_processes(train_as_worker, arguments, nprocs=2, start_method="forkserver")
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    expected_history, alone = train(corpus_folder, LogitStore(tmp_path / "alone"))
    keys = list_view_keys(KEY, 2)
    by_two, by_one = (LogitStore(tmp_path / name).read(keys) for name in ("store", "alone"))
    np.testing.assert_allclose(by_two, by_one, rtol=1e-2, atol=1e-3)
    for history, weights in results:
        for name in ("loss", "select_log_loss", "select_accuracy"):
            # Sums in another order: float32 rounding, grown over 15 steps.
            expected = pytest.approx([f[name] for f in expected_history], rel=1e-4)
            assert [f[name] for f in history] == expected
        for key, value in alone.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-5)
    for key in alone:
        assert torch.equal(results[0][1][key], results[1][1][key])


def test_shares_are_everything_once_and_weigh_as_much_as_they_hold():
    for n in (1, 7, 10, 256):
        parts = [WorkerGroup(rank, 3).share(n) for rank in range(3)]
        assert [i for part in parts for i in range(n)[part]] == list(range(n))
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes) - min(sizes) <= 1
        weights = [WorkerGroup(rank, 3).weight(n) for rank in range(3)]
        assert weights == pytest.approx([3 * size / n for size in sizes])


def test_one_worker_alone_gathers_and_averages_nothing():
    own = torch.arange(3.0)
    alone = WorkerGroup(0, 1)
    assert alone.gather(own, 3) is own
    assert alone.mean(own) is own
    assert alone.leads


def test_a_shared_norm_continues_with_the_statistics_of_the_one_that_it_replaces():
    norm = nn.BatchNorm2d(4, eps=1e-3, momentum=0.01)
    norm(torch.randn(8, 4, 3, 3))
    shared = SharedBatchNorm.of(norm).eval()
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(shared(x), norm.eval()(x))
    assert shared.state_dict().keys() == norm.state_dict().keys()
