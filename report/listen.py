"""Clips to listen to: those of which a student thinks least like the ensemble.

Dimensions: P test clips of a split, K classes; S samples of a clip; B one clip, F mel bands,
T frames.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import torch
from matplotlib.image import imsave

from audio.clips import Corpus
from audio.log_mel import FrontEnd, LogMel
from audio.waveforms import FULL_SCALE, decode_file
from metrics.scores import log_softmax
from report.featured import ENSEMBLE, TAUGHT, featured, splits_of
from report.parts import Figure, Section
from report.results import Results

NAME, TITLE = "listen", "Clips to listen to"
CLIPS = 8
"""So many are shown, of as many recordings."""
MOST_BYTES = 900_000
"""Of all sounds and pictures together, as the page has them."""
PICTURE = FrontEnd(
    sample_rate=32_000,
    n_fft=2048,
    window_samples=1024,
    hop_samples=320,
    mel_bands=96,
    max_hz=16_000,
)
"""What the pictures show: a row of pixels a band, a column 10 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Player:
    """A clip's sound, and a picture of it."""

    flac: bytes
    png: bytes


def listen(results: Results) -> Section:
    """The clips on which student and ensemble differ most, with their sound if it is here."""
    for split in splits_of(results):
        shown = featured(results, split)
        if ENSEMBLE in shown and TAUGHT in shown:
            break
    else:
        text = "No split has both an ensemble and a student that learnt from teachers."
        return Section(name=NAME, title=TITLE, text=text)
    test, student, ensemble = results.clips[split], shown[TAUGHT], shown[ENSEMBLE]
    ensemble_PK = next(results.logits(ensemble))
    student_PK = next(results.logits(student))
    distance_P = divergence(ensemble_PK, student_PK)
    chosen = apart(distance_P, test.recordings)
    rows = [
        _row(results.corpus, int(test.rows[p]), float(distance_P[p]), ensemble_PK[p], student_PK[p])
        for p in chosen
    ]
    players, missing = _players(results.corpus, test.rows[chosen])
    text = (
        f"The test clips of split {split} on which {student.name} (seed {student.seeds[0]}) and "
        f"{ensemble.name} differ most, one a recording: by the Jensen-Shannon divergence of their "
        f"class probabilities, 0 to 1 bit.{missing}"
    )
    figure = Figure(
        name="clips-to-listen-to",
        title="Where student and ensemble differ most",
        caption="A row a clip, the largest divergence first; how sure each was, in percent.",
        table=pa.Table.from_pylist(rows),
    )
    listed = _page(rows, players)
    return Section(name=NAME, title=TITLE, text=text, figures=(figure,), html=listed)


def divergence(first_PK: np.ndarray, second_PK: np.ndarray) -> np.ndarray:
    """How differently two systems think of each clip, [P], 0...1 bit.

    Jensen-Shannon divergence of their class probabilities, each weighing half (Lin 1991,
    "Divergence measures based on the Shannon entropy", eq. 4.1).
    """
    logs_PK = [log_softmax(each) for each in (first_PK, second_PK)]
    middle_PK = np.logaddexp(*logs_PK) - np.log(2)
    nats_P = sum((np.exp(log_PK) * (log_PK - middle_PK)).sum(axis=1) / 2 for log_PK in logs_PK)
    return np.asarray(nats_P) / np.log(2)


def apart(distance_P: np.ndarray, recordings_P: np.ndarray) -> np.ndarray:
    """The clips with the largest distances, one a recording and at most `CLIPS`."""
    order = np.argsort(-distance_P, kind="stable")
    _, first = np.unique(recordings_P[order], return_index=True)
    return order[np.sort(first)[:CLIPS]]


def _row(
    corpus: Corpus, row: int, distance: float, ensemble_K: np.ndarray, student_K: np.ndarray
) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for who, logits_K in (("ensemble", ensemble_K), ("student", student_K)):
        probabilities_K = np.exp(log_softmax(logits_K))
        said[f"{who} said"] = corpus.scenes[int(probabilities_K.argmax())]
        said[f"{who} sure"] = 100 * float(probabilities_K.max())
    told = corpus.table.slice(row, 1).to_pylist()[0]
    return {
        "clip": told["clip_id"],
        "scene": told["scene"],
        **said,
        "divergence": distance,
        "recording device": told["recording_device"],
    }


def _players(corpus: Corpus, rows: np.ndarray) -> tuple[list[Player], str]:
    """Those of the first clips, as many as there is room for, and why there are not more."""
    if "file" not in corpus.table.column_names:
        return [], " Their audio is not here: name its folder with --root to hear them."
    players: list[Player] = []
    n_bytes, starts_s = 0, corpus.starts_s()
    for row in rows:
        file = corpus.root / corpus.table["file"][int(row)].as_py()
        try:
            samples_S, _, _ = decode_file(
                file, PICTURE.sample_rate, corpus.clip_duration_s, starts_s[row]
            )
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            return players, f" Audio that cannot be read: {error}."
        player = Player(flac=_flac(samples_S), png=_picture(samples_S))
        n_bytes += len(_inline(player.flac)) + len(_inline(player.png))
        if n_bytes > MOST_BYTES:
            return players, " The audio of the others is left out: the page would be too large."
        players.append(player)
    return players, ""


def _flac(samples_S: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples_S, PICTURE.sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _picture(samples_S: np.ndarray) -> bytes:
    """The log-mel spectrogram, low bands at the bottom, from its quietest to its loudest cell."""
    samples_BS = torch.from_numpy(samples_S).to(torch.float32)[None] / FULL_SCALE
    with torch.no_grad():
        log_mel_FT = LogMel(PICTURE)(samples_BS)[0, 0].numpy()
    file = io.BytesIO()
    imsave(file, log_mel_FT, format="png", cmap="magma", origin="lower")
    return file.getvalue()


def _inline(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _page(rows: Sequence[dict[str, Any]], players: Sequence[Player]) -> str:
    """A list of clips; empty where there is nothing to hear."""
    if not players:
        return ""
    # The first ones have players: there was no room for more.
    heard = zip(rows, players, strict=False)
    return f'<ul class="clips">{"".join(_clip(*each) for each in heard)}</ul>'


def _clip(row: dict[str, Any], player: Player) -> str:
    told = {name: html.escape(str(value)) for name, value in row.items()}
    return (
        f'<li class="clip"><h3>{told["scene"]}</h3>'
        f'<img src="data:image/png;base64,{_inline(player.png)}" '
        f'alt="Log-mel spectrogram of {told["clip"]}: time to the right, 0 to 16 kHz upwards">'
        f'<audio controls preload="none" aria-label="{told["clip"]}" '
        f'src="data:audio/flac;base64,{_inline(player.flac)}"></audio>'
        f"<dl><dt>ensemble</dt><dd>{told['ensemble said']}, {row['ensemble sure']:.0f} % sure</dd>"
        f"<dt>student</dt><dd>{told['student said']}, {row['student sure']:.0f} % sure</dd>"
        f"<dt>recorded by</dt><dd>{told['recording device']}</dd>"
        f"<dt>divergence</dt><dd>{row['divergence']:.2f} bit</dd></dl></li>"
    )
