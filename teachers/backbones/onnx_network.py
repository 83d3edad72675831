"""A network in an ONNX file as a torch module (B clips in a batch, S samples, F mel bands, T frames)."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from teachers.backbones.sources import OnnxNetwork
from teachers.errors import DamagedWeights, UnfitWeights
from teachers.fetched import hash_file


class OnnxModule(nn.Module):
    """Runs an ONNX file on the CPU: waveforms (B, S) or log-mels (B, 1, F, T) -> embedding (B, D).

    Raises:
        DamagedWeights: it is not the file that the backbone was found with.
        UnfitWeights: ONNX Runtime cannot load it.
    """

    def __init__(self, source: OnnxNetwork) -> None:
        super().__init__()
        _check_unchanged(source)
        self.source = source
        self._session = _open_session(source.file)
        self._input = self._session.get_inputs()[0].name

    def forward(self, inputs: Tensor) -> Tensor:
        """Return embeddings (B, D) on the device of the inputs.

        Raises:
            UnfitWeights: the network fails on them, or gives something else.
        """
        given = self._arrange(inputs.detach().cpu()).contiguous().numpy()
        step = self.source.n_clips or len(given)
        parts = [self._run(given[start : start + step]) for start in range(0, len(given), step)]
        return torch.from_numpy(np.concatenate(parts)).to(inputs.device)

    def _arrange(self, inputs: Tensor) -> Tensor:
        layout = self.source.layout
        if layout.endswith("TF"):
            inputs = inputs.transpose(-2, -1)
        return inputs[:, 0] if layout in ("BFT", "BTF") else inputs

    def _run(self, part: np.ndarray) -> np.ndarray:
        n_clips = len(part)
        if self.source.n_clips is not None:
            # A network for a fixed number of clips gets the first one again in place of the missing.
            missing = np.repeat(part[:1], self.source.n_clips - n_clips, axis=0)
            part = np.concatenate([part, missing])
        way_out = "Give a network whose output is an embedding of each clip, [B, D]"
        try:
            (found,) = self._session.run([self.source.output], {self._input: part})
        except Exception as error:  # ONNX Runtime's errors have no common class
            problem = f"fails on inputs {list(part.shape)}: {' '.join(str(error).split())}"
            raise UnfitWeights(str(self.source.file), problem, way_out) from error
        embeddings_BD = np.asarray(found)
        if embeddings_BD.ndim != 2 or len(embeddings_BD) != len(part):
            problem = f"gives {list(embeddings_BD.shape)} for inputs {list(part.shape)}"
            raise UnfitWeights(str(self.source.file), problem, way_out)
        return embeddings_BD[:n_clips].astype(np.float32, copy=False)


def _check_unchanged(source: OnnxNetwork) -> None:
    found = hash_file(source.file)
    if found != source.sha256:
        raise DamagedWeights(
            str(source.file),
            f"sha256 {found}, but it was {source.sha256} when the backbone was found",
            "Start the same command again",
        )


def _open_session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # It would warn of every constant that its own optimiser has made superfluous.
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        problem = f"cannot be loaded by ONNX Runtime: {' '.join(str(error).split())}"
        raise UnfitWeights(str(file), problem, "Give an ONNX file for the CPU") from error
