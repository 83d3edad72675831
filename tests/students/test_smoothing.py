import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from students.smoothing import (
    NONE_OF_THEM,
    SMOOTHING_S,
    Smoother,
    compute_probabilities,
    compute_share,
)

HEADERS = Path(__file__).parents[2] / "students" / "c"
SANITIZED = ("-O1", "-fsanitize=undefined,address,float-cast-overflow", "-fno-sanitize-recover=all")
PROGRAM = r"""
#include "smoothing.h"
#include <stdio.h>

/* Reads thresholds and share, then windows; writes the class that is on and the probabilities. */
int main(void) {
  static smoothing state;
  float settings[2 * SMOOTHING_CLASSES + 1], logits[SMOOTHING_CLASSES];
  if (!fread(settings, sizeof settings, 1, stdin)) return 1;
  smoothing_start(&state, settings, settings + SMOOTHING_CLASSES, settings[2 * SMOOTHING_CLASSES]);
  while (fread(logits, sizeof logits, 1, stdin)) {
    const int32_t on = smoothing_push(&state, logits);
    fwrite(&on, sizeof on, 1, stdout);
    fwrite(state.probabilities, sizeof state.probabilities, 1, stdout);
  }
  return 0;
}
"""


def smooth(smoother, logits_NK):
    """Return the class that is on after each window, and the smoothed probabilities [N, K]."""
    pushed = [(smoother.push(logits_K), smoother.probabilities_K) for logits_K in logits_NK]
    return [on for on, _ in pushed], np.stack([each for _, each in pushed])


def follow(*probabilities, begins_at=(0.5, 0.5), ends_at=(0.35, 0.35), share=1.0):
    """Return what is on after each window, if the first of two classes is as likely as given."""
    first_N = np.array(probabilities)
    logits_NK = np.log(np.stack([first_N, 1 - first_N], axis=1))
    smoother = Smoother(np.array(begins_at), np.array(ends_at), share)
    return smooth(smoother, logits_NK)[0]


def test_a_class_begins_at_the_upper_threshold_and_ends_below_the_lower():
    thresholds = {"begins_at": (0.6, 1.0), "ends_at": (0.4, 1.0)}
    heard = (0.5, 0.59, 0.61, 0.5, 0.41, 0.39, 0.5, 0.7)
    assert follow(*heard, **thresholds) == [-1, -1, 0, 0, 0, -1, -1, 0]


def test_a_likelier_class_takes_the_place_of_the_one_that_is_on():
    assert follow(0.9, 0.55, 0.45, 0.55) == [0, 0, 1, 0]
    assert follow(0.55, 0.6, begins_at=(0.5, 0.1)) == [0, 0]


def test_a_class_whose_threshold_is_lower_begins_earlier():
    assert follow(0.9, 0.6, begins_at=(1.0, 0.3), ends_at=(1.0, 0.2)) == [NONE_OF_THEM, 1]


def test_one_window_among_others_is_smoothed_away():
    alternating = (0.9, 0.2, 0.9, 0.2, 0.9)
    assert follow(*alternating) == [0, 1, 0, 1, 0]
    assert follow(*alternating, share=0.2) == [0] * 5


@pytest.mark.parametrize("hop_s", [0.05, 0.25, 0.5])
def test_after_the_time_constant_a_change_has_arrived_to_63_percent_at_every_hop(hop_s):
    smoother = Smoother(np.full(2, 0.5), np.full(2, 0.35), compute_share(hop_s))
    for logits_K in ((-50, 50), *((50, -50),) * round(SMOOTHING_S / hop_s)):
        smoother.push(np.array(logits_K))
    assert smoother.probabilities_K[0] == pytest.approx(1 - np.exp(-1), abs=1e-6)


def test_probabilities_are_the_softmax():
    logits_NK = np.random.default_rng(0).normal(0, 20, (1_000, 10)).astype(np.float32)
    for logits_K in logits_NK:
        exact_K = np.exp(logits_K.astype(np.float64) - logits_K.max())
        probabilities_K = compute_probabilities(logits_K)
        assert probabilities_K.dtype == np.float32
        # Below 1e-37, exp gives what the least exponent allows.
        np.testing.assert_allclose(probabilities_K, exact_K / exact_K.sum(), rtol=4e-6, atol=2e-38)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles a program around smoothing.h for some number of classes."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here: apt install gcc")
    folder = tmp_path_factory.mktemp("c")
    (folder / "main.c").write_text(PROGRAM)

    def compile_for(n_classes, *options):
        program = folder / f"smooth_{n_classes}{''.join(options)}"
        strict = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")
        command = [compiler, *strict, *options, f"-DSMOOTHING_CLASSES={n_classes}"]
        subprocess.run([*command, f"-I{HEADERS}", "-o", program, folder / "main.c"], check=True)
        return program

    return compile_for


def run(program, smoother, logits_NK):
    """Return what `smooth` does, by the program."""
    settings = (smoother.begins_at_K, smoother.ends_at_K, np.atleast_1d(smoother.share))
    content = b"".join(each.tobytes() for each in (*settings, logits_NK))
    done = subprocess.run([program], input=content, capture_output=True, check=True)
    n_windows, n_classes = logits_NK.shape
    kind = np.dtype([("on", "<i4"), ("probabilities", "<f4", (n_classes,))])
    windows = np.frombuffer(done.stdout, kind)
    assert len(windows) == n_windows
    return windows["on"].tolist(), windows["probabilities"]


@pytest.mark.skipif(sys.byteorder == "big", reason="the bytes of the test are little-endian")
@pytest.mark.parametrize(
    ("n_classes", "options"),
    [(1, SANITIZED), (2, ("-O1",)), (10, ("-O3",)), (10, SANITIZED), (20, ("-O2",))],
)
def test_c_and_numpy_are_in_the_same_states_bit_for_bit(compiled, n_classes, options):
    draw = np.random.default_rng(n_classes)
    program = compiled(n_classes, *options)
    for scale in (1, 5, 100):
        # A scene stays for some windows, so that events begin and end.
        scenes_NK = np.repeat(draw.normal(0, scale, (60, n_classes)), 10, axis=0)
        logits_NK = (scenes_NK + draw.normal(0, scale / 2, scenes_NK.shape)).astype(np.float32)
        begins_at_K = draw.uniform(0.2, 0.9, n_classes)
        smoother = Smoother(begins_at_K, 0.7 * begins_at_K, compute_share(0.25))
        expected, expected_NK = smooth(smoother, logits_NK)
        found, found_NK = run(program, smoother, logits_NK)
        assert found == expected
        np.testing.assert_array_equal(found_NK, expected_NK)
        assert len(set(expected)) >= min(n_classes, 4)


@pytest.mark.skipif(sys.byteorder == "big", reason="the bytes of the test are little-endian")
def test_logits_that_are_no_numbers_do_no_harm_in_c(compiled):
    program = compiled(3, *SANITIZED)
    values = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0], dtype=np.float32)
    logits_NK = np.random.default_rng(0).choice(values, (500, 3))
    states, _ = run(program, Smoother(np.full(3, 0.5), np.full(3, 0.35), 0.4), logits_NK)
    assert set(states) <= {NONE_OF_THEM, 0, 1, 2}
