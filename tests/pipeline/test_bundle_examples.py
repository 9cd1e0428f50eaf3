"""The examples inside bundles do what they say: compiled, run, and held against earshot's own output."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from earshot import pipeline
from earshot.pipeline.cli.main import application

SPEECH = Path(pipeline.__file__).parent / "data/pack/speech/test"


def needs(*tools, package):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: apt-get install {package}")


needs_c = needs("gcc", "make", package="gcc make libc6-dev")
needs_arm = needs(
    "arm-none-eabi-gcc", "qemu-system-arm", "make", package="gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
)
needs_java = needs("javac", "java", "cmake", "gcc", package="openjdk-17-jdk-headless cmake gcc")


@pytest.fixture(scope="module")
def unpacked(finished, tmp_path_factory):
    """(target, device) -> folder of a bundle of the tiny run."""
    made = {}

    def of(target, device=None):
        if (target, device) not in made:
            folder = tmp_path_factory.mktemp(target)
            ask = [
                "bundle",
                "--target",
                target,
                "--out",
                str(folder / "b.zip"),
                "--store",
                str(finished.folder / ".earshot"),
            ]
            done = CliRunner().invoke(application, [*ask, *(["--device", device] if device else [])])
            if done.exit_code == 3 and "is not installed" in done.stderr:
                pytest.skip(done.stderr.strip())
            assert done.exit_code == 0, done.stderr
            with zipfile.ZipFile(folder / "b.zip") as archive:
                archive.extractall(folder / "b")
            made[target, device] = folder / "b"
        return made[target, device]

    return of


def run(command, folder, code=0, **more):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=500, **more)
    assert done.returncode == code, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done


def sound(hop, hops=60):
    """Speech, as long as whole hops."""
    path = min(SPEECH.glob("*.flac"))
    samples, _ = soundfile.read(path, dtype="float32")
    return samples[: hops * hop] * 10


def frontend(folder):
    return json.loads((folder / "frontend.json").read_text())


# ---- Raspberry Pi


@pytest.mark.parametrize("channels", [1, 2])
def test_the_python_example_enhances_as_earshot_does(unpacked, tmp_path, channels):
    folder = unpacked("pi")
    samples, rate = soundfile.read(min(SPEECH.glob("*.flac")))
    several = np.stack([np.roll(samples, 100 * number) * 8 for number in range(channels)], axis=1)
    soundfile.write(tmp_path / "noisy.wav", several, rate, subtype="PCM_16")
    run([sys.executable, str(folder / "example/enhance.py"), "noisy.wav", "theirs.wav"], tmp_path)
    model = str(next((folder / "model").glob("*.tflite")))
    ask = ["enhance", str(tmp_path / "noisy.wav"), str(tmp_path / "ours.wav"), "--model", model, "--quiet"]
    assert CliRunner().invoke(application, ask).exit_code == 0
    theirs, ours = (soundfile.read(tmp_path / name, dtype="int16")[0] for name in ("theirs.wav", "ours.wav"))
    assert theirs.shape == ours.shape and np.abs(ours).max() > 100
    np.testing.assert_array_equal(theirs, ours)
    other = soundfile.read(tmp_path / "noisy.wav", dtype="int16")[0]
    assert (other != ours).any()  # negative control: it is not the input that came out


def test_the_python_example_live(unpacked, tmp_path):
    """What a sound device would call, hop by hop, gives what a file gives. No sound device is at hand."""
    text = """
import sys; sys.path.insert(0, sys.argv[1])
import numpy as np, enhance
enhancer = enhance.StreamEnhancer(enhance.MODEL)
live, heard = enhance.Live(enhancer), np.random.default_rng(0).normal(0, 0.1, (40 * enhancer.hop, 1)).astype(np.float32)
played = np.zeros_like(heard)
for at in range(0, len(heard), enhancer.hop):
    live(heard[at : at + enhancer.hop], played[at : at + enhancer.hop], enhancer.hop, None, None)
