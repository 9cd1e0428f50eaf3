"""Ethos-U targets: Vela's estimates as it gives them, what stays on the CPU, and how it fails."""

import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from earshot.core.errors import ConfigError, DeviceError, ModelError, ToolError
from earshot.core.measurement import Provenance
from earshot.pipeline.cli.main import application
from earshot.pipeline.progress import Silent
from earshot.quantize.graph import read_graph
from earshot.targets.base import DeviceProfile, ProfileConfig, load_profile
from earshot.targets.npu.environment import environment_folder, environment_python, install, vela_version
from earshot.targets.npu.target import EthosUTarget
from earshot.targets.npu.vela import VelaConfig, compile_model
from earshot.targets.registry import open_target

NPUS = ("ethos-u55", "ethos-u65", "ethos-u85")
HOP_SECONDS = 64 / 16000
DEFAULTS = ProfileConfig()
U55 = VelaConfig(accelerator="ethos-u55-128", system="Ethos_U55_Deep_Embedded")
AS_IT_IS = {"accelerator": "ethos-u55-128", "system": "Ethos_U55_Deep_Embedded", "narrow_strides": False}
needs_vela = pytest.mark.skipif(
    not environment_python().exists(), reason="vela is not installed: earshot targets setup ethos-u55"
)


def device(**options) -> EthosUTarget:
    return EthosUTarget.open("mine", DeviceProfile(kind="npu", driver="ethos-u", title="mine", options=options))


def profile(target: str | EthosUTarget, model: Path, config: ProfileConfig = DEFAULTS):
    target = open_target(target) if isinstance(target, str) else target
    (result,) = target.profile({"model": model}, config, Silent())
    return result, {found.metric: found for found in result.measurements}


def by_hand(model: Path, folder: Path, accelerator: str, system: str):
    """Vela's own words: its summary, and what it prints."""
    command = [environment_python(), "-m", "ethosu.vela", model, "--accelerator-config", accelerator]
    command += ["--config", "Arm/vela.ini", "--system-config", system, "--memory-mode", "Shared_Sram"]
    command += ["--show-cpu-operations", "--output-dir", folder]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    (summary,) = folder.glob("*_summary_*.csv")
    with summary.open() as file:
        return next(csv.DictReader(file)), said.stdout + said.stderr


@needs_vela
@pytest.mark.parametrize("precision", ["int8", "int16x8"])
@pytest.mark.parametrize("name", NPUS)
def test_estimates_are_those_of_vela(name, precision, wide, tmp_path):
    model = wide[precision]
    options = load_profile(name).options
    summary, said = by_hand(model, tmp_path / "out", options["accelerator"], options["system"])
    result, found = profile(device(**options, narrow_strides=False), model)
    assert found["graph_rtf"].value == pytest.approx(float(summary["inference_time"]) / HOP_SECONDS, rel=1e-6)
    assert found["graph_cycles_per_frame"].value == float(summary["cycles_total"]) > 1000
    assert found["arena_bytes"].value == float(summary["sram_memory_used"]) * 1024 > 0
    assert found["flash_bytes"].value == float(summary["off_chip_flash_memory_used"]) * 1024 > 0
    on_cpu = int(re.search(r"CPU operators = (\d+)", said).group(1))
    assert round((1 - found["npu_coverage"].value) * found["npu_coverage"].n) == on_cpu
    assert {measurement.provenance for measurement in result.measurements} == {Provenance.ESTIMATED}
    assert {measurement.target for measurement in result.measurements} == {"mine"}
    assert result.environment["engine"] == f"vela {vela_version()}"
    assert result.environment["clock_mhz"] == load_profile(name).clock_mhz


@needs_vela
@pytest.mark.parametrize("name", NPUS)
@pytest.mark.parametrize("network", ["wide", "narrow"])
def test_operators_add_up_and_none_is_lost(name, network, request):
    model = request.getfixturevalue(network)["int8"]
    result, found = profile(name, model)
    graph = read_graph(model)
    assert [(operator.index, operator.name) for operator in result.operators] == [
        (operator.index, operator.name) for operator in graph.operators
    ]
    assert sum(operator.value for operator in result.operators) == found["graph_cycles_per_frame"].value
    costly = {operator.name for operator in result.operators if operator.value > 0}
    assert {"FULLY_CONNECTED", "ADD", "CONCATENATION"} <= costly
    assert all(operator.value == 0 for operator in result.operators if operator.placement == "cpu")


