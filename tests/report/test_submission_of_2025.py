"""The inference package of DCASE 2025: it runs without the project, and each of its rules is broken alone."""

import json
import math
from collections.abc import Sequence
from zipfile import ZipInfo

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from dcase_package import LABEL, zipped
from tiny import FRONT_END

from audio.decoding import FULL_SCALE, decode_file
from audio.log_mel import LogMel
from logit_store import LogitKey
from logit_store.exporters import encode_csv
from report.dcase import unpack, validate_inference
from report.dcase.challenge import CHALLENGE_SCENES, COUNTED_DEVICES
from report.dcase.device_entrant import round_network
from report.dcase.inference import Predictions, make_inference_package
from report.dcase.validate_inference import Sample, check_inference_package
from report.dcase.vendor import copy_modules, list_requirements
from students import ARCHITECTURES, build
from students.complexity import measure_complexity
from students.per_device import DeviceStudents

ARGUMENTS = {
    "isotropic": {"filters": 4, "depth": 1, "patch": 4},
    "rep_mobile": {"base_channels": 8},
    "cnn_gru": {},
}
MODULE = f"Doe_UNI_task1/{LABEL}.py"
LEFT = f"predictions/{LABEL}"
DEVICES = ("a", "s9", "unknown", "a")
N_CLIPS = len(DEVICES)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips of noise of several recording devices."""
    folder = tmp_path_factory.mktemp("evaluation")
    noise = np.random.default_rng(0)
    samples = []
    for number, device in enumerate(DEVICES):
        file = folder / f"{number}.wav"
        soundfile.write(file, 0.1 * noise.standard_normal(16_000), 16_000)
        samples.append(Sample(file=file, filename=f"audio/{number}.wav", device_id=device))
    return samples


def make_package(model: str, clips: Sequence[Sample], precision: str = "fp16") -> dict[str, bytes]:
    """Return a package whose output is what its networks say by the project's own decoding."""
    torch.manual_seed(0)
    general, own = (build(model, n_classes=10, **ARGUMENTS[model]).eval() for _ in range(2))
    front_end = FRONT_END if model == "isotropic" else ARCHITECTURES[model].front_end
    students = DeviceStudents(LogitKey("tau", 25, "tiny-0"), general, {"a": own}, front_end)
    rate, log_mel = front_end.sample_rate, LogMel(front_end)
    logits = []
    for clip in clips:
        samples_S = decode_file(clip.file, rate, 1.0).samples_S.astype(np.float32) / FULL_SCALE
        network = round_network(students.find(clip.device_id), precision)
        with torch.no_grad():
            logits.append(network(log_mel(torch.from_numpy(samples_S)[None]))[0].numpy())
    names = pa.table({"clip_id": [clip.filename.removesuffix(".wav") for clip in clips]})
    output = encode_csv(np.stack(logits), names, CHALLENGE_SCENES)
    complexity = measure_complexity(general, (1, *front_end.compute_shape(rate)))
    told = Predictions(output=output, test_accuracy=50.0)
    return make_inference_package(
        LABEL, students, model, ARGUMENTS[model], CHALLENGE_SCENES, precision, complexity, told
    )


@pytest.fixture(scope="module")
def package(clips):
    return make_package("isotropic", clips)


def problems(files, clips=()):
    return [str(each) for each in check_inference_package(zipped(files), clips, N_CLIPS)]


@pytest.mark.slow
def test_the_package_runs_without_the_project_and_says_what_its_output_says(
    package, clips, monkeypatch
):
    monkeypatch.setattr(validate_inference, "TOLERANCE", 1e-5)
    assert problems(package, clips) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "precision"), [("rep_mobile", "fp16"), ("cnn_gru", "fp16"), ("isotropic", "fp32")]
)
def test_every_kind_of_network_runs_without_the_project(clips, monkeypatch, model, precision):
    monkeypatch.setattr(validate_inference, "TOLERANCE", 1e-5)
    assert problems(make_package(model, clips, precision), clips) == []


@pytest.fixture
def answered(package, monkeypatch):
    """What the package answers, made up, to be changed by tests."""
    told = json.loads(package[f"{LEFT}/complexity.json"])
    one = {"shape": [1, 1, 24, 33], "bytes": told["max_Params"], "macs": told["max_MACs"]}
    answer = {
        "networks": {device: dict(one) for device in COUNTED_DEVICES},
        "logits": [[0.0] * 10],
        "classes": list(CHALLENGE_SCENES),
    }
    monkeypatch.setattr(validate_inference, "_ask", lambda *_: answer)
    return answer


def only_problem(files):
    found = problems(files)
    assert len(found) == 1, found
    return found[0]


def test_a_package_that_keeps_the_rules_has_no_problem(package, answered):
    assert problems(package) == []


@pytest.mark.parametrize(
    "file",
    [
        "Doe_UNI_task1/__init__.py",
        "Doe_UNI_task1/resources/dummy.wav",
        "requirements.txt",
        f"{LEFT}/output.csv",
        f"{LEFT}/complexity.json",
    ],
)
def test_a_missing_file_is_named(package, answered, file):
    left = {name: content for name, content in package.items() if name != file}
    assert only_problem(left) == f"{file}: missing, expected it beside {MODULE}"


