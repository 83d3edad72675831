"""Constants of student.c: weights, layers and tables of functions."""

import numpy as np

from students.c.expressions import IntegerLayer
from students.c.functions import tabulate
from students.c.graph import Function, Grid
from students.c.lines import wrap_items
from students.c.text import Writer, print_float

_TYPES = {"int8": "int8_t", "int32": "int32_t", "float32": "float"}


class Constants:
    """Collects what the steps need."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.count_bytes = 0
        self._arrays: dict[str, np.ndarray] = {}
        self._tables: dict[tuple[Function, Grid], str] = {}

    def add_layer(self, layer: IntegerLayer, input_stride: int, output_stride: int) -> str:
        """Add a layer with its numbers; return its name."""
        self.add_parameters(layer)
        name, of = f"{layer.name}_layer", layer.parameters
        size = layer.shape
        bias = f"{of}_bias" if layer.bias is not None else "0"
        text = f"""\
static const convolution {name} = {{
  .in_channels = {size.in_channels}, .in_height = {size.in_height}, .in_width = {size.in_width},
  .out_channels = {size.out_channels}, .out_height = {size.out_height}, .out_width = {size.out_width},
  .kernel_height = {size.kernel_height}, .kernel_width = {size.kernel_width},
  .stride_height = {size.stride_height}, .stride_width = {size.stride_width},
  .pad_top = {size.pad_top}, .pad_left = {size.pad_left},
  .dilation_height = {size.dilation_height}, .dilation_width = {size.dilation_width},
  .groups = {size.groups}, .input_zero = {layer.input_zero}, .output_zero = {layer.output_zero},
  .input_stride = {input_stride}, .output_stride = {output_stride},
  .weights = {of}_weights, .bias = {bias}, .scale = {of}_scale,
}};"""
        self.texts.append(text)
        return name

    def add_parameters(self, layer: IntegerLayer) -> None:
        """Add the numbers of a layer."""
        kinds = {"weights": layer.weights, "bias": layer.bias, "scale": layer.scale}
        for kind, values in kinds.items():
            if values is not None:
                self.add_array(f"{layer.parameters}_{kind}", values)

    def add_used(self, writer: Writer) -> None:
        """Add what an expression needs that was written."""
        for name, values in writer.constants.items():
            self.add_array(name, values)
        for layer in writer.layers.values():
            self.add_parameters(layer)

    def add_array(self, name: str, values: np.ndarray) -> None:
        """Add numbers, once."""
        if name in self._arrays:
            assert np.array_equal(self._arrays[name], values), f"two constants are named {name}"
            return
        self._arrays[name] = values
        self.count_bytes += values.nbytes
        flat = values.reshape(-1)
        kind = _TYPES[values.dtype.name]
        items = map(print_float, flat) if kind == "float" else map(str, flat.tolist())
        lines = [f"static const {kind} {name}[{flat.size}] = {{", *wrap_items(items), "};"]
        self.texts.append("\n".join(lines))

    def name_table(self, function: Function, grid: Grid) -> str:
        """Add a function of the numbers that codes stand for, once; return its name."""
        key = (function, grid)
        if key not in self._tables:
            self._tables[key] = f"{function.lower()}_{len(self._tables) + 1}"
            self.add_array(self._tables[key], tabulate(function, grid))
        return self._tables[key]
