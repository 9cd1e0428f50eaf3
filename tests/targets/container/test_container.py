"""The deployment image in a real engine: what it measures, the limits it keeps, and how it ends."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from earshot.core.errors import DeviceError, ModelError
from earshot.core.measurement import Provenance
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig
from earshot.targets.container.channel import Deployment, Limits
from earshot.targets.container.image import DOCKERFILE
from earshot.targets.guest.outputs import Expected, expect

pytestmark = pytest.mark.slow

CONFIG = ProfileConfig(frames=10, repeats=2, warmup=2, delegate=False)
ENDLESS = ProfileConfig(frames=200_000, repeats=1, warmup=0)
WITHIN = """\
id -u
while read -r name value; do
    case $name in CapEff: | NoNewPrivs: | Cpus_allowed_list:) echo "$value";; esac
done </proc/self/status
touch /x 2>/dev/null && echo writes || echo read-only
touch /tmp/x && echo writes
ls /sys/class/net | tr '\\n' ' '; echo
cd /sys/fs/cgroup
cat memory.max memory/memory.limit_in_bytes 2>/dev/null
cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null
"""


class Notes(Silent):
    """Keeps what was reported."""

    def __init__(self):
        self.seen, self.total = [], None

    def start(self, task, total):
        self.total = total

    def advance(self, steps=1, note=""):
        self.seen.append(note)


def eventually(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    return condition()


def test_the_image_is_arm64_and_built_once(built, target):
    name = target().image
    image = built.image(name)
    assert image["Architecture"] == "arm64"
    assert image["Config"]["User"] == "65534:65534" and image["Config"]["Entrypoint"][0] == "python3"
    target().setup(Silent())
    assert built.image(name)["Id"] == image["Id"]
    assert target().availability().ok
    assert target().identity() == {
        "image": name,
        "emulated_cpu": "cortex-a72",
        "engine": built.url,
        "engine_architecture": "amd64",
    }


def test_an_emulated_run_gives_outputs_and_sizes_and_no_time(target, tiny):
    """This graph's plain kernels are the same everywhere to the bit; the description beside the file travels along."""
    model, notes = tiny(integer=True, where="beside"), Notes()
    (result,) = target().profile({"int8": model}, CONFIG, notes)
    values = {measurement.metric: measurement for measurement in result.measurements}
    assert set(values) == {"arena_bytes", "delegate_coverage", "output_mismatches"}
    assert {measurement.provenance for measurement in values.values()} == {Provenance.EMULATED}
    assert {measurement.target for measurement in values.values()} == {"arm64-container"}
    assert values["output_mismatches"].value == 0 and values["output_mismatches"].n == 50 * 33
    assert values["delegate_coverage"].value == 0 and values["delegate_coverage"].flags == ()
    assert result.histogram is None and not {"graph_us", "rtf", "peak_rss_bytes"} & set(result.raw)
    assert not any(" us" in note for note in notes.seen) and len(notes.seen) == notes.total
    about = result.environment
    assert (about["machine"], about["emulated_cpu"], about["cores"]) == ("aarch64", "cortex-a72", [0])
    assert about["engine_architecture"] == "amd64" and about["limits"]["memory_bytes"] == 2**28


def test_xnnpack_is_there_and_every_differing_output_is_counted(target, tiny, monkeypatch):
    """Without /proc/cpuinfo of an Arm board the runtime crashes, without /sys XNNPACK is silently left out."""

    def spoiled(*arguments):
        ours = expect(*arguments)
        masks = ours.masks.copy()
        masks[5, 7] += 0.5
        return Expected(ours.frames, masks)

    monkeypatch.setattr("earshot.targets.container.target.expect", spoiled)
    (result,) = target().profile({"float32": tiny()}, CONFIG.model_copy(update={"delegate": True}), Silent())
    values = {measurement.metric: measurement for measurement in result.measurements}
    assert values["delegate_coverage"].value == 1 and values["delegate_coverage"].flags == ()
    assert values["output_mismatches"].value == 1 and result.environment["largest_output_difference"] == pytest.approx(
        0.5, abs=1e-5
    )


def run_within(built, image, limits=None, **settings):
    """What WITHIN prints in a container with the channel's own limits, or with other settings."""
    channel = Deployment(built, image, limits or Limits(), 60).container(DOCKERFILE, [])
    request = channel._request([0, 0])
    request["entrypoint"], request["command"] = ["sh", "-c", WITHIN], None
    request["stdin_open"] = False
    request["host_config"]["AutoRemove"] = False
    if settings:
        request["host_config"] = built.api.create_host_config(init=True, network_mode="host")
        request["user"] = "0"
    container = built.api.create_container(**request)["Id"]
    try:
        built.api.start(container)
        built.api.wait(container, timeout=60)
        return built.api.logs(container).decode().splitlines()
    finally:
        built.remove(container)


