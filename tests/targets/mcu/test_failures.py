"""What a user sees when a tool is missing, code does not compile or fit, or a program dies; and that nothing stays."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from earshot.core.errors import ConfigError, DeviceError, ModelError, ToolError
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig, load_profile
from earshot.targets.mcu import toolchain
from earshot.targets.mcu.emulator import counting_plugin, emulate
from earshot.targets.mcu.target import CortexMTarget
from earshot.targets.mcu.toolchain import EMULATOR, version
from earshot.targets.registry import open_target

from .conftest import CORES, PLAIN_FRAME, needs_emulator

SOUND = {"sound.f32": bytes(8 * 4)}
ENDLESS = 'void model_step(void) { for (;;) __asm__ volatile("nop"); }'


def run(program, board, timeout=20.0):
    return emulate(program, board, SOUND, (), timeout, "chip")


def emulators():
    """Emulators that this process or one of its children runs."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE and EMULATOR in child.name()]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Temporary folders go where the test can look for them."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@needs_emulator
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('__asm__ volatile("earshot_mark_0_0: udf #0");', "undefined instruction"),
        ("*(volatile uint32_t *)0xf0000000 = 1;", r"at address 0xf0000000"),
        ('__asm__ volatile("mov r3, #0x2000\\n bx r3" ::: "r3");', "invalid state"),
    ],
)
def test_a_fault_says_where_and_why(made, core, body, why):
    program, board = made(f"__attribute__((noipa)) void model_step(void) {{ {body} }}", core, PLAIN_FRAME)
    with pytest.raises(DeviceError, match=why) as caught:
        run(program, board)
    assert caught.value.message.startswith("chip: fault in ")
    if "state" not in why:  # there, the program has left the function
        assert "fault in model_step:" in caught.value.message
    assert caught.value.hint


@needs_emulator
@pytest.mark.parametrize("core", ["cortex-m33", "cortex-m55"])
def test_a_stack_that_runs_over_is_a_fault(made, core):
    endless = "int model_step(int n) { volatile char a[512]; a[n & 7] = 1; return n ? model_step(n + 1) + a[3] : 0; }"
    frame = PLAIN_FRAME.replace("void model_step(void);", "int model_step(int n);").replace(
        "model_step();", "model_step(1);"
    )
    program, board = made(endless, core, frame)
    with pytest.raises(DeviceError, match="stack overflow"):
        run(program, board)


@needs_emulator
def test_a_program_that_hangs_is_stopped_in_time(made, temporary):
    program, board = made(ENDLESS, frame=PLAIN_FRAME)
    start = time.monotonic()
    with pytest.raises(DeviceError, match=r"chip: the program ran longer than 0\.5 s"):
        run(program, board, 0.5)
    assert time.monotonic() - start < 15
    assert not emulators()
    assert not list(temporary.iterdir())


@needs_emulator
def test_an_emulator_killed_midway_leaves_nothing(made, temporary):
    program, board = made(ENDLESS, frame=PLAIN_FRAME)
    errors = []

    def work():
        try:
            run(program, board, 60)
        except DeviceError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 30
    while not emulators() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(temporary.iterdir())
    for process in emulators():
        process.kill()
    thread.join(30)
    assert [error.message for error in errors] == ["chip: the emulator was killed by signal KILL"]
    assert "end other programs" in errors[0].hint
    assert not list(temporary.iterdir())


@needs_emulator
def test_who_ended_early_is_told_apart(made, temporary):
    """A program whose files are not there, and an emulator that does not know the board."""
    program, board = made("void model_step(void) {}", frame=PLAIN_FRAME)
    run(program, board)
    with pytest.raises(DeviceError, match=r"^chip: the program ended with code 1$") as caught:
        emulate(program, board, {}, (), 20.0, "chip")
    assert "TMPDIR" in caught.value.hint
    with pytest.raises(DeviceError, match=rf"^chip: {EMULATOR} \(.*unsupported machine.* ended with code 1$") as caught:
        run(program, replace(board, machine="no-such-board"))
    assert "apt-get install qemu-system-arm" in caught.value.hint


def test_a_tool_that_hangs_is_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain, "_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(DeviceError, match=r"^sleep took longer than 0\.1 s$") as caught:
        toolchain.run(["sleep", "60"], tmp_path)
    assert "run it again" in caught.value.hint


