"""The pools that a student learns from, as a worker of any node opens them."""

from dataclasses import dataclass

from audio.clips import Corpus
from jobs.worker.where import PoolAt, open_pools
from students.pools import StudentPool
from training.pool_use import PoolUse


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolOfWork:
    """Pools by their words, and how a student learns from them."""

    pools: tuple[PoolAt, ...]
    use: PoolUse
    n_clips: int
    """The number of their clips in the split, for estimates."""

    def open(self, corpus: Corpus, split: int) -> StudentPool:
        """Open the pools for a split of a corpus.

        Raises:
            CorpusError: there is no such pool, or a clip or recording of it is in `select` or `test`.
        """
        return StudentPool(pools=open_pools(self.pools, corpus, split), use=self.use)
