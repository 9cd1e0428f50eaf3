"""Everything that goes wrong with a device over SSH, provoked for real: a clear error, and a device left clean."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import flatbuffers
import numpy as np
import psutil
import pytest
from ai_edge_litert import schema_py_generated as schema

from earshot.core.errors import DeviceError, ModelError, ToolError
from earshot.pipeline.progress import Silent
from earshot.targets.base import ProfileConfig
from earshot.targets.ssh.address import SshOptions
from earshot.targets.ssh.connection import Deadline, SshConnection
from earshot.targets.ssh.device import DeviceFolder
from earshot.targets.ssh.target import SshTarget

ONCE = ProfileConfig(frames=20, repeats=1, warmup=2)
LONG = ProfileConfig(frames=200, repeats=10_000, warmup=2)
ROOT = os.geteuid() == 0


def failure(target, models, config=ONCE, kind=DeviceError):
    """The error that profiling ends with."""
    with pytest.raises(kind) as caught:
        target.profile(models, config, Silent())
    assert caught.value.exit_code == (2 if kind is ModelError else 3)
    return caught.value


# The way in


def test_an_unknown_host_key_is_refused_and_the_hint_adds_it(device, tiny, tmp_path):
    unknown = device.target(known_hosts=tmp_path / "known_hosts")
    error = failure(unknown, {"m": tiny()})
    print_of_key = subprocess.check_output(["ssh-keygen", "-lf", device.folder / "host_key.pub"], text=True).split()[1]
    assert f"127.0.0.1:{device.port}: its host key is unknown" in error.message
    assert print_of_key in error.message
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in error.hint
    subprocess.run(error.hint.rpartition("then: ")[2], shell=True, check=True, stderr=subprocess.DEVNULL)
    hashed = ["ssh-keygen", "-H", "-f", tmp_path / "known_hosts"]  # as Debian writes it
    subprocess.run(hashed, check=True, capture_output=True)
    unknown.profile({"m": tiny()}, ONCE, Silent())


def test_another_host_key_is_refused_and_the_hint_replaces_it(device, tiny, make_key, tmp_path):
    known = tmp_path / "known_hosts"
    kind, key, *_ = make_key("other").with_suffix(".pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{device.port} {kind} {key}\n")
    changed = device.target(known_hosts=known)
    error = failure(changed, {"m": tiny()})
    assert f"its host key is not the one in {known}" in error.message
    assert "somebody else may be answering" in error.hint
    forget, _, add = error.hint.partition("anew: ")[2].partition(", then ")
    for step in (forget, add):
        subprocess.run(step, shell=True, check=True, capture_output=True)
    changed.profile({"m": tiny()}, ONCE, Silent())


def test_a_known_key_of_another_kind_is_another_key(device, tiny, make_key, tmp_path):
    known = tmp_path / "known_hosts"
    kind, key, *_ = make_key("other", "ecdsa").with_suffix(".pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{device.port} {kind} {key}\n")
    assert f"not the one in {known}" in failure(device.target(known_hosts=known), {"m": tiny()}).message


def test_a_configuration_that_trusts_every_key_is_not_followed(device, tiny, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    lines = [f"Host kitchen\n  HostName 127.0.0.1\n  Port {device.port}\n  IdentityFile {device.folder}/user_key"]
    (home / ".ssh" / "config").write_text("\n".join([*lines, "  UserKnownHostsFile none\n"]))
    monkeypatch.setenv("HOME", str(home))
    target = SshTarget("pi", SshOptions(host="kitchen", python=sys.executable))
    assert target.availability().ok
    assert "host key is unknown" in failure(target, {"m": tiny()}).message
    shutil.copy(device.folder / "known_hosts", home / ".ssh" / "known_hosts")
    (home / ".ssh" / "config").write_text(lines[0] + "\n")
    target.profile({"m": tiny()}, ONCE, Silent())


def test_a_refused_login_says_how_to_be_accepted(device, tiny, make_key):
    key = make_key("stranger")
    error = failure(device.target(key=key, user="nobody"), {"m": tiny()})
    assert f"pi: nobody@127.0.0.1:{device.port}: the login was refused" in error.message
    assert f"ssh-copy-id -i {key}.pub -p {device.port} nobody@127.0.0.1" in error.hint


def test_a_key_that_is_absent_locked_or_no_key(device, tiny, make_key, tmp_path):
    absent = device.target(key=tmp_path / "absent")
    assert f"key {tmp_path / 'absent'} is not there" in absent.availability().reason
    assert "absent" in failure(absent, {"m": tiny()}).message
    locked = make_key("locked", phrase="secret")
    error = failure(device.target(key=locked), {"m": tiny()})
    assert "the key cannot be used" in error.message and f"ssh-add {locked}" in error.hint
    (tmp_path / "text").write_text("no key\n")
    assert "the key cannot be used" in failure(device.target(key=tmp_path / "text"), {"m": tiny()}).message


def test_nobody_there(device, tiny):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = device.target(port=closed.getsockname()[1])
        assert "nothing listens on port" in failure(target, {"m": tiny()}).message
        unavailable = target.availability()
        assert not unavailable.ok
        assert "nothing listens on port" in unavailable.reason and "systemctl" in unavailable.enable
    nowhere = device.target(host="no-such-board.invalid")
    assert "no such host" in failure(nowhere, {"m": tiny()}).message
    assert "no such host" in nowhere.availability().reason


def test_something_else_or_nothing_answers(device, tiny):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = device.target(port=silent.getsockname()[1], connect_timeout_seconds=1)
        started = time.monotonic()
        assert "no answer from 127.0.0.1 port" in failure(mute, {"m": tiny()}).message
        assert time.monotonic() - started < 10

        def hang_up():
            for _ in range(2):
                silent.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        hint = failure(device.target(port=silent.getsockname()[1]), {"m": tiny()}).hint
        assert f"ssh -p {silent.getsockname()[1]} -i {device.folder}/user_key" in hint


def test_too_few_sessions(make_device, tiny):
    device = make_device(more="MaxSessions 2")
    error = failure(device.target(), {"a": tiny(), "b": tiny()})
    assert "no more sessions" in error.message and "MaxSessions" in error.hint


# The device lacks something


def test_a_full_disk(device, tiny, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", full]
    if not ROOT or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here: run as root")
    try:
        error = failure(device.target(folder=str(full)), {"m": tiny()})
        assert "agent.py" in error.message and "No space left on device" in error.message
        assert "option folder" in error.hint
        assert list(full.iterdir()) == []
    finally:
        subprocess.run(["umount", full], check=True)


def test_a_file_larger_than_the_device_allows(make_device, tiny):
    device = make_device(prefix=("sh", "-c", 'ulimit -f 16; exec "$@"', "sh"))
    error = failure(device.target(), {"m": tiny()})
    assert "agent.py" in error.message and "cannot be copied (" in error.message


def test_a_folder_that_cannot_be_made(device, tiny):
    error = failure(device.target(folder="/proc"), {"m": tiny()})
    assert "pi: a folder cannot be made (mktemp: " in error.message


def test_a_model_that_cannot_be_read(device, tmp_path):
    error = failure(device.target(), {"m": tmp_path / "absent.tflite"}, kind=ToolError)
    assert "absent.tflite: cannot be read" in error.message
    assert error.hint == "check the path and its rights"


@pytest.fixture
def make_python(tmp_path):
    """A function that makes a Python environment that has only these of this one's packages."""

    def make(*packages):
        folder = tmp_path / f"python{len(packages)}"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        for package in packages:
            here = Path(np.__file__).parents[1]
            for part in here.glob(f"{package}*"):
                (site / part.name).symlink_to(part)
        return str(folder / "bin" / "python")

    return make


