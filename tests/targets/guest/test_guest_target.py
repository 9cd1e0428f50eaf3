"""Profiles on the emulated Pi: exact counts, outputs equal to this machine's, and every way it may fail."""

import os
import signal
import threading

import pytest

from earshot.core.errors import ConfigError, DeviceError, ModelError
from earshot.core.measurement import Provenance
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig, load_profile
from earshot.targets.guest.options import GuestOptions
from earshot.targets.guest.target import GuestTarget
from earshot.targets.registry import open_profile, open_target

from .conftest import emulators

BOARDS = {"pi3-emulated": "cortex-a53", "pi4-emulated": "cortex-a72", "pi5-emulated": "cortex-a76"}


class Notes(Silent):
    """Keeps what is shown while it works."""

    def __init__(self):
        self.seen, self.tasks = [], []

    def start(self, task, total):
        self.tasks.append(task)

    def advance(self, steps=1, note=""):
        self.seen.append(note)


def values(result):
    return {measurement.metric: measurement.value for measurement in result.measurements}


@pytest.mark.slow
@pytest.mark.usefixtures("no_emulator_left", "image")
def test_counts_repeat_exactly_and_outputs_are_those_of_this_machine(student):
    notes = Notes()
    first = open_target("pi4-emulated").profile(student, ProfileConfig(), notes)
    second = open_target("pi4-emulated").profile(student, ProfileConfig(), Silent())
    assert [result.variant for result in first] == ["float32", "int8"]
    for result, again in zip(first, second, strict=True):
        sizes, sizes_again = values(result), values(again)
        # Memory is counted in pages that the kernel maps ahead, a few more or less of them.
        assert sizes.pop("peak_rss_bytes") == pytest.approx(sizes_again.pop("peak_rss_bytes"), rel=0.01)
        assert sizes == sizes_again
    for result in first:
        found = {measurement.metric: measurement for measurement in result.measurements}
        assert 0 < found["graph_instructions_per_frame"].value < found["instructions_per_frame"].value
        assert (found["output_mismatches"].value, found["output_mismatches"].n) == (0, 20 * 257)
        assert 20e6 < found["peak_rss_bytes"].value < 100e6
        assert found["delegate_coverage"].value == 1
        assert {m.provenance for m in found.values()} == {Provenance.EMULATED}
        assert result.environment["machine"] == "aarch64"
        assert "-icount shift=0" in result.environment["emulator"]
    assert first[1].environment["largest_output_difference"] == 0
    assert notes.tasks == ["start pi4-emulated", "profile on pi4-emulated", "compare outputs of pi4-emulated"]
    assert any("k instructions" in note for note in notes.seen)
    assert not any(note.endswith(" us") for note in notes.seen)


