"""How long a student takes on a GPU for all of TAU, how busy it is, and several students at once."""

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
from benchmarks.clips import clips
from benchmarks.results import markdown
from benchmarks.student_steps import SPLIT, StudentStep, random_soft
from benchmarks.utilisation import FORWARD_PASSES, TRAINING_CLIPS, peak_flops
from logit_store import LogitStore
from students import RECIPES
from students.complexity import measure
from students.distill import run_over
from training import Figures, fit
from training.checkpoint import Checkpoint

STUDENT = "isotropic"
EPOCHS = 150
SELECT_CLIPS = 20_943
"""That judge after every epoch: as many again as 15 % of the clips that are learnt from."""
CHECKPOINT = "students/v1/measured/checkpoint.pt"
AT_ONCE = (1, 2, 4)
STEPS_AT_ONCE = 200
PROFILED_STEPS = 20
PATIENCE_S = 300.0


def of_a_gpu(device: torch.device) -> list[str]:
    """What to publish of one GPU: a projection from a measured epoch, and students at once."""
    epoch = _second_epoch(device, TRAINING_CLIPS)
    minutes = EPOCHS * epoch["took_s"] / 60
    learning = EPOCHS * TRAINING_CLIPS / epoch["clips_per_s"] / 60
    told = (
        f"{STUDENT}: {EPOCHS} epochs of {TRAINING_CLIPS:,} clips of synthetic sound, projected from "
        f"the second of two: {minutes:.1f} minutes, {learning:.1f} of them learning at "
        f"{epoch['clips_per_s']:,.0f} clips/s, the rest judging {SELECT_CLIPS:,} select clips. "
        f"{_utilisation(device, epoch['clips_per_s'])}"
    )
    return [told, _at_once(device)]


def _second_epoch(device: torch.device, n_clips: int) -> Figures:
    recipe = RECIPES[STUDENT]
    recipe = replace(recipe, training=replace(recipe.training, max_epochs=2))
    rate = recipe.front_end.sample_rate
    corpus, decoded = _synthetic(n_clips, SELECT_CLIPS, rate)
    responses_RL = impulse_responses.synthetic(rate)
    feed = Feed(corpus, decoded, recipe.front_end, recipe.augmentation, responses_RL, device)
    run, _ = run_over(feed, recipe, SPLIT, 0, random_soft(len(corpus), corpus.scenes))
    figures: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        fit(run, Checkpoint(LogitStore(folder), CHECKPOINT), figures.append)
    return figures[-1]


def _synthetic(n_fit: int, n_select: int, rate: int) -> tuple[Corpus, Waveforms]:
    """A corpus of noise of one second a clip, `fit` clips first."""
    table = clips(n_fit + n_select)
    folds = pa.array(["fit"] * n_fit + ["select"] * n_select)
    at = table.column_names.index(f"fold_{SPLIT}")
    table = table.set_column(at, table.column_names[at], folds)
    noise_S = np.random.default_rng(0).normal(0, 3000, 2 * rate).astype(np.int16)
    samples_NS = np.empty((len(table), rate), np.int16)
    for row, samples_S in enumerate(samples_NS):
        samples_S[:] = noise_S[row % rate :][:rate]
    return Corpus("synthetic", Path(), table), Waveforms(samples_NS, rate)


def _utilisation(device: torch.device, clips_per_s: float) -> str:
    recipe = RECIPES[STUDENT]
    step = StudentStep(recipe, recipe.training.batch_size, device)
    macs = measure(step.student, step.feed.input_shape).macs
    peak = peak_flops(device)
    arithmetic = "unknown here"
    if peak is not None:
        flops = 2 * FORWARD_PASSES * macs * clips_per_s
        arithmetic = f"{flops / peak:.1%} of {peak / 1e12:.0f} TFLOP/s"
    busy = _kernels_s(step) * clips_per_s / step.n_clips
    return f"Its kernels run for {busy:.0%} of the time; arithmetic: {arithmetic}."


def _kernels_s(step: StudentStep) -> float:
    """Seconds of all kernels of a step, after a step that warms up."""
    step.take(step.fed())
    kind = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kind.CPU, kind.CUDA]) as profile:
        for _ in range(PROFILED_STEPS):
            step.take(step.fed())
        torch.cuda.synchronize()
    spent_us = sum(event.self_device_time_total for event in profile.key_averages())
    return 1e-6 * spent_us / PROFILED_STEPS


def _at_once(device: torch.device) -> str:
    totals = {n: _total_clips_per_s(device, n) for n in AT_ONCE}
    rows = [[str(n), f"{total:,.0f}", f"{total / totals[1]:.2f}"] for n, total in totals.items()]
    header = ["students at once, a process each", "clips/s of all", "over one"]
    return markdown(header, rows)


def _total_clips_per_s(device: torch.device, n_students: int) -> float:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(n_students, spawn) as pool:
        ready = manager.Barrier(n_students)
        speeds = pool.map(_clips_per_s, [str(device)] * n_students, [ready] * n_students)
        return sum(speeds)


def _clips_per_s(device: str, ready: Barrier) -> float:
    """Of one student's steps, while others take theirs."""
    torch.set_num_threads(1)
    recipe = RECIPES[STUDENT]
    step = StudentStep(recipe, recipe.training.batch_size, torch.device(device))
    step.take(step.fed())
    torch.cuda.synchronize()
    ready.wait(PATIENCE_S)
    began = time.perf_counter()
    for _ in range(STEPS_AT_ONCE):
        step.take(step.fed())
    torch.cuda.synchronize()
    return step.n_clips * STEPS_AT_ONCE / (time.perf_counter() - began)