def small_tools(folder):
    """A PATH with what every Linux has and earshot uses, and no Python."""
    folder.mkdir()
    for tool in ("sh", "cat", "grep", "mktemp", "rm", "timeout", "wc"):
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def test_no_python(make_device, device, tiny, tmp_path):
    named = device.target(python="/absent/python")
    assert "no Python at /absent/python" in failure(named, {"m": tiny()}).message
    bare = make_device(environment=f"PATH={small_tools(tmp_path / 'bin')} HOME={tmp_path}")
    error = failure(bare.target(python=None), {"m": tiny()})
    assert "pi: no Python at python3 or ~/earshot/bin/python" in error.message
    assert "apt install -y python3-venv; python3 -m venv ~/earshot && ~/earshot/bin/pip install ai-" in error.hint


def test_the_first_python_that_can_is_taken(make_device, tiny, make_python, tmp_path):
    """`~/earshot/bin/python`, which the hints tell to make, when the system's has no runtime; nothing else changed."""
    own, systems = tmp_path / "earshot" / "bin" / "python", small_tools(tmp_path / "bin") / "python3"
    own.parent.mkdir(parents=True)
    script(own, f'exec {sys.executable} "$@"')
    script(systems, f'exec {make_python()} "$@"')
    device = make_device(environment=f"PATH={systems.parent} HOME={tmp_path}")
    device.target(python=None).profile({"m": tiny()}, ONCE, Silent())
    own.unlink()
    assert "pi: python3 has no TFLite runtime" in failure(device.target(python=None), {"m": tiny()}).message


