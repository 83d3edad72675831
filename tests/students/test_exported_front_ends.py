"""Front-ends inside of ONNX files."""

import numpy as np
import pytest
import torch
from tiny import FRONT_END

from audio.front_ends import FrontEnd
from audio.log_mel import LogMel
from students import runtime
from students.export import onnx_file

DELTAS = FrontEnd(
    sample_rate=8_000,
    n_fft=256,
    window_samples=256,
    hop_samples=100,
    mel_bands=16,
    max_hz=4_000.0,
    mel_bank="htk_slaney_norm",
    log="log10",
    log_offset=1e-10,
    standardise=True,
    delta=True,
)
EMPHASIS = FrontEnd(
    sample_rate=8_000,
    n_fft=256,
    window_samples=200,
    hop_samples=80,
    mel_bands=16,
    max_hz=3_900.0,
    mel_bank="kaldi",
    window="symmetric",
    pre_emphasis=0.97,
    shift=4.5,
    scale=5.0,
)
FACTS = {"classes": ["a", "b"], "sample_rate": 8_000, "clip_samples": 8_000}


@pytest.mark.parametrize(
    "front_end", [FRONT_END, DELTAS, EMPHASIS], ids=["plain", "deltas", "emphasis"]
)
def test_log_mels_of_the_front_end_inside_are_those_of_torch(front_end):
    model = onnx_file.convert_front_end(front_end, 8_000)
    in_file = runtime.load_exported(onnx_file.serialise(model, FACTS | {"takes_waveforms": True}))
    waveforms_BS = 0.1 * torch.randn(3, 8_000, generator=torch.Generator().manual_seed(0))
    # A pause in one clip: only the offset keeps its logarithm finite.
    waveforms_BS[0, :4_000] = 0
    expected = LogMel(front_end)(waveforms_BS).numpy()
    np.testing.assert_allclose(
        in_file.compute_logits(waveforms_BS.numpy()), expected, rtol=0, atol=1e-3
    )
    np.testing.assert_array_equal(
        in_file.compute_logits(waveforms_BS[1:2].numpy()),
        in_file.compute_logits(waveforms_BS.numpy())[1:2],
    )
