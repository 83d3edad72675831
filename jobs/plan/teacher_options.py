"""The options of the command that trains teachers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from audio.corpora import CorpusName
from audio.lengths import ClipLength
from jobs.plan.options import Gpus, LearningOptions, PoolRoots, Views, refuse_beyond
from jobs.schedule.workers import Workers
from teachers.backbones.onnx_file import FRONT_ENDS
from teachers.probes import find_wanted_teachers
from terminal.values import (
    Check,
    Line,
    Root,
    SampleRate,
    expect,
    find_fault_of_path,
    obey,
    whole,
)
from training import Protocol

LONGEST_CLIP_S = 600


def parse_length(text: str) -> ClipLength:
    """Parse `native`, `crop:7.25` and the like.

    Raises:
        ValueError: it is nothing of that kind, or longer than LONGEST_CLIP_S.
    """
    how, _, seconds = text.partition(":")
    try:
        length = ClipLength(how=cast(Any, how), duration_s=float(seconds) if seconds else None)
    except ValueError:
        length = None
    if length is None or (length.duration_s or 0) > LONGEST_CLIP_S:
        raise ValueError(
            "expected native, crop:SECONDS, repeat:SECONDS or pad:SECONDS, with at most "
            f"{LONGEST_CLIP_S} seconds"
        )
    return length


def _find_fault_of_weights(weights: str) -> str | None:
    # Once all runs are stored, the file may be gone.
    is_address = "://" in weights
    return None if is_address else find_fault_of_path(Path(weights), is_folder=False)


Length = Annotated[str, obey(parse_length)]
OnnxFrontEnd = Annotated[
    str, expect(f"one of {', '.join(FRONT_ENDS)}", lambda value: value in FRONT_ENDS)
]
TeacherRecipes = Annotated[tuple[Line, ...], obey(find_wanted_teachers)]


@dataclass(frozen=True, kw_only=True)
class TeachersOptions(LearningOptions):
    """Options of the command."""

    recipes: TeacherRecipes = ("all",)
    """Names in teachers/recipes.py, globs ('mn*_early'), timm:MODEL, or all: the 22 published.
    demo_mn demo_dymn demo_passt demo_cpr need no GPU. probe:BACKBONE is a linear head on a frozen
    network, probe:A+B on several: aisfx, a published checkpoint (mn10_as, passt), timm:NAME, onnx:FILE,
    or a teacher of the store; probes are four of them."""
    weights: Annotated[Line, Check(_find_fault_of_weights)] | None = None
    """Weights that all recipes start from: none (random), a file or an address; if not given, those
    of each recipe."""
    length: Length | None = None
    """How clips are brought to the length that the model takes: native, crop:SECONDS,
    repeat:SECONDS or pad:SECONDS; if not given, as each recipe says."""
    views: Views = 1
    """Number of views of each clip whose logits are stored: view 0 is the untouched clip, the others
    are changed at random, each always in the same way."""
    protocol: Protocol = "honest"
    """published: train on the select clips too and judge on the test clips, as publications do; only
    to compare with them."""
    cross_fit: Annotated[int, whole(2, 100)] | None = None
    """Teachers consist of this number of models, each of which learns from all parts of the recordings
    of fit but one: then the logits of fit clips come from models that did not learn these, and
    jobs/ensemble.py can --judge out-of-fold."""
    probe_views: Views = 1
    """Number of views of each fit clip that probes learn from."""
    onnx_rate: SampleRate | None = None
    """Sample rate of the waveforms that onnx:FILE takes, in Hz, if the file does not say it."""
    onnx_front_end: OnnxFrontEnd | None = None
    """Front-end of the log-mels that onnx:FILE takes, if it takes no waveforms: audioset, aisfx and others
    of audio/front_ends.py."""
    gpus_per_teacher: Gpus = 1
    """Number of GPUs that train one teacher together."""
    pool: PoolRoots = ()
    """CORPUS:ROOT of clips without labels, such as folder:/data/recordings: each teacher predicts them
    too, so that they can teach students (jobs/students.py --pool). --corpus's own clips without
    labels need no option."""
    first_corpus: CorpusName = "cochlscene"
    """Corpus that recipes with a first stage (passt_sit, passt_sequential) are trained on first."""
    first_root: Root | None = None
    """Folder or s3://BUCKET/PREFIX of that corpus."""
    first_length: Length | None = None
    """As --length, for the clips of that corpus."""

    def check_fit(self, workers: Workers[Any]) -> None:
        """Make sure that one teacher fits on the workers (see `LearningOptions.check_fit`)."""
        super().check_fit(workers)
        if self.gpus_per_teacher > 1 and not workers.is_shared:
            refuse_beyond("--gpus-per-teacher", self.gpus_per_teacher, workers.count_gpus(), "GPU")
