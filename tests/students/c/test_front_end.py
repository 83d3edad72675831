"""The front-end in C on the host: the codes of `audio.log_mel`, from pieces of any size.

Dimensions: N clips, S samples of a clip, C channels, F mel bands, T frames.
"""

import ctypes
import functools
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c_students import needs_gcc

from audio.corpora import demo
from audio.decoding import FULL_SCALE, decode_file
from audio.front_ends import (
    AUDIOSET,
    BCBL_44K,
    DSMN_FRONT_END,
    FrontEnd,
)
from audio.log_mel import LogMel, build_mel_bank
from students.c.front_end import (
    FrontEndProgram,
    UnfitFrontEnd,
    choose_radices,
    make_front_end,
)
from students.c.mel_pieces import MelPieces, cut_mel_bank
from students.catalogue import ARCHITECTURES
from students.recipes import RECIPES

FLAGS = ("-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
USED = sorted(
    {entry.front_end for entry in ARCHITECTURES.values()}
    | {recipe.front_end for recipe in RECIPES.values()},
    key=repr,
)
"""The front-ends of all students."""


def name_front_end(front_end):
    bands = f"{front_end.mel_bands} {front_end.mel_bank}"
    return f"hop {front_end.hop_samples}, {bands} bands to {front_end.max_hz:g} Hz"


SMALL = FrontEnd(
    sample_rate=8_000, n_fft=512, window_samples=400, hop_samples=250, mel_bands=24, max_hz=4_000
)
ODD = {
    "radices 5, 3, 2 and a log10": replace(SMALL, n_fft=900, log="log10", log_offset=1e-8),
    "radices 5 and 5, no quarter": replace(SMALL, n_fft=450, mel_bands=20),
    "the shortest transform": replace(SMALL, n_fft=16, window_samples=16, mel_bands=4),
    "gaps between windows": replace(SMALL, hop_samples=401, delta=True),
    "an odd window": replace(SMALL, window_samples=333),
    "an odd symmetric window": replace(SMALL, window_samples=333, window="symmetric"),
    "a part of the bins, shifted": replace(SMALL, min_hz=300, max_hz=3_000, shift=4.5, scale=5.0),
    "bands that add up to 1": replace(SMALL, mel_bank="htk_unit_sum", delta=True, scale=2.0),
    "few wide triangles, standardised": replace(
        AUDIOSET, n_fft=2048, mel_bands=16, shift=0.0, scale=1.0, standardise=True
    ),
    "an odd number of bands, standardised": replace(
        SMALL, mel_bands=21, standardise=True, mel_bank="htk_slaney_norm"
    ),
    "an odd sample rate": replace(SMALL, sample_rate=11_025, max_hz=5_512.5),
}

RUN_ONCE = """
#include <stdio.h>
#include <stdlib.h>
#include "front_end.h"

int main(void) {
  void *scratch = malloc(FRONT_END_SCRATCH_BYTES);
  uint8_t *codes = malloc(FRONT_END_CODE_BYTES);
  int16_t samples[160];
  size_t count;
  front_end_start(scratch);
  while ((count = fread(samples, 2, 160, stdin)) > 0) {
    front_end_push(scratch, codes, samples, count);
  }
  fwrite(codes, 1, FRONT_END_CODE_BYTES, stdout);
  const int ready = front_end_ready(scratch);
  free(codes);
  free(scratch);
  return !ready;
}
"""


@dataclass(frozen=True, eq=False)
class Grid:
    """Codes of all log-mels between two values."""

    scale: float
    zero: int

    @classmethod
    def of(cls, log_mels: np.ndarray) -> "Grid":
        low, high = min(float(log_mels.min()), 0.0), max(float(log_mels.max()), 0.0)
        scale = float(np.float32((high - low) / 255))
        return cls(scale, round(-low / scale))

    def round(self, log_mels: np.ndarray) -> np.ndarray:
        steps = np.rint(log_mels / np.float32(self.scale)) + self.zero
        return steps.clip(0, 255).astype(np.uint8)


class Compiled:
    """A front-end as a library of the host."""

    def __init__(self, program: FrontEndProgram, folder: Path, optimisation: str = "-O1") -> None:
        write(program, folder)
        library = folder / "front_end.so"
        command = ["gcc", *FLAGS, optimisation, "-shared", "-fPIC", "-o", library]
        subprocess.run([*command, folder / "front_end.c"], check=True)
        self.calls = ctypes.CDLL(str(library))
        self.calls.front_end_push.restype = ctypes.c_size_t
        # What memory holds before is no number, and must not matter.
        self.scratch = np.full(program.scratch_bytes // 4 + 4, np.nan, dtype=np.float32)
        self.guard = program.scratch_bytes // 4

    def compute_codes(
        self, samples_S: np.ndarray, pieces: Sequence[int], n_codes: int
    ) -> np.ndarray:
        """Push a clip in pieces of the given sizes, over and over, then more than a clip."""
        codes = np.zeros(n_codes + 4, dtype=np.uint8)
        assert self.push(codes, samples_S) == 0, "it was not started"
        self.calls.front_end_start(address(self.scratch))
        at = 0
        while at < len(samples_S):
            assert not self.calls.front_end_ready(address(self.scratch))
            piece = samples_S[at : at + pieces[at % len(pieces)]].copy()
            assert self.push(codes, piece) == len(piece)
            at += len(piece)
        assert self.calls.front_end_ready(address(self.scratch))
        assert self.push(codes, samples_S) == 0
        self.calls.front_end_stop(address(self.scratch))
        assert not self.calls.front_end_ready(address(self.scratch))
        assert np.isnan(self.scratch[self.guard :]).all()
        assert not codes[n_codes:].any()
        return codes[:n_codes]

    def push(self, codes: np.ndarray, samples: np.ndarray) -> int:
        count = ctypes.c_size_t(len(samples))
        return self.calls.front_end_push(
            address(self.scratch), address(codes), address(samples), count
        )


def address(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def write(program: FrontEndProgram, folder: Path) -> None:
    for name, text in program.files.items():
        (folder / name).write_text(text)


def compute_log_mels(front_end: FrontEnd, samples_NS: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return LogMel(front_end)(torch.tensor(samples_NS) / FULL_SCALE).numpy()


def make_noise(n_samples: int, seed: int = 0) -> np.ndarray:
    """Return one clip [1, S] of noise that swells, with a tone in it."""
    at = np.arange(n_samples)
    noise = np.random.default_rng(seed).normal(size=n_samples) * 2_000 * (1 + np.sin(at / 999))
    return (noise + 8_000 * np.sin(at / 7)).clip(-32_768, 32_767).astype(np.int16)[None]


@functools.cache
def read_demo_clips(sample_rate: int, n_clips: int = 6) -> np.ndarray:
    """Return clips of the demo corpus, [N, S], of as many recordings."""
    corpus = demo.read()
    files = corpus.table["file"].to_pylist()[:: len(corpus.table) // n_clips][:n_clips]
    return np.stack(
        [
            decode_file(corpus.root / file, sample_rate, corpus.clip_duration_s).samples_S
            for file in files
        ]
    )


def compare(front_end: FrontEnd, samples_NS: np.ndarray, folder: Path) -> np.ndarray:
    """Return how many steps each code in C is from that of the log-mels in torch, [N, C, F, T]."""
    log_mels = compute_log_mels(front_end, samples_NS)
    grid = Grid.of(log_mels)
    program = make_front_end(front_end, samples_NS.shape[1], grid.scale, grid.zero)
    compiled = Compiled(program, folder)
    codes = [compiled.compute_codes(each, [320], log_mels[0].size) for each in samples_NS]
    wanted = grid.round(log_mels).astype(int)
    return np.abs(np.stack(codes).reshape(log_mels.shape) - wanted)


@needs_gcc
@pytest.mark.parametrize("front_end", USED, ids=name_front_end)
def test_one_code_in_a_thousand_at_most_is_another_and_by_one_step(front_end, tmp_path):
    apart = compare(front_end, read_demo_clips(front_end.sample_rate), tmp_path)
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 0.001


@needs_gcc
@pytest.mark.parametrize("front_end", ODD.values(), ids=ODD)
def test_settings_that_no_student_has_are_computed_too(front_end, tmp_path):
    apart = compare(front_end, make_noise(front_end.sample_rate), tmp_path)
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 0.002


@needs_gcc
@pytest.mark.parametrize(
    "front_end",
    [SMALL, replace(SMALL, pre_emphasis=0.97), replace(SMALL, delta=True, standardise=True)],
    ids=["at once", "pre-emphasis", "whole clip"],
)
def test_pieces_of_any_size_and_any_optimisation_give_the_same_codes(front_end, tmp_path):
    samples_S = make_noise(2_000)[0]
    n_codes = int(np.prod(front_end.compute_shape(2_000)))
    program = make_front_end(front_end, 2_000, 0.1, 120)
    found = set()
    for optimisation in ("-O1", "-O3"):
        folder = tmp_path / optimisation
        folder.mkdir()
        compiled = Compiled(program, folder, optimisation)
        for pieces in ([1], [7], [320], [2_000], [5, 1_000, 1, 64]):
            found.add(compiled.compute_codes(samples_S, pieces, n_codes).tobytes())
    assert len(found) == 1


@needs_gcc
@pytest.mark.parametrize(
    "front_end",
    [DSMN_FRONT_END, replace(SMALL, hop_samples=501, pre_emphasis=0.97)],
    ids=["whole clip", "at once"],
)
def test_silence_and_full_scale_break_no_rule_of_c(front_end, tmp_path):
    n_samples = 10_000
    at_full_scale = np.where(np.arange(n_samples) // 50 % 2, 32_767, -32_768).astype(np.int16)
    # A fine grid, so that most codes saturate.
    program = make_front_end(front_end, n_samples, 1e-6, 128)
    write(program, tmp_path)
    (tmp_path / "main.c").write_text(RUN_ONCE)
    sources = [tmp_path / "main.c", tmp_path / "front_end.c"]
    subprocess.run(
        ["gcc", *FLAGS, *SANITIZERS, "-O1", "-o", tmp_path / "run", *sources], check=True
    )
    for samples_S in (at_full_scale, np.zeros(n_samples, dtype=np.int16)):
        ran = subprocess.run(
            [tmp_path / "run"], input=samples_S.tobytes(), capture_output=True, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, b"")
        assert len(ran.stdout) == np.prod(front_end.compute_shape(n_samples))


@needs_gcc
def test_a_clip_of_silence_is_not_blown_up(tmp_path):
    front_end = replace(SMALL, delta=True, standardise=True)
    compiled = Compiled(make_front_end(front_end, 8_000, 0.1, 120), tmp_path)
    n_codes = int(np.prod(front_end.compute_shape(8_000)))
    codes = compiled.compute_codes(np.zeros(8_000, dtype=np.int16), [320], n_codes)
    assert set(codes) == {120}


def restore_bank(cut: MelPieces, n_bands: int, n_bins: int) -> np.ndarray:
    """Return the matrix of a bank that was cut, float64 [F, Q]: its exact weights before rounding."""
    bank_FQ = np.zeros((n_bands + 2, n_bins))
    band, place = 0, cut.first_bin
    for piece in cut.pieces:
        n = np.arange(piece.bins)
        weights = piece.first_weight + n * piece.step + n * (n - 1) / 2 * piece.bend
        bank_FQ[band + 1, place : place + piece.bins] = weights
        bank_FQ[band, place : place + piece.bins] = 1 - weights
        place += piece.bins
        band += not piece.goes_on
    inner_FQ = bank_FQ[1:-1]
    return inner_FQ if cut.gains_F is None else inner_FQ * cut.gains_F[:, None]


def test_a_bank_in_pieces_is_the_bank_in_torch():
    for front_end in [*USED, *ODD.values()]:
        bank_FQ = build_mel_bank(front_end).numpy()
        restored_FQ = restore_bank(cut_mel_bank(front_end), *bank_FQ.shape)
        # torch's weights are themselves off by as much: differences of frequencies in float32, over the width
        # of a band, which of 512 is narrow.
        apart_F = np.abs(restored_FQ - bank_FQ).max(axis=1)
        assert (apart_F < 1e-4 * bank_FQ.max(axis=1)).all()


def test_tables_and_state_are_a_few_bytes_for_each_point_of_the_transform():
    for front_end in USED:
        program = make_front_end(front_end, front_end.sample_rate, 0.1, 120)
        assert program.constant_bytes < 5 * front_end.n_fft
        assert program.scratch_bytes < 8 * front_end.n_fft


def test_a_transform_takes_as_few_passes_as_it_can():
    assert choose_radices(2048) == [4, 8, 8, 8]
    assert choose_radices(512) == [8, 8, 8]
    assert choose_radices(1024) == [4, 4, 8, 8]
    assert choose_radices(2 * 3 * 25) == [5, 5, 3, 2]
    assert choose_radices(15) == [5, 3]


@pytest.mark.parametrize(
    ("front_end", "named"),
    [
        (replace(SMALL, n_fft=1022), "n_fft=1022, expected a product of 2s, 3s and 5s"),
        (replace(SMALL, n_fft=8, window_samples=8), "n_fft=8, expected .* at least 16"),
        (replace(SMALL, window_samples=1), "window_samples=1, expected at least 2"),
        (replace(SMALL, log_offset=1e-39), "log_offset=1e-39, expected at least 1.2e-38"),
    ],
)
def test_a_front_end_that_c_cannot_compute_is_refused_by_name(front_end, named):
    with pytest.raises(UnfitFrontEnd, match=named):
        make_front_end(front_end, 8_000, 0.1, 120)


def test_a_clip_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="too short for n_fft=4096"):
        make_front_end(BCBL_44K, 2_048, 0.1, 120)