@pytest.mark.usefixtures("no_emulator_left", "image")
def test_xnnpack_rounds_elementwise_products_otherwise_on_arm_and_the_plain_kernels_do_not(tiny):
    """One graph, the same frames: with XNNPACK masks differ by a few steps, so the comparison sees such things."""
    models, options = {"m": tiny(integer=True)}, GuestOptions(cpu="cortex-a53", frames=10)
    found = {}
    for delegate in (True, False):
        (result,) = GuestTarget("pi", options).profile(models, ProfileConfig(delegate=delegate), Silent())
        found[delegate] = values(result), result.environment["largest_output_difference"]
        assert "cortex-a53" in result.environment["cpu"]
        assert {m.n for m in result.measurements if m.metric == "instructions_per_frame"} == {10}
    (quick, most), (plain, none) = found[True], found[False]
    assert 0 < quick["output_mismatches"] < 20 * 33 / 2 and 1 <= most <= 3
    assert (plain["output_mismatches"], none) == (0, 0)
    assert (quick["delegate_coverage"], plain["delegate_coverage"]) == (1, 0)
    assert quick["graph_instructions_per_frame"] != plain["graph_instructions_per_frame"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_emulator_left", "image")
def test_plain_kernels_of_a_whole_network_round_otherwise_on_arm(student):
    """With XNNPACK its int8 outputs are equal, see above; they are no proof of the plain kernels'."""
    options, config = GuestOptions(cpu="cortex-a72", frames=5), ProfileConfig(delegate=False)
    found = [values(one)["output_mismatches"] for one in GuestTarget("pi", options).profile(student, config, Silent())]
    assert found[0] == 0 < found[1]


@pytest.mark.usefixtures("no_emulator_left", "image")
def test_a_bad_model_is_refused_before_the_guest_starts(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"nothing")
    notes = Notes()
    with pytest.raises(ModelError, match=r"m\.tflite"):
        open_target("pi4-emulated").profile({"m": tmp_path / "m.tflite"}, ProfileConfig(), notes)
    assert notes.tasks == []


@pytest.mark.usefixtures("no_emulator_left", "image")
def test_an_emulator_killed_in_the_middle_is_told_as_that(tiny):
    before = emulators()
    long = GuestTarget("pi", GuestOptions(cpu="cortex-a72", frames=10**6, repeats=100, traced_frames=0))

    class Killer(Silent):
        """Strikes when profiling has begun."""

        def start(self, task, total):
            if task.startswith("profile on"):
                threading.Timer(2, lambda: [os.kill(pid, signal.SIGKILL) for pid in emulators() - before]).start()

    with pytest.raises(DeviceError, match=r"target pi: qemu-system-aarch64 was killed by signal SIGKILL"):
        long.profile({"m": tiny()}, ProfileConfig(frames=10**6, repeats=100), Killer())


@pytest.mark.usefixtures("no_emulator_left", "image")
def test_a_profile_that_takes_too_long_is_ended(tiny):
    long = GuestTarget("pi", GuestOptions(cpu="cortex-a72", frames=10**6, traced_frames=0))
    with pytest.raises(DeviceError, match="took longer than 5 s"):
        long.profile({"m": tiny()}, ProfileConfig(frames=10**6, timeout_seconds=5), Silent())


@pytest.mark.parametrize(("name", "cpu"), BOARDS.items())
def test_boards_differ_in_their_processor(name, cpu):
    profile = load_profile(name)
    target = open_target(name)
    assert isinstance(target, GuestTarget)
    assert target.options.cpu == cpu == (profile.cpu or "").lower()
    assert (target.name, target.kind, target.exclusive) == (name, "raspberry-pi", False)


def test_a_processor_that_computes_wrongly_is_refused(monkeypatch, tiny):
    profile = load_profile("pi4-emulated")
    with pytest.raises(ConfigError, match="options: cpu: max: QEMU computes int8 models wrongly"):
        open_profile("pi", profile.model_copy(update={"options": {"cpu": "max"}}))
    with pytest.raises(ConfigError, match="cortex-a57"):
        open_profile("pi", profile.model_copy(update={"options": {"cpu": "cortex-a57"}}))
    monkeypatch.setenv("QEMU_CPU", "max")
    target = open_target("pi4-emulated")
    available = target.availability()
    assert not available.ok
    assert ("QEMU_CPU=max" in available.reason, available.enable) == (True, "unset QEMU_CPU")
    with pytest.raises(DeviceError, match="QEMU_CPU=max: QEMU computes int8 models wrongly"):
        target.profile({"m": tiny()}, ProfileConfig(), Silent())


def test_without_an_image_the_command_is_named(monkeypatch, tmp_path, tiny):
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path))
    target = open_target("pi4-emulated")
    assert target.availability().enable.endswith("earshot targets setup pi4-emulated")
    with pytest.raises(DeviceError, match="image was not built"):
        target.profile({"m": tiny()}, ProfileConfig(), Silent())
    monkeypatch.setenv("PATH", str(tmp_path))
    install = "sudo apt-get install --no-install-recommends qemu-system-arm mmdebstrap"
    assert target.availability().enable == f"{install} && earshot targets setup pi4-emulated"


def test_what_decides_a_result_is_told(image):
    assert open_target("pi4-emulated").identity()["image"] == image.folder.name
    assert open_target("pi4-emulated").identity()["qemu"][0].isdigit()


@pytest.mark.parametrize("options", [{"cpi": 1.5}, {"cpi_source": "hearsay"}])
def test_an_estimate_needs_its_source(options):
    profile = load_profile("pi4-emulated")
    with pytest.raises(ConfigError, match="cpi and cpi_source come together"):
        open_profile("pi", profile.model_copy(update={"options": {"cpu": "cortex-a72", **options}}))


def test_an_estimate_needs_a_clock():
    with pytest.raises(ConfigError, match="estimated times need clock_mhz"):
        GuestTarget("pi", GuestOptions(cpu="cortex-a72", cpi=1, cpi_source="a board on a desk"))