@needs_vela
def test_what_stays_on_the_cpu_is_named_with_the_reason_and_makes_totals_lower_bounds(wide):
    result, found = profile(device(**AS_IT_IS), wide["int8"])
    left = [operator for operator in result.operators if operator.placement == "cpu"]
    assert [operator.name for operator in left] == ["DEPTHWISE_CONV_2D", "CONV_2D", "TRANSPOSE_CONV", "TRANSPOSE_CONV"]
    reasons = result.environment["on_the_cpu"]
    assert list(reasons) == [f"{operator.name} {operator.location}" for operator in left]
    assert all("stride" in reason.lower() for reason in reasons.values())
    for metric in ("graph_cycles_per_frame", "graph_rtf", "arena_bytes", "flash_bytes"):
        assert found[metric].flags == ("lower-bound",)
    assert found["npu_coverage"].flags == ()


@needs_vela
@pytest.mark.parametrize("network", ["narrow", "wide"])
@pytest.mark.parametrize("name", NPUS)
def test_a_network_that_is_wholly_placed_has_no_lower_bounds(name, network, request):
    result, found = profile(name, request.getfixturevalue(network)["int8"])
    assert found["npu_coverage"].value == 1
    assert all(measurement.flags == () for measurement in result.measurements)
    assert result.environment["on_the_cpu"] == {}


@needs_vela
def test_a_network_wholly_on_the_cpu_has_no_estimate(narrow):
    result, found = profile("ethos-u55", narrow["float32"])
    assert found["npu_coverage"].value == 0
    assert found["graph_rtf"].value is None
    assert found["graph_rtf"].reason == "no operator is placed on the NPU"
    assert {operator.placement for operator in result.operators} == {"cpu"}


@needs_vela
def test_results_come_in_the_models_order_and_are_repeatable(narrow):
    models = {precision: narrow[precision] for precision in ("int16x8", "int8")}
    first = open_target("ethos-u55").profile(models, ProfileConfig(), Silent())
    again = open_target("ethos-u55").profile(models, ProfileConfig(), Silent())
    assert [result.variant for result in first] == ["int16x8", "int8"]
    assert first == again
    assert first[0].measurements != first[1].measurements


@needs_vela
def test_a_faster_system_takes_less_time(narrow):
    options = {"accelerator": "ethos-u55-256", "system": "Ethos_U55_High_End_Embedded"}
    _, big = profile(device(**options), narrow["int8"])
    _, small = profile("ethos-u55", narrow["int8"])
    assert big["graph_rtf"].value < small["graph_rtf"].value


@needs_vela
def test_the_compiled_file_is_written(narrow, tmp_path):
    report = open_target("ethos-u55").compile(narrow["int8"], tmp_path / "compiled.tflite")
    compiled = (tmp_path / "compiled.tflite").read_bytes()
    assert len(compiled) == report.compiled_bytes
    assert compiled[4:8] == b"TFL3" and b"ethos-u" in compiled
    assert b"ethos-u" not in narrow["int8"].read_bytes()


