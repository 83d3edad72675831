"""Measures a student on a GPU: the time for TAU, utilisation, and several students at once."""

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
from benchmarks.results import format_table
from benchmarks.student_steps import SPLIT, StudentStep, draw_teacher_logits
from benchmarks.utilisation import FORWARD_PASSES, TRAINING_CLIPS, find_peak_flops
from logit_store import LogitStore
from students import RECIPES
from students.complexity import measure_complexity
from students.distill import make_run
from training import EpochMetrics, fit
from training.checkpoint import Checkpoint

STUDENT = "isotropic"
EPOCHS = 150
SELECT_CLIPS = 20_943
"""Clips that are evaluated after every epoch: 15 % of TRAINING_CLIPS."""
CHECKPOINT = "students/v1/measured/checkpoint.pt"
AT_ONCE = (1, 2, 4)
STEPS_AT_ONCE = 200
PROFILED_STEPS = 20
PATIENCE_S = 300.0


def measure_on_gpu(device: torch.device) -> list[str]:
    """Return what to publish about a GPU: a projection from one epoch, and students at once."""
    epoch = _measure_second_epoch(device, TRAINING_CLIPS)
    minutes = EPOCHS * epoch.took_s / 60
    learning = EPOCHS * TRAINING_CLIPS / epoch.clips_per_s / 60
    projection = (
        f"{STUDENT}: {EPOCHS} epochs of {TRAINING_CLIPS:,} clips of synthetic sound take "
        f"{minutes:.1f} minutes, projected from the second of two epochs: {learning:.1f} minutes "
        f"of training at {epoch.clips_per_s:,.0f} clips/s, and the rest for the evaluation of "
        f"{SELECT_CLIPS:,} select clips. "
        f"{_describe_utilisation(device, epoch.clips_per_s)}"
    )
    return [projection, _measure_at_once(device)]


def _measure_second_epoch(device: torch.device, n_clips: int) -> EpochMetrics:
    recipe = RECIPES[STUDENT]
    recipe = replace(recipe, training=replace(recipe.training, max_epochs=2))
    rate = recipe.front_end.sample_rate
    corpus, decoded = _make_noise(n_clips, SELECT_CLIPS, rate)
    responses_RL = impulse_responses.synthesise_responses(rate)
    feed = Feed(corpus, decoded, recipe.front_end, recipe.augmentation, responses_RL, device)
    run, _ = make_run(feed, recipe, SPLIT, 0, draw_teacher_logits(len(corpus), corpus.scenes))
    epochs: list[EpochMetrics] = []
    with tempfile.TemporaryDirectory() as folder:
        fit(run, Checkpoint(LogitStore(folder), CHECKPOINT), epochs.append)
    return epochs[-1]


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


def _describe_utilisation(device: torch.device, clips_per_s: float) -> str:
    recipe = RECIPES[STUDENT]
    step = StudentStep(recipe, recipe.training.batch_size, device)
    macs = measure_complexity(step.student, step.feed.input_shape).macs
    peak = find_peak_flops(device)
    arithmetic = "unknown here"
    if peak is not None:
        flops = 2 * FORWARD_PASSES * macs * clips_per_s
        arithmetic = f"{flops / peak:.1%} of {peak / 1e12:.0f} TFLOP/s"
    busy = _measure_kernels_s(step) * clips_per_s / step.n_clips
    return f"Its kernels run for {busy:.0%} of the time. Arithmetic: {arithmetic}."


def _measure_kernels_s(step: StudentStep) -> float:
    """Return the seconds that all kernels of a step take, after a step that warms up."""
    step.take(step.draw_clips())
    kind = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kind.CPU, kind.CUDA]) as profile:
        for _ in range(PROFILED_STEPS):
            step.take(step.draw_clips())
        torch.cuda.synchronize()
    spent_us = sum(event.self_device_time_total for event in profile.key_averages())
    return 1e-6 * spent_us / PROFILED_STEPS


def _measure_at_once(device: torch.device) -> str:
    totals = {n: _measure_total_clips_per_s(device, n) for n in AT_ONCE}
    rows = [[str(n), f"{total:,.0f}", f"{total / totals[1]:.2f}"] for n, total in totals.items()]
    header = ["students at once, one process each", "clips/s of all", "ratio to one"]
    return format_table(header, rows)


def _measure_total_clips_per_s(device: torch.device, n_students: int) -> float:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(n_students, spawn) as pool:
        ready = manager.Barrier(n_students)
        speeds = pool.map(_measure_clips_per_s, [str(device)] * n_students, [ready] * n_students)
        return sum(speeds)


def _measure_clips_per_s(device: str, ready: Barrier) -> float:
    """Return the clips/s of one student while the others run too."""
    torch.set_num_threads(1)
    recipe = RECIPES[STUDENT]
    step = StudentStep(recipe, recipe.training.batch_size, torch.device(device))
    step.take(step.draw_clips())
    torch.cuda.synchronize()
    ready.wait(PATIENCE_S)
    began = time.perf_counter()
    for _ in range(STEPS_AT_ONCE):
        step.take(step.draw_clips())
    torch.cuda.synchronize()
    return step.n_clips * STEPS_AT_ONCE / (time.perf_counter() - began)
