"""How a run learns from clips without labels."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolUse:
    """How a run learns from the clips in the fold `pool` of its corpus, which have no label.

    Raises:
        ValueError: a share that is not between 0 and 1, or one of batches that are all pool.
    """

    share: float | None = None
    """Share of each batch that comes from the pool; None shuffles all clips together."""
    alone: bool = False
    """Whether it learns from the pool only, and from no clip of its learning folds."""

    def __post_init__(self) -> None:
        if self.share is None:
            return
        if self.alone or not 0 < self.share < 1:
            raise ValueError(
                f"PoolUse: share={self.share!r}, alone={self.alone}: expected a share between 0 and 1, "
                "of batches that hold other clips too"
            )

    def count_clips(self, n_labelled: int, n_pool: int) -> int:
        """Return the number of clips of an epoch that takes each clip once."""
        return n_pool if self.alone else n_labelled + n_pool