@pytest.mark.parametrize("module", ["Doe_UNI_task1.py", "Roe_UNI_task1_1.py", "Doe_UNI_task1_5.py"])
def test_a_package_without_a_module_of_its_label_is_refused(package, module):
    left = {name: content for name, content in package.items() if name != MODULE}
    left[f"Doe_UNI_task1/{module}"] = b""
    assert "holds no such module" in only_problem(left)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_MACs": 1}, "complexity.json, max_MACs: 1, expected "),
        ({"per_device": {}}, "complexity.json, per_device: nothing, expected a, b, c, s1"),
        ({"max_Params": "1"}, "complexity.json, max_Params: '1', expected per_device with"),
        ({"more": 1}, "complexity.json, more: 1, expected per_device with"),
    ],
)
def test_a_complexity_that_says_something_else_is_refused(package, answered, changes, message):
    name = f"{LEFT}/complexity.json"
    document = json.loads(package[name]) | changes
    assert message in " ".join(problems(package | {name: json.dumps(document).encode()}))


def test_networks_beyond_the_limits_are_refused(package, answered):
    answered["networks"]["s4"] |= {"bytes": 128_001, "macs": 30_000_001}
    found = problems(package)
    place = f"{MODULE}, get_model_for_device(model, 's4'): "
    assert f"{place}30,000,001 MACs, expected 1 ... 30,000,000" in found
    assert f"{place}128,001 Params, expected 1 ... 128,000" in found
    assert sum("as in complexity.json" in each for each in found) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["bus"]}, "predict: classes bus, expected airport, bus"),
        ({"logits": [[0.0] * 9]}, "predict: 1 lists of [9] logits, expected 1 of 10"),
        ({"logits": []}, "predict: 0 lists of [] logits"),
        ({"logits": [[math.nan] * 10]}, "predict: logits that are not finite"),
        ({"logits": [0.0]}, "logits.0: 0.0, expected Input should be a valid list"),
        ({"classes": [None] * 10}, "classes.0: None, expected Input should be a valid string"),
        ({"networks": 5}, "networks: 5, expected Input should be a valid dictionary"),
    ],
)
def test_predictions_of_another_form_are_refused(package, answered, changes, message):
    answered |= changes
    assert message in only_problem(package)


def test_a_package_that_fails_is_told_with_its_error(package, answered):
    answered.clear()
    answered["error"] = "ImportError: no module named students"
    assert "ImportError: no module named students" in only_problem(package)
    answered.clear()
    answered["lacking"] = ["predict(use_cuda)"]
    assert "lacks predict(use_cuda), expected the functions" in only_problem(package)


def test_rows_that_the_package_does_not_predict_are_refused(package, answered, clips):
    answered["logits"] = [[9.0, *[0.0] * 9]] * N_CLIPS
    found = problems(package, clips)
    assert len(found) == N_CLIPS
    assert "predict('audio/0.wav', 'a'): probabilities that differ by" in found[0]


@pytest.mark.parametrize("output", [b"\xff", b"filename\n"])
def test_an_output_that_cannot_be_read_is_not_compared(package, answered, clips, output):
    answered["logits"] = [[0.0] * 10] * N_CLIPS
    (problem,) = problems(package | {f"{LEFT}/output.csv": output}, clips)
    assert problem.startswith(f"{LEFT}/output.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"Test Accuracy": 101}', "Test Accuracy: 101, expected a percentage, 0 ... 100"),
        (b'{"Test Accuracy": true}', "Test Accuracy: True, expected a percentage, 0 ... 100"),
        (b"[" * 100_000, "expected JSON"),
    ],
)
def test_an_accuracy_that_is_no_percentage_is_refused(package, answered, content, message):
    assert only_problem(package | {f"{LEFT}/test_accuracy.json": content}).endswith(message)


def make_link():
    link = ZipInfo("Doe_UNI_task1/link")
    link.external_attr = 0o120777 << 16
    return link


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("../out.txt", "path '../out.txt', expected one below the folder"),
        ("/out.txt", "path '/out.txt', expected one below the folder"),
        (make_link(), "expected a file, not a link to one"),
        ("Doe_UNI_task1", "is a file and a folder, expected one of the two"),
        ("n" * 256, "expected names of at most 255 bytes"),
    ],
)
def test_a_file_that_is_not_where_its_name_says_is_refused(package, answered, entry, message):
    assert message in only_problem(package | {entry: b"x"})


def test_a_package_that_unpacks_to_more_than_fits_is_refused_unread(package, answered, monkeypatch):
    monkeypatch.setattr(unpack, "MOST_BYTES", 1_000)
    assert "bytes, expected at most 1,000" in only_problem(package)


@pytest.mark.parametrize(
    ("printed", "message"),
    [("print(5)", "no answer, and the exit code 3"), ("print('{}')", "no answer, expected")],
)
def test_a_module_that_answers_for_itself_is_refused(package, printed, message):
    module = f"{printed}\nimport os, sys\nsys.stdout.flush()\nos._exit(3)\n"
    assert message in only_problem(package | {MODULE: module.encode()})


def test_modules_are_copied_with_all_that_they_import_and_nothing_else_of_the_project():
    copied = copy_modules(["students.recursive"], "Doe.models")
    assert {str(path) for path in copied} == {
        "audio/augment.py",
        "students/isotropic.py",
        "students/recursive.py",
        "students/student.py",
    }
    text = copied[next(path for path in copied if path.name == "recursive.py")]
    assert "from Doe.models.students.isotropic import" in text
    assert list_requirements(
        ["import torch\nfrom audio.clips import Corpus\nimport os.path\nimport Doe.x"], "Doe"
    ) == ["torch"]


def test_a_module_that_needs_a_whole_package_cannot_be_copied():
    with pytest.raises(ValueError, match="students.distill imports .* expected"):
        copy_modules(["students.distill"], "Doe.models")
