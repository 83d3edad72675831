"""A stored student as a file for other runtimes: python -m students.export MEMBER --to FILE ....

Dimensions: B clips in a batch, N clips, S samples of a clip, K classes.
"""

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
import tyro
from rich.console import Console
from torch import Tensor, nn

from audio import corpora, waveforms
from audio.clips import Corpus, CorpusError
from audio.corpora import CorpusName
from audio.feed import Feed
from audio.log_mel import LogMel
from audio.views import Augmentation
from audio.waveforms import BrokenAudio
from logit_store import LogitKey, LogitStore, LogitStoreError
from logit_store.show import keys_of
from metrics import macro_accuracy
from students import executorch, onnx_file, onnx_int8, runtime, stored
from students.complexity import MAX_BYTES, OverBudget, check_file_bytes
from students.executorch import MissingExecuTorch
from students.int8 import in_int8
from students.quantise import CALIBRATION_CLIPS, unrounded
from students.stored import NoStudent, StoredStudent
from terminal import parsed, progress_bar

PROGRAM = "python -m students.export"
BATCH = 64
Form = Literal["onnx", "onnx-fp16", "onnx-int8", "executorch"]
Logits = Callable[[np.ndarray], np.ndarray]
"""From a batch of inputs to its logits [B, K]."""
OnProgress = Callable[[int, int], None]
"""Called with how many clips are compared, of how many."""


