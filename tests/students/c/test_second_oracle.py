"""C of another generator, emmtrix's, which computes convolutions in float32 from the same file."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from c_students import (
    SMALL_STUDENTS,
    compile_c,
    compute_logits,
    load_int8_model,
    make_clips,
    needs_gcc,
    needs_vnni,
    write_program,
)

HOST = """\
#include <stdio.h>

#define CLIP {n_numbers}

void oracle(const float log_mels[restrict CLIP], float logits[restrict {n_classes}]);

int main(void) {{
  static float log_mels[CLIP], logits[{n_classes}];
  while (fread(log_mels, sizeof log_mels, 1, stdin) == 1) {{
    oracle(log_mels, logits);
    if (fwrite(logits, sizeof logits, 1, stdout) != 1) return 1;
  }}
  return 0;
}}
"""


def compute_oracle(model, folder, clips):
    """Return the logits [N, K] of the other generator's C."""
    onnx.save(model, folder / "oracle.onnx")
    n_classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    (folder / "host.c").write_text(HOST.format(n_numbers=clips[0].size, n_classes=n_classes))
    options = ["--model-name", "oracle", "--input-dim", f"{model.graph.input[0].name}:0=1"]
    command = [sys.executable, "-m", "emx_onnx_cgen", "compile", *options]
    command += ["--large-weight-threshold", "0", "oracle.onnx", "oracle.c"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return compute_logits(compile_c(folder, "-O1", "-w", sources=("host.c", "oracle.c")), clips)


@needs_gcc
@needs_vnni
@pytest.mark.slow
@pytest.mark.parametrize("name", ["isotropic", "dsmn"])
def test_logits_are_those_of_another_generators_c(name, tmp_path):
    model, clips = load_int8_model(name), make_clips(SMALL_STUDENTS[name].shape)
    folders = [tmp_path / each for each in ("ours", "theirs")]
    for folder in folders:
        folder.mkdir()
    write_program(model, folders[0])
    found = compute_logits(compile_c(folders[0], "-O1"), clips)
    # A sum in float32 that falls between two integers may be rounded to the other one.
    np.testing.assert_allclose(found, compute_oracle(model, folders[1], clips), atol=1e-6)
