"""A backbone as a value: its name, what it takes, and where its weights are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audio.clips import Corpus
from audio.errors import UnfitLength
from audio.front_ends import FrontEnd
from audio.lengths import ClipLength
from logit_store import name_member
from teachers.backbones.errors import LeakyBackbone
from teachers.backbones.sources import OnnxNetwork, Source
from teachers.errors import UnfitClips

if TYPE_CHECKING:
    import torch

    from logit_store import LogitStore
    from teachers.backbones.opened import OpenBackbone


@dataclass(frozen=True, kw_only=True, slots=True)
class LearntFrom:
    """Whose labels a backbone has learnt."""

    corpus: str
    split: int | None
    """The only split that it is honest on; None: it knows labels that every split keeps back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """A frozen network that turns clips into embeddings; it can be pickled, and holds no weights."""

    name: str
    """As people type it."""
    source: Source
    identity: Mapping[str, Any]
    """Everything that changes an embedding of a clip, for a fingerprint: weights, front-end, length,
    pooling. Weights are named by their SHA-256, or by their address if they may not be here yet."""
    sample_rate: int
    """Of the waveforms, in Hz."""
    front_end: FrontEnd | None
    """How a waveform becomes a log-mel; None if the network takes waveforms."""
    length: ClipLength | None = None
    """How all clips are brought to a length; None: see `choose_length`."""
    shortest_s: float | None = None
    """Shorter clips are repeated to this duration; None if it takes any."""
    longest_s: float | None = None
    """Longer clips are cropped to this duration; None if it takes any."""
    pooling: str
    """How a clip's frames become one embedding, for the record."""
    licence: str | None = None
    """Of the weights; None if nobody states one."""
    learnt_from: tuple[LearntFrom, ...] = ()
    """Empty: of no corpus that has a name here. A teacher has learnt what it started from, too."""

    @property
    def label(self) -> str:
        """The name as a part of paths; that of a file without its folder, which differs between machines."""
        source = self.source
        name = f"onnx_{source.file.stem}" if isinstance(source, OnnxNetwork) else self.name
        return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_")

    def choose_length(self, clip_duration_s: float) -> ClipLength:
        """Return how clips of a duration are brought to one that the network takes."""
        if self.length is not None:
            return self.length
        if self.shortest_s is not None and clip_duration_s < self.shortest_s:
            return ClipLength(how="repeat", duration_s=self.shortest_s)
        if self.longest_s is not None and clip_duration_s > self.longest_s:
            return ClipLength(how="crop", duration_s=self.longest_s)
        return ClipLength()

    def check_clips(self, corpus: Corpus) -> None:
        """Make sure that the network takes a corpus's clips, before anything runs.

        Raises:
            UnfitClips: it does not; says why.
        """
        try:
            length = self.choose_length(corpus.clip_duration_s)
            n_samples = length.count_samples(corpus.clip_duration_s, self.sample_rate)
            if self.front_end is not None:
                self.front_end.count_frames(n_samples)
        except (UnfitLength, ValueError) as error:
            raise UnfitClips(
                f"backbone {self.name}: clips of {corpus.clip_duration_s:g} s (corpus "
                f"{corpus.name}) do not fit it: {error}"
            ) from error

    def open(self, device: "torch.device", store: "LogitStore | None" = None) -> "OpenBackbone":
        """Load the network, frozen, onto a device.

        Args:
            device: where it runs; ONNX networks run on the CPU all the same.
            store: holds a stored teacher's weights, and records what a downloaded file was.

        Raises:
            MissingWeights: the weights are not on this machine and cannot be fetched.
            DamagedWeights: they are not those that the backbone was found with.
            LogitStoreError: the store has no such weights, or they have changed.
        """
        # torch takes seconds to import, and plans do without.
        from teachers.backbones.opened import open_network

        return open_network(self.source, device, store)


def name_backbone(backbone: Backbone) -> str:
    """Return `label-fingerprint`, under which the store keeps the backbone's embeddings."""
    return name_member(backbone.label, backbone.identity)


def check_learnt(
    backbone: Backbone, corpus: str, split: int, *, cross_fit: int | None = None
) -> None:
    """Make sure that a backbone knows no labels that are kept from members on its embeddings.

    A teacher that learnt split 5 may have learnt clips that are `select` in split 25. Heads that leave
    out parts of `fit` in turn would still hear a backbone that has learnt all of it.

    Args:
        backbone: the backbone.
        corpus: name of the corpus.
        split: 5, 10, 25, 50 or 100.
        cross_fit: number of heads that leave out parts of `fit` in turn; None: one head learns all of it.

    Raises:
        LeakyBackbone: it does.
    """
    for known in backbone.learnt_from:
        if known.corpus == corpus:
            _refuse_known(backbone, known, split, cross_fit)


def _refuse_known(backbone: Backbone, known: LearntFrom, split: int, cross_fit: int | None) -> None:
    learnt = "all training clips" if known.split is None else f"split {known.split}"
    way_out = "use another backbone"
    if known.split == split:
        if cross_fit is None:
            return
        kept = f"--cross-fit {cross_fit} keeps back"
        way_out = f"leave out --cross-fit, or {way_out}"
    else:
        kept = f"split {split} keeps back"
        if known.split is not None:
            way_out = f"give --splits {known.split}, or {way_out}"
    raise LeakyBackbone(
        f"backbone {backbone.name} has learnt {learnt} of corpus {known.corpus}, with labels that {kept}: "
        f"{way_out}"
    )
