"""A small corpus in TAU layout, made on the spot: tones of known pitch."""

from pathlib import Path

import numpy as np
import soundfile

SCENES = {"airport": 440.0, "bus": 880.0, "park": 1760.0}
DEVICES = ("a", "b", "s1")


def write_corpus(root: Path, *, sample_rate: int = 16_000, recordings: int = 6) -> Path:
    """Write three scenes; the last recording of each is the test fold, with device s4 added."""
    rows, train, test = [], [], []
    (root / "audio").mkdir(parents=True)
    for scene, pitch_hz in SCENES.items():
        for recording in range(recordings):
            last = recording == recordings - 1
            for cut, device in enumerate((*DEVICES, "s4") if last else DEVICES):
                file = f"audio/{scene}-lyon-{pitch_hz:.0f}{recording}-0-{cut}-{device}.wav"
                noise = np.random.default_rng(len(rows)).standard_normal(sample_rate)
                seconds = np.arange(sample_rate) / sample_rate
                tone = 0.3 * np.sin(2 * np.pi * pitch_hz * seconds) + 0.05 * noise
                soundfile.write(root / file, tone, sample_rate, subtype="PCM_16")
                rows.append((file, scene, f"lyon-{pitch_hz:.0f}{recording}", device))
                (test if last else train).append((file, scene))
    write_table(root / "meta.csv", ("filename", "scene_label", "identifier", "source_label"), rows)
    (root / "split_setup").mkdir()
    lists = {"split25": train[::2], "split100": train, "test": test}
    for name, listed in lists.items():
        write_table(root / "split_setup" / f"{name}.csv", ("filename", "scene_label"), listed)
    return root


def write_table(file: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write a tab-separated file."""
    file.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))
