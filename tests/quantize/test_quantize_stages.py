"""The two stages end to end, entry with the user's own file, and determinism."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from earshot.core.errors import ArtifactError, EarshotError, ModelError, UsageError
from earshot.core.files import sha256_file
from earshot.quantize.c import generate
from earshot.quantize.convert import ConvertConfig, convert_model
from earshot.quantize.entry import EntryConfig, quantize_tensorflow, quantize_tflite
from earshot.quantize.export import export_float
from earshot.quantize.graph import load_flatbuffer, operator_name, pack_flatbuffer, read_graph
from earshot.quantize.metadata import read_description
from earshot.quantize.plan import QuantizeConfig, quantize_model, read_plan
from earshot.quantize.standard import standardise

SHORT = QuantizeConfig(parity_seconds=0.1)
PAIRS = {"args_1": "output_1", "args_2": "output_2", "args_3": "output_3"}


@pytest.fixture(scope="module")
def plan(lookback, features, tmp_path_factory):
    return quantize_model(lookback.model, features, tmp_path_factory.mktemp("plan"), SHORT, network="lookback")


@pytest.fixture(scope="module")
def report(plan, features, tmp_path_factory):
    config = ConvertConfig(name="student", parity_seconds=0.1)
    return convert_model(plan.directory, tmp_path_factory.mktemp("files"), config, features)


def test_a_plan_is_read_back_as_it_was_written(plan):
    assert read_plan(plan.directory) == plan
    assert {file.name for file in plan.directory.iterdir()} == {
        "float32.tflite",
        "float32.json",
        "ranges.json",
        "precision.json",
        "parity.json",
    }
    assert plan.parity.float32.max_abs <= 1e-5
    assert read_description(plan.float_path).network == "lookback"


def test_every_variant_is_whole(plan, report):
    assert list(report.variants) == ["float32", "int8", "int16x8"]
    for precision, variant in report.variants.items():
        assert variant.path.name == f"student.{precision}.tflite"
        description = read_description(variant.path)
        assert description.precision == precision
        assert json.loads(variant.path.with_suffix(".json").read_text()) == description.to_json()
        measured = {measurement.metric: measurement.value for measurement in variant.measurements()}
        assert measured["model_bytes"] == variant.path.stat().st_size
    assert report.variants["float32"].path.read_bytes() == plan.float_path.read_bytes()
    assert {state.dtype for state in read_description(report.variants["int8"].path).states} == {"int8"}
    # 33 bins of the frame before, 17 x 4 of the layer before, and 6 memory cells.
    assert [variant.state_bytes for variant in report.variants.values()] == [107 * 4, 107, 107 * 2]
    assert [len(report.variants[name].float_operators) for name in ("int8", "int16x8")] == [0, 0]


def test_the_parity_file_holds_the_report(report):
    folder = report.variants["int8"].path.parent
    parity = json.loads((folder / "parity.json").read_text())["variants"]
    assert parity["float32"]["parity"]["max_abs"] <= 1e-5
    assert parity["int8"]["parity"]["snr_db"] == report.variants["int8"].parity.snr_db > 45
    assert parity["int8"]["float_operators"] == []


def test_a_damaged_plan_is_refused(plan, features, tmp_path):
    for name in ("ranges.json", "precision.json", "parity.json"):
        broken = tmp_path / name.split(".")[0]
        broken.mkdir()
        for file in plan.directory.iterdir():
            (broken / file.name).write_bytes(file.read_bytes()[: 20 if file.name == name else None])
        with pytest.raises(ArtifactError, match=name):
            convert_model(broken, tmp_path / "out", ConvertConfig(), features)
    assert not (tmp_path / "out").exists()


def test_a_second_export_gives_the_same_bytes(lookback, tmp_path):
    path = tmp_path / "again.tflite"
    export_float(lookback.model, path)
    assert path.read_bytes() == lookback.path.read_bytes()


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(tmp_path):
    """Hash seeds and clocks of another process leave no trace in the file."""
    code = (
        "import sys, torch; from pathlib import Path; from earshot.models.frontend import Frontend;"
        "from earshot.models.dae_unet import DaeUnet, DaeUnetParams; from earshot.quantize.export import export_float;"
        "torch.manual_seed(0); params = DaeUnetParams(channels=(4,), strides=(2,), latent=4, hidden=4);"
        "export_float(DaeUnet(Frontend(window=64, hop=32, fft=64), params).eval(), Path(sys.argv[1]))"
    )
    digests = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.tflite"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment)
        digests.add(sha256_file(path))
    assert len(digests) == 1


def foreign(exported, path, rename=("args_{}", "output_{}")):
    """The exported file as another converter would have written it: no description, other names."""
    model = load_flatbuffer(exported.path)
    model.metadata = [entry for entry in model.metadata if entry.name != b"earshot"]
    for items, form in zip((model.signatureDefs[0].inputs, model.signatureDefs[0].outputs), rename, strict=True):
        for number, item in enumerate(items):
            item.name = form.format(number).encode()
    path.write_bytes(pack_flatbuffer(model))
    return path


def test_the_users_own_file_enters_with_its_states_paired(lookback, features, tmp_path):
    path = foreign(lookback, tmp_path / "mine.tflite")
    entry = EntryConfig(frontend=lookback.model.frontend, states=PAIRS)
    made = quantize_tflite(path, features, tmp_path / "plan", SHORT, entry=entry)
    assert dict(made.ranges.at("int8")) == dict(lookback.plan.at("int8"))
    assert made.parity.float32 is None
    assert [state.input for state in read_description(made.float_path).states] == [
        "state_args_1",
        "state_args_2",
        "state_args_3",
    ]
    report = convert_model(made.directory, tmp_path / "files", ConvertConfig(parity_seconds=0.1), features)
    assert report.variants["int8"].parity.snr_db > 45 and report.variants["float32"].parity is None


def test_an_earshot_file_enters_by_itself(lookback, features, tmp_path):
    made = quantize_tflite(lookback.path, features, tmp_path, SHORT)
    assert read_description(made.float_path).to_json() == read_description(lookback.path).to_json()


@pytest.mark.parametrize(
    "entry, words",
    [
        ({}, "no states"),
        ({"states": PAIRS | {"args_2": "output_9"}}, "do not fit|no states"),
        ({"states": PAIRS | {"args_1": "output_2", "args_2": "output_1"}}, "enters as"),
        ({"states": PAIRS | {"args_9": "output_2"}}, "args_9|no states"),
    ],
)
def test_states_that_cannot_be_paired_are_refused(lookback, features, tmp_path, entry, words):
    path = foreign(lookback, tmp_path / "mine.tflite")
    with pytest.raises(ModelError, match=words):
        quantize_tflite(
            path, features, tmp_path / "p", SHORT, entry=EntryConfig(frontend=lookback.model.frontend, **entry)
        )
    assert not (tmp_path / "p").exists()


def test_a_frontend_that_does_not_fit_is_refused(lookback, features, tmp_path):
    path = foreign(lookback, tmp_path / "mine.tflite")
    entry = EntryConfig(states=PAIRS)
    with pytest.raises(ModelError, match=r"expected \[1, 1, 257, 1\]"):
        quantize_tflite(path, features, tmp_path / "p", SHORT, entry=entry)


def test_an_integer_file_is_refused(report, features, tmp_path):
    with pytest.raises(ModelError, match="int8"):
        quantize_tflite(report.variants["int8"].path, features, tmp_path / "p", SHORT)


def with_biases_of_two_dimensions(content: bytes, kinds: set[str]) -> bytes:
    """A file as some converters write it."""
    model = load_flatbuffer(content)
    graph, changed = model.subgraphs[0], 0
    for operator in graph.operators:
        if operator_name(model, operator) in kinds:
            bias = graph.tensors[operator.inputs[-1]]
            bias.shape, changed = [1, *bias.shape], changed + 1
    assert changed
    return pack_flatbuffer(model)


@pytest.mark.parametrize("kinds", [{"FULLY_CONNECTED"}, {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"}])
def test_biases_of_two_dimensions_are_those_of_one(lookback, plan, features, tmp_path, kinds):
    path = tmp_path / "own.tflite"
    path.write_bytes(with_biases_of_two_dimensions(lookback.path.read_bytes(), kinds))
    made = quantize_tflite(path, features, tmp_path / "plan", SHORT)
    graph = read_graph(made.float_path)
    assert all(
        graph.tensors[one.inputs[2]].shape == graph.tensors[one.outputs[0]].shape[-1:]
        for one in graph.operators
        if one.name in kinds
    )
    assert made.ranges.ranges == plan.ranges.ranges


def test_generated_c_does_not_mind_biases_of_two_dimensions(report, tmp_path):
    found = report.variants["int8"].path
    path = tmp_path / found.name
    path.write_bytes(with_biases_of_two_dimensions(found.read_bytes(), {"FULLY_CONNECTED"}))
    for source, folder in ((found, "one"), (path, "two")):
        generate(source, tmp_path / folder)
    sources = {file.name: file.read_bytes() for file in (tmp_path / "one").rglob("*.c")}
    assert sources
    assert sources == {file.name: file.read_bytes() for file in (tmp_path / "two").rglob("*.c")}


def test_outputs_that_are_inputs_get_tensors_of_their_own(lookback):
    """All states leave as the tensors they came in with."""
    model = load_flatbuffer(lookback.path)
    signature = model.signatureDefs[0]
    entering = {item.name: item.tensorIndex for item in signature.inputs}
    for item in signature.outputs:
        item.tensorIndex = entering.get(item.name, item.tensorIndex)
    model.subgraphs[0].outputs = [item.tensorIndex for item in signature.outputs]
    inputs = {name: name for name in lookback.graph.inputs}
    outputs = {name: name for name in lookback.graph.outputs}
    aliased = pack_flatbuffer(model)
    assert set(read_graph(aliased).outputs.values()) & set(read_graph(aliased).inputs.values())
    graph = read_graph(standardise(aliased, inputs, outputs, "aliased"))
    assert not set(graph.outputs.values()) & set(graph.inputs.values())
    assert len(set(graph.outputs.values())) == len(graph.outputs)
    assert [operator.name for operator in graph.operators[-3:]] == ["RESHAPE"] * 3


def test_a_state_handed_on_is_copied_at_export(gated):
    """`older` is the very tensor `level` came in as."""
    graph = gated.graph
    assert graph.outputs["state_older"] != graph.inputs["state_level"]


def test_states_that_do_not_start_at_zero_are_refused(lookback, tmp_path):
    model = lookback.model.prepare_for_export()
    start = model.initial_state()
    model.initial_state = lambda batch=1: {name: value + 1 for name, value in start.items()}
    model.prepare_for_export = lambda: model
    with pytest.raises(ModelError, match="do not start at zero"):
        export_float(model, tmp_path / "x.tflite")
    assert not list(tmp_path.iterdir())


def test_tensor_names_are_short_and_unique(network):
    names = [tensor.name for tensor in network.graph.tensors]
    assert len(names) == len(set(names))
    assert not any("litert_torch" in name or "earshot." in name for name in names)
    assert {"frame", "mask"} <= set(names)


def test_keras_without_tensorflow_says_how_to_get_it(features, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UsageError) as caught:
        quantize_tensorflow(tmp_path / "net.keras", features, tmp_path)
    assert "earshot[tensorflow]" in caught.value.hint


def test_features_that_are_not_finite_stop_before_anything_is_settled(lookback, tmp_path):
    with pytest.raises(EarshotError):
        quantize_tflite(lookback.path, np.full((1, 1, 4, 33), np.nan), tmp_path, SHORT)
    assert not (tmp_path / "ranges.json").exists()


def test_the_command_line_may_import_the_stages_without_torch():
    code = (
        "import sys, earshot.quantize.plan, earshot.quantize.convert, earshot.quantize.entry;"
        "print([name for name in ('torch', 'litert_torch', 'ai_edge_quantizer', 'tensorflow') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
