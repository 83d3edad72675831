"""What a store holds, on the command line: python -m logit_store ls | show | sql | import...."""

import os
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import tyro
from rich.console import Console, Group, RenderableType
from rich.json import JSON

from audio.clips import CorpusError
from audio.corpora import CorpusName
from logit_store import LogitStore, LogitStoreError, collect, show, tables
from logit_store.exporters import Form, chosen, export
from logit_store.importers import Protocol, import_logits, know_clips
from logit_store.verify import Problem, verify
from terminal import one_line, parsed, progress_bar

PROGRAM = "python -m logit_store"

_FORM = tyro.conf.create_mutex_group(required=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What all commands are told."""

    store: str
    """The store: a folder or s3://BUCKET/PREFIX."""
    json: Annotated[tyro.conf.FlagCreatePairsOff[bool], _FORM] = False
    """Answer in JSON."""
    csv: Annotated[tyro.conf.FlagCreatePairsOff[bool], _FORM] = False
    """Answer in CSV. Else tables in a terminal, tab-separated lines in a pipe."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found."""

    table: pa.Table
    """For programs."""
    picture: RenderableType
    """For people."""
    document: Any = None
    """As JSON; None: the rows of the table."""
    exit_code: int = 0
    next: Sequence[str] = ()
    """A command that makes sense now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ls(Command):
    """List the members: who they are and what they are worth.

    Example:
        python -m logit_store ls --store runs/demo --split 25
    """

    corpus: str | None = None
    """Only members of this corpus."""
    split: Literal[5, 10, 25, 50, 100] | None = None
    """Only members that learnt from this split."""


def _ls(command: Ls) -> Answer:
    store = LogitStore(command.store)
    if command.corpus is not None:
        # A corpus that is misspelt is no empty one.
        store.clips(command.corpus)
    members = store.members(command.corpus, command.split)
    if not members.num_rows:
        return Answer(members, "no member yet", next=("python", "jobs/teachers.py", "--help"))
    member = members["member"][0].as_py()
    return Answer(
        members, tables.overview(members), next=_again("show", member, "--store", command.store)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Show(Command):
    """Show one member: its figures per fold and recording device, its files and its record.

    Example:
        python -m logit_store show MEMBER --store runs/demo
    """

    member: tyro.conf.Positional[str]
    """Its name, or as much of the beginning as tells it from others."""


def _show(command: Show) -> Answer:
    store = LogitStore(command.store)
    keys = show.keys_of(store, command.member)
    figures, document = show.figures(store, keys), show.document(store, keys)
    lines = [f"  {each['name']}  {tables.size(each['bytes'])}" for each in document["files"]]
    record = JSON.from_data(document["record"], default=str)
    picture = Group(
        document["member"], "", tables.worth(figures), "", "files", *lines, "", "record", record
    )
    where = f"member = '{document['member']}' and fold = 'select'"
    query = f"select scene, avg(correct::int) from predictions where {where} group by scene"
    return Answer(figures, picture, document, next=_again("sql", query, "--store", command.store))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sql(Command):
    """Ask DuckDB over the views clips, logits, members, runs, ensembles and predictions.

    Example:
        python -m logit_store sql "select * from members limit 5" --store runs/demo
    """

    query: tyro.conf.Positional[str]
    """For example "select member, avg(log_loss) from predictions group by member"."""


def _sql(command: Sql) -> Answer:
    answer = LogitStore(command.store).sql(command.query)
    return Answer(answer, tables.picture(answer))


@dataclass(frozen=True, kw_only=True, slots=True)
class Verify(Command):
    """Read every file of clips, logits and ensembles again and name what is wrong.

    Example:
        python -m logit_store verify --store runs/demo
    """


def _verify(command: Verify) -> Answer:
    store = LogitStore(command.store)
    with _progress("files") as on_progress:
        problems = verify(store, on_progress)
    schema = pa.schema(dict.fromkeys(Problem.__annotations__, pa.string()))
    table = pa.Table.from_pylist([asdict(each) for each in problems], schema=schema)
    lines = [f"{each.file}: {each.problem}" for each in problems] or ["all is as it was written"]
    return Answer(table, "\n".join(lines), exit_code=int(bool(problems)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Gc(Command):
    """Remove what nobody needs: never logits, weights or records.

    Example:
        python -m logit_store gc --store runs/demo --dry-run
    """

    dry_run: bool = False
    """Only show it."""


def _gc(command: Gc) -> Answer:
    store = LogitStore(command.store)
    found = collect.garbage(store)
    if not command.dry_run:
        collect.remove(store, found)
    schema = pa.schema({"file": pa.string(), "why": pa.string(), "bytes": pa.int64()})
    table = pa.Table.from_pylist([asdict(each) for each in found], schema=schema)
    n_bytes = sum(each.bytes for each in found)
    verb = "would free" if command.dry_run else "freed"
    total = f"{len(found)} file(s), {verb} {n_bytes:,} bytes ({tables.size(n_bytes)})"
    document = {"dry_run": command.dry_run, "bytes": n_bytes, "files": table.to_pylist()}
    picture = Group(tables.picture(table), total) if found else total
    now = _again("gc", "--store", command.store) if command.dry_run and found else ()
    return Answer(table, picture, document, next=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Import(Command):
    """Store logits that others published as members; all files or, if one does not fit, none.

    Example:
        python -m logit_store import logits --store runs/tau --corpus tau --root TAU
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Files <teacher>_<split>.pt, .csv, .h5, .hdf5 or .npz, or folders of such."""
    corpus: CorpusName
    """Whose clips the logits are of."""
    root: Path | None = None
    """The corpus's folder, if the store does not know its clips yet; no audio is needed there."""
    split: Literal[5, 10, 25, 50, 100] | None = None
    """What the teachers learnt, where the file names do not end in it."""
    member: str | None = None
    """What to call the teacher of a single file; else as the file is called."""
    protocol: Protocol | None = None
    """How the teachers were taught: published (looked at the test clips) or honest; else published
    for .pt and honest for tables."""


def _import(command: Import) -> Answer:
    store = LogitStore(command.store)
    know_clips(store, command.corpus, command.root)
    with _progress("checks and writes") as on_progress:
        imported = import_logits(
            store,
            command.corpus,
            command.paths,
            split=command.split,
            member=command.member,
            protocol=command.protocol,
            on_progress=on_progress,
        )
    rows = [
        {
            "member": each.key.member,
            "split": each.key.split,
            "accuracy_fit": each.accuracy,
            "new": each.new,
            "file": str(each.file),
            "remarks": "; ".join(each.remarks),
        }
        for each in imported
    ]
    table = pa.Table.from_pylist(rows)
    data = ("--corpus", command.corpus, "--store", command.store)
    return Answer(table, tables.picture(table), next=("python", "jobs/ensemble.py", *data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Export(Command):
    r"""Write members as files <teacher>_<split>.<form> that other programs read.

    Example:
        python -m logit_store export --store runs/demo --corpus demo \
            --form csv --to out
    """

    members: tyro.conf.Positional[tuple[str, ...]] = ("*",)
    """Their names, with or without the fingerprint; * stands for anything."""
    corpus: str
    """Whose clips the logits are of."""
    split: Literal[5, 10, 25, 50, 100] | None = None
    """Only members that learnt from this split."""
    form: Form
    """pt: a tensor, rows as in meta.csv; csv: probabilities as in DCASE submissions; npz: arrays."""
    to: Path
    """The folder to write to; files of the same names are replaced."""


def _export(command: Export) -> Answer:
    store = LogitStore(command.store)
    keys = chosen(store, command.corpus, command.split, command.members)
    with _progress("members") as on_progress:
        paths = export(store, keys, command.to, command.form, on_progress)
    rows = [{"member": k.member, "split": k.split, "file": str(path)} for k, path in paths.items()]
    table = pa.Table.from_pylist(rows)
    return Answer(table, tables.picture(table))


_ANSWERS: dict[type[Command], Callable[[Any], Answer]] = {
    Ls: _ls,
    Show: _show,
    Sql: _sql,
    Verify: _verify,
    Gc: _gc,
    Import: _import,
    Export: _export,
}
"""What answers each command, whose name is the class's in small letters."""
COMMANDS: tuple[type[Command], ...] = tuple(_ANSWERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 1 for what the store refuses, 2 for what cannot be read."""
    command = _parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        answer = _ANSWERS[type(command)](command)
        _write(command, answer)
    except (LogitStoreError, CorpusError) as error:
        if command.debug:
            raise
        sys.stderr.write(f"{PROGRAM}: {' '.join(str(error).split())}\n")
        return 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough; else Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return answer.exit_code


def _write(command: Command, answer: Answer) -> None:
    if command.json:
        document = answer.table.to_pylist() if answer.document is None else answer.document
        sys.stdout.write(tables.as_json(document))
    elif command.csv:
        sys.stdout.write(tables.comma_separated(answer.table))
    elif sys.stdout.isatty():
        # Names of files and members are no markup.
        console = Console(markup=False, highlight=False)
        console.print(answer.picture)
        if answer.next:
            console.print(f"next: {shlex.join(answer.next)}", soft_wrap=True)
    else:
        sys.stdout.write(tables.tabs(answer.table))
    sys.stdout.flush()


@contextmanager
def _progress(what: str) -> Generator[Callable[[int, int], None]]:
    """A bar for people who wait, told by what is done of all that there is to do."""
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _again(*words: str) -> list[str]:
    return [*PROGRAM.split(), *words]


def _parsed(arguments: Sequence[str]) -> Command:
    kinds = {kind.__name__.lower(): kind for kind in COMMANDS}
    name, *rest = arguments or [""]
    if name in kinds:
        return parsed(kinds[name], f"{PROGRAM} {name}", kinds[name].__doc__ or "", rest)
    named: dict[str, Callable[..., Command]] = {**kinds}
    with one_line(PROGRAM):
        return tyro.extras.subcommand_cli_from_dict(named, prog=PROGRAM, args=arguments)


if __name__ == "__main__":
    sys.exit(main())
