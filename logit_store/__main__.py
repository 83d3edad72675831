"""The command line of a store: python -m logit_store ls | show | sql | import...."""

import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
import tyro
from rich.console import Console, Group, RenderableType
from rich.json import JSON

from audio.corpora import CorpusName
from audio.errors import CorpusError
from logit_store import (
    LogitStore,
    LogitStoreError,
    MissingMember,
    QueryFailed,
    collect,
    show,
    tables,
)
from logit_store.exporters import (
    LogitsForm,
    export_embeddings,
    export_members,
    find_backbones,
    find_members,
)
from logit_store.importers import ensure_clips, import_logits
from logit_store.keys import Protocol
from logit_store.verify import StoreProblem, verify
from terminal import describe_error, discard_output, parse_command, progress_bar, run_program
from terminal.tables import format_count
from terminal.values import Address, AnyPath, Folder, Name, NewFolder, Pattern, Text

PROGRAM = "python -m logit_store"

_FORM = tyro.conf.create_mutex_group(required=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """The options of all commands."""

    store: Address
    """The store: a folder or s3://BUCKET/PREFIX."""
    json: Annotated[tyro.conf.FlagCreatePairsOff[bool], _FORM] = False
    """Print JSON."""
    csv: Annotated[tyro.conf.FlagCreatePairsOff[bool], _FORM] = False
    """Print CSV. Default: tables in a terminal, tab-separated lines in a pipe."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a command."""

    table: pa.Table
    """For programs."""
    picture: RenderableType
    """For people."""
    document: Any = None
    """For JSON; None: the rows of the table."""
    exit_code: int = 0
    next: Sequence[str] = ()
    """A command to suggest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ls(Command):
    """List the members and their scores.

    Example:
        python -m logit_store ls --store runs/demo --split 25
    """

    corpus: Name | None = None
    """Only members of this corpus."""
    split: Literal[5, 10, 25, 50, 100] | None = None
    """Only members of this split."""
    embeddings: bool = False
    """List the embeddings of frozen backbones instead."""


def _ls(command: Ls) -> Answer:
    store = LogitStore(command.store)
    if command.corpus is not None:
        # A misspelt corpus is an error, not an empty list.
        store.read_clips(command.corpus)
    if command.embeddings:
        embedded = store.embeddings.tabulate(command.corpus)
        picture = tables.draw_embeddings(embedded) if embedded.num_rows else "no embeddings yet"
        return Answer(embedded, picture)
    members = store.members(command.corpus, command.split)
    if not members.num_rows:
        return Answer(members, "no member yet", next=("python", "jobs/teachers.py", "--help"))
    member = members["member"][0].as_py()
    return Answer(
        members,
        tables.draw_members(members),
        next=_suggest("show", member, "--store", command.store),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Show(Command):
    """Show one member: its scores per fold and recording device, its files and its record.

    Of a backbone, its embeddings and their record.

    Example:
        python -m logit_store show MEMBER --store runs/demo
    """

    member: tyro.conf.Positional[Name]
    """Its name, or enough of its beginning to identify it; or that of a backbone with embeddings."""


def _show(command: Show) -> Answer:
    store = LogitStore(command.store)
    try:
        keys = show.find_member_keys(store, command.member)
    except MissingMember:
        if embedded := show.find_embedding_keys(store, command.member):
            table, document = show.describe_backbone(store, embedded)
            record = JSON.from_data(document["record"], default=str)
            return Answer(table, Group(tables.draw_embeddings(table), "", record), document)
        raise
    scores, document = show.tabulate_scores(store, keys), show.describe_member(store, keys)
    lines = [f"  {each['name']}  {tables.format_size(each['bytes'])}" for each in document["files"]]
    record = JSON.from_data(document["record"], default=str)
    picture = Group(
        document["member"],
        "",
        tables.draw_scores(scores),
        "",
        "files",
        *lines,
        "",
        "record",
        record,
    )
    where = f"member = '{document['member']}' and fold = 'select'"
    query = f"select scene, avg(correct::int) from predictions where {where} group by scene"
    return Answer(scores, picture, document, next=_suggest("sql", query, "--store", command.store))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sql(Command):
    """Run SQL over the views clips, logits, members, runs, ensembles, predictions and embeddings.

    Example:
        python -m logit_store sql "select * from members limit 5" --store runs/demo
    """

    query: tyro.conf.Positional[Text]
    """For example "select member, avg(log_loss) from predictions group by member"."""


def _sql(command: Sql) -> Answer:
    answer = LogitStore(command.store).sql(command.query)
    names = answer.column_names
    if command.json and len(set(names)) < len(names):
        raise QueryFailed(
            "several columns have one name, of which JSON keeps the last: rename them"
        )
    try:
        return Answer(answer, tables.draw_rows(answer))
    except OverflowError as error:
        # Python has no infinite times, and no years beyond 9999.
        raise QueryFailed(f"a value cannot be shown ({error}): cast it to VARCHAR") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Verify(Command):
    """Read all files and report what is wrong.

    Example:
        python -m logit_store verify --store runs/demo
    """


def _verify(command: Verify) -> Answer:
    store = LogitStore(command.store)
    with _progress("files") as on_progress:
        problems = verify(store, on_progress)
    schema = pa.schema(dict.fromkeys(StoreProblem.__annotations__, pa.string()))
    table = pa.Table.from_pylist([_make_printable(each) for each in problems], schema=schema)
    lines = [f"{each['file']}: {each['problem']}" for each in table.to_pylist()] or [
        "all is as it was written"
    ]
    return Answer(table, "\n".join(lines), exit_code=int(bool(problems)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Gc(Command):
    """Remove files that are no longer needed: never logits, embeddings, weights or records.

    Example:
        python -m logit_store gc --store runs/demo --dry-run
    """

    dry_run: bool = False
    """Only show them."""


def _gc(command: Gc) -> Answer:
    store = LogitStore(command.store)
    garbage = collect.find_garbage(store)
    if not command.dry_run:
        collect.remove_garbage(store, garbage)
    schema = pa.schema({"file": pa.string(), "why": pa.string(), "bytes": pa.int64()})
    table = pa.Table.from_pylist([_make_printable(each) for each in garbage], schema=schema)
    n_bytes = sum(each.bytes for each in garbage)
    verb = "would free" if command.dry_run else "freed"
    total = f"{format_count(len(garbage), 'file')}, {verb} {n_bytes:,} bytes ({tables.format_size(n_bytes)})"
    document = {"dry_run": command.dry_run, "bytes": n_bytes, "files": table.to_pylist()}
    picture = Group(tables.draw_rows(table), total) if garbage else total
    now = _suggest("gc", "--store", command.store) if command.dry_run and garbage else ()
    return Answer(table, picture, document, next=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Import(Command):
    """Store published logits as members; all files or, if one does not fit, none.

    Example:
        python -m logit_store import logits --store runs/tau --corpus tau --root TAU
    """

    paths: tyro.conf.Positional[tuple[AnyPath, ...]]
    """Files <teacher>_<split>.pt, .csv, .h5, .hdf5 or .npz, or folders with such files."""
    corpus: CorpusName
    """The corpus of the logits."""
    root: Folder | None = None
    """The corpus's folder, if the store does not know its clips yet; its audio is not needed."""
    split: Literal[5, 10, 25, 50, 100] | None = None
    """From which the teachers learnt, if the file names do not end with it."""
    member: Name | None = None
    """Name of the teacher of a single file. Default: from the file name."""
    protocol: Protocol | None = None
    """Protocol of the teachers: published (training looked at the test clips) or honest. Default:
    published for .pt, honest for tables."""


def _import(command: Import) -> Answer:
    store = LogitStore(command.store)
    ensure_clips(store, command.corpus, command.root)
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
    return Answer(table, tables.draw_rows(table), next=("python", "jobs/ensemble.py", *data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Export(Command):
    r"""Write members as files <teacher>_<split>.<form> that other programs read.

    Example:
        python -m logit_store export --store runs/demo --corpus demo \
            --form csv --to out "demo_mn*"
    """

    members: tyro.conf.Positional[tuple[Pattern, ...]] = ("*",)
    """Their names, with or without the fingerprint; * matches anything."""
    corpus: Name
    """The corpus of the logits."""
    split: Literal[5, 10, 25, 50, 100] | None = None
    """Only members of this split."""
    form: LogitsForm
    """pt: a tensor, rows as in meta.csv; csv: probabilities as in DCASE submissions; npz: arrays."""
    embeddings: bool = False
    """Write the embeddings of backbones of these names instead, as <backbone>.npz or .pt."""
    to: NewFolder
    """The folder to write to; files of the same names are replaced."""


def _export(command: Export) -> Answer:
    store = LogitStore(command.store)
    if command.embeddings:
        backbones = find_backbones(store, command.corpus, command.members)
        with _progress("backbones") as on_progress:
            files = export_embeddings(store, backbones, command.to, command.form, on_progress)
        rows = [{"backbone": key.backbone, "file": str(path)} for key, path in files.items()]
    else:
        keys = find_members(store, command.corpus, command.split, command.members)
        with _progress("members") as on_progress:
            paths = export_members(store, keys, command.to, command.form, on_progress)
        rows = [
            {"member": k.member, "split": k.split, "file": str(path)} for k, path in paths.items()
        ]
    table = pa.Table.from_pylist(rows)
    return Answer(table, tables.draw_rows(table))


_ANSWERS: dict[type[Command], Callable[[Any], Answer]] = {
    Ls: _ls,
    Show: _show,
    Sql: _sql,
    Verify: _verify,
    Gc: _gc,
    Import: _import,
    Export: _export,
}
"""The function for each command; the command's name is that of the class in lower case."""
COMMANDS: tuple[type[Command], ...] = tuple(_ANSWERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 1 for an error of the store, 2 for wrong options."""
    command = parse_command(COMMANDS, PROGRAM, arguments)
    try:
        answer = _ANSWERS[type(command)](command)
        _write(command, answer)
    except BrokenPipeError:
        raise
    except (LogitStoreError, CorpusError, OSError) as error:
        if command.debug:
            raise
        discard_output()
        sys.stderr.write(f"{PROGRAM}: {' '.join(describe_error(error).split())}\n")
        return 1
    return answer.exit_code


def _write(command: Command, answer: Answer) -> None:
    if command.json:
        document = tables.list_rows(answer.table) if answer.document is None else answer.document
        sys.stdout.write(tables.format_json(document))
    elif command.csv:
        sys.stdout.write(tables.format_csv(answer.table))
    elif sys.stdout.isatty():
        # Names of files and members are not markup.
        console = Console(markup=False, highlight=False)
        console.print(answer.picture)
        if answer.next:
            console.print(f"next: {shlex.join(answer.next)}", soft_wrap=True)
    else:
        sys.stdout.write(tables.format_tabs(answer.table))
        if isinstance(answer.picture, str) and not answer.table.num_rows:
            # The header alone, which programs expect, would leave people in doubt.
            sys.stderr.write(f"{answer.picture}\n")
    sys.stdout.flush()


@contextmanager
def _progress(what: str) -> Generator[Callable[[int, int], None]]:
    """Show a progress bar; yields a function that takes the steps done and all steps."""
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _make_printable(row: StoreProblem | collect.Garbage) -> dict[str, Any]:
    """Return a row with the names of files that are not UTF-8 written in ASCII."""
    return {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in asdict(row).items()
    }


def _suggest(*words: str) -> list[str]:
    return [*PROGRAM.split(), *words]


if __name__ == "__main__":
    run_program(PROGRAM, main)
