"""How the learning rate changes over a run: factors of the peak learning rate."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmupCosine:
    """Linear from 0, then half a cosine to 0; it changes at every step.

    The schedule of the DCASE 2024 baseline, of ASCDomain's students and of its teachers. If the
    warm-up is longer than the run, the peak is never reached, as published.
    """

    warmup_steps: int = 2000

    def factor(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """Return the factor at a step, counted from 0; it does not depend on the epochs."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        share = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        return max(0.0, 0.5 * (1 + math.cos(math.pi * share)))


@dataclass(frozen=True, kw_only=True, slots=True)
class RampHoldLinear:
    """Exponential ramp up, the peak for a while, then a line down; constant within an epoch.

    The schedule of CP-JKU's DCASE 2022 and 2023 entries and of SIT; the ramp is that of Laine and
    Aila 2017, arXiv:1610.02242, section 3: exp(-5 (1 - t)^2).
    """

    ramp_epochs: int = 3
    hold_until_epoch: int = 3
    line_epochs: int = 10
    last_factor: float = 0.01

    def factor(self, step: int, steps_per_epoch: int, total_steps: int) -> float:
        """Return the factor at a step, counted from 0."""
        epoch = step // steps_per_epoch
        return self._ramp_up(epoch) * self._go_down(epoch)

    def _ramp_up(self, epoch: int) -> float:
        if epoch >= self.ramp_epochs:
            return 1.0
        # The first epoch counts as half done: with 0 it would learn next to nothing.
        missing = 1 - max(0.5, epoch) / self.ramp_epochs
        return math.exp(-5 * missing**2)

    def _go_down(self, epoch: int) -> float:
        done = min(max(0.0, (epoch - self.hold_until_epoch) / self.line_epochs), 1.0)
        return 1 - done * (1 - self.last_factor)


Schedule = WarmupCosine | RampHoldLinear
