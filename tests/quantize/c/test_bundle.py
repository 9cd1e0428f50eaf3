"""The generated folder as a firmware engineer gets it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from earshot.core.errors import ModelError, UsageError
from earshot.models.frontend import Frontend
from earshot.pipeline.cli.main import application
from earshot.quantize.c import generate
from earshot.quantize.graph import load_flatbuffer, pack_flatbuffer, read_graph
from earshot.quantize.metadata import description_of, write_stream_model

from .builder import Builder

CROSS = {
    "gcc": [],
    "aarch64-linux-gnu-gcc": [],
    "arm-none-eabi-gcc": ["-mcpu=cortex-m4", "-mthumb"],
}
# What a compiler may call for itself: copies, and arithmetic that a core has no instruction for.
RUNTIME = re.compile(r"^(memcpy|memset|memmove|__aeabi_\w+|__\w+[sd]f\w*|__stack_chk_\w+|_GLOBAL_OFFSET_TABLE_)$")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_the_same_model_gives_the_same_bytes(precision, integer_model, tmp_path):
    path = integer_model("unet", precision)
    moved = tmp_path / "elsewhere" / path.name
    moved.parent.mkdir()
    shutil.copy(path, moved)
    first, second = generate(path, tmp_path / "a"), generate(moved, tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert first == second
    assert set(first.files) == set(content(tmp_path / "a"))
    generate(integer_model("gated", precision), tmp_path / "c")
    assert content(tmp_path / "c") != content(tmp_path / "a")


@pytest.mark.parametrize("compiler", CROSS)
def test_it_compiles_without_a_warning_and_calls_nothing(compiler, integer_model, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: apt-get install gcc gcc-aarch64-linux-gnu gcc-arm-none-eabi")
    strict = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow", *CROSS[compiler]]
    for precision in ("int8", "int16x8"):
        folder = tmp_path / precision
        generate(integer_model("gated", precision), folder)
        for source in [*folder.glob("*.c"), *folder.glob("kernels/*.c")]:
            command = [compiler, *strict, f"-I{folder}", "-c", str(source), "-o", str(folder / f"{source.stem}.o")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[:3000]
        objects = [str(path) for path in folder.glob("*.o")]
        nm = compiler.replace("gcc", "nm")
        symbols = subprocess.run([nm, *objects], capture_output=True, text=True, check=True).stdout
        defined = set(re.findall(r"^\w+ [A-TV-Z] (\S+)$", symbols, re.MULTILINE))
        missing = set(re.findall(r"^ +U (\S+)$", symbols, re.MULTILINE)) - defined
        assert {name for name in missing if not RUNTIME.match(name)} == set()
        assert "model_step" in defined
        assert all(name.startswith(("model_", "earshot_", "ear_")) for name in defined), defined


def test_nothing_recurses(integer_model, tmp_path):
    """The call graph of the kernels and the network has no circle."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: apt-get install gcc")
    generate(integer_model("gated", "int8"), tmp_path)
    calls: dict[str, set[str]] = {}
    for source in [*tmp_path.glob("*.c"), *tmp_path.glob("kernels/*.c")]:
        command = ["gcc", "-std=c99", "-O0", "-fdump-tree-original", f"-I{tmp_path}", "-c", str(source)]
        subprocess.run(command, cwd=tmp_path, check=True)
    for dump in tmp_path.glob("*.original"):
        for name, body in re.findall(
            r"^;; Function (\w+) .*?\n(.*?)(?=^;; Function|\Z)", dump.read_text(), re.M | re.S
        ):
            calls.setdefault(name, set()).update(re.findall(r"\b((?:ear|earshot|model)_\w+) \(", body))
    assert len(calls["model_step"]) > 5

    def below(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"{' -> '.join(path)} -> {name}"
        for other in calls.get(name, ()):
            below(other, (*path, name))

    below("model_step", ())


def test_figures_are_those_of_the_files(integer_model, tmp_path):
    generated = generate(integer_model("unet", "int8"), tmp_path)
    header = (tmp_path / "model.h").read_text()
    assert f"#define MODEL_ARENA_BYTES {generated.arena_bytes} " in header
    assert f"#define MODEL_STATE_BYTES {generated.state_bytes} " in header
    assert generated.macs == sum(operator.macs for operator in generated.operators)
    sizes = {"int8_t": 1, "uint16_t": 2, "int32_t": 4, "double": 8}
    tables = re.findall(r"^extern const (\w+) \w+\[(\d+)\];", (tmp_path / "model_weights.h").read_text(), re.MULTILINE)
    constant = sum(sizes[kind] * int(count) for kind, count in tables)
    assert constant < generated.flash_bytes < constant + 5000


def test_macs_counted_by_hand(tmp_path):
    b = Builder("int8", 0)
    frame = b.inputs["frame"] = b.activation([1, 1, 20, 6], name="frame")
    weight = b.tensor([5, 1, 3, 6], "int8", scale=np.full(5, 0.01), data=np.ones((5, 1, 3, 6), np.int8))
    sink = b.activation([1, 1, 18, 5])
    b.outputs["mask"] = b.add("CONV_2D", [frame, weight, -1], [sink], "Conv2DOptions", padding=1, strideH=1, strideW=1,
                              dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    generated = generate(b.write(tmp_path / "model.tflite"), tmp_path / "c")
    assert generated.macs == 18 * 5 * 3 * 6


def test_the_header_holds_the_frontend_and_the_scales(integer_model, tmp_path):
    path = integer_model("unet", "int8")
    generate(path, tmp_path)
    values = dict(re.findall(r"^#define MODEL_(\w+) (\S+)", (tmp_path / "model.h").read_text(), re.MULTILINE))
    graph = read_graph(path)
    frontend = description_of(graph).frontend
    assert [int(values[key]) for key in ("RATE", "WINDOW", "HOP", "FFT")] == [16000, 512, 256, 512]
    assert float(values["COMPRESSION"].rstrip("f")) == pytest.approx(frontend.compression, rel=1e-7)
    for key, tensor in (("FRAME", graph.inputs["frame"]), ("MASK", graph.outputs["mask"])):
        info = graph.tensors[tensor]
        assert np.float32(values[f"{key}_SCALE"].rstrip("f")) == np.float32(info.quantization.scale)
        assert int(values[f"{key}_ZERO_POINT"]) == info.quantization.zero_point
        assert int(values[f"{key}_SIZE"]) == np.prod(info.shape)


def test_every_operator_is_told_with_its_output(integer_model, tmp_path):
    path = integer_model("unet", "int8")
    generated = generate(path, tmp_path)
    source, graph = (tmp_path / "model.c").read_text(), read_graph(path)
    told = set(re.findall(r"/\* (\d+) (\w+)", source))
    folded = {str(index) for operator in generated.operators for index in operator.folded}
    assert {index for index, _ in told} | folded == {str(operator.index) for operator in graph.operators}
    assert folded, "the padding in front of depthwise convolutions was folded in"
    assert all(graph.operators[int(index)].name == name for index, name in told)


def change(path: Path, out: Path, **changes) -> Path:
    """A copy with `code` in place of the first CONV_2D's code, or another quantisation of the first state."""
    model = load_flatbuffer(path)
    if "code" in changes:
        entry = next(code for code in model.operatorCodes if code.builtinCode == 3)
        entry.builtinCode = entry.deprecatedBuiltinCode = changes["code"]
    if "state_scale" in changes:
        name = next(item for item in model.signatureDefs[0].inputs if item.name.startswith(b"state"))
        model.subgraphs[0].tensors[name.tensorIndex].quantization.scale = [changes["state_scale"]]
    out.write_bytes(pack_flatbuffer(model))
    return out


def test_an_unknown_operator_is_named_with_its_place(integer_model, tmp_path):
    path = change(integer_model("unet", "int8"), tmp_path / "changed.tflite", code=17)  # MAX_POOL_2D
    with pytest.raises(ModelError, match=r"changed.tflite: operator \d+, MAX_POOL_2D -> \S+: not supported; .*CONV_2D"):
        generate(path, tmp_path / "c")
    assert not (tmp_path / "c").exists(), "nothing is written for a model that is refused"


def test_a_state_that_changes_its_scale_is_refused(integer_model, tmp_path):
    path = change(integer_model("unet", "int8"), tmp_path / "changed.tflite", state_scale=0.5)
    with pytest.raises(ModelError, match="leaves in another form than it enters"):
        generate(path, tmp_path / "c")


def test_states_alike_in_c_and_tensors_without_scale_are_refused(tmp_path):
    for names, message in (
        (("state_a.b", "state_a_b"), "alike in C: a.b, a_b"),
        ((), "tensor t1: int8 without a scale"),
    ):
        b = Builder("int8", 0)
        frame = b.inputs["frame"] = b.activation([1, 4], name="frame")
        sink = b.activation([1, 4]) if names else b.tensor([1, 4])
        b.outputs["mask"] = b.add("RELU", [frame], [sink])
        for name in names:
            b.inputs[name] = b.activation([1, 4], name=name)
            b.outputs[name] = b.copy(b.inputs[name], b.like(b.inputs[name], [1, 4]))
        with pytest.raises(ModelError, match=message):
            generate(b.write(tmp_path / "model.tflite"), tmp_path / "c")


def test_float_models_foreign_models_and_bad_names_are_refused(unet, integer_model, tmp_path):
    with pytest.raises(ModelError, match="computes in float32"):
        generate(unet[0], tmp_path / "c")
    model = load_flatbuffer(integer_model("unet", "int8"))
    model.metadata = []
    (tmp_path / "foreign.tflite").write_bytes(pack_flatbuffer(model))
    with pytest.raises(ModelError, match="not an earshot stream model"):
        generate(tmp_path / "foreign.tflite", tmp_path / "c")
    with pytest.raises(UsageError, match="my-model: not a name for C symbols"):
        generate(integer_model("unet", "int8"), tmp_path / "c", name="my-model")
    with pytest.raises(ModelError, match="no such file"):
        generate(tmp_path / "none.tflite", tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wide", "int32 biases under int16 activations"),
        ("mixed", "supported are int8 or int16 throughout"),
        ("large", "can exceed 32 bits"),
        ("scales", "different scales or zero points"),
    ],
)
def test_what_cannot_be_carried_out_exactly_is_refused(name, message, tmp_path):
    b = Builder("int16" if name == "wide" else "int8", 0)
    frame = b.inputs["frame"] = b.activation([1, 8], name="frame")
    weight = b.tensor([4, 8], "int8", scale=np.full(4, 0.01), data=np.full((4, 8), 100, np.int8))
    sink = b.tensor([1, 4], "int16" if name in ("wide", "mixed") else "int8", scale=0.1, zero=0)
    if name == "scales":
        sink = b.activation([1, 8])
        b.outputs["mask"] = b.add("MAXIMUM", [frame, frame], [sink], "MaximumMinimumOptions")
    else:
        largest = 2**31 - 1 if name == "large" else 5
        bias = b.tensor([4], "int32", scale=np.full(4, 0.001), data=np.full(4, largest, np.int32))
        b.outputs["mask"] = b.add(
            "FULLY_CONNECTED", [frame, weight, bias], [sink], "FullyConnectedOptions", keepNumDims=True
        )
    with pytest.raises(ModelError, match=f"operator 0, .*{message}"):
        generate(b.write(tmp_path / "model.tflite"), tmp_path / "c")


def test_the_command_writes_a_folder_and_says_what_it_costs(integer_model, tmp_path):
    path, out = integer_model("lookback", "int8"), tmp_path / "c"
    runner = CliRunner()
    done = runner.invoke(application, ["codegen", str(path), str(out), "--name", "aid"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (out / "aid.c").is_file() and (out / "README.md").is_file()
    assert "aid_step(frame, mask);" in (out / "README.md").read_text()
    told = runner.invoke(application, ["codegen", str(path), str(out), "--json"], catch_exceptions=False)
    found = json.loads(told.output)
    assert found["arena_bytes"] == generate(path, out).arena_bytes
    assert f"{found['macs']:,} MACs" in done.output


def test_the_command_ends_with_2_for_a_model_without_c(unet, tmp_path):
    done = CliRunner().invoke(application, ["codegen", str(unet[0]), str(tmp_path / "c")])
    assert done.exit_code == 2
    assert "error:" in done.output and "fix:" in done.output


def without_frontend(folder: Path) -> Path:
    """A model whose network becomes C, but not what is around it: its frame is no spectrum of its frontend."""
    b = Builder("int8", 0)
    frame = b.inputs["frame"] = b.activation([1, 4], name="frame")
    b.outputs["mask"] = b.add("RELU", [frame], [b.activation([1, 4])])
    return b.write(folder / "model.tflite")


def test_a_model_whose_frontend_has_no_c_leaves_nothing_but_its_network_is_to_be_had(tmp_path):
    path, runner = without_frontend(tmp_path), CliRunner()
    refused = runner.invoke(application, ["codegen", str(path), str(tmp_path / "whole")])
    assert refused.exit_code == 2
    assert "the frontend has 33 values" in refused.output and "--network-only" in refused.output
    assert not (tmp_path / "whole").exists()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "model.c").write_text("what was there")
    runner.invoke(application, ["codegen", str(path), str(tmp_path / "kept")])
    assert content(tmp_path / "kept") == {"model.c": b"what was there"}

    out = tmp_path / "network"
    done = runner.invoke(application, ["codegen", str(path), str(out), "--network-only", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["files"] == list(generate(path, tmp_path / "again").files)
    assert content(out) == content(tmp_path / "again")
    assert (out / "model.c").is_file() and not list(out.glob("*frontend*"))
    assert "frontend" not in re.sub(r"frontend of your own", "", (out / "README.md").read_text())


@pytest.mark.parametrize("network_only", [True, False])
def test_the_files_told_are_those_that_are_there_and_the_readme_names_no_other(network_only, integer_model, tmp_path):
    path = integer_model("unet", "int8")
    generated = generate(path, tmp_path, "aid", with_frontend=not network_only)
    assert set(generated.files) == set(content(tmp_path))
    assert ("aid_frontend.c" in generated.files) is not network_only
    text = (tmp_path / "README.md").read_text()
    assert ("aid_enhance(hop, enhanced);" in text) is not network_only
    assert set(re.findall(r"\baid\w*\.[ch]\b", text)) <= set(generated.files)


@pytest.mark.parametrize(
    ("frontend", "told", "untold"),
    [
        ({}, "(|X|² + 1e-10)^(0.3/2)", "ln(1 +"),
        ({"features": "log1p"}, "ln(1 + (|X|² + 1e-10)^(1/2))", "^(0.3/2)"),
        ({"features": "complex", "mask": "complex", "channels": 2}, "real and imaginary part of X", "1e-10"),
        ({"kind": "wave", "window": 32, "hop": 32, "fft": 32, "compression": 1.0}, "round(sample /", "rfft"),
    ],
)
def test_the_readme_says_what_a_frame_is(frontend, told, untold, tmp_path):
    path = without_frontend(tmp_path)
    graph = read_graph(path)
    description = description_of(graph)
    other = Frontend(**{**description.frontend.model_dump(), **frontend})
    write_stream_model(path, path.read_bytes(), description.model_copy(update={"frontend": other}))
    generate(path, tmp_path / "c")
    text = (tmp_path / "c" / "README.md").read_text()
    assert told in text and untold not in text
    assert "{" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)
