"""What needs no engine: options, refused processors, an engine that is not there, a limit it does not keep."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from earshot.core.errors import ConfigError, DeviceError, MachineError
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig, load_profile
from earshot.targets.container.channel import Deployment, Limits
from earshot.targets.container.emulation import PARTS, check_environment, cpuinfo
from earshot.targets.container.engine import Engine
from earshot.targets.container.image import WHEELS, image_name
from earshot.targets.container.target import ContainerTarget

pytest.importorskip("docker", reason="pip install 'earshot[docker]'")


def open_container(**options):
    profile = load_profile("arm64-container")
    return ContainerTarget.open("box", profile.model_copy(update={"options": {**profile.options, **options}}))


def test_the_profiles_memory_is_the_limit_unless_an_option_says_otherwise():
    assert open_container().options.memory_bytes == load_profile("arm64-container").ram_bytes == 2**28
    assert open_container(memory_bytes=2**27).options.memory_bytes == 2**27


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cpu": "max"}, "'max' makes XNNPACK's int8 kernels give wrong results"),
        ({"cpu": "cortex-m4"}, "no such emulated CPU; known: cortex-a53"),
        ({"memory_bytes": 1000}, "memory_bytes"),
        ({"cpuset": "0;1"}, "cpuset"),
        ({"cpus": 0}, "cpus"),
        ({"imgae": "x"}, "did you mean 'image'"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        open_container(**options)


def test_a_processor_that_gives_wrong_results_is_refused_from_the_environment_too(monkeypatch):
    monkeypatch.setenv("QEMU_CPU", "cortex-a72")
    check_environment()
    monkeypatch.setenv("QEMU_CPU", "max")
    with pytest.raises(ConfigError, match="wrong results") as caught:
        check_environment()
    assert caught.value.hint == "unset QEMU_CPU"


def test_every_processor_has_the_cpuinfo_of_its_own():
    texts = {cpu: cpuinfo(cpu) for cpu in PARTS}
    assert len(set(texts.values())) == len(PARTS)
    assert all(text.count("processor\t:") == 4 for text in texts.values())
    assert "CPU part\t: 0xd08\n" in texts["cortex-a72"]
    assert "asimddp" in texts["cortex-a76"] and "asimddp" not in texts["cortex-a72"]  # int8 dot products


def test_an_engine_that_is_not_there(tmp_path, tiny):
    target = open_container(engine=f"unix://{tmp_path}/absent.sock")
    with pytest.raises(DeviceError, match=r"at unix://.*/absent\.sock \(nothing listens there\)") as caught:
        target.profile({"m": tiny()}, ProfileConfig(), Silent())
    assert caught.value.exit_code == MachineError.exit_code == 3
    assert "systemctl start docker" in caught.value.hint
    available = target.availability()
    assert not available.ok and available.reason == caught.value.message and available.enable == caught.value.hint


def test_an_engine_that_lets_the_user_not_in():
    error = Engine("unix:///x")._unreachable("('Connection aborted.', PermissionError(13, 'Permission denied'))")
    assert "lets this user not in" in error.message and "usermod -aG docker" in error.hint


def test_a_limit_that_the_engine_does_not_keep_is_an_error():
    channel = Deployment(Engine("unix:///x"), "image", Limits(), 1).container(Path("m.tflite"), [])
    channel._judge(["Your kernel does not support swap limit capabilities. Memory limited without swap."])
    assert len(channel.warnings) == 1
    with pytest.raises(DeviceError, match="does not keep a limit") as caught:
        channel._judge(["Your kernel does not support memory limit capabilities. Limitation discarded."])
    assert "cgroup_enable=memory" in caught.value.hint


def test_the_image_has_the_runtime_that_the_project_is_tested_with():
    pins = dict(wheel.split("==") for wheel in WHEELS)
    assert pins == {name: version(name) for name in pins}


def test_what_goes_into_the_image_names_it(monkeypatch, tmp_path):
    name = image_name(None)
    assert re.fullmatch(r"earshot-agent:[0-9a-f]{12}", name)
    assert image_name("debian:bookworm-slim") != name
    agent = tmp_path / "agent.py"
    agent.write_text("another")
    monkeypatch.setattr("earshot.targets.container.image.AGENT", agent)
    assert image_name(None) != name


def test_only_a_native_engine_on_this_machine_reads_this_machines_clock(monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert not open_container().exclusive
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert open_container().exclusive
    assert not open_container(engine="tcp://pi:2376").exclusive