whole = enhance.enhance_stream(enhancer, heard[:, 0])
delay = enhancer.delay
assert np.abs(whole).max() > 0.001
np.testing.assert_array_equal(played[delay:, 0], whole[: len(whole) - delay])
live(heard[: enhancer.hop], played[: enhancer.hop], enhancer.hop, None, "input overflow")
assert live.lost == 1
"""
    run([sys.executable, "-c", text, str(unpacked("pi") / "example")], tmp_path)


def test_what_the_python_example_refuses(unpacked, tmp_path):
    program = str(unpacked("pi") / "example/enhance.py")
    soundfile.write(tmp_path / "rate.wav", np.zeros(100), 8000, subtype="PCM_16")
    soundfile.write(tmp_path / "float.wav", np.zeros(100), 16000, subtype="PCM_24")
    (tmp_path / "text.wav").write_text("no sound")
    for name, said in (
        ("rate.wav", "8000 Hz"),
        ("float.wav", "24 bit"),
        ("text.wav", "text.wav"),
        ("none.wav", "none"),
    ):
        done = run([sys.executable, program, name, "out.wav"], tmp_path, code=1)
        assert done.stderr.count("error: ") == 1 and "fix: " in done.stderr and said in done.stderr
    assert run([sys.executable, program], tmp_path, code=2).stderr
    assert not (tmp_path / "out.wav").exists()
    block = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    done = run([sys.executable, program, "--live"], tmp_path, code=1, env=block)
    assert "error: no live sound: PortAudio library not found" in done.stderr


# ---- C


@pytest.fixture(scope="module")
def host_sound(unpacked):
    """The C example on this machine: its folder, the sound it got, and what it made of it."""
    folder = unpacked("cortex-m") / "example"
    run(["make", "-s", "build/host", "CC=gcc -Werror"], folder)
    given = sound(frontend(folder.parent)["hop"])
    given.tofile(folder / "sound.f32")
    run(["build/host"], folder)
    return folder, given, np.fromfile(folder / "enhanced.f32", "float32")


@needs_c
def test_the_c_example_streams_as_the_reference_kernels_do(host_sound):
    from earshot.targets.mcu.reference import enhance_on_host

    folder, given, enhanced = host_sound
    (model,) = (folder.parent / "model").glob("*.tflite")
    expected = enhance_on_host(model, given)
    assert enhanced.shape == expected.shape and np.abs(expected).max() > 0.01
    assert np.abs(enhanced - expected).max() < 1e-3
    assert np.abs(given - expected).max() > 0.01  # negative control


@needs_c
def test_the_c_example_is_the_c_of_codegen(host_sound, finished, tmp_path):
    """Bit for bit: the same stream through a program of the test's own around a fresh `earshot codegen`."""
    from earshot.quantize.c import generate

    folder, _, enhanced = host_sound
    (model,) = (folder.parent / "model").glob("*.tflite")
    generate(model, tmp_path / "src", with_frontend=True)
    (tmp_path / "own.c").write_text(
        '#include "model_frontend.h"\n#include <stdio.h>\n'
        "int main(void) { float hop[MODEL_HOP]; model_reset(); model_frontend_reset();\n"
        "while (fread(hop, sizeof hop, 1, stdin)) { model_enhance(hop, hop); fwrite(hop, sizeof hop, 1, stdout); } }\n"
    )
    sources = sorted(str(path) for path in (tmp_path / "src").rglob("*.c"))
    flags = ["-std=gnu11", "-O2", "-ffp-contract=fast", "-fno-math-errno", f"-I{tmp_path / 'src'}"]
    run(["gcc", *flags, "own.c", *sources, "-o", "own"], tmp_path)
    with (folder / "sound.f32").open("rb") as given:
        done = subprocess.run([str(tmp_path / "own")], stdin=given, capture_output=True, check=True)
    assert done.stdout == enhanced.tobytes()


