"""What needs no engine: options, refused processors, an engine that is not there, a limit it does not keep."""

import json
import re
import sys
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest

from earshot.core.errors import ConfigError, DeviceError, MachineError
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig, load_profile
from earshot.targets.container.channel import Deployment, Limits
from earshot.targets.container.emulation import PARTS, cpuinfo
from earshot.targets.container.engine import Engine
from earshot.targets.container.image import WHEELS, image_name
from earshot.targets.container.target import ContainerTarget

pytest.importorskip("docker", reason="pip install 'earshot[docker]'")


def open_container(**options):
    profile = load_profile("arm64-container")
    return ContainerTarget.open("box", profile.model_copy(update={"options": {**profile.options, **options}}))


class FakeEngine(BaseHTTPRequestHandler):
    """Speaks what of the API comes before a container runs; it has every image and refuses containers."""

    architecture = ""

    def do_GET(self):
        version = {"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Version": "27.0", "Arch": self.architecture}
        self.answer(200, version if self.path.endswith("/version") else {"Id": "sha256:0"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(400, {"message": "Requested CPUs are not available - requested 0-99, available: 0-1"})

    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def fake_engine():
    """A function that starts a fake engine of an architecture and returns its address."""
    with ExitStack() as stack:

        def start(architecture):
            handler = type("Engine", (FakeEngine,), {"architecture": architecture})
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return f"tcp://127.0.0.1:{server.server_port}"

        yield start


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


@pytest.mark.parametrize("asked", ["max", "max,pauth-impdef=on"])
def test_a_processor_that_gives_wrong_results_in_the_environment(monkeypatch, tiny, fake_engine, asked):
    monkeypatch.setattr("earshot.targets.container.target.registered", lambda: True)
    target = open_container(engine=fake_engine("amd64"), image="agent:1")
    native = open_container(engine=fake_engine("arm64"), image="agent:1")
    for harmless in ("cortex-a72", "maximum"):
        monkeypatch.setenv("QEMU_CPU", harmless)
        assert target.availability().ok
    monkeypatch.setenv("QEMU_CPU", asked)
    assert native.availability().ok  # nothing is emulated
    with pytest.raises(DeviceError, match=f"^QEMU_CPU={asked} makes .* wrong results") as caught:
        target.profile({"m": tiny()}, ProfileConfig(), Silent())
    assert (caught.value.hint, caught.value.exit_code) == ("unset QEMU_CPU", 3)
    available = target.availability()
    assert (available.ok, available.reason, available.enable) == (False, caught.value.message, "unset QEMU_CPU")


def test_what_an_engine_refuses_says_where_the_fix_is(fake_engine, tiny):
    target = open_container(engine=fake_engine("arm64"), image="agent:1", cpuset="0-99")
    with pytest.raises(DeviceError, match=r"^the container engine refused: Requested CPUs are not available") as caught:
        target.profile({"m": tiny()}, ProfileConfig(), Silent())
    assert "cpuset" in caught.value.hint and "journalctl" in caught.value.hint


def test_an_engine_is_part_of_what_decides_a_result(fake_engine, tmp_path):
    here, there, gone = fake_engine("amd64"), fake_engine("arm64"), f"unix://{tmp_path}/absent.sock"
    known = {url: dict(open_container(engine=url, image="agent:1").identity()) for url in (here, there, gone)}
    same = {"image": "agent:1", "emulated_cpu": "cortex-a72"}
    assert known[here] == {**same, "engine": here, "engine_architecture": "amd64"}
    assert known[there] == {**same, "engine": there, "engine_architecture": "arm64"}
    assert known[gone] == {**same, "engine": gone}


def test_without_the_sdk_the_command_is_named(monkeypatch, tiny):
    target = open_container(engine="tcp://127.0.0.1:9", image="agent:1")
    monkeypatch.setitem(sys.modules, "docker", None)
    assert target.availability().enable == "pip install 'earshot[docker]'"
    assert target.identity()["engine"] == "tcp://127.0.0.1:9"
    with pytest.raises(DeviceError, match="Docker SDK for Python is not installed") as caught:
        target.profile({"m": tiny()}, ProfileConfig(), Silent())
    assert caught.value.hint == "pip install 'earshot[docker]'"


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
