"""What is known of an epoch once it is over."""

from collections.abc import Callable
from dataclasses import dataclass

from audio.clips import Fold


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    """How one epoch went."""

    epoch: int
    """Counted from 1."""
    max_epochs: int
    """Epochs of the run if it does not stop early."""
    loss: float
    """Mean of the objective over the clips that the epoch learnt from."""
    judging_fold: Fold
    log_loss: float
    """On the judging fold, in nats."""
    accuracy: float
    """Macro accuracy on the judging fold, 0...1; of several labels a clip the mAP."""
    score: str = "macro accuracy"
    """What `accuracy` is, for people."""
    learning_rate: float
    """At the last step."""
    clips_per_s: float
    took_s: float
    time_left_s: float
    """At most: the run may stop early."""
    ended: float
    """When the epoch was over, in unix seconds."""

    def to_dict(self) -> dict[str, float]:
        """Return the form that checkpoints, records and trackers hold: numbers by name."""
        return {
            "epoch": self.epoch,
            "max_epochs": self.max_epochs,
            "loss": self.loss,
            f"{self.judging_fold}_log_loss": self.log_loss,
            f"{self.judging_fold}_accuracy": self.accuracy,
            "learning_rate": self.learning_rate,
            "clips_per_s": self.clips_per_s,
            "took_s": self.took_s,
            "time_left_s": self.time_left_s,
            "ended": self.ended,
        }


OnEpoch = Callable[[EpochMetrics], None]
"""Called after each epoch."""