@needs_c
def test_the_self_test_passes_and_notices_one_weight(unpacked, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(unpacked("cortex-m"), folder)
    run(["make", "-s", "test", "CC=gcc -Werror"], folder / "example")
    weights = folder / "src/model_weights.c"
    text = weights.read_text()
    at = text.index("*/", text.index("= {"))  # after the table's shape
    digit = next(place for place in range(at, len(text)) if text[place] in "0123456789")
    weights.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    run(["make", "-s", "test"], folder / "example", code=2)  # make's own exit code for a command that failed


@needs_arm
@pytest.mark.parametrize("device", [None, "cortex-m55"])
def test_the_c_example_in_the_emulator(unpacked, device):
    """The network as on this machine, the sound as earshot's own emulated program makes it, both bit for bit."""
    from earshot.targets.mcu.emulator import emulate
    from earshot.targets.mcu.target import linked
    from earshot.targets.registry import open_target

    folder = unpacked("cortex-m", device) / "example"
    run(["make", "-s", "qemu-test"], folder)
    given = sound(frontend(folder.parent)["hop"], 10)
    given.tofile(folder / "sound.f32")
    run(["make", "-s", "qemu"], folder)
    core = open_target(device or "cortex-m4")
    (model,) = (folder.parent / "model").glob("*.tflite")
    _, program = linked(model, core.board, core.kernel_flags)
    own = emulate(program, core.board, {"sound.f32": given.tobytes()}, [], 300, core.name)
    assert (folder / "enhanced.f32").read_bytes() == own.files["enhanced.f32"]
    assert len(own.files["enhanced.f32"]) == given.nbytes


# ---- Android


@needs_java
def test_the_java_example_gives_what_the_c_example_gives(unpacked, tmp_path, host_sound):
    """The JNI library in a desktop's virtual machine. No Android is at hand."""
    _, given, enhanced = host_sound
    android = unpacked("android") / "android"
    run(["cmake", "-S", str(android / "cpp"), "-B", "build"], tmp_path)
    built = run(["cmake", "--build", "build"], tmp_path)
    assert "warning" not in built.stdout + built.stderr
    sources = [str(path) for path in sorted((android / "java").glob("*.java"))]
    run(["javac", "-Xlint:all", "-Werror", "-d", "build", *sources], tmp_path)
    given.tofile(tmp_path / "sound.f32")
    java = ["java", "-Xshare:auto", "-Djava.library.path=build", "-cp", "build", "earshot.EnhanceFile"]
    run([*java, "sound.f32", "enhanced.f32"], tmp_path)
    assert np.fromfile(tmp_path / "enhanced.f32", "float32").tobytes() == enhanced.tobytes()


def test_the_benchmark_script_is_a_script(unpacked, tmp_path):
    """Its adb commands, as a stand-in for adb is given them: no phone is at hand."""
    script = unpacked("android") / "android/benchmark.sh"
    run(["sh", "-n", str(script)], tmp_path)
    assert "BENCHMARK" in run(["sh", str(script)], tmp_path, code=2, env={"PATH": "/usr/bin:/bin"}).stderr
    adb = tmp_path / "adb"
    adb.write_text('#!/bin/sh\necho "$@" >> "$LOG"\n')
    adb.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log"), "BENCHMARK": "tool"}
    run(["sh", str(script)], tmp_path, env=environment)
    lines = (tmp_path / "log").read_text().splitlines()
    (model,) = (line.split()[1] for line in lines if line.startswith("push") and line.endswith("model.tflite"))
    assert Path(model).is_file()
    assert "--num_threads=1" in lines[-2] and lines[-1].startswith("shell rm -rf /data/local/tmp/")


# ---- Ethos-U


def test_the_npu_files_describe_the_compiled_graph(unpacked):
    """model_npu.h against LiteRT's own reading of the compiled file, and the array against its bytes."""
    from ai_edge_litert import schema_py_generated as schema

    folder = unpacked("ethos-u") / "npu"
    (compiled,) = folder.glob("*.vela.tflite")
    content = compiled.read_bytes()
    values = (folder / "model_npu.c").read_text().partition("] = {")[2].partition("}")[0]
    assert bytes(int(value) for value in values.split(",")) == content
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    assert {code.customCode for code in model.operatorCodes if code.customCode} == {b"ethos-u"}
    header = (folder / "model_npu.h").read_text()
    numbers = dict(
        line.split()[1:3] for line in header.splitlines() if line.startswith("#define") and len(line.split()) > 2
    )
    names = [graph.tensors[index].name.decode() for index in graph.inputs]
    assert names[int(numbers["MODEL_NPU_FRAME"])] == "frame"
    assert int(numbers["MODEL_NPU_BYTES"]) == len(content)
    rows = [line for line in header.splitlines() if line.startswith("    {")]
    assert len(rows) == len(graph.inputs) - 1 == int(numbers["MODEL_NPU_STATES"])
    sizes = 0
    for row in rows:
        entry, leaving, zero, size = (int(value) for value in row[row.index("{") + 1 : row.index("}")].split(","))
        state = row.partition("/* ")[2].partition(" */")[0]
        inner, outer = graph.tensors[graph.inputs[entry]], graph.tensors[graph.outputs[leaving]]
        assert inner.name.decode() == f"state_{state}" and outer.name.decode().endswith(f"state_{state}")
        assert list(inner.quantization.zeroPoint) == [zero] and int(np.prod(inner.shape)) == size
        sizes += size
    assert int(numbers["MODEL_NPU_STATE_BYTES"]) == sizes


@needs_c
def test_the_npu_bundle_s_example_passes_its_self_test(unpacked):
    run(["make", "-s", "test", "CC=gcc -Werror"], unpacked("ethos-u") / "example")