def test_limits_hold_inside(built, target):
    limits = Limits(memory_bytes=100 * 2**20, cpus=0.5, cpuset="0")
    user, rights, no_new, cores, root, ram_disk, network, memory, share = run_within(built, target().image, limits)
    assert (user, int(rights, 16), no_new) == ("65534", 0, "1")
    assert (root, ram_disk, network.split(), cores) == ("read-only", "writes", ["lo"], "0")
    assert int(memory) == 100 * 2**20
    assert share.split() in (["50000"], ["50000", "100000"])


def test_without_limits_the_same_look_finds_none(built, target):
    """The negative control of the test above."""
    user, rights, no_new, _, root, _, network, memory, share = run_within(built, target().image, plain=True)
    assert user == "0" and int(rights, 16) and no_new == "0" and root == "writes"
    assert sorted(network.split()) == sorted(path.name for path in Path("/sys/class/net").iterdir())
    assert memory == "max" or int(memory) > 2**40
    assert share.split()[0] in ("max", "-1")


def test_a_model_that_the_container_refuses(target, tmp_path, tiny, monkeypatch):
    nothing = Expected(b"", np.zeros((0, 33), np.int8))
    monkeypatch.setattr("earshot.targets.container.target.expect", lambda *_: nothing)  # this machine refuses it, too
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(tiny().read_bytes()[:200])
    with pytest.raises(ModelError, match=r"^arm64-container: /.*/broken\.tflite: truncated"):
        target().profile({"m": broken}, CONFIG, Silent())


def test_too_little_memory(target, tiny):
    with pytest.raises(DeviceError, match="does not fit the container's memory limit of 24 MiB") as caught:
        target(memory_bytes=24 * 2**20).profile({"m": tiny()}, CONFIG, Silent())
    assert "memory_bytes" in caught.value.hint and caught.value.exit_code == 3


def test_too_little_time(target, tiny):
    config = ENDLESS.model_copy(update={"timeout_seconds": 2})
    with pytest.raises(DeviceError, match="took longer than 2 s"):
        target(frames=200_000).profile({"m": tiny()}, config, Silent())


def test_a_container_that_is_killed_in_the_middle(built, target, tiny):
    def kill():
        assert eventually(built.api.containers)
        time.sleep(1)
        built.kill(built.api.containers()[0]["Id"])

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DeviceError, match="killed by signal KILL"):
        target(frames=200_000).profile({"m": tiny()}, ENDLESS, Silent())
    killer.join()


KILLED = """
import sys
from pathlib import Path
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig
from earshot.targets.container.target import ContainerOptions, ContainerTarget
options = ContainerOptions.model_validate_json(sys.argv[1])
config = ProfileConfig(frames=2000, repeats=1, warmup=0)
ContainerTarget("arm64-container", options).profile({"m": Path(sys.argv[2])}, config, Silent())
"""


def test_no_container_outlives_earshot(built, target, tiny):
    options = target(frames=2000).options.model_dump_json()
    with subprocess.Popen([sys.executable, "-c", KILLED, options, str(tiny())]) as process:
        assert eventually(built.api.containers)
        assert built.api.containers(all=True) != []
        process.send_signal(signal.SIGKILL)
    assert eventually(lambda: built.api.containers(all=True) == [])


def test_an_image_that_is_missing(target, tiny):
    with pytest.raises(DeviceError, match="has no image nobody:1") as caught:
        target(image="nobody:1").profile({"m": tiny()}, CONFIG, Silent())
    assert caught.value.hint == "docker pull --platform linux/arm64 nobody:1"
    assert target(image="nobody:1").availability().enable == caught.value.hint
    other = target(base="debian:trixie-slim")  # another base makes another image
    assert other.availability().enable == "earshot targets setup arm64-container"


def test_a_machine_that_cannot_run_arm64_programs(built, target, tiny):
    switch = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
    switch.write_text("0")
    try:
        with pytest.raises(DeviceError, match="cannot run arm64 programs") as caught:
            target().profile({"m": tiny()}, CONFIG, Silent())
        assert "qemu-user-static" in caught.value.hint
    finally:
        switch.write_text("1")


def test_cores_that_the_engine_does_not_have(target, tiny):
    with pytest.raises(DeviceError, match=r"the container engine refused: .*CPUs are not available") as caught:
        target(cpuset="900").profile({"m": tiny()}, CONFIG, Silent())
    assert "cpuset" in caught.value.hint


def test_a_processor_that_gives_wrong_results(target, tiny, monkeypatch):
    monkeypatch.setenv("QEMU_CPU", "max,sve=off")
    with pytest.raises(DeviceError, match=r"QEMU_CPU=max,sve=off makes .* wrong results"):
        target().profile({"m": tiny()}, CONFIG, Silent())
    assert target().availability().enable == "unset QEMU_CPU"


def test_a_base_that_no_registry_gives(target):
    with pytest.raises(DeviceError, match=r"earshot-agent:.* could not be built") as caught:
        target(base="registry.invalid/debian:bookworm").setup(Silent())
    assert "leave out the option base" in caught.value.hint