@needs_emulator
def test_no_emulator_outlives_a_killed_process(made, tmp_path):
    program, board = made(ENDLESS, frame=PLAIN_FRAME)
    code = f"""
    from pathlib import Path
    from earshot.targets.mcu.boards import BOARDS
    from earshot.targets.mcu.emulator import emulate
    from earshot.targets.mcu.toolchain import Program
    program = Program(Path({str(program.elf)!r}), {{}}, {{}}, None, "")
    print("ready", flush=True)
    emulate(program, BOARDS[{board.machine!r}], {{"sound.f32": bytes(32)}}, (), 300, "chip")
    """
    here = {**os.environ, "TMPDIR": str(tmp_path)}  # nobody is left to remove what a killed process had there
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, env=here)
    try:
        assert parent.stdout.readline() == b"ready\n"
        deadline, found = time.monotonic() + 30, []
        while not found and time.monotonic() < deadline:
            time.sleep(0.02)
            found = emulators()
        assert len(found) == 1
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    gone, alive = psutil.wait_procs(found, timeout=10)
    for process in alive:
        process.kill()
    assert gone and not alive


@needs_emulator
def test_a_program_too_large_says_what_it_needs(made):
    large = "uint8_t arena[5000000]; void model_step(void) { arena[0]++; }"
    with pytest.raises(DeviceError, match=r"needs 5,0\d\d,\d{3} bytes of RAM, the board has 4,194,304") as caught:
        made(large, frame=PLAIN_FRAME)
    assert "prune" in caught.value.hint
    table = "const uint8_t table[3000000] = {1}; void model_step(void) { *(volatile uint8_t *)0x21000000 = table[3]; }"
    volatile = table.replace("table[3]", "*(const volatile uint8_t *)&table[3]")
    with pytest.raises(DeviceError, match=r"needs 3,0\d\d,\d{3} bytes of flash, the board has 2,097,152"):
        made(volatile, "cortex-m55", PLAIN_FRAME)


@needs_emulator
def test_code_that_does_not_compile_shows_the_line(made):
    with pytest.raises(ToolError, match=r"model\.c:\d+:\d+: error: .*undeclared"):
        made("void model_step(void) { undeclared = 1; }", frame=PLAIN_FRAME)
    with pytest.raises(ToolError, match="undefined reference to `elsewhere'"):
        made("void elsewhere(void); void model_step(void) { elsewhere(); }", frame=PLAIN_FRAME)


@needs_emulator
def test_a_program_is_built_once(made):
    code = "void model_step(void) {}"
    first, _ = made(code, frame=PLAIN_FRAME)
    stamp = first.elf.stat().st_mtime_ns
    again, _ = made(code, frame=PLAIN_FRAME)
    other, _ = made("void model_step(void) { }", frame=PLAIN_FRAME)
    assert (again.elf, again.elf.stat().st_mtime_ns) == (first.elf, stamp)
    assert other.elf != first.elf


@needs_emulator
def test_a_cache_that_cannot_be_written_is_named(made, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match="cannot be written") as caught:
        made("void model_step(void) {}", frame=PLAIN_FRAME)
    assert "EARSHOT_CACHE" in caught.value.hint


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    version.cache_clear()
    yield
    version.cache_clear()


def test_missing_tools_are_named_with_the_command(nothing_installed, tiny):
    target = open_target("cortex-m4")
    state = target.availability()
    assert not state.ok
    assert "arm-none-eabi-gcc" in state.reason
    assert state.enable.startswith("apt-get install gcc-arm-none-eabi")
    assert "qemu-system-arm" in state.enable
    assert set(target.identity()) == {"c"}
    with pytest.raises(DeviceError, match="arm-none-eabi-gcc is not installed") as caught:
        target.profile({"int8": tiny(integer=True)}, ProfileConfig(frames=2), Silent())
    assert (caught.value.exit_code, caught.value.hint.split()[2]) == (3, "gcc-arm-none-eabi")
    with pytest.raises(DeviceError, match="qemu-system-arm is not installed") as caught:
        counting_plugin()
    assert caught.value.hint == "apt-get install qemu-system-arm"


def test_a_float_model_is_the_model_s_fault(tiny):
    with pytest.raises(ModelError, match="float"):
        open_target("cortex-m4").profile({"float32": tiny()}, ProfileConfig(), Silent())
    with pytest.raises(ModelError, match="no such file"):
        open_target("cortex-m4").profile({"int8": Path("nowhere.tflite")}, ProfileConfig(), Silent())


def test_options_that_are_wrong_are_refused():
    profile = load_profile("cortex-m4")
    with pytest.raises(ConfigError, match=r"target x: options: cpu: unknown key"):
        CortexMTarget.open("x", profile.model_copy(update={"options": {**profile.options, "cpu": "m4"}}))
    with pytest.raises(ConfigError, match="machine: Input should be 'mps2-an386'"):
        CortexMTarget.open("x", profile.model_copy(update={"options": {**profile.options, "machine": "uno"}}))
    with pytest.raises(ConfigError, match="no clock_mhz"):
        CortexMTarget.open("x", profile.model_copy(update={"clock_mhz": None}))
