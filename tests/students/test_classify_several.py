"""Students whose clips may have several labels, or none, name each class by itself."""

import numpy as np
import pytest
import soundfile
from loudness import CLASSES, RATE, tone, write_model

from students.classify import __main__ as classify
from students.classify.answers import compute_probabilities, describe_answer
from students.runtime import load_exported


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "student.onnx", has_several_labels=True)


def test_probabilities_are_those_of_each_class_by_itself(model):
    logits_BK = np.array([[-1000, 1000], [0, 2]], dtype=np.float32)
    found_BK = compute_probabilities(load_exported(model), logits_BK)
    assert found_BK == pytest.approx(np.array([[0, 1], [0.5, 1 / (1 + np.exp(-2))]]))


@pytest.mark.parametrize(
    ("probabilities_K", "answer"),
    [
        ([0.9, 0.8], f"{CLASSES[0]}|{CLASSES[1]}\t0.900|0.800"),
        ([0.2, 0.7], f"{CLASSES[1]}\t0.700"),
        ([0.2, 0.5], "none of them\t0.500"),
    ],
)
def test_all_likely_classes_are_named(model, probabilities_K, answer):
    assert describe_answer(load_exported(model), np.array(probabilities_K)) == answer


def test_one_class_at_a_time_is_not_followed(model, tmp_path, capsys):
    file = tmp_path / "a.wav"
    soundfile.write(file, tone(0.5), RATE)
    words = [str(file), "--model", str(model)]
    assert classify.main(words) == 0
    assert capsys.readouterr().out == f"{file}\tloud\t1.000\n"
    assert classify.main([*words, "--hop", "0.5"]) == 1
    assert "this student names several at once: leave them out" in capsys.readouterr().err
