"""Measures Isotropic on a GPU: the time for an epoch of TAU, its kernels, and several students at once."""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pyarrow as pa
import torch

from audio import impulse_responses
from audio.clips import Corpus
from audio.feed import Feed
from audio.waveforms import Waveforms
from benchmarks.clips import make_clips
from benchmarks.results import synchronise
from benchmarks.student_steps import SPLIT, StudentStep, draw_teacher_logits
from logit_store import LogitStore
from students import RECIPES
from students.distill import make_run
from training import EpochMetrics, fit
from training.checkpoint import Checkpoint

CHECKPOINT = "students/v1/measured/checkpoint.pt"
PROFILED_STEPS = 20
PATIENCE_S = 300.0


def measure_second_epoch(
    student: str, device: torch.device, n_fit: int, n_select: int
) -> EpochMetrics:
    """Train a student for two epochs on noise, with soft labels of noise; return the second one's metrics.

    Args:
        student: name of its recipe.
        device: where it is trained.
        n_fit: clips of one second that it learns from.
        n_select: clips of one second that are evaluated after each epoch.
    """
    recipe = RECIPES[student]
    recipe = replace(recipe, training=replace(recipe.training, max_epochs=2, clips_per_epoch=None))
    rate = recipe.front_end.sample_rate
    corpus, decoded = _make_noise(n_fit, n_select, rate)
    responses_RL = impulse_responses.synthesise_responses(rate)
    feed = Feed(corpus, decoded, recipe.front_end, recipe.augmentation, responses_RL, device)
    run, _ = make_run(feed, recipe, SPLIT, 0, draw_teacher_logits(len(corpus), corpus.scenes))
    epochs: list[EpochMetrics] = []
    with tempfile.TemporaryDirectory() as folder:
        fit(run, Checkpoint(LogitStore(folder), CHECKPOINT), epochs.append)
    return epochs[-1]


def measure_kernels_s(step: StudentStep) -> float:
    """Return the seconds that all kernels of a step take on a GPU, after a step that warms up."""
    step.take(step.draw_clips())
    kind = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kind.CPU, kind.CUDA]) as profile:
        for _ in range(PROFILED_STEPS):
            step.take(step.draw_clips())
        torch.cuda.synchronize()
    spent_us = sum(event.self_device_time_total for event in profile.key_averages())
    return 1e-6 * spent_us / PROFILED_STEPS


def measure_at_once(student: str, device: torch.device, n_students: int, n_steps: int) -> float:
    """Return the clips/s of several students together, which learn at once, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(n_students, spawn) as pool:
        ready = manager.Barrier(n_students)
        given = ([each] * n_students for each in (student, str(device), n_steps, ready))
        return sum(pool.map(measure_among_others, *given))


def measure_among_others(student: str, device: str, n_steps: int, ready: Barrier) -> float:
    """Return the clips/s of one student while those that wait at the same barrier learn too."""
    torch.set_num_threads(1)
    recipe, where = RECIPES[student], torch.device(device)
    step = StudentStep(recipe, recipe.training.batch_size, where)
    step.take(step.draw_clips())
    synchronise(where)
    ready.wait(PATIENCE_S)
    began = time.perf_counter()
    for _ in range(n_steps):
        step.take(step.draw_clips())
    synchronise(where)
    return step.n_clips * n_steps / (time.perf_counter() - began)


def _make_noise(n_fit: int, n_select: int, rate: int) -> tuple[Corpus, Waveforms]:
    """Return a corpus of noise with clips of one second, the `fit` clips first."""
    table = make_clips(n_fit + n_select)
    folds = pa.array(["fit"] * n_fit + ["select"] * n_select)
    at = table.column_names.index(f"fold_{SPLIT}")
    table = table.set_column(at, table.column_names[at], folds)
    noise_S = np.random.default_rng(0).normal(0, 3000, 2 * rate).astype(np.int16)
    samples_NS = np.empty((len(table), rate), np.int16)
    for row, samples_S in enumerate(samples_NS):
        samples_S[:] = noise_S[row % rate :][:rate]
    return Corpus("synthetic", Path(), table), Waveforms(samples_NS, rate)
