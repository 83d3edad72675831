"""Clips to listen to: those on which a student and the ensemble differ most.

Dimensions: P test clips of a split, K classes; S samples of a clip; B one clip, F mel bands,
T frames.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
from markupsafe import Markup

from audio.clips import Corpus
from audio.decoding import FULL_SCALE, decode_file
from audio.front_ends import FrontEnd
from metrics.scores import log_softmax
from report.choice import ENSEMBLE, TAUGHT
from report.featured import list_splits
from report.page.render import render
from report.parts import Figure, Section
from report.results import Results

NAME, TITLE = "listen", "Clips to listen to"
CLIPS = 8
"""How many clips are shown, each from another recording."""
MOST_BYTES = 900_000
"""The largest size of all sounds and pictures together, encoded as in the page."""
PICTURE = FrontEnd(
    sample_rate=32_000,
    n_fft=2048,
    window_samples=1024,
    hop_samples=320,
    mel_bands=96,
    max_hz=16_000,
)
"""The front-end of the pictures: a row of pixels is a mel band, a column 10 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Player:
    """The sound of a clip and a picture of it."""

    flac: str
    """Base64, as `png`."""
    png: str


def build_clips(results: Results) -> Section:
    """Build the section of clips on which student and ensemble differ most, with their sound."""
    for split in list_splits(results):
        shown = results.featured[split]
        if ENSEMBLE in shown and TAUGHT in shown:
            break
    else:
        text = "No split has both an ensemble and a student that teachers taught."
        return Section(name=NAME, title=TITLE, text=text)
    test, student, ensemble = results.clips[split], shown[TAUGHT], shown[ENSEMBLE]
    ensemble_PK = next(results.read_logits(ensemble))
    student_PK = next(results.read_logits(student))
    distance_P = divergence(ensemble_PK, student_PK)
    farthest = find_farthest(distance_P, test.recordings)
    rows = [
        _make_row(
            results.corpus, int(test.rows[p]), float(distance_P[p]), ensemble_PK[p], student_PK[p]
        )
        for p in farthest
    ]
    players, missing = _make_players(results.corpus, test.rows[farthest])
    text = (
        f"The test clips of split {split} on which {student.name} (seed {student.seeds[0]}) and "
        f"{ensemble.name} differ most, one for each recording: by the Jensen-Shannon divergence of "
        f"their class probabilities, 0 to 1 bit.{missing}"
    )
    figure = Figure(
        name="clips-to-listen-to",
        title="Where student and ensemble differ most",
        caption="One row for each clip, the largest divergence first. Sure: the probability of the "
        "answer, in percent.",
        table=pa.Table.from_pylist(rows),
    )
    # The first clips have players; there was no room for the others.
    clips = list(zip(rows, players, strict=False))
    listed = render("clips.html", clips=clips) if clips else Markup()
    return Section(name=NAME, title=TITLE, text=text, figures=(figure,), html=listed)


def divergence(first_PK: np.ndarray, second_PK: np.ndarray) -> np.ndarray:
    """Return the divergence of two systems on each clip, [P], 0...1 bit.

    The Jensen-Shannon divergence of their class probabilities, each with weight one half (Lin 1991,
    "Divergence measures based on the Shannon entropy", eq. 4.1).
    """
    logs_PK = [log_softmax(each) for each in (first_PK, second_PK)]
    middle_PK = np.logaddexp(*logs_PK) - np.log(2)
    nats_P = sum((np.exp(log_PK) * (log_PK - middle_PK)).sum(axis=1) / 2 for log_PK in logs_PK)
    return np.asarray(nats_P) / np.log(2)


def find_farthest(distance_P: np.ndarray, recordings_P: np.ndarray) -> np.ndarray:
    """Find the clips with the largest distances, one for each recording and at most `CLIPS`."""
    order = np.argsort(-distance_P, kind="stable")
    _, first = np.unique(recordings_P[order], return_index=True)
    return order[np.sort(first)[:CLIPS]]


def _make_row(
    corpus: Corpus, row: int, distance: float, ensemble_K: np.ndarray, student_K: np.ndarray
) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for who, logits_K in (("ensemble", ensemble_K), ("student", student_K)):
        probabilities_K = np.exp(log_softmax(logits_K))
        answers[f"{who} said"] = corpus.scenes[int(probabilities_K.argmax())]
        answers[f"{who} sure"] = 100 * float(probabilities_K.max())
    clip = corpus.table.slice(row, 1).to_pylist()[0]
    return {
        "clip": clip["clip_id"],
        "scene": clip["scene"],
        **answers,
        "divergence": distance,
        "recording device": clip["recording_device"],
    }


def _make_players(corpus: Corpus, rows: np.ndarray) -> tuple[list[Player], str]:
    """Make players of the first clips, as many as fit, and say why the others have none."""
    if "file" not in corpus.table.column_names:
        return [], " Their audio is not here: give its folder with --root to hear them."
    players: list[Player] = []
    n_bytes, starts_s = 0, corpus.starts_s()
    for row in rows:
        file = corpus.root / corpus.table["file"][int(row)].as_py()
        try:
            clip = decode_file(file, PICTURE.sample_rate, corpus.clip_duration_s, starts_s[row])
        except (OSError, ValueError) as error:
            return players, f" Audio that cannot be read: {error}."
        player = Player(flac=_encode_flac(clip.samples_S), png=_draw_spectrogram(clip.samples_S))
        n_bytes += len(player.flac) + len(player.png)
        if n_bytes > MOST_BYTES:
            return players, " The audio of the others is left out, as the page would be too large."
        players.append(player)
    return players, ""


def _encode_flac(samples_S: np.ndarray) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples_S, PICTURE.sample_rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()


def _draw_spectrogram(samples_S: np.ndarray) -> str:
    """Draw the log-mel spectrogram, low bands at the bottom, on a scale from its quietest cell."""
    # Imported here, as most readers of this module need neither torch nor matplotlib.
    import torch
    from matplotlib.image import imsave

    from audio.log_mel import LogMel

    samples_BS = torch.from_numpy(samples_S).to(torch.float32)[None] / FULL_SCALE
    with torch.no_grad():
        log_mel_FT = LogMel(PICTURE)(samples_BS)[0, 0].numpy()
    file = io.BytesIO()
    imsave(file, log_mel_FT, format="png", cmap="magma", origin="lower")
    return base64.b64encode(file.getvalue()).decode()
