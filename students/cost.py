"""The cost of a student: multiply-accumulates, parameters and the memory of its activations."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["int8", "fp16", "fp32"]

BYTES: dict[Precision, int] = {"int8": 1, "fp16": 2, "fp32": 4}
"""Bytes of one value, the smallest first."""


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """The parameters of a student in use: branches folded, norms not."""

    total: int
    in_float32: int = 0
    """Those of layers that int8 leaves in float32: a GRU."""

    def count_bytes(self, precision: Precision) -> int:
        """Bytes of all parameters at a precision, as the challenge counts: each times its bits."""
        widest: Precision = "fp32" if precision == "int8" else precision
        return (self.total - self.in_float32) * BYTES[precision] + self.in_float32 * BYTES[widest]


@dataclass(frozen=True, kw_only=True, slots=True)
class Complexity:
    """Cost of one forward pass and of keeping the model."""

    macs: int
    """Multiply-accumulates as NeSsi counts them (DCASE task 1 allows 30,000,000 for one clip)."""
    params: int
    """All parameters, also of modules that the pass never calls; of pruned ones those that are left."""
    params_in_float32: int = 0
    """Those of them that int8 leaves in float32."""
    peak_activations: int
    """Largest number of layer inputs and outputs, in values, that are alive at once, including those
    that skip connections hold."""

    @property
    def parameters(self) -> ParameterCount:
        """The numbers of parameters."""
        return ParameterCount(self.params, self.params_in_float32)

    def parameter_bytes(self, precision: Precision = "fp32") -> int:
        """Bytes of all parameters at a precision (DCASE task 1 allows 128,000)."""
        return self.parameters.count_bytes(precision)

    def peak_activation_bytes(self, precision: Precision = "fp32") -> int:
        """Bytes that activations take at most, layer by layer, at a precision."""
        return self.peak_activations * BYTES[precision]
