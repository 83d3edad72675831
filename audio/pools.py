"""Pools: clips that teach a student without their labels, and never judge (N clips of a corpus).

A pool is `rest`, the training clips that a split leaves out; `unlabelled`, the clips of the corpus that
have no label; or CORPUS:ROOT, all clips of another corpus. No clip, recording or audio of a split's
`select` and `test` clips may be in it.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audio.clips import POOL, SPLITS, UNLABELLED, Corpus
from audio.decoded_map import hash_samples
from audio.errors import CorpusError
from audio.waveforms import read_file_states, read_hashes

REST, OWN_UNLABELLED = "rest", "unlabelled"
NAME_DIGITS = 12
"""Hex digits of a pool's identity in its name."""
NAMES_SHOWN = 5


@dataclass(frozen=True, eq=False, slots=True)
class Pool:
    """Clips that teach in one split."""

    name: str
    """`rest`, `unlabelled`, or the name of its corpus."""
    rows: np.ndarray
    """Rows of its clips, ascending, int64: of the corpus that it is a pool for, or of its own."""
    corpus: Corpus | None = None
    """The corpus of its clips; None if they are of the corpus that it is a pool for."""

    def __len__(self) -> int:
        return len(self.rows)

    def describe(self) -> dict[str, str | int]:
        """Return what tells it from other pools, for fingerprints and records; no paths."""
        rows_hash = hashlib.sha256(np.ascontiguousarray(self.rows, "<i8").data).hexdigest()[:16]
        return {"name": self.name, "clips": len(self.rows), "rows_hash": rows_hash}


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LearningCorpus(Corpus):
    """A corpus with the clips of pools: its own rows as they are, then those of other corpora.

    In the split that the pools are for, their clips have the fold `pool`, and no scene. Files and
    sources of the clips are not in the table.
    """

    corpus: Corpus
    """The corpus without pools."""
    pools: tuple[Pool, ...]

    @property
    def own(self) -> Corpus:
        """The corpus whose rows come first, without the pools."""
        return self.corpus

    @property
    def foreign(self) -> tuple[tuple[Corpus, np.ndarray], ...]:
        """The corpora whose clips follow its own, and the rows of these clips in them."""
        return tuple((pool.corpus, pool.rows) for pool in self.pools if pool.corpus is not None)


def make_pool_corpus(corpus: Corpus) -> Corpus:
    """Return a corpus as a pool: without labels, all clips in the fold `pool` of all splits.

    Its name ends in a hash of its clips and of the sizes of their files.
    """
    n_clips, table = len(corpus), corpus.table
    columns = {"scene": UNLABELLED, **{f"fold_{split}": POOL for split in SPLITS}}
    for name, value in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.repeat(value, n_clips))
    blank = replace(corpus, table=table)
    size_bytes, _, _ = read_file_states(corpus.root, pc.unique(table["file"]).to_pylist())
    digest = hashlib.sha256(blank.compute_identity().encode())
    digest.update(np.ascontiguousarray(size_bytes, "<i8").data)
    return replace(blank, name=f"{corpus.name}_{digest.hexdigest()[:NAME_DIGITS]}")


def find_pools(
    corpus: Corpus, split: int, words: Sequence[str], open_corpus: Callable[[str], Corpus]
) -> tuple[Pool, ...]:
    """Return the pools that these words mean for a split of a corpus.

    Args:
        corpus: The corpus that they are pools for.
        split: 5, 10, 25, 50 or 100.
        words: `rest`, `unlabelled` or CORPUS:ROOT, each once.
        open_corpus: Opens CORPUS:ROOT as a pool; `audio.corpora.read_pool` has read it.

    Raises:
        CorpusError: A pool has no clips, or is there twice.
    """
    pools: list[Pool] = []
    for word in words:
        if word == REST:
            pool = Pool(REST, _find_rest(corpus, split))
        elif word == OWN_UNLABELLED:
            pool = Pool(OWN_UNLABELLED, _find_unlabelled(corpus, split))
        else:
            pool = _take_whole(open_corpus(word))
        pools.append(pool)
    _refuse_repeated(pools)
    return tuple(pools)


