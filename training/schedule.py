"""How the learning rate goes over a run."""

import math


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Factor of the peak learning rate at a step (from 0): linear from 0, then half a cosine to 0.

    The schedule of the DCASE 2024 baseline, of ASCDomain's students and of its teachers. When the
    warm-up is longer than the run, the peak is never reached, as published.
    """
    if step < warmup_steps:
        return step / warmup_steps
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(0.0, 0.5 * (1 + math.cos(math.pi * share)))