class UnfitOptions(ValueError):
    """Options that contradict each other, or the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    r"""Write a stored student as a file for other runtimes, and say what it is worth there.

    Clips of the fold fit set the ranges of int8, unless the student has learnt them. The file's
    logits are compared with torch's on the clips of the fold test, whose labels stay unread; its
    accuracy is that on the fold select.

    Example:
        python -m students.export demo_isotropic_int8 --store runs/demo \
            --with-front-end --to student.onnx
    """

    member: tyro.conf.Positional[str]
    """The student's name, or as much of the beginning as tells it from others."""
    store: str
    """The logit store that it is in: a folder or s3://BUCKET/PREFIX."""
    to: Path
    """The file to write; replaced if it is there."""
    form: Form = "onnx-int8"
    """onnx: float32; onnx-fp16: parameters in float16; onnx-int8: convolutions and linear layers in
    int8; executorch: float32, a .pte file."""
    corpus: CorpusName = "demo"
    """Whose clips calibrate (fold fit), judge (fold select) and compare (fold test)."""
    root: Path | None = None
    """The corpus's folder (demo: needs none)."""
    with_front_end: bool = False
    """The file takes waveforms, not log-mels, as python -m students.classify needs it."""
    calibration_clips: int = CALIBRATION_CLIPS
    """So many clips of the fold fit, at most, set the ranges of int8; a student that learnt in int8
    (python jobs/quantise.py) has its own."""
    max_bytes: int | None = None
    """Of the parameters in the file, and of the file without its front-end; if not given, 128,000
    for onnx-fp16 and onnx-int8, and as many as there are for float32."""
    debug: bool = False
    """Show the traceback of an error."""

    def check(self) -> None:
        """Refuse what cannot be done, before anything is read.

        Raises:
            UnfitOptions: says what to change.
        """
        if self.form == "executorch" and self.with_front_end:
            raise UnfitOptions(
                "--with-front-end: ExecuTorch has no Fourier transform; leave it out, or choose one "
                "of the forms onnx, onnx-fp16, onnx-int8"
            )
        for name in ("calibration_clips", "max_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UnfitOptions(f"--{name.replace('_', '-')} {value}: expected 1 or more")

    def byte_limit(self) -> int | None:
        """What the student may take in the file; None is no limit."""
        if self.max_bytes is None and self.form in ("onnx-fp16", "onnx-int8"):
            return MAX_BYTES
        return self.max_bytes


@dataclass(frozen=True, eq=False, slots=True)
class Parity:
    """An exported student beside the one in torch, on the same clips."""

    torch_NK: np.ndarray
    """Logits, float32."""
    exported_NK: np.ndarray
    """Logits, float32, of the file on its own runtime."""

    @property
    def max_difference(self) -> float:
        """Largest absolute difference of a logit."""
        return float(np.abs(self.torch_NK - self.exported_NK).max())

    @property
    def agreement(self) -> float:
        """Share of the clips that both call the same, 0...1."""
        return float((self.torch_NK.argmax(axis=1) == self.exported_NK.argmax(axis=1)).mean())

    def only(self, part: slice) -> "Parity":
        """That of a part of the clips."""
        return Parity(self.torch_NK[part], self.exported_NK[part])


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What an export is worth."""

    compared_clips: int
    """Of the fold test: all of them."""
    max_difference: float
    """Of a logit on these, to the student in torch."""
    agreement: float
    """Share of these that both call the same, 0...1."""
    judged_clips: int
    """Of the fold select: all of them."""
    torch_accuracy: float
    """Macro accuracy of the student in torch on these, 0...1."""
    accuracy: float
    """Macro accuracy of the file on its own runtime on these, 0...1."""
    parameter_bytes: int
    """Of all numbers in the file but the front-end's constants; of a .pte file, all of it."""
    file_bytes: int
    front_end_bytes: int
    """Of the file; these constants are no parameters of the student."""
    latency_s: float
    """Of one clip on one core, from waveform to logits; the median of many."""


@dataclass(frozen=True, eq=False, slots=True)
class _Exported:
    content: bytes
    parameter_bytes: int
    front_end_bytes: int
    of_inputs: Logits
    """Runs the content: of waveforms if the front-end is inside, else of log-mels."""
    of_waveforms: Logits
    """The same behind a front-end, to be timed."""


def parity(model: Callable[[Tensor], Tensor], exported: Logits, inputs: Iterable[Tensor]) -> Parity:
    """Compare an exported student with the one in torch.

    Args:
        model: from inputs to logits [B, K], in evaluation mode, on the inputs' device.
        exported: the same of arrays, as `runtime.load(file).logits`.
        inputs: batches, at least one.
    """
    pairs = []
    with torch.no_grad():
        for batch in inputs:
            pairs.append((model(batch).float().cpu().numpy(), exported(batch.cpu().numpy())))
    torch_NK, exported_NK = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return Parity(torch_NK, exported_NK)


def export(
    options: Options,
    store: LogitStore,
    corpus: Corpus,
    key: LogitKey,
    on_progress: OnProgress = lambda done, total: None,
) -> Figures:
    """Write a student's file and measure it; never looks at the labels of the fold test.

    Args:
        options: say how; the store, the corpus and the member are those that follow.
        store: has the student.
        corpus: that it learnt.
        key: of its logits.
        on_progress: told of the comparison, which takes longest.

    Raises:
        OverBudget: the file takes more than it may; nothing is written.
        NoStudent: the member has no student's weights.
        UnfitOptions: a form other than int8 of a student that learnt in int8.
        MissingExecuTorch: that form was asked for, and the package is not there.
    """
    taken = stored.load(store, key, len(corpus.scenes))
    check_form(taken, options.form)
    clips = _Clips(corpus, taken, key.split)
    is_onnx = options.form != "executorch"
    exported = _as_onnx(options, taken, clips) if is_onnx else _as_executorch(taken, clips)
    limit = options.byte_limit()
    if limit is not None:
        check_file_bytes(exported.parameter_bytes, student=key.member, max_bytes=limit)
        alone = len(exported.content) - exported.front_end_bytes
        check_file_bytes(alone, student=key.member, max_bytes=limit)
    _replace(options.to, exported.content)
    return _figures(exported, taken, clips, on_progress, waveforms_go_in=options.with_front_end)


def check_form(taken: StoredStudent, form: Form) -> None:
    """Refuse what a student's weights are not made for.

    Raises:
        UnfitOptions: a form other than int8 of a student that learnt in int8.
    """
    if taken.learnt_in_int8 and form != "onnx-int8":
        raise UnfitOptions(
            f"{taken.key} learnt in int8 and is exact there only, not as {form}: choose onnx-int8, or "
            "the student that it was before (quantised_from in its record)"
        )


class _Clips:
    """The clips that judge and compare, as waveforms and as log-mels."""

    def __init__(self, corpus: Corpus, taken: StoredStudent, split: int) -> None:
        self.corpus, self.cpu = corpus, torch.device("cpu")
        self.feed = Feed.open(corpus, taken.front_end, Augmentation(), None, self.cpu)
        self.decoded = waveforms.load(corpus, taken.front_end.sample_rate)
        self.select, self.test = corpus.rows(split, "select"), corpus.rows(split, "test")

    def inputs(self, *, waveforms_go_in: bool) -> Iterable[Tensor]:
        """Those of select, then those of test: batches [B, S] or [B, C, F, T]."""
        rows_N = np.concatenate([self.select, self.test])
        if not waveforms_go_in:
            return self.feed.batches(rows_N)
        parts = np.array_split(rows_N, -(-len(rows_N) // BATCH))
        return (self.decoded.batch(rows_B, self.cpu) for rows_B in parts)


def _as_onnx(options: Options, taken: StoredStudent, clips: _Clips) -> _Exported:
    student = onnx_student(taken, clips.feed, options.form, options.calibration_clips)
    told = facts(taken, clips.corpus, options.form)
    front_end = onnx_file.front_end_model(taken.front_end, told["clip_samples"])
    whole = onnx_file.with_front_end(student, front_end)
    alone = onnx_file.labelled(student, told | {"takes_waveforms": False})
    both = onnx_file.labelled(whole, told | {"takes_waveforms": True})
    content = both if options.with_front_end else alone
    return _Exported(
        content,
        onnx_file.parameter_bytes(student),
        len(content) - len(alone),
        runtime.load(content).logits,
        runtime.load(both).logits,
    )


def onnx_student(
    taken: StoredStudent, feed: Feed, form: Form, calibration_clips: int = CALIBRATION_CLIPS
) -> onnx.ModelProto:
    """A student as an ONNX model from log-mels to logits.

    Args:
        taken: the student, on the CPU.
        feed: of the corpus that it learnt, on the CPU.
        form: one of those of ONNX; int8 alone of a student that learnt in int8.
        calibration_clips: so many clips of the fold fit, at most, set the ranges of int8.
    """
    if form == "onnx-int8":
        simulated = in_int8(taken, feed, calibration_clips)
        in_float32 = onnx_file.student_model(unrounded(simulated), feed.input_shape)
        return onnx_int8.in_integers(in_float32, simulated)
    model = onnx_file.student_model(taken.student, feed.input_shape)
    return onnx_file.in_half(model) if form == "onnx-fp16" else model


def facts(taken: StoredStudent, corpus: Corpus, form: Form) -> dict[str, Any]:
    """What a student's file says of it, but for whether it takes waveforms."""
    sample_rate = taken.front_end.sample_rate
    return {
        "member": taken.key.member,
        "corpus": taken.key.corpus,
        "split": taken.key.split,
        "form": form,
        "classes": corpus.scenes,
        "sample_rate": sample_rate,
        "clip_samples": round(corpus.clip_duration_s * sample_rate),
        "front_end": asdict(taken.front_end),
    }


def _as_executorch(taken: StoredStudent, clips: _Clips) -> _Exported:
    content = executorch.program(taken.student, clips.feed.input_shape)
    run, log_mel = executorch.runner(content), LogMel(taken.front_end)

    def of_log_mels(inputs_BCFT: np.ndarray) -> np.ndarray:
        return np.concatenate([run(one_clip[None]) for one_clip in inputs_BCFT])

    def of_waveforms(waveforms_BS: np.ndarray) -> np.ndarray:
        return of_log_mels(log_mel(torch.from_numpy(waveforms_BS)).numpy())

    return _Exported(content, len(content), 0, of_log_mels, of_waveforms)


def _figures(
    exported: _Exported,
    taken: StoredStudent,
    clips: _Clips,
    on_progress: OnProgress,
    *,
    waveforms_go_in: bool,
) -> Figures:
    student = taken.student
    model = nn.Sequential(LogMel(taken.front_end), student) if waveforms_go_in else student
    n_judged, n_clips = len(clips.select), len(clips.select) + len(clips.test)
    inputs = _told(clips.inputs(waveforms_go_in=waveforms_go_in), n_clips, on_progress)
    everything = parity(model, exported.of_inputs, inputs)
    judged, compared = everything.only(slice(n_judged)), everything.only(slice(n_judged, None))
    labels_N = clips.corpus.labels()[clips.select]
    one_clip = clips.decoded.batch(clips.select[:1], clips.cpu).numpy()
    return Figures(
        compared_clips=len(compared.torch_NK),
        max_difference=compared.max_difference,
        agreement=compared.agreement,
        judged_clips=n_judged,
        torch_accuracy=macro_accuracy(judged.torch_NK, labels_N),
        accuracy=macro_accuracy(judged.exported_NK, labels_N),
        parameter_bytes=exported.parameter_bytes,
        file_bytes=len(exported.content),
        front_end_bytes=exported.front_end_bytes,
        latency_s=runtime.latency_s(exported.of_waveforms, one_clip),
    )


def _told(inputs: Iterable[Tensor], n_clips: int, on_progress: OnProgress) -> Iterable[Tensor]:
    """The same batches; tells of each when it is done with."""
    done = 0
    for batch in inputs:
        yield batch
        done += len(batch)
        on_progress(done, n_clips)


def _replace(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(file)


def describe(figures: Figures) -> str:
    """The figures in lines for people."""
    return (
        f"on the {figures.compared_clips:,} test clips, beside torch: largest difference of a logit "
        f"{figures.max_difference:.2g}, {100 * figures.agreement:.1f} % called the same\n"
        f"macro accuracy on the {figures.judged_clips:,} select clips: "
        f"{100 * figures.accuracy:.1f} % on its own runtime, "
        f"{100 * figures.torch_accuracy:.1f} % in torch\n"
        f"bytes: {figures.parameter_bytes:,} of parameters in a file of {figures.file_bytes:,}, of "
        f"which {figures.front_end_bytes:,} are the front-end, which is no parameter\n"
        f"one clip on one core, front-end included: {1000 * figures.latency_s:.2f} ms\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for what cannot be exported."""
    options = parsed(Options, PROGRAM, Options.__doc__ or "", arguments)
    known = (LogitStoreError, CorpusError, BrokenAudio, UnfitOptions, NoStudent, OverBudget)
    try:
        options.check()
        store = LogitStore(options.store)
        key = keys_of(store, options.member)[0]
        corpus = _corpus(options, store, key)
        # Figures are those of one core.
        torch.set_num_threads(1)
        with progress_bar(Console(stderr=True)) as bar:
            shown = bar.add_task("calibrate and convert", total=None)

            def show(done: int, total: int) -> None:
                bar.update(shown, description="compare", completed=done, total=total)

            figures = export(options, store, corpus, key, show)
    except (*known, MissingExecuTorch, OSError) as error:
        if options.debug:
            raise
        sys.stderr.write(f"{PROGRAM}: {' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(f"{options.to}: {key.member} as {options.form}\n{describe(figures)}")
    sys.stdout.write(f"next: {shlex.join(_next(options, corpus, key))}\n")
    return 0


def _next(options: Options, corpus: Corpus, key: LogitKey) -> list[str]:
    """Hear what the file makes of a clip; or list what is beside it in the store."""
    if not options.with_front_end:
        return ["python", "-m", "logit_store", "show", key.member, "--store", options.store]
    clip = corpus.root / corpus.table["file"][int(corpus.rows(key.split, "select")[0])].as_py()
    return ["python", "-m", "students.classify", "--model", str(options.to), str(clip)]


def _corpus(options: Options, store: LogitStore, key: LogitKey) -> Corpus:
    """The corpus that was named, less the clips that the store leaves out."""
    corpus = corpora.read(options.corpus, options.root)
    if corpus.name != key.corpus:
        raise UnfitOptions(
            f"{key}: a student of corpus {key.corpus}, and --corpus is {corpus.name}: name its own"
        )
    return corpus.keep(store.clips(corpus.name)["clip_id"].to_pylist())


if __name__ == "__main__":
    sys.exit(main())
