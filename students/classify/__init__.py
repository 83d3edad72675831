"""Which scene is it: `python -m students.classify FILE... --model student.onnx`.

Needs onnxruntime, numpy, soundfile and soxr, but no torch; `--microphone` needs sounddevice as well.
"""

from students.classify.options import ABOUT, EXAMPLE, PROGRAM, make_parser

__all__ = ["ABOUT", "EXAMPLE", "PROGRAM", "make_parser"]
