"""How long the selection of an ensemble takes: one is made of its candidates, and forgotten."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import psutil

from jobs.estimates import Estimate
from jobs.fanout import Needs
from jobs.selection import Candidates, Settings, n_folds, read_candidates, selected

WARM_UP_CLIPS = 100
"""A first selection among so many clips compiles what the next ones run."""
DOCUMENT_BYTES = 50_000
"""Of a stored ensemble, most of it the names of its candidates."""
COPIES = 3
"""Of the candidates' float16 logits: these, and a float32 copy of them in the making."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The candidates of a split, and how long it took to read them."""

    candidates: Candidates
    read_s: float

    @classmethod
    def read(
        cls, store: str, corpus: str, split: int, members: Sequence[str], fold: str
    ) -> "Rehearsal":
        """Read the candidates, as all selections of the split do."""
        started = time.monotonic()
        candidates = read_candidates(store, corpus, split, members, fold)
        return cls(candidates, time.monotonic() - started)

    def estimate(self, settings: Settings) -> Estimate:
        """What a selection with such settings takes, which repeats it for its optimism and bags."""
        once, candidates = replace(settings, bags=0, required=()), self.candidates
        few = np.arange(min(WARM_UP_CLIPS, len(candidates.labels_N)))
        selected(once, candidates.on(few))
        started = time.monotonic()
        selected(once, candidates)
        once_s = time.monotonic() - started
        # A bag is a selection on half of the recordings.
        times = (1 + n_folds(candidates.recordings_N)) * (settings.bags / 2 or 1)
        memory_bytes = psutil.Process().memory_info().rss + COPIES * candidates.logits_MKN.nbytes
        return Estimate(
            seconds=self.read_s + times * once_s,
            needs=Needs(memory_bytes=memory_bytes),
            memory_bytes=memory_bytes,
            stored_bytes=DOCUMENT_BYTES,
            checkpoint_bytes=0,
            source="step",
        )
