"""Ensembles of a store: each a document under NAME@HASH, where HASH stands for its content."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from logit_store.ensemble_file import (
    decode_ensemble,
    encode_ensemble,
    find_ensembles,
    locate_ensemble,
    read_pinned_members,
    tabulate_ensembles,
)
from logit_store.ensemble_times import read_times, write_time
from logit_store.errors import EnsembleChanged, MissingEnsemble, TiedEnsembles
from logit_store.files import Entry, Files, check_exists
from logit_store.keys import LogitKey
from logit_store.passed_over import keep_usable
from logit_store.paths import ENSEMBLES_PATTERN, ensemble_path, ensembles_pattern


class Ensembles:
    """The ensembles of a store.

    Each belongs to a corpus, whose clips it classifies, and to a split, from which its members
    learnt. A reference is `NAME@HASH`, or `NAME` for the newest ensemble of that name.
    """

    def __init__(
        self,
        files: Files,
        address: str,
        read_hashes: Callable[[Sequence[LogitKey]], Mapping[LogitKey, str]],
    ) -> None:
        self._files, self._address, self._read_hashes = files, address, read_hashes

    def write(self, corpus: str, split: int, name: str, document: Mapping[str, Any]) -> str:
        """Store an ensemble; the same document under the same name is stored only once.

        Args:
            corpus: of the clips.
            split: of the members.
            name: for people.
            document: JSON. `members` is a list of mappings with `member`, `weight` and `hash`, the
                `logits_hash` in the member's footer. The SQL view `ensembles` shows `space`,
                `fold`, `losses` and `candidates`.

        Returns:
            `NAME@HASH`.

        Raises:
            ValueError: the document is no JSON, or the name cannot be part of a path.
        """
        reference, data = encode_ensemble(name, document)
        path = ensemble_path(corpus, split, reference)
        # First its time: if the writer is killed in between, no ensemble is without one.
        write_time(self._files, path, self._find_entries(corpus, split, name))
        self._files.put(path, data)
        return reference

    def read(self, corpus: str, split: int, reference: str) -> dict[str, Any]:
        """Return the document of an ensemble.

        Raises:
            MissingEnsemble: there is no such ensemble; names those that exist.
            TiedEnsembles: the two newest ensembles `NAME` were made at the same time.
            DamagedFile: the file is not what was written.
        """
        return self._read(corpus, split, reference)[0]

    def find(self, corpus: str, split: int, reference: str) -> str:
        """Return `NAME@HASH` of an ensemble.

        Raises:
            MissingEnsemble: there is no such ensemble; names those that exist.
            TiedEnsembles: the two newest ensembles `NAME` were made at the same time.
            DamagedFile: the file is not what was written.
        """
        entry = self._find_entry(corpus, split, reference)
        read_pinned_members(*self._decode(entry))
        return locate_ensemble(self._files, entry).reference

    def find_all(self, corpus: str, split: int) -> list[str]:
        """Return `NAME@HASH` of all ensembles of a split, sorted; their content is not checked."""
        check_exists(self._files, self._address)
        entries = find_ensembles(self._files, ensembles_pattern(corpus, split))
        return [locate_ensemble(self._files, each).reference for each in entries]

    def find_sound(self, corpus: str, split: int) -> list[str]:
        """Return `NAME@HASH` of those ensembles of a split whose files can be used, sorted.

        The others are passed over, with a warning.
        """
        check_exists(self._files, self._address)
        entries = find_ensembles(self._files, ensembles_pattern(corpus, split))
        sound = keep_usable(entries, lambda entry: read_pinned_members(*self._decode(entry)))
        return [locate_ensemble(self._files, each).reference for each in sound]

    def read_weights(self, corpus: str, split: int, reference: str) -> dict[LogitKey, float]:
        """Return the weight of each member, if their logits have not changed since the selection.

        Raises:
            MissingEnsemble: there is no such ensemble; names those that exist.
            MissingLogits: names all members that are absent.
            EnsembleChanged: a member now has other logits.
            UnreadableFile: the file of the ensemble or of a member must not be used.
        """
        pinned = read_pinned_members(*self._read(corpus, split, reference))
        keys = [LogitKey(corpus, split, each.member) for each in pinned]
        hashes = self._read_hashes(keys)
        for key, each in zip(keys, pinned, strict=True):
            found = hashes[key]
            if found != each.logits_hash:
                raise EnsembleChanged(key, found=found, expected=each.logits_hash)
        return {key: each.weight for key, each in zip(keys, pinned, strict=True)}

    def tabulate(self) -> pa.Table:
        """Return a row for each member of each ensemble (ENSEMBLES_SCHEMA).

        Damaged files are passed over, with a warning.
        """
        return tabulate_ensembles(self._files, self._files.find(ENSEMBLES_PATTERN))

    def _read(self, corpus: str, split: int, reference: str) -> tuple[dict[str, Any], str]:
        """Return the document of an ensemble, and its address."""
        return self._decode(self._find_entry(corpus, split, reference))

    def _decode(self, entry: Entry) -> tuple[dict[str, Any], str]:
        address, data = self._files.locate(entry.name), self._files.get(entry.name)
        reference = locate_ensemble(self._files, entry).reference
        return decode_ensemble(data, reference, address), address

    def _find_entry(self, corpus: str, split: int, reference: str) -> Entry:
        """Return the file of `NAME@HASH`, or of the newest ensemble `NAME`."""
        check_exists(self._files, self._address)
        entries = self._find_entries(corpus, split, reference)
        if not entries:
            raise MissingEnsemble(
                reference,
                corpus=corpus,
                split=split,
                store=self._address,
                present=self.find_all(corpus, split),
            )
        if len(entries) == 1:
            return entries[0]
        times = read_times(self._files, entries)
        newest = [each for each, made in zip(entries, times, strict=True) if made == max(times)]
        if len(newest) > 1:
            tied = [locate_ensemble(self._files, each).reference for each in newest]
            raise TiedEnsembles(reference, corpus=corpus, split=split, tied=tied, made=max(times))
        return newest[0]

    def _find_entries(self, corpus: str, split: int, reference: str) -> list[Entry]:
        """Return the file of `NAME@HASH`, or those of all ensembles `NAME`."""
        names = [ensemble_path(corpus, split, reference)]
        if "@" not in reference:
            names.append(ensembles_pattern(corpus, split, f"{reference}@*"))
        return [entry for name in names for entry in find_ensembles(self._files, name)]
