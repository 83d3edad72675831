"""The integer layers in C on emulated processors from Arm, where their innermost loop is assembly."""

import re
import shutil
import subprocess
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from integer_layers import OF_STUDENTS, Layer, convolve_in_numpy, make_layer, make_random_shape

from students.device.boards import BOARDS
from students.device.options import BoardName

KERNELS = Path(__file__).parents[3] / "students" / "c"
CORTEX_M: list[BoardName] = [name for name, board in BOARDS.items() if board.machine]
TICK = 40
"""Instructions of a tick of the boards' timer, in QEMU with -icount shift=0."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
        reason="arm-none-eabi-gcc or qemu-system-arm is not installed",
    ),
]

MAIN = r"""
#include <stdio.h>
#include "kernels.h"
#define TIMER ((volatile uint32_t *)0x40002000) /* load, value, control of a CMSDK dual timer */
static int16_t scratch[40000];
static uint8_t output[100000];
static void report(uint32_t ticks, int size) {
  uint32_t a = 1, b = 0; /* Adler's checksum */
  for (int i = 0; i < size; i++) a = (a + output[i]) % 65521, b = (b + a) % 65521;
  printf("%08lx %lu\n", (unsigned long)(b << 16 | a), (unsigned long)ticks);
}
"""
FLAGS = ("--specs=rdimon.specs", f"-I{KERNELS}", "-T", f"{KERNELS}/templates/cortex_m.ld")


def print_constants(name: str, kind: str, values: np.ndarray) -> str:
    return f"static const {kind} {name}[] = {{{', '.join(map(str, values.ravel()))}}};\n"


def print_program(layers: Iterable[Layer]) -> str:
    """Return C that computes each layer, and prints a line of checksum and ticks."""
    constants, calls = [MAIN], []
    for n, layer in enumerate(layers):
        shape, size = layer.shape, layer.shape.out_height * layer.shape.out_width
        into = shape.in_height * shape.in_width
        numbers = (*asdict(shape).values(), layer.input_zero, layer.output_zero, into, size)
        bias = "0" if layer.bias is None else f"b{n}"
        fields = f"{', '.join(map(str, numbers))}, w{n}, {bias}, s{n}"
        constants += [
            print_constants(f"i{n}", "uint8_t", layer.codes),
            print_constants(f"w{n}", "int8_t", layer.weights),
            print_constants(f"s{n}", "float", layer.scale.astype(np.float64)),
            "" if layer.bias is None else print_constants(f"b{n}", "int32_t", layer.bias),
            f"static const convolution l{n} = {{{fields}}};\n",
        ]
        call = f"{shape.kernel}(&l{n}, i{n}, output, scratch);"
        if shape.kernel == "convolve_channel":
            each = (
                f"convolve_channel(&l{n}, c, i{n} + c * {into}, 0, output + c * {size}, scratch);"
            )
            call = f"for (int c = 0; c < {shape.in_channels}; c++) {each}"
        taken = f"report(start - TIMER[1], {size * shape.out_channels});"
        calls.append(f"  start = TIMER[1]; {call} {taken}\n")
    begin = "  uint32_t start;\n  TIMER[0] = 0xFFFFFFFF; TIMER[2] = 0x82;\n"
    return "".join([*constants, "int main(void) {\n", begin, *calls, "  return 0;\n}\n"])


def run_on(board: BoardName, layers: Iterable[Layer], folder: Path) -> list[tuple[int, int]]:
    """Return the checksum of each layer's codes, and its instructions."""
    (folder / "main.c").write_text(print_program(layers))
    flags = [flag for flag in BOARDS[board].flags if "specs" not in flag]
    sources = ["main.c", str(KERNELS / "templates" / "start.c"), "-o", "main.elf"]
    command = [BOARDS[board].compiler, *flags, "-Werror", *FLAGS, *sources]
    subprocess.run(command, cwd=folder, check=True)
    emulate = ["qemu-system-arm", "-M", str(BOARDS[board].machine), "-nographic"]
    emulate += [
        "-icount",
        "shift=0",
        "-semihosting-config",
        "enable=on,target=native",
        "-kernel",
        "main.elf",
    ]
    done = subprocess.run(
        emulate, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    found = re.findall(r"^(\w{8}) (\d+)$", done.stdout, re.MULTILINE)
    return [(int(checksum, 16), TICK * int(ticks)) for checksum, ticks in found]


@pytest.mark.parametrize("board", CORTEX_M)
def test_layers_equal_their_definition_on_every_board(board: BoardName, tmp_path: Path) -> None:
    layers = [make_layer(shape, 1) for shape in OF_STUDENTS.values()]
    layers += [make_layer(make_random_shape(seed), seed) for seed in range(60)]
    expected = [zlib.adler32(convolve_in_numpy(layer).tobytes()) for layer in layers]
    assert [checksum for checksum, _ in run_on(board, layers, tmp_path)] == expected


def test_a_product_costs_about_an_instruction_and_a_depthwise_one_less_than_four(
    tmp_path: Path,
) -> None:
    names = ("isotropic's pointwise", "isotropic's depthwise")
    layers = [make_layer(OF_STUDENTS[name], 1) for name in names]
    costs = [
        instructions / (layer.shape.out_height * layer.shape.out_width * layer.weights.size)
        for layer, (_, instructions) in zip(layers, run_on("m7", layers, tmp_path), strict=True)
    ]
    assert costs[0] < 1.05
    assert costs[1] < 3.6
