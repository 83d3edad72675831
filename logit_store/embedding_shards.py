"""Shards of embeddings: the rows that each worker computed, until they are one file (n clips, D dimensions)."""

from collections.abc import Iterator, Sequence

from logit_store.embeddings_file import open_embeddings
from logit_store.errors import DamagedFile
from logit_store.files import Entry, Files
from logit_store.footer import ClipsHeader
from logit_store.keys import EmbeddingKey
from logit_store.logits_file import Float16s
from logit_store.passed_over import keep_usable
from logit_store.paths import parse_shard, shard_path, shards_pattern

Part = tuple[range, range]
"""The rows of a shard, and those that are taken of it: the last ones."""


def find_shards(files: Files, key: EmbeddingKey, header: ClipsHeader) -> list[range]:
    """Return the rows of each shard of some embeddings of these clips, sorted.

    Shards of other clips and damaged ones are passed over, with a warning.
    """
    found = list[range]()

    def add(entry: Entry) -> None:
        _, rows = parse_shard(entry.name, files.locate(entry.name))
        with open_embeddings(files, entry.name, end_only=True) as file:
            file.check_belongs(header, rows)
        found.append(rows)

    keep_usable(files.find(shards_pattern(key)), add)
    return sorted(found, key=lambda rows: (rows.start, rows.stop))


def choose_parts(shards: Sequence[range], n: int) -> tuple[list[Part], range]:
    """Choose what to take of which shard, so that each of n rows is taken once, in order.

    Returns:
        The parts, and the first rows that are in no shard; none if the parts have all.
    """
    parts, begin = list[Part](), 0
    while begin < n:
        fitting = [rows for rows in shards if begin in rows]
        if not fitting:
            end = min((rows.start for rows in shards if rows.start > begin), default=n)
            return parts, range(begin, end)
        longest = max(fitting, key=lambda rows: rows.stop)
        parts.append((longest, range(begin, longest.stop)))
        begin = longest.stop
    return parts, range(0)


def read_dims(files: Files, key: EmbeddingKey, parts: Sequence[Part]) -> int:
    """Return D of the first part."""
    with open_embeddings(files, shard_path(key, parts[0][0]), end_only=True) as file:
        return file.footer.n_dims


def read_parts(
    files: Files, key: EmbeddingKey, parts: Sequence[Part], header: ClipsHeader
) -> Iterator[Float16s]:
    """Yield the embeddings [n, D] of parts, a row group at a time.

    Raises:
        UnreadableFile: a shard is damaged, of other clips, or of another D than the first.
        FileNotFoundError: a shard was deleted since it was listed.
    """
    n_dims = read_dims(files, key, parts)
    for shard, taken in parts:
        with open_embeddings(files, shard_path(key, shard)) as file:
            file.check_belongs(header, shard)
            if file.footer.n_dims != n_dims:
                reason = f"{file.footer.n_dims} dimensions, expected {n_dims} as in the first shard"
                raise DamagedFile(file.path, reason)
            for rows, group_nD in zip(file.list_groups(), file.read_groups(), strict=True):
                yield group_nD[max(0, taken.start - rows.start) :]
