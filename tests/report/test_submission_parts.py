"""The parts of a submission, compared with golden figures."""

import csv
import io
import json
from pathlib import Path
from zipfile import ZipFile

import dcase_package
import numpy as np
import pyarrow as pa
import pytest
import yaml
from dcase_package import LABEL, TEXTS

from audio.clips import Corpus, build_clips_table
from logit_store.exporters import encode_csv
from report.dcase.challenge import (
    CHALLENGE_SCENES,
    OUTPUT_COLUMNS,
    RECORDING_DEVICES,
    name_output,
)
from report.dcase.development import score_development
from report.dcase.meta import SubmissionError, read_texts, write_meta
from report.dcase.package import pack_system
from report.dcase.validate_meta import check_meta
from report.dcase.validate_output import check_output
from students.complexity import Complexity

GOLDEN = Path(__file__).parents[1] / "golden" / "students"
SPLITS = (5, 10, 25, 50, 100)


@pytest.fixture(scope="module")
def predictions():
    """Return true scenes, devices and logits of 75 clips."""
    with (GOLDEN / "metrics_predictions.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    files = [row["filename"] for row in rows]
    scenes = [row["scene_label"] for row in rows]
    logits_NK = np.array(
        [[float(row[f"logit_{scene}"]) for scene in CHALLENGE_SCENES] for row in rows]
    )
    return files, scenes, logits_NK


def corpus_of(files, scenes, devices=None):
    """Return the clips as the test fold of split 25."""
    table = build_clips_table(files, files, scenes, files, {25: ["test"] * len(files)})
    devices = devices or [file.removesuffix(".wav").rpartition("-")[2] for file in files]
    place = table.column_names.index("recording_device")
    return Corpus(
        "tau", Path("tau"), table.set_column(place, "recording_device", pa.array(devices))
    )


def test_results_are_the_golden_figures_in_percent_and_nats(predictions):
    files, scenes, logits_NK = predictions
    expected = json.loads((GOLDEN / "metrics_expected.json").read_text())
    results = score_development(corpus_of(files, scenes), 25, logits_NK)
    # Rounded to four digits.
    close = {"abs": 0.5e-4}
    macro = expected["macro_avg_accuracy"]
    assert results["overall"]["accuracy"] == pytest.approx(100 * macro, **close)
    assert results["overall"]["logloss"] == pytest.approx(expected["logloss"], **close)
    for told, groups in (("class_wise", CHALLENGE_SCENES), ("device_wise", RECORDING_DEVICES)):
        assert tuple(results[told]) == groups
        for group, figures in expected[told].items():
            assert results[told][group]["accuracy"] == pytest.approx(100 * figures["acc"], **close)
            assert results[told][group]["logloss"] == pytest.approx(figures["logloss"], **close)


def test_results_need_test_clips_of_every_device(predictions):
    files, scenes, logits_NK = predictions
    corpus = corpus_of(files, scenes, ["a"] * len(files))
    with pytest.raises(SubmissionError, match="recording devices a, expected a, b, c, s1"):
        score_development(corpus, 25, logits_NK)


def test_results_need_the_ten_scenes(predictions):
    files, scenes, logits_NK = predictions
    corpus = corpus_of(files, [scene.replace("tram", "bus") for scene in scenes])
    with pytest.raises(SubmissionError, match="scenes airport, bus, .* expected airport, bus"):
        score_development(corpus, 25, logits_NK[:, :9])


def test_predictions_are_written_as_in_the_golden_example(predictions):
    logits_NK = predictions[2][:5]
    clips = pa.table({"clip_id": [str(n) for n in range(5)]})
    written = encode_csv(logits_NK, clips, CHALLENGE_SCENES)
    golden = (GOLDEN / "submission_example.csv").read_bytes()
    assert list(check_output("written", written, 5)) == []
    assert list(check_output("golden", golden, 5)) == []
    ours, theirs = rows_of(written), rows_of(golden)
    assert list(ours[0]) == list(theirs[0]) == list(OUTPUT_COLUMNS)
    for our, their in zip(ours, theirs, strict=True):
        assert our["filename"] == their["filename"]
        assert our["scene_label"] == their["scene_label"]
        for scene in CHALLENGE_SCENES:
            # The example has six digits.
            assert float(our[scene]) == pytest.approx(float(their[scene]), abs=0.5e-6 + 1e-9)


def rows_of(content):
    return list(csv.DictReader(io.StringIO(content.decode()), delimiter="\t"))


def described(texts, complexity=None):
    small = Complexity(macs=20_000_000, params=40_000, peak_activations=1)
    result = dcase_package.meta()["results"]["development_dataset"]["split_5"]
    return write_meta(
        texts,
        label=LABEL,
        sample_rates={32_000},
        complexity=complexity or [(small, 80_000)],
        results={f"split_{split}": result for split in SPLITS},
    )


def test_texts_and_measured_values_are_a_whole_description():
    content = described(TEXTS)
    assert list(check_meta("meta", content, LABEL)) == []
    told = yaml.safe_load(content)
    assert told["submission"]["name"] == "Small student"
    assert told["system"]["description"]["input_sampling_rate"] == "32kHz"
    assert told["system"]["complexity"] == {
        "total_model_size": 80_000,
        "total_parameters": 40_000,
        "macs": 20_000_000,
    }


def test_the_largest_figure_of_all_splits_counts():
    wide = Complexity(macs=10_000_000, params=60_000, peak_activations=1)
    deep = Complexity(macs=29_000_000, params=30_000, peak_activations=1)
    told = yaml.safe_load(described(TEXTS, [(wide, 60_000), (deep, 120_000)]))
    assert told["system"]["complexity"] == {
        "total_model_size": 120_000,
        "total_parameters": 60_000,
        "macs": 29_000_000,
    }


def test_all_missing_texts_are_reported_at_once():
    texts = {"submission": {"name": "x", "authors": []}, "system": {"description": {}}}
    places = [problem.place for problem in check_meta("mine.yaml", described(texts), LABEL)]
    assert places[:3] == [
        "submission.abbreviation",
        "submission.authors",
        "system.description.acoustic_features",
    ]
    assert places[-2:] == ["system.external_datasets", "system.source_code"]


@pytest.mark.parametrize(
    ("texts", "refusal"),
    [
        ({"results": 7}, "results: 7, expected keys below it"),
        ({"system": {"complexity": {"macs": 1}}}, "system.complexity.macs: 1, expected nothing"),
        ({"submission": None}, "submission: None, expected keys below it"),
    ],
)
def test_texts_cannot_replace_what_is_measured(texts, refusal):
    with pytest.raises(SubmissionError) as refused:
        described(texts)
    assert str(refused.value).startswith(refusal)


@pytest.mark.parametrize(
    ("content", "refusal"), [("a: [", "not YAML"), ("- a", "expected the keys submission and sys")]
)
def test_texts_that_are_not_a_mapping_are_refused(tmp_path, content, refusal):
    file = tmp_path / "meta.yaml"
    file.write_text(content)
    with pytest.raises(SubmissionError, match=rf"meta\.yaml: .*{refusal}"):
        read_texts(file)


def test_the_same_parts_make_the_same_package():
    parts = (LABEL, b"meta", {name_output(LABEL, 5): b"five"}, b"%PDF")
    package = pack_system(*parts)
    assert package == pack_system(*parts)
    with ZipFile(io.BytesIO(package)) as archive:
        assert archive.read(f"task1/{LABEL}/{LABEL}.output.split_5.csv") == b"five"
        assert archive.read(f"task1/{LABEL}/{LABEL}.meta.yaml") == b"meta"
        assert archive.read("task1/Doe_UNI_task1.technical_report.pdf") == b"%PDF"