@needs_vela
def test_a_damaged_file_is_refused_before_vela_sees_it(narrow, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(narrow["int8"].read_bytes()[:8000])
    with pytest.raises(ModelError, match="damaged"):
        profile("ethos-u55", damaged)


@needs_vela
def test_a_crash_of_vela_is_a_tool_error(narrow, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(narrow["int8"].read_bytes()[:8000])
    with pytest.raises(ToolError, match=r"damaged.tflite: vela .* crashed \(SIGSEGV\)"):
        compile_model(damaged, U55.model_copy(update={"narrow_strides": False}), 60)


@needs_vela
def test_what_vela_refuses_is_said_in_its_words(tmp_path):
    text = tmp_path / "text.tflite"
    text.write_text("no network")
    with pytest.raises(ToolError, match=r"text.tflite: vela .* refused it \(RuntimeError: Compilation failed"):
        compile_model(text, U55.model_copy(update={"narrow_strides": False}), 60)


@needs_vela
def test_a_compilation_that_takes_too_long_is_stopped(narrow):
    with pytest.raises(DeviceError, match=r"int8.tflite: vela took longer than 0.02 s"):
        profile("ethos-u55", narrow["int8"], ProfileConfig(timeout_seconds=0.02))


@needs_vela
@pytest.mark.parametrize("change", [{"system": "Ethos_U55_Enormous"}, {"memory_mode": "Everywhere"}])
def test_a_system_or_memory_mode_vela_does_not_know_is_named(narrow, change):
    with pytest.raises(ConfigError, match=next(iter(change.values()))) as caught:
        compile_model(narrow["int8"], U55.model_copy(update=change), 60)
    listed = subprocess.run(
        caught.value.hint.removeprefix("what there is: ").split(), capture_output=True, text=True, check=True
    )
    assert "Ethos_U55_Deep_Embedded" in listed.stdout


@needs_vela
def test_memory_is_unknown_where_vela_does_not_tell_tensors_from_constants(narrow):
    """In this mode all of it counts as SRAM: a flash of zero bytes would pass any budget."""
    usual = profile(device(**AS_IT_IS), narrow["int8"])[1]
    mixed = profile(device(**AS_IT_IS, memory_mode="Sram_Only"), narrow["int8"])[1]
    assert usual["flash_bytes"].value > 0
    for metric in ("flash_bytes", "arena_bytes"):
        assert mixed[metric].value is None
        assert "memory mode Sram_Only" in mixed[metric].reason
    assert mixed["graph_cycles_per_frame"].value > 0


@needs_vela
def test_vela_dies_with_earshot(narrow, tmp_path):
    """Killed at once: its Python is still loading then."""
    code = (
        "import sys; from pathlib import Path; from earshot.targets.npu.vela import VelaConfig, compile_model;"
        "print('begun', flush=True);"
        "config = VelaConfig(accelerator='ethos-u55-128', system='Ethos_U55_Deep_Embedded');"
        "[compile_model(Path(sys.argv[1]), config, 60) for _ in range(50)]"
    )
    command = [sys.executable, "-c", code, str(narrow["int8"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children, until = [], time.monotonic() + 30
        while not children and time.monotonic() < until:
            children = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.02)
        process.kill()
        assert children
        gone, alive = psutil.wait_procs(children, timeout=10)
    assert gone and not alive


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accelerator": "ethos-u55-129", "system": "Ethos_U55_Deep_Embedded"}, "accelerator"),
        ({"accelerator": "ethos-u85-256", "system": "Ethos_U55_Deep_Embedded"}, "is not one of ethos-u85's"),
        ({"accelerator": "ethos-u55-128", "sytem": "x", "system": "Ethos_U55_Deep_Embedded"}, "did you mean 'system'"),
    ],
)
def test_options_are_held_to_the_chip(options, words):
    with pytest.raises(ConfigError, match=words):
        device(**options)


def test_without_the_environment_the_command_that_makes_it_is_named(narrow, tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))
    partial = environment_folder().with_name(environment_folder().name + ".partial") / "bin"
    partial.mkdir(parents=True)
    (partial / "python").touch()
    state = open_target("ethos-u65").availability()
    assert (state.ok, state.enable) == (False, "earshot targets setup ethos-u65")
    with pytest.raises(ToolError, match="cannot be started"):
        profile("ethos-u65", narrow["int8"])


def test_an_installation_that_fails_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ToolError, match=r"vela [\d.]+ cannot be installed: .*ethos-u-vela"):
        install(Silent())
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert not open_target("ethos-u55").availability().ok


@needs_vela
def test_installing_again_does_nothing(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was started"))
    install(Silent())
    assert open_target("ethos-u55").availability().ok


@needs_vela
def test_the_command_line_compiles_and_names_what_stays_on_the_cpu(wide, tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_DEVICES", str(tmp_path / "devices.yaml"))
    added = ["targets", "add", "plain", "--profile", "ethos-u55", "--set", "narrow_strides=false"]
    assert CliRunner().invoke(application, added).exit_code == 0
    for target, left in (("ethos-u55", 0), ("plain", 4)):
        out = tmp_path / f"{target}.tflite"
        done = CliRunner().invoke(application, ["compile", str(wide["int8"]), str(out), "--target", target])
        assert done.exit_code == 0, done.output
        assert b"ethos-u" in out.read_bytes()
        assert done.output.count("on the CPU: ") == left


def test_only_npus_compile(narrow, tmp_path):
    done = CliRunner().invoke(application, ["compile", str(narrow["int8"]), str(tmp_path / "out"), "--target", "host"])
    assert done.exit_code == 2
    assert "target host is no NPU" in done.output
