"""What all commands have in common: options, the corpus they name, errors as messages."""

import io
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress

from audio import corpora, waveforms
from audio.clips import Corpus, CorpusError
from audio.corpora import CorpusName
from audio.lengths import UnfitLength
from audio.waveforms import BrokenAudio
from logit_store import LogitStore, LogitStoreError, MissingClips, MissingStore
from teachers import UnfitClips, UnknownTeacher, WeightsError
from terminal import bars, parsed

if TYPE_CHECKING:
    from jobs.staging import Staged

REPORT = ("python", "jobs/report.py")
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
INTERRUPTED = 130


class UserError(Exception):
    """What the person who typed the command can mend; the message says how."""


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """Which corpus, where its audio is, where results go."""

    corpus: CorpusName = "demo"
    """demo: the recordings that come with the project; tau: TAU 2022 Mobile or its layout;
    cochlscene: as published; folder: your own, a folder of audio files per class or a clips.csv."""
    root: str | None = None
    """Folder with meta.csv and audio/ of the corpus (demo: needs none), or s3://BUCKET/PREFIX with
    the same in it, which each node copies once."""
    store: str | None = None
    """The logit store: a folder, or s3://BUCKET/PREFIX with endpoint, region and keys in the AWS_*
    variables; runs/CORPUS if not given."""
    debug: bool = False
    """Show the traceback of an error."""

    def data(self) -> list[str]:
        """What leads another command to the same corpus and the same store."""
        root = ["--root", self.root] if self.root else []
        return ["--corpus", self.corpus, *root, "--store", self.store or f"runs/{self.corpus}"]

    def open_store(self) -> LogitStore:
        """The store, at an address that means the same on every worker."""
        if self.store is not None and "://" in self.store:
            return LogitStore(self.store)
        address = Path(self.store or f"runs/{self.corpus}").expanduser()
        if not address.is_absolute() and is_uploaded():
            raise UserError(
                f"--store {address}: this job runs in an uploaded copy of the project, which is "
                "thrown away; give a folder that stays, as an absolute path, or s3://BUCKET/PREFIX"
            )
        return LogitStore(str(address.absolute()))

    def open_corpus(self, store: LogitStore) -> Corpus:
        """The corpus as its files say, less the clips that the store leaves out; says how many."""
        return read_corpus(self.corpus, self.root, store)

    def where(self, store: LogitStore) -> "Where":
        """With what a task finds corpus and store."""
        return Where.of(self.corpus, self.root, store)


@dataclass(frozen=True, slots=True)
class Where:
    """With what a worker of any node finds a corpus and a store."""

    corpus: CorpusName
    root: str | None
    """An address, or a folder's absolute path."""
    store: str
    """Its address; a folder is absolute."""
    version: str | None = None
    """Of what lies at the root's address; see `jobs.staging`."""

    @classmethod
    def of(cls, corpus: CorpusName, root: str | None, store: LogitStore) -> "Where":
        """That of a corpus whose root somebody typed."""
        if root is None or not is_address(root):
            return cls(corpus, root and str(everywhere(Path(root))), store.address)
        return cls(corpus, root, store.address, _staged(root).version)

    def open(self) -> tuple[LogitStore, Corpus]:
        """Both; the corpus less the clips that the store leaves out."""
        store = LogitStore(self.store)
        return store, open_corpus(self.corpus, self.root, store, self.version)[0]


def is_address(root: str) -> bool:
    """Whether a corpus's root is no folder of this machine."""
    return "://" in root


def everywhere(path: Path | None) -> Path | None:
    """The path as every worker finds it, whatever folder it runs in."""
    return path and path.expanduser().absolute()


def read_corpus(name: CorpusName, root: str | None, store: LogitStore) -> Corpus:
    """The corpus as its files say, less the clips that the store leaves out; says how many."""
    corpus, left_out = open_corpus(name, root, store)
    if left_out:
        console.print(
            f"{left_out} clips of {corpus.root} are not among those of this store: left out "
            "(another --store would take them)",
            markup=False,
        )
    return corpus