def list_foreign_pools(corpora: Iterable[Corpus]) -> tuple[Pool, ...]:
    """Return whole corpora that are open as pools.

    Raises:
        CorpusError: A pool is there twice.
    """
    pools = tuple(map(_take_whole, corpora))
    _refuse_repeated(pools)
    return pools


def _take_whole(corpus: Corpus) -> Pool:
    return Pool(corpus.name, np.arange(len(corpus)), corpus)


def _refuse_repeated(pools: Sequence[Pool]) -> None:
    names = [pool.name for pool in pools]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise CorpusError(f"pool {name} is there twice, with the same clips; name it once")


def _find_rest(corpus: Corpus, split: int) -> np.ndarray:
    training = pc.is_in(corpus.table["fold_100"], pa.array(["fit", "select"]))
    left_out = pc.and_(training, pc.is_null(corpus.table[f"fold_{split}"]))
    recordings = corpus.table["recording"]
    judging = recordings.take(_find_judging(corpus, split)).combine_chunks()
    rest = pc.and_not(left_out, pc.is_in(recordings, judging))
    rows = np.flatnonzero(rest.to_numpy())
    if len(rows) == 0:
        raise CorpusError(
            f"pool {REST}: split {split} of corpus {corpus.name} in {corpus.root} leaves out none of "
            "the clips of split 100, but those of recordings that judge in it; name a smaller split"
        )
    return rows


def _find_unlabelled(corpus: Corpus, split: int) -> np.ndarray:
    inside = pc.fill_null(pc.equal(corpus.table[f"fold_{split}"], POOL), False)
    rows = np.flatnonzero(pc.and_(inside, pc.equal(corpus.table["scene"], UNLABELLED)).to_numpy())
    if len(rows) == 0:
        raise CorpusError(
            f"pool {OWN_UNLABELLED}: corpus {corpus.name} in {corpus.root} has no clip without a label "
            f"that split {split} may learn from; put some into a folder {OWN_UNLABELLED} in it, or into "
            "its clips.csv without a label"
        )
    return rows


def _find_judging(corpus: Corpus, split: int) -> np.ndarray:
    folds = corpus.table[f"fold_{split}"]
    return np.flatnonzero(pc.is_in(folds, pa.array(["select", "test"])).to_numpy())


def refuse_leaks(corpus: Corpus, split: int, pools: Sequence[Pool]) -> None:
    """Refuse a pool with a clip or a recording that judges in the split, by their names.

    Raises:
        CorpusError: There is one; names the first.
    """
    judging = corpus.table.take(_find_judging(corpus, split))
    for pool in pools:
        clips = (pool.corpus or corpus).table.take(pool.rows)
        for column in ("clip_id", "recording"):
            known = judging[column].combine_chunks()
            leaking = clips.filter(pc.is_in(clips[column], known))[column].unique().to_pylist()
            if leaking:
                what = "clips" if column == "clip_id" else "recordings"
                folds = dict(
                    zip(known.to_pylist(), judging[f"fold_{split}"].to_pylist(), strict=True)
                )
                names = _list_some([f"{name} ({folds[name]})" for name in leaking])
                raise CorpusError(
                    f"pool {pool.name} has {what} that judge in split {split} of corpus {corpus.name}: "
                    f"{names}; remove them from the pool, or rename them if only their names are the same"
                )


