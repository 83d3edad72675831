"""Estimates how long a selection of an ensemble takes, by one whose result is not kept."""

import time
from dataclasses import dataclass, replace

import numpy as np
import psutil

from jobs.plan.estimates import Estimate
from jobs.schedule.task import Needs
from jobs.worker.select import (
    Candidates,
    ReadCandidates,
    SelectionSettings,
    count_folds,
    select_members,
)

WARM_UP_CLIPS = 100
"""Number of clips of a first selection, which compiles the code of the next ones."""
DOCUMENT_BYTES = 50_000
"""Size of a stored ensemble, most of it the names of its candidates."""
COPIES = 3
"""Memory in copies of the candidates' float16 logits: these, and a float32 copy while it is made."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The candidates of a split, and the seconds that reading them took."""

    candidates: Candidates
    read_s: float

    @classmethod
    def read(cls, work: ReadCandidates) -> "Rehearsal":
        """Read the candidates, as all selections of the split do."""
        started = time.monotonic()
        candidates = work.run()
        return cls(candidates, time.monotonic() - started)

    def estimate(self, settings: SelectionSettings) -> Estimate:
        """Estimate a selection with these settings, which is repeated for its optimism and bags."""
        once, candidates = replace(settings, bags=0, required=()), self.candidates
        n_few = WARM_UP_CLIPS * (candidates.n_choices or 1)
        few = np.arange(min(n_few, len(candidates.labels_N)))
        select_members(once, candidates.take(few))
        started = time.monotonic()
        select_members(once, candidates)
        once_s = time.monotonic() - started
        # A bag is a selection on half of the recordings.
        times = (1 + count_folds(candidates.recordings_N)) * (settings.bags / 2 or 1)
        memory_bytes = psutil.Process().memory_info().rss + COPIES * candidates.logits_MKN.nbytes
        return Estimate(
            seconds=self.read_s + times * once_s,
            needs=Needs(memory_bytes=memory_bytes),
            memory_bytes=memory_bytes,
            stored_bytes=DOCUMENT_BYTES,
            checkpoint_bytes=0,
            source="step",
        )
