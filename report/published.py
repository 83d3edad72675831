"""Published figures on TAU 2022 Mobile: macro accuracies in percent, each with its source."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audio.clips import Corpus
from report.dcase.challenge import CHALLENGE_SCENES

FILE = Path(__file__).parent / "published.csv"

JudgingClips = Literal["development", "evaluation"]
"""The test clips of the development set, on which this project judges; or the challenge's evaluation set,
with other cities and devices, whose labels are not published. Figures on the one are no bar for the other."""


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """One accuracy of a system."""

    system: str
    kind: str
    split: int
    accuracy: float
    """In percent."""
    clips: JudgingClips
    in_chart: bool
    """Whether the report draws it; its table and docs/results.md have all."""
    source: str


def read_published(clips: JudgingClips) -> Iterator[PublishedFigure]:
    """Yield the figures on these clips, in the order of the file."""
    with FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["clips"] == clips:
                yield PublishedFigure(
                    row["system"],
                    row["kind"],
                    int(row["split"]),
                    float(row["accuracy"]),
                    clips,
                    row["in_chart"] == "yes",
                    row["source"],
                )


def has_published(corpus: Corpus) -> bool:
    """Return whether published figures are for these scenes; other corpora use TAU's layout too."""
    return corpus.name == "tau" and corpus.scenes == CHALLENGE_SCENES
