"""The base class of all students (B clips, C channels, F mel bands, T frames, D features, K classes)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn


class Student(nn.Module):
    """A small model whose pooled features a loss may read, change and classify again."""

    n_channels: int = 1
    """Channels C of the inputs."""
    n_features: int
    """Length D of the feature vectors."""

    if TYPE_CHECKING:
        # It is a module in one student and a method in others; at run time this would hide the module.
        @property
        def classifier(self) -> Callable[[Tensor], Tensor]:
            """Map features [B, D], changed or not, to logits of the scenes [B, K]."""

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return one vector per clip, [B, D]."""
        raise NotImplementedError

    def features_and_logits(self, inputs_BCFT: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, D] and logits [B, K] of one pass."""
        features_BD = self.features(inputs_BCFT)
        return features_BD, self.classifier(features_BD)

    def forward(self, inputs_BCFT: Tensor) -> Tensor:
        """Return logits of the scenes, [B, K]."""
        return self.features_and_logits(inputs_BCFT)[1]

    def check_input(self, shape_CFT: Sequence[int]) -> None:
        """Refuse inputs that the student cannot take.

        Args:
            shape_CFT: shape of a front-end's log-mels, without the batch.

        Raises:
            ValueError: another number of channels, or too few bands or frames.
        """
        n_channels, n_bands, n_frames = shape_CFT
        if n_channels != self.n_channels:
            raise ValueError(
                f"inputs of {n_channels} channel(s), expected {self.n_channels} for "
                f"{type(self).__name__}; choose another front-end (delta=True gives 2 channels)"
            )
        self.check_size(n_bands, n_frames)

    def check_size(self, n_bands: int, n_frames: int) -> None:
        """Refuse inputs with too few bands or frames; a student that takes any does not override it.

        Raises:
            ValueError: too few bands or frames.
        """


def check_sizes(**counts: int) -> None:
    """Refuse counts that are not whole numbers of at least 1.

    Raises:
        ValueError: names the first such argument.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name}={count!r}, expected a whole number, at least 1")