def test_no_runtime_and_no_numpy(device, tiny, make_python):
    bare = failure(device.target(python=make_python()), {"m": tiny()})
    assert "has no TFLite runtime" in bare.message
    command = shlex.split(bare.hint.partition(", and leave out")[0])
    assert command[0] == "ssh" and command[-1].endswith("~/earshot/bin/pip install ai-edge-litert")
    assert "has no TFLite runtime" in failure(device.target(python=make_python("numpy")), {"m": tiny()}).message
    half = make_python("ai_edge_litert", "nothing-else")
    assert "has no numpy" in failure(device.target(python=half), {"m": tiny()}).message


def test_an_old_python_and_a_thing_that_is_none(device, tiny, tmp_path):
    old = script(tmp_path / "old", """echo '{"version": [3, 7], "wide": false, "numpy": true, "runtime": true}'""")
    assert "is Python 3.7, the agent needs 3.9" in failure(device.target(python=old), {"m": tiny()}).message
    none = script(tmp_path / "none", "echo 'command not understood'; exit 1")
    assert "is no Python that runs" in failure(device.target(python=none), {"m": tiny()}).message


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_runtime_too_old_for_an_operator(device, tiny, tmp_path):
    """The real runtime's refusal of an operator version that it does not know."""
    model = schema.ModelT.InitFromPackedBuf(tiny().read_bytes(), 0)
    model.operatorCodes[0].version = 99
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    newer = tmp_path / "newer.tflite"
    newer.write_bytes(builder.Output())
    error = failure(device.target(), {"m": newer})
    assert f"pi: {newer}: refused by ai_edge_litert" in error.message and "version '99'" in error.message
    assert "too old for this model" in error.hint and "-m pip install -U ai-edge-litert" in error.hint


def test_a_bad_model_among_good_ones_is_named_as_the_user_knows_it(device, tiny, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"nothing")
    error = failure(device.target(), {"good": tiny(), "bad": bad}, kind=ModelError)
    assert error.message == f"pi: {bad}: not a .tflite file"
    device.empties()


# In the middle


class Once(Silent):
    """Does something after the first repeat."""

    def __init__(self, act):
        self._act = [act]

    def advance(self, steps=1, note=""):
        while self._act:
            self._act.pop()()


