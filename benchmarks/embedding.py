"""Compares the embedding of a corpus's clips with its network alone: does anything else take time?

B clips in a batch.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics

import numpy as np
import torch
from torch import nn

from audio.corpora import demo
from benchmarks.results import format_table, publish, ratio, take_turns
from teachers.backbones import find_backbone
from teachers.backbones.aisfx import load_aisfx
from teachers.backbones.embed import CPU_BATCH, Embedder
from teachers.backbones.opened import OpenBackbone, TeacherEmbedding
from teachers.catalogue import build

NAMES = ("mn10_as", "aisfx")
CPU = torch.device("cpu")
NOTE = (
    "Clips of one second, decoded. Embedding: gathering, log-mel and network; network: its forward "
    f"pass alone, as it is published, on log-mels that are ready, in the same batches of {CPU_BATCH}. "
    "A frozen network is faster with its normalisations folded (mn10_as) and its channels last. "
    "mn10_as has random weights."
)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=4 * CPU_BATCH)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [_measure(name, options.clips, options.rounds) for name in NAMES]
    header = ["backbone", "clips/s", "network alone, clips/s", "ratio"]
    publish("embedding.py", "Embeddings (cpu)", CPU, f"{format_table(header, rows)}\n\n{NOTE}")


def _measure(name: str, n_clips: int, rounds: int) -> list[str]:
    embedder, rows = _open(name), np.arange(n_clips)
    batches = [rows[start : start + CPU_BATCH] for start in range(0, n_clips, CPU_BATCH)]
    inputs = [embedder.feed.make_view(rows_B, 0) for rows_B in batches]
    bare = OpenBackbone(_build_bare(name), "bare")
    sides = {
        "embedding": lambda: embedder.embed(rows),
        "network": lambda: [bare(inputs_BCFT) for inputs_BCFT in inputs],
    }
    seconds = take_turns(sides, rounds=rounds, device=CPU)
    return [
        name,
        *(f"{n_clips / statistics.median(seconds[side]):.0f}" for side in sides),
        f"{ratio(seconds['network'], seconds['embedding']):.2f}",
    ]


def _open(name: str) -> Embedder:
    backbone, corpus = find_backbone(name), demo.read()
    if name != "mn10_as":
        return Embedder.open(backbone, corpus, CPU)
    # Speed does not depend on weights, which would have to be downloaded.
    teacher = build(name, n_classes=527, weights="none")
    return Embedder.of(backbone, OpenBackbone(TeacherEmbedding(teacher), "random"), corpus, CPU)


def _build_bare(name: str) -> nn.Module:
    """Return the network as it is published."""
    if name == "aisfx":
        return load_aisfx().eval()
    teacher = build(name, n_classes=527, weights="none").eval()
    network = nn.Module()
    network.forward = lambda log_mel_BCFT: teacher(log_mel_BCFT)[1]
    return network


if __name__ == "__main__":
    main()
