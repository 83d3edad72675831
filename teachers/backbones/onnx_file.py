"""What an ONNX file takes and gives, read from its head; needs neither torch nor ONNX Runtime.

B clips in a batch, S samples of a clip, F mel bands, T frames, D embedding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audio import front_ends
from audio.front_ends import FrontEnd
from teachers.backbones.errors import UnknownBackbone
from teachers.backbones.sources import OnnxLayout, OnnxNetwork
from teachers.errors import MissingWeights, UnfitWeights
from teachers.fetched import hash_file

if TYPE_CHECKING:
    import onnx

EMBEDDINGS = ("embedding", "embeddings")
"""An output of one of these names is taken if there are several."""
FRONT_ENDS = {
    name.lower(): value for name, value in vars(front_ends).items() if isinstance(value, FrontEnd)
}
"""The published front-ends by name."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxInput:
    """What an ONNX file does not say of its input."""

    sample_rate: int | None = None
    """Of a network that takes waveforms, in Hz."""
    front_end: str | None = None
    """Of a network that takes log-mels: one of FRONT_ENDS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxShapes:
    """What was found in a file, with what the caller says of its input."""

    network: OnnxNetwork
    sample_rate: int
    front_end: FrontEnd | None
    n_samples: int | None
    """The only length of a clip that it takes; None if it takes any."""


def read_onnx(name: str, file: Path, given: OnnxInput) -> OnnxShapes:
    """Read a file's shapes and hash it.

    Args:
        name: of the backbone, for messages.
        file: of one network, with its weights inside.
        given: what the file does not say.

    Raises:
        MissingWeights: there is no such file.
        UnfitWeights: it is no ONNX file, or takes or gives other shapes.
        UnknownBackbone: rate or front-end are missing or wrong.
    """
    if not file.is_file():
        raise MissingWeights(str(file), "there is no such file", "Give onnx:FILE, an ONNX file")
    graph = _read_graph(file)
    input_name, shape = _find_input(graph, file)
    output = _find_output(graph, file)
    if len(shape) == 2:
        if given.sample_rate is None:
            raise UnknownBackbone(
                f"backbone {name}: its input {input_name} is waveforms, whose sample rate the file "
                "does not say: give --onnx-rate HZ"
            )
        layout, rate, front_end, n_samples = "BS", given.sample_rate, None, shape[1]
    else:
        front_end = _find_front_end(name, given)
        layout, n_frames = _find_layout(shape, front_end, file)
        rate = front_end.sample_rate
        n_samples = None if n_frames is None else count_samples(front_end, n_frames)
    network = OnnxNetwork(
        file=file.resolve(),
        sha256=hash_file(file),
        layout=layout,
        n_clips=shape[0],
        output=output,
    )
    return OnnxShapes(network=network, sample_rate=rate, front_end=front_end, n_samples=n_samples)


def count_samples(front_end: FrontEnd, n_frames: int) -> int:
    """Return a number of samples that a front-end turns into so many frames."""
    # In the middle of those that do, so that the rounding of a duration changes nothing.
    extra = front_end.hop_samples // 2 + (front_end.pre_emphasis is not None)
    return (n_frames - 1) * front_end.hop_samples + extra


def _read_graph(file: Path) -> "onnx.GraphProto":
    # It takes longer to import than the rest of a plan.
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's errors have no common class
        raise UnfitWeights(str(file), f"is no ONNX file: {error}", "Give an ONNX file") from error
    outside = [
        each.name
        for each in model.graph.initializer
        if each.data_location == onnx.TensorProto.EXTERNAL
    ]
    if outside:
        raise UnfitWeights(
            str(file),
            f"has weights in other files ({outside[0]}), which its hash does not cover",
            "Save it as one file: onnx.save(onnx.load(FILE), ONE_FILE)",
        )
    return model.graph


def _find_input(graph: "onnx.GraphProto", file: Path) -> tuple[str, Shape]:
    weights = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in weights]
    way_out = "Give a network with one float32 input: waveforms [B, S] or log-mels [B, F, T], [B, 1, F, T]"
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise UnfitWeights(str(file), f"has {len(inputs)} inputs ({names}), expected 1", way_out)
    tensor, shape = inputs[0].type.tensor_type, _read_shape(inputs[0])
    if tensor.elem_type != 1:
        raise UnfitWeights(str(file), f"input {inputs[0].name} is not float32", way_out)
    if len(shape) not in (2, 3, 4):
        said = format_shape(shape)
        raise UnfitWeights(str(file), f"input {inputs[0].name} has shape {said}", way_out)
    return inputs[0].name, shape


def _find_output(graph: "onnx.GraphProto", file: Path) -> str:
    way_out = (
        "Give a network with one output, or one named embedding: an embedding of each clip, [B, D]"
    )
    named = [each for each in graph.output if each.name in EMBEDDINGS]
    outputs = named if len(graph.output) > 1 else list(graph.output)
    if len(outputs) != 1:
        names = ", ".join(each.name for each in graph.output) or "none"
        raise UnfitWeights(str(file), f"has {len(graph.output)} outputs ({names})", way_out)
    has_shape = outputs[0].type.tensor_type.HasField("shape")
    if has_shape and len(shape := _read_shape(outputs[0])) != 2:
        said = format_shape(shape)
        raise UnfitWeights(str(file), f"output {outputs[0].name} has shape {said}", way_out)
    return outputs[0].name


def _read_shape(value: "onnx.ValueInfoProto") -> Shape:
    """Return a shape; None for a dimension of any size."""
    return tuple(each.dim_value or None for each in value.type.tensor_type.shape.dim)


def format_shape(shape: Shape) -> str:
    """Return a shape as text, with ? for a dimension of any size."""
    return "[" + ", ".join("?" if each is None else str(each) for each in shape) + "]"


def _find_front_end(name: str, given: OnnxInput) -> FrontEnd:
    listed = ", ".join(FRONT_ENDS)
    if given.front_end not in FRONT_ENDS:
        found = "the file does not say which" if given.front_end is None else given.front_end
        raise UnknownBackbone(
            f"backbone {name}: it takes log-mels, front-end {found}, expected one of {listed}: give "
            "--onnx-front-end NAME"
        )
    front_end = FRONT_ENDS[given.front_end]
    if given.sample_rate not in (None, front_end.sample_rate):
        raise UnknownBackbone(
            f"backbone {name}: rate {given.sample_rate} Hz, but front-end {given.front_end} is at "
            f"{front_end.sample_rate} Hz: leave the rate out"
        )
    return front_end


def _find_layout(shape: Shape, front_end: FrontEnd, file: Path) -> tuple[OnnxLayout, int | None]:
    """Return the order of dimensions, and the only number of frames if there is only one."""
    n_bands, (first, second) = front_end.mel_bands, shape[-2:]
    fits = front_end.channels == 1 and (len(shape) == 3 or shape[1] in (None, 1))
    # A dimension of any size may be bands, unless the other one says that it is.
    if fits and (first == n_bands or (first is None and second != n_bands)):
        return ("BFT" if len(shape) == 3 else "B1FT"), second
    if fits and second in (None, n_bands):
        return ("BTF" if len(shape) == 3 else "B1TF"), first
    raise UnfitWeights(
        str(file),
        f"takes inputs {format_shape(shape)}, and the front-end gives {front_end.channels} "
        f"channel(s) of {n_bands} mel bands",
        "Name the front-end that it was taught with: --onnx-front-end NAME",
    )