def lost(device, tiny, act):
    """The error of a run in which something happens to the device after the first repeat, and the seconds it took."""
    started = time.monotonic()
    with pytest.raises(DeviceError) as caught:
        device.target().profile({"a": tiny(), "b": tiny()}, LONG, Once(act))
    return caught.value, time.monotonic() - started


def test_a_device_whose_connection_breaks(make_device, tiny):
    device = make_device()
    error, _ = lost(device, tiny, lambda: [session.kill() for session in device.sessions()])
    assert error.message == "pi: the connection was lost in the middle"
    device.empties()
    device.target().profile({"m": tiny()}, ONCE, Silent())


def test_a_device_that_falls_silent_is_noticed_within_seconds(make_device, tiny):
    """Stopped, not killed: no packet says that it is gone. When it comes back, it finds the connection ended."""
    device = make_device()
    error, seconds = lost(device, tiny, lambda: [session.suspend() for session in device.sessions()])
    assert error.message == "pi: the connection was lost in the middle"
    assert seconds < 60  # three seconds of silence, and what this machine adds; the run itself would take minutes
    assert device.residents() != []
    for session in device.sessions():
        session.resume()
    device.empties()


def test_an_agent_killed_on_the_device(make_device, tiny):
    device = make_device()

    def kill():
        for process in psutil.process_iter(["cmdline"]):
            if any(str(device.disk) in word and word.endswith("agent.py") for word in process.info["cmdline"] or []):
                process.kill()

    error, _ = lost(device, tiny, kill)
    assert "the agent was killed by signal KILL" in error.message and "memory" in error.hint


def test_a_dying_agent(device, tiny, tmp_path):
    dying = script(
        tmp_path / "python", f'[ "$1" = -c ] && exec {sys.executable} "$@"; echo last words >&2; kill -SEGV $$'
    )
    model = tiny()
    error = failure(device.target(python=dying), {"m": model})
    assert error.message == f"pi: {model}: the agent was killed by signal SEGV (last words)"


def test_too_slow(device, tiny):
    error = failure(device.target(), {"m": tiny()}, LONG.model_copy(update={"timeout_seconds": 3}))
    assert error.message == "pi: profiling took longer than 3 s" and error.hint == "raise timeout_seconds"
    device.empties()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_earshot_itself_is_ended_in_the_middle_of_a_repeat(make_device, tiny, until, end):
    device = make_device()
    program = textwrap.dedent(
        f"""
        import signal, sys
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's children ignore Ctrl-C
        from earshot.pipeline.progress import Silent
        from earshot.targets.base import ProfileConfig
        from earshot.targets.ssh.address import SshOptions
        from earshot.targets.ssh.target import SshTarget

        options = SshOptions.model_validate_json(sys.argv[1])
        config = ProfileConfig(frames=300_000, repeats=100, warmup=2)
        SshTarget("pi", options).profile({{"m": Path({str(tiny())!r})}}, config, Silent())
        """
    )
    command = [sys.executable, "-c", program, device.options.model_dump_json()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as earshot:
        until(lambda: any("--paced" in words for words in device.residents()), 60)
        time.sleep(3)  # a repeat takes longer than that and the wait below: it would not end by itself
        assert earshot.poll() is None
        earshot.send_signal(end)
        _, errors = earshot.communicate(timeout=60)
    assert earshot.returncode == -end
    assert errors.strip().splitlines()[-1:] == ([] if end == signal.SIGKILL else ["KeyboardInterrupt"])
    device.empties(seconds=5)


def test_a_device_that_nobody_tells_of_the_end_cleans_up_when_time_is_up(device, until):
    """The connection stays open and silent, as it looks to a device whose cable was pulled."""
    with SshConnection("pi", device.options) as connection, DeviceFolder(connection, None, seconds=2) as folder:
        sleeper = folder.start("tail", "-f", "/dev/null", f"{folder.path}/x", deadline=Deadline(30, "too late"))
        assert Path(folder.path).is_dir()
        until(lambda: not Path(folder.path).exists(), 10)
        assert sleeper.ending().signal == "KILL"