def refuse_same_audio(corpus: Corpus, split: int, pools: Sequence[Pool], sample_rate: int) -> int:
    """Refuse a pool with the audio of a clip that judges in the split, whatever its name is.

    Only equal samples are found, no other cut, rate or level; silence is not compared.

    Args:
        corpus: The corpus; all its clips are decoded on this machine at this rate.
        split: 5, 10, 25, 50 or 100.
        pools: Its pools, also decoded.
        sample_rate: In Hz.

    Returns:
        The number of clips of the pools whose audio is that of a `fit` clip, which is allowed.

    Raises:
        CorpusError: There is such audio, or some clips are not decoded; names the first.
    """
    hashes_N = read_hashes(corpus, sample_rate)
    silence = hash_samples(np.zeros(round(corpus.clip_duration_s * sample_rate), dtype=np.int16))
    fit = hashes_N[_find_fit(corpus, split)]
    judging = _find_judging(corpus, split)
    row_of_hash = dict(zip(hashes_N[judging].tolist(), judging.tolist(), strict=True))
    row_of_hash.pop(silence, None)
    n_known = 0
    for pool in pools:
        source = pool.corpus or corpus
        hashes = (hashes_N if pool.corpus is None else read_hashes(source, sample_rate))[pool.rows]
        found = np.flatnonzero(np.isin(hashes, np.array([*row_of_hash], dtype=np.uint64)))
        if len(found):
            pairs = [
                _describe_twins(source, row, corpus, row_of_hash[key], split)
                for row, key in zip(
                    pool.rows[found][: NAMES_SHOWN + 1].tolist(),
                    hashes[found].tolist(),
                    strict=False,
                )
            ]
            raise CorpusError(
                f"pool {pool.name} has the audio of {len(found):,} clips that judge in split {split} of "
                f"corpus {corpus.name}: {_list_some(pairs, len(found))}; remove them from the pool"
            )
        n_known += int((np.isin(hashes, fit) & (hashes != silence)).sum())
    return n_known


def _find_fit(corpus: Corpus, split: int) -> np.ndarray:
    folds = corpus.table[f"fold_{split}"]
    return np.flatnonzero(pc.fill_null(pc.equal(folds, "fit"), False).to_numpy())


def _describe_twins(source: Corpus, row: int, corpus: Corpus, judging: int, split: int) -> str:
    twin, fold = (corpus.table[name][judging].as_py() for name in ("clip_id", f"fold_{split}"))
    return f"{source.table['clip_id'][row].as_py()} = {twin} ({fold})"


def _list_some(names: Sequence[str], n_names: int | None = None) -> str:
    """Return the first names, and how many more there are."""
    n_more = (n_names or len(names)) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {n_more:,} more" if n_more > 0 else "")


def make_learning_corpus(corpus: Corpus, split: int, pools: Sequence[Pool]) -> LearningCorpus:
    """Return a corpus with the clips of pools, for a student that learns one split of it.

    Raises:
        CorpusError: A scene has no labelled clip but those of a pool.
    """
    table = _mark_pool(corpus, split, [pool.rows for pool in pools if pool.corpus is None])
    parts = [table, *(_take_clips(p.corpus, p.rows) for p in pools if p.corpus is not None)]
    table = pa.concat_tables(parts).combine_chunks()
    table = table.set_column(0, "row", pa.array(np.arange(len(table), dtype=np.int32)))
    learning = LearningCorpus(
        name=corpus.name,
        root=corpus.root,
        table=table,
        clip_duration_s=corpus.clip_duration_s,
        reference_device=corpus.reference_device,
        corpus=corpus,
        pools=tuple(pools),
    )
    lost = sorted(set(corpus.scenes) - set(learning.scenes))
    if lost:
        raise CorpusError(
            f"corpus {corpus.name} in {corpus.root}: all clips of {lost[0]} are in a pool of split "
            f"{split}, where labels are not read ({len(lost)} scenes in all); name a larger split"
        )
    return learning


def _mark_pool(corpus: Corpus, split: int, rows_of_pools: Sequence[np.ndarray]) -> pa.Table:
    """Return the table of a corpus's clips with just these in the fold `pool`, without their scenes."""
    in_pool_N = np.zeros(len(corpus), dtype=bool)
    for rows in rows_of_pools:
        in_pool_N[rows] = True
    table, name, in_pool = corpus.clips_table(), f"fold_{split}", pa.array(in_pool_N)
    # Clips without labels that nobody asked for.
    no_pool = pc.fill_null(pc.equal(table[name], POOL), False)
    folds = pc.if_else(no_pool, pa.scalar(None, pa.string()), table[name])
    folds = pc.if_else(in_pool, POOL, folds)
    scenes = pc.if_else(in_pool, UNLABELLED, table["scene"])
    table = table.set_column(table.column_names.index(name), name, folds)
    return table.set_column(table.column_names.index("scene"), "scene", scenes)


def _take_clips(corpus: Corpus, rows: np.ndarray) -> pa.Table:
    table = corpus.clips_table()
    return table if len(rows) == len(table) else table.take(rows)
