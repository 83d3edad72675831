import subprocess
import sys

DESCRIPTIONS = [
    "audio.clips",
    "audio.corpora",
    "audio.decoding",
    "audio.errors",
    "audio.findings",
    "audio.front_ends",
    "audio.headers",
    "audio.impulse_responses",
    "audio.inspection",
    "audio.lengths",
    "audio.views",
    "audio.waveforms",
    "metrics",
    "terminal",
]
HEAVY = ["ray", "scipy", "soundfile", "soxr", "torch", "torchaudio"]


def test_only_what_computes_on_a_device_imports_heavy_libraries():
    code = f"import sys, {', '.join(DESCRIPTIONS)}; print(*set({HEAVY}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
