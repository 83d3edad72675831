"""Folders of students in C that are written by hand: linear ones, whose sums are exact in any order.

Dimensions: B clips, S samples, C channels, F mel bands, T frames, K classes, I inputs.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import FRONT_END, RATE

from students.c.folder import FolderFacts, make_folder_files

CLASSES = ("airport", "bus", "park")
SHAPE = FRONT_END.compute_shape(RATE)
HEARD = 256
"""The samples that a student with a front-end uses: their sums are exact in float32."""

_HEADER = """\
/* by_hand in C: log-mels to logits. */
#include <stddef.h>
#include <stdint.h>
#define STUDENT_CLASSES 3
#define STUDENT_CHANNELS 1
#define STUDENT_BANDS {bands}
#define STUDENT_FRAMES {frames}
#define STUDENT_ARENA_BYTES 1024
extern const char *const student_classes[STUDENT_CLASSES];
uint8_t *student_input(void *arena);
uint8_t student_quantise(float log_mel);
void student_compute_logits(void *arena, float logits[STUDENT_CLASSES]);
"""
_FRONT_END = """\
#define STUDENT_HAS_FRONT_END
#define STUDENT_SAMPLE_RATE {rate}
#define STUDENT_CLIP_SAMPLES {rate}
void student_start(void *arena);
size_t student_push(void *arena, const int16_t *samples, size_t count);
int student_ready(const void *arena);
"""
_SOURCE = """\
#include "student.h"
const char *const student_classes[STUDENT_CLASSES] = {"airport", "bus", "park"};
static int find_weight(int i, int k) { return (i * (k + 5)) % 7 - 3; }
uint8_t *student_input(void *arena) { return arena; }
uint8_t student_quantise(float log_mel) {
  float code = log_mel * 16.0f;
  code = code < -128.0f ? -128.0f : code > 127.0f ? 127.0f : code;
  return (uint8_t)(int)(code + 12582912.0f - 12582912.0f + 128.0f);
}
"""
_NET = """\
void student_compute_logits(void *arena, float logits[STUDENT_CLASSES]) {
  const uint8_t *codes = arena;
  for (int k = 0; k < STUDENT_CLASSES; k++) {
    int32_t sum = 0;
    for (int i = 0; i < STUDENT_BANDS * STUDENT_FRAMES; i++) sum += find_weight(i, k) * (codes[i] - 128);
    logits[k] = (float)sum * 0.0625f;
  }
}
"""
_NET_FROM_SAMPLES = """\
typedef struct { int32_t sums[STUDENT_CLASSES]; uint32_t count; } state;
void student_start(void *arena) { *(state *)arena = (state){{0}, 0}; }
size_t student_push(void *arena, const int16_t *samples, size_t count) {
  state *s = arena;
  size_t taken = 0;
  for (; taken < count && s->count < STUDENT_CLIP_SAMPLES; taken++, s->count++) {
    for (int k = 0; k < STUDENT_CLASSES && s->count < 256; k++)
      s->sums[k] += find_weight((int)s->count, k) * samples[taken];
  }
  return taken;
}
int student_ready(const void *arena) { return ((const state *)arena)->count == STUDENT_CLIP_SAMPLES; }
void student_compute_logits(void *arena, float logits[STUDENT_CLASSES]) {
  for (int k = 0; k < STUDENT_CLASSES; k++) logits[k] = (float)((state *)arena)->sums[k] / 32768.0f;
}
"""


def write_hand_made(folder: Path, *, has_front_end: bool) -> Path:
    """Write a folder like that of an export; return its student.c."""
    facts = FolderFacts(
        member="by_hand",
        classes=CLASSES,
        input_shape=SHAPE,
        arena_bytes=1024,
        constant_bytes=0,
        sample_rate=RATE,
        clip_samples=RATE,
        has_front_end=has_front_end,
        has_several_labels=False,
    )
    header = _HEADER.format(bands=SHAPE[1], frames=SHAPE[2])
    folder.mkdir()
    for name, text in make_folder_files(facts).items():
        (folder / name).write_text(text)
    (folder / "student.h").write_text(header + _FRONT_END.format(rate=RATE) * has_front_end)
    (folder / "student.c").write_text(_SOURCE + (_NET_FROM_SAMPLES if has_front_end else _NET))
    write_reference(folder, has_front_end=has_front_end)
    return folder / "student.c"


def write_reference(folder: Path, *, has_front_end: bool, **changed: object) -> None:
    """Write the student.onnx of such a folder, with other metadata if it is given."""
    model = _make_model_from_samples() if has_front_end else _make_model()
    metadata = {
        "member": "by_hand",
        "classes": CLASSES,
        "sample_rate": RATE,
        "clip_samples": RATE,
        "takes_waveforms": has_front_end,
        "corpus": "tau",
        "split": 100,
        "front_end": asdict(FRONT_END),
    } | changed
    helper.set_model_props(model, {name: json.dumps(value) for name, value in metadata.items()})
    (folder / "student.onnx").write_bytes(model.SerializeToString())


def need(*tools: str) -> None:
    """Skip a test, in words, where one of the tools is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def _find_weights(n_inputs: int) -> np.ndarray:
    """Return the weights of the C above, float32 [I, K]."""
    i_I, k_K = np.arange(n_inputs), np.arange(len(CLASSES))
    return ((i_I[:, None] * (k_K + 5)) % 7 - 3).astype(np.float32)


def _make_model() -> onnx.ModelProto:
    constants = {
        "scale": np.float32(1 / 16),
        "zero": np.uint8(128),
        "weights": _find_weights(SHAPE[1] * SHAPE[2]),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["rounded"]),
        helper.make_node("Flatten", ["rounded"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    return _assemble(nodes, constants, ["batch", *SHAPE])


def _make_model_from_samples() -> onnx.ModelProto:
    weights_IK = np.zeros((RATE, len(CLASSES)), np.float32)
    weights_IK[:HEARD] = _find_weights(HEARD)
    nodes = [helper.make_node("MatMul", ["input", "weights"], ["logits"])]
    return _assemble(nodes, {"weights": weights_IK}, ["batch", RATE])


def _assemble(nodes, constants, shape) -> onnx.ModelProto:
    taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASSES)])
    tensors = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    graph = helper.make_graph(nodes, "by_hand", [taken], [given], tensors)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)
