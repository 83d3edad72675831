"""The RAM that a student needs as a program in C, from its int8 graph."""

import onnx

from students.c.program import plan_program


def measure_ram(model: onnx.ModelProto) -> int:
    """Return the bytes of the arena of a student without its front-end: STUDENT_ARENA_BYTES.

    Args:
        model: from log-mels to logits, as `students.export.onnx_int8` writes it.

    Raises:
        UnknownOperator: an operator that C is not written for.
    """
    return plan_program(model).memory.arena_bytes
