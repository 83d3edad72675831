"""What a run asks of a machine."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DryStep:
    """What a few steps on noise have measured."""

    train_clip_s: float
    """Seconds a clip for everything that a training step does."""
    predict_clip_s: float
    """Seconds a clip for its logits."""
    gpu_share: float | None
    """Share of the GPU's memory that a run needs, with a margin; None on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """The memory that a run takes."""

    weights_bytes: int
    """Bytes of the parameters."""
    training_bytes: int
    """Bytes of the host's memory if the run trains on the CPU, with a margin."""