def open_corpus(
    name: CorpusName, root: str | None, store: LogitStore, version: str | None = None
) -> tuple[Corpus, int]:
    """The corpus as its files say, less the clips that the store leaves out; how many these are."""
    corpus = corpora.read(name, None if root is None else _folder(root, version))
    try:
        kept = corpus.keep(store.clips(corpus.name)["clip_id"].to_pylist())
    except (MissingStore, MissingClips):
        return corpus, 0
    if len(kept) == 0:
        raise UserError(
            f"--root {root}: none of its {len(corpus)} clips is among those of {store.address}; "
            "give another --store"
        )
    return kept, len(corpus) - len(kept)


def _folder(root: str, version: str | None) -> Path:
    """Where a corpus's files lie on this node."""
    if is_address(root):
        return _staged(root, version).folder
    return Path(root).expanduser().absolute()


def _staged(root: str, version: str | None = None) -> "Staged":
    # What speaks to S3 takes half a second to import, and most corpora lie in folders.
    from jobs.staging import stage

    return stage(root, version)


Options = TypeVar("Options", bound=CorpusOptions)


def prepare(corpus: Corpus, store: LogitStore, sample_rates: set[int]) -> None:
    """Decode what is not decoded yet, and write down in the store what the clips are.

    Raises:
        BrokenAudio: some files cannot be read.
        LogitStoreError: the store holds another corpus of that name.
        UserError: the store cannot hold such a corpus.
    """
    decode(corpus, sample_rates)
    try:
        store.write_clips(corpus.name, corpus.clips_table())
    except ValueError as error:
        raise UserError(str(error)) from error


def decode(corpus: Corpus, sample_rates: set[int]) -> None:
    """Decode what is not decoded yet, and say what was changed in doing so.

    Raises:
        BrokenAudio: some files cannot be read.
    """
    for sample_rate in sorted(sample_rates):
        with progress_bar() as bar:
            task = bar.add_task(f"decode to {sample_rate} Hz", total=None)
            decoded = waveforms.decode(
                corpus,
                sample_rate,
                on_progress=lambda done, total, task=task, bar=bar: bar.update(
                    task, completed=done, total=total
                ),
            )
        if decoded.mixed_down:
            console.print(f"{decoded.mixed_down} clips had several channels: took their mean")
        if decoded.saturated:
            console.print(f"{decoded.saturated} clips went beyond full scale: cut off there")


def progress_bar() -> Progress:
    """A bar with time left, among what a job prints."""
    return bars.progress_bar(console)


def say_next(*commands: Sequence[str]) -> None:
    """End with what to do next: command lines that can be typed as they stand, the best first."""
    for head, words in zip(("next:", *["  or:"] * len(commands)), commands, strict=False):
        console.print(f"{head} {shlex.join(words)}", markup=False)


def again(*, less: str = "") -> list[str]:
    """The command line that this process was started with, less one of its options."""
    return ["python", *(word for word in sys.argv if word != less)]


def run(main: Callable[[Any], int], options: type[Options]) -> None:
    """Parse the command line, run `main`, exit with its code; errors become one message.

    Args:
        main: its docstring says what the command does, and has an example.
        options: a dataclass with what it takes.
    """
    typed = parsed(options, shlex.join(again()[:2]), main.__doc__ or "")
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=errors, show_time=False, show_path=False)],
    )
    # A submitted job is no terminal: without this its lines arrive in blocks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    unfit = (UnfitLength, UnfitClips, UnknownTeacher, WeightsError)
    known = (UserError, CorpusError, BrokenAudio, LogitStoreError, *unfit, OSError)
    try:
        code = main(typed)
    except KeyboardInterrupt:
        errors.print(
            f"\ninterrupted: the same command goes on where this one stopped: {shlex.join(again())}",
            markup=False,
        )
        code = INTERRUPTED
    except known as error:
        if typed.debug:
            raise
        errors.print(f"error: {error}", markup=False)
        code = 1
    sys.exit(code)


def is_uploaded() -> bool:
    """Whether this job runs from an uploaded copy of the working folder."""
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return bool(submitted.get("runtime_env", {}).get("working_dir"))
