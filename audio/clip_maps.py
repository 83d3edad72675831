"""Gather decoded clips of one corpus, or of a corpus and its pools, onto a device.

Dimensions: B clips in a batch, N clips of all corpora, S samples of a clip.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from audio import augment
from audio.waveforms import Waveforms

RESIDENT_SHARE = 0.25
"""Corpora are kept in GPU memory if they take at most this share of what this process may use; the
model and its batch need the rest. TAU at 32 kHz is 14.7 GB."""
UPLOAD_BYTES = 256 * 1024**2
"""Part of a corpus that is copied to the GPU at a time."""


class ClipMaps:
    """Decoded clips, numbered through: those of the first map, then some of each other one.

    Args:
        maps: The decoded clips; all have the same number of samples.
        rows: Which clips of each map but the first take part, int64; all of the first do.
        device: Where the clips go.

    Raises:
        ValueError: The clips of two maps have different numbers of samples.
    """

    def __init__(
        self, maps: Sequence[Waveforms], rows: Sequence[np.ndarray], device: torch.device
    ) -> None:
        self._device = device
        self._maps = [each.samples_NS for each in maps]
        self.clip_samples = self._maps[0].shape[1]
        sizes = {each.shape[1] for each in self._maps}
        if len(sizes) > 1:
            raise ValueError(f"clips of {sorted(sizes)} samples, expected one number for all maps")
        self._rows = [np.arange(len(self._maps[0])), *rows]
        self._starts = np.cumsum([0, *map(len, self._rows)])
        self._residents = list(_upload(self._maps, device))

    def gather(self, rows_B: np.ndarray) -> Tensor:
        """Return clips by their numbers, on the device, int16 [B, S]."""
        if len(self._maps) == 1:
            return self._gather_from(0, rows_B)
        parts = list(self.split(rows_B))
        if len(parts) == 1:
            number, _, rows = parts[0]
            return self._gather_from(number, rows)
        if not any(self._residents[number] is not None for number, *_ in parts):
            # One copy to the device for all, in the order of the batch.
            samples_BS = np.empty((len(rows_B), self.clip_samples), dtype=np.int16)
            for number, places, rows in parts:
                samples_BS[places] = self._maps[number][rows]
            return augment.to_device(torch.from_numpy(samples_BS), self._device)
        gathered = torch.cat([self._gather_from(number, rows) for number, _, rows in parts])
        order_B = np.argsort(np.concatenate([places for _, places, _ in parts]))
        return gathered.index_select(0, self._send(order_B))

    def split(self, rows_B: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield, for each map that a batch has clips of: its number, their places in the batch, rows."""
        map_B = np.searchsorted(self._starts, rows_B, side="right") - 1
        for number in np.unique(map_B).tolist():
            places = np.flatnonzero(map_B == number)
            yield number, places, self._rows[number][rows_B[places] - self._starts[number]]

    def _gather_from(self, number: int, rows: np.ndarray) -> Tensor:
        resident_NS = self._residents[number]
        if resident_NS is not None:
            return resident_NS.index_select(0, self._send(rows))
        return augment.to_device(torch.from_numpy(self._maps[number][rows]), self._device)

    def _send(self, rows: np.ndarray) -> Tensor:
        return augment.to_device(torch.from_numpy(rows), self._device)


def _upload(maps: Sequence[np.ndarray], device: torch.device) -> Iterator[Tensor | None]:
    """Copy all clips of maps to the device's memory, int16 [N, S]; None for those that stay behind."""
    left_bytes = 0.0
    if device.type == "cuda":
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        allowed_bytes = torch.cuda.get_per_process_memory_fraction(device.index) * total_bytes
        left_bytes = RESIDENT_SHARE * min(free_bytes, allowed_bytes)
    for samples_NS in maps:
        if device.type != "cuda" or samples_NS.nbytes > left_bytes:
            yield None
            continue
        left_bytes -= samples_NS.nbytes
        resident_NS = torch.empty(samples_NS.shape, dtype=torch.int16, device=device)
        n_at_a_time = max(1, UPLOAD_BYTES // samples_NS[:1].nbytes)
        for start in range(0, len(samples_NS), n_at_a_time):
            part = np.array(samples_NS[start : start + n_at_a_time])
            resident_NS[start : start + len(part)] = torch.from_numpy(part)
        yield resident_NS
