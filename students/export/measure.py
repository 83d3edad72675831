"""What a student's file is worth: its logits beside torch's, its accuracy, its bytes, its speed.

Dimensions: B clips in a batch, N clips, S samples of a clip, C channels, F mel bands, T frames,
K classes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audio import waveforms
from audio.clips import Corpus
from audio.feed import Feed
from audio.log_mel import LogMel
from audio.views import Augmentation
from metrics import log_loss, main_score, measure_agreement
from students import runtime
from students.errors import NoPlan
from students.export.convert import ExportedFile
from students.export.options import ExportOptions
from students.stored import StoredStudent

BATCH = 64
_CPU = torch.device("cpu")
ComputeLogits = Callable[[np.ndarray], np.ndarray]
"""From a batch of inputs to its logits [B, K]."""
OnCompared = Callable[[int, int], None]
"""Called with the number of clips that are compared, and of all clips."""


@dataclass(frozen=True, eq=False, slots=True)
class Parity:
    """Logits of an exported student and of the one in torch, for the same clips."""

    torch_NK: np.ndarray
    """Logits in torch, float32."""
    exported_NK: np.ndarray
    """Logits of the file on its own runtime, float32."""
    several: bool = False
    """Whether clips may have several labels, or none."""

    @property
    def max_difference(self) -> float:
        """Largest absolute difference of a logit."""
        return float(np.abs(self.torch_NK - self.exported_NK).max())

    @property
    def agreement(self) -> float:
        """Share of the clips (of several labels: of clips and classes) that both decide alike, 0...1."""
        return measure_agreement(self.torch_NK, self.exported_NK, several=self.several)

    def select(self, rows: slice) -> "Parity":
        """Return the same for a part of the clips."""
        return Parity(self.torch_NK[rows], self.exported_NK[rows], self.several)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportMeasurements:
    """What an export is worth."""

    has_several_labels: bool
    """Whether clips may have several labels, or none: then mAP stands in the place of macro accuracy."""
    compared_clips: int
    """Number of clips of the fold test, all of which are compared."""
    max_difference: float
    """Largest difference of a logit on them between the file and torch."""
    agreement: float
    """Share of them that both assign to the same class, 0...1; of several labels, of decisions."""
    judged_clips: int
    """Number of clips of the fold select, all of which are judged."""
    torch_accuracy: float
    """Macro accuracy of the student in torch on them, 0...1."""
    accuracy: float
    """Macro accuracy of the file on its own runtime on them, 0...1."""
    torch_log_loss: float
    """Log loss of the student in torch on them, in nats."""
    log_loss: float
    """Log loss of the file on its own runtime on them, in nats."""
    counted_bytes: int
    """Bytes of the student's parameters as the challenge counts them: each times its bits, which are 32 where
    int8 leaves a layer in float32."""
    params_in_float32: int
    """Number of the parameters that int8 leaves in float32: 0 in another precision."""
    parameter_bytes: int
    """Bytes of all numbers in the file except the front-end's constants: in int8 with biases in int32,
    steps, and norms in float32."""
    file_bytes: int
    front_end_bytes: int
    """Bytes of the front-end in the file; its constants are not parameters of the student."""
    ram: int | NoPlan | None
    """Bytes of RAM of its C program without the front-end, or why it has none; None: it is not in int8."""
    latency_s: float
    """Median time for one clip on one core, from waveform to logits."""

    def describe(self) -> str:
        """Return the measurements in lines for people."""
        alike, score = "in the same class", "macro accuracy"
        if self.has_several_labels:
            alike, score = "of the classes of clips decided alike", "mAP"
        return (
            f"on the {self.compared_clips:,} test clips, compared with torch: largest difference of a "
            f"logit {self.max_difference:.2g}, {100 * self.agreement:.1f} % {alike}\n"
            f"{score} on the {self.judged_clips:,} select clips: "
            f"{100 * self.accuracy:.1f} % on its own runtime, "
            f"{100 * self.torch_accuracy:.1f} % in torch; log loss {self.log_loss:.3f} and "
            f"{self.torch_log_loss:.3f}\n"
            f"bytes: {self.counted_bytes:,} of parameters as the challenge counts them"
            f"{self._describe_float32()}; the file has "
            f"{self.file_bytes:,}, of which {self.parameter_bytes:,} are the student's numbers and "
            f"{self.front_end_bytes:,} the front-end, which has no parameters\n"
            f"{self._describe_ram()}"
            f"one clip on one core, front-end included: {1000 * self.latency_s:.2f} ms\n"
        )

    def _describe_float32(self) -> str:
        if not self.params_in_float32:
            return ""
        return f", {self.params_in_float32:,} of which stay in float32, because int8 has no form of their layers"

    def _describe_ram(self) -> str:
        match self.ram:
            case None:
                return ""
            case NoPlan():
                return f"RAM on a device: unknown, because C has no form of it: {self.ram}\n"
            case ram:
                return f"RAM on a device, by the memory plan of its C program: {ram:,} bytes\n"


class ExportClips:
    """The clips that judge and compare an export, as waveforms and as log-mels."""

    def __init__(self, corpus: Corpus, student: StoredStudent) -> None:
        self.corpus = corpus
        self.feed = Feed.open(corpus, student.front_end, Augmentation(), None, _CPU)
        self.decoded = waveforms.load_waveforms(corpus, student.front_end.sample_rate)
        split = student.key.split
        self.select, self.test = corpus.rows(split, "select"), corpus.rows(split, "test")

    def iterate_inputs(self, *, as_waveforms: bool) -> Iterable[Tensor]:
        """Return batches of the select clips, then of the test clips: [B, S] or [B, C, F, T]."""
        rows_N = np.concatenate([self.select, self.test])
        if not as_waveforms:
            return self.feed.iterate_batches(rows_N)
        parts = np.array_split(rows_N, -(-len(rows_N) // BATCH))
        return (self.decoded.load_batch(rows_B, _CPU) for rows_B in parts)


def compare_with_torch(
    model: Callable[[Tensor], Tensor],
    exported: ComputeLogits,
    inputs: Iterable[Tensor],
    *,
    several: bool = False,
) -> Parity:
    """Compare an exported student with the one in torch.

    Args:
        model: from inputs to logits [B, K], in evaluation mode, on the inputs' device.
        exported: the same for arrays, as `runtime.load_exported(file).compute_logits`.
        inputs: batches, at least one.
        several: whether clips may have several labels, or none.
    """
    pairs = []
    with torch.no_grad():
        for batch in inputs:
            pairs.append((model(batch).float().cpu().numpy(), exported(batch.cpu().numpy())))
    torch_NK, exported_NK = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return Parity(torch_NK, exported_NK, several)


def measure_export(
    exported: ExportedFile,
    student: StoredStudent,
    clips: ExportClips,
    on_compared: OnCompared,
    options: ExportOptions,
) -> ExportMeasurements:
    """Measure a file on the clips; never looks at the labels of the fold test."""
    in_torch, with_front_end = student.student, options.with_front_end
    model = nn.Sequential(LogMel(student.front_end), in_torch) if with_front_end else in_torch
    n_judged, n_clips = len(clips.select), len(clips.select) + len(clips.test)
    inputs = _report(clips.iterate_inputs(as_waveforms=with_front_end), n_clips, on_compared)
    logits = runtime.load_exported(exported.content).compute_logits
    several = clips.corpus.has_several_labels
    everything = compare_with_torch(model, logits, inputs, several=several)
    judged, compared = everything.select(slice(n_judged)), everything.select(slice(n_judged, None))
    truth_N = clips.corpus.truth()[clips.select]
    one_clip = clips.decoded.load_batch(clips.select[:1], _CPU).numpy()
    from_waveforms = runtime.load_exported(exported.with_front_end).compute_logits
    return ExportMeasurements(
        has_several_labels=several,
        compared_clips=len(compared.torch_NK),
        max_difference=compared.max_difference,
        agreement=compared.agreement,
        judged_clips=n_judged,
        torch_accuracy=main_score(judged.torch_NK, truth_N),
        accuracy=main_score(judged.exported_NK, truth_N),
        torch_log_loss=log_loss(judged.torch_NK, truth_N),
        log_loss=log_loss(judged.exported_NK, truth_N),
        params_in_float32=student.params.in_float32 if options.precision == "int8" else 0,
        counted_bytes=student.params.count_bytes(options.precision),
        parameter_bytes=exported.parameter_bytes,
        file_bytes=len(exported.content),
        front_end_bytes=exported.front_end_bytes,
        ram=exported.ram,
        latency_s=runtime.measure_latency(from_waveforms, one_clip),
    )


def _report(inputs: Iterable[Tensor], n_clips: int, on_compared: OnCompared) -> Iterator[Tensor]:
    """Pass batches on, and report each when it is done with."""
    done = 0
    for batch in inputs:
        yield batch
        done += len(batch)
        on_compared(done, n_clips)
