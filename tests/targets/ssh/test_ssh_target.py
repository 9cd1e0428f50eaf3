"""A device over SSH, against a real server: fair order, whole results, marks of a clock held back, a clean device."""

import subprocess
import sys
from pathlib import Path

import pytest

from earshot.core.errors import ConfigError, ModelError
from earshot.core.measurement import Provenance
from earshot.pipeline.progress import Silent
from earshot.targets.base import DeviceProfile, ProfileConfig, read_result
from earshot.targets.guest.outputs import expect, trace_on
from earshot.targets.host import HostTarget
from earshot.targets.registry import open_profile
from earshot.targets.ssh import target as ssh_target

QUICK = ProfileConfig(frames=20, repeats=2, warmup=2)
ONCE = ProfileConfig(frames=20, repeats=1, warmup=2)
TIMES = {"rtf", "hop_rtf", "graph_rtf", "frame_p50_us", "frame_p95_us", "frame_p99_us", "frame_max_us"}
TIMES |= {"deadline_misses"}
COUNTS = {"peak_rss_bytes", "arena_bytes", "delegate_coverage"}


class Notes(Silent):
    def __init__(self):
        self.seen, self.total = [], None

    def start(self, task, total):
        self.total = total

    def advance(self, steps=1, note=""):
        self.seen += [note.split()[0]] * steps


def flags_of(result):
    return {measurement.metric: measurement.flags for measurement in result.measurements}


def test_what_stays_behind_would_be_noticed(device):
    device.empties()
    (device.disk / "earshot.12345678").mkdir()
    with subprocess.Popen(["sleep", "60"], env={"TMPDIR": str(device.disk)}) as process:
        assert len(device.residents()) == 2
        with pytest.raises(pytest.fail.Exception, match="did not come about"):
            device.empties(seconds=0.2)
        process.kill()
    (device.disk / "earshot.12345678").rmdir()


def test_models_alternate_and_every_metric_comes_back(device, tiny):
    models, notes = {"float32": tiny(), "int8": tiny(integer=True)}, Notes()
    assert device.target().availability().ok
    results = device.target().profile(models, QUICK, notes)
    assert notes.seen == ["float32", "int8"] * 2
    assert notes.total == 4
    assert [result.variant for result in results] == ["float32", "int8"]
    for result in results:
        found = {measurement.metric: measurement for measurement in result.measurements}
        assert set(found) - {"temperature_c"} == TIMES | COUNTS
        assert all(m.target == "pi" and m.provenance is Provenance.MEASURED for m in found.values())
        assert found["frame_p99_us"].n == 40
        assert result.histogram is not None and sum(result.histogram.counts) == 40
        assert len(result.environment["cores"]) == 1
        assert {"runtime_version", "board", "system", "governor", "held_back"} <= set(result.environment)
    device.empties()


def test_what_does_not_depend_on_time_is_what_the_host_finds(device, tiny):
    model = {"int8": tiny(integer=True)}
    (there,), (here,) = device.target().profile(model, QUICK, Silent()), HostTarget().profile(model, QUICK, Silent())
    for fact in ("arena_bytes", "delegate_coverage", "operators", "frames", "precision"):
        assert there.raw[fact] == here.raw[fact]


def test_more_models_than_sessions_run_in_rounds(device, tiny, monkeypatch):
    monkeypatch.setattr(ssh_target, "SESSIONS", 2)
    notes = Notes()
    results = device.target().profile({name: tiny() for name in "abc"}, ONCE, notes)
    assert [result.variant for result in results] == ["a", "b", "c"]
    assert notes.seen == ["a", "b", "c"]


def test_two_models_run_by_turns_there_and_nothing_stays_behind(device, tiny, tmp_path):
    with device.target().race(tiny(), tiny(integer=True), ONCE) as race:
        assert len(race.environment["cores"]) == 1
        for _ in range(2):
            base, candidate = race.round()
            assert set(base) == set(candidate) == TIMES - {"graph_rtf", "frame_max_us", "deadline_misses"}
        assert len(device.residents()) > 0
    device.empties()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    for models in ((tiny(), broken), (broken, tiny())):
        with device.target().race(*models, ONCE) as race, pytest.raises(ModelError) as caught:
            race.round()
        assert caught.value.message.startswith(f"pi: {broken}: not a .tflite file")
        assert "base" not in caught.value.message and "candidate" not in caught.value.message
    device.empties()


def test_a_board_that_cannot_tell_itself_from_its_like_is_told_by_its_key(device, tiny, monkeypatch):
    told = {"device": ""}
    whole = ssh_target.take_turns

    def without(agents, repeats, progress):
        found = whole(agents, repeats, progress)
        for raw in found.values():
            told["device"] = raw["environment"].pop("device")
        return found

    (result,) = device.target().profile({"m": tiny()}, ONCE, Silent())
    monkeypatch.setattr(ssh_target, "take_turns", without)
    (nameless,) = device.target().profile({"m": tiny()}, ONCE, Silent())
    assert result.environment["device"] == told["device"] != ""
    assert nameless.environment["device"].startswith("SHA256:")


def test_a_description_beside_the_model_goes_along(device, tiny):
    models = {"float32": tiny(where="beside"), "int8": tiny(integer=True, where="beside")}
    results = device.target().profile(models, ONCE, Silent())
    assert [result.raw["precision"] for result in results] == ["float32", "int8"]
    expected = {variant: expect(path, ONCE, 5) for variant, path in models.items()}
    found = trace_on(device.target(), models, ONCE, expected, Silent())
    assert {variant: (one.mismatches, one.values) for variant, one in found.items()} == {
        "float32": (0, 5 * 33),
        "int8": (0, 5 * 33),
    }


def test_a_description_does_not_stay_for_the_next_rounds_model(device, tiny, monkeypatch):
    """Both models get the same name on the device; the second has no description of its own, and is named."""
    monkeypatch.setattr(ssh_target, "SESSIONS", 1)
    described, bare = tiny(where="beside"), tiny(where="nowhere")
    with pytest.raises(ModelError) as caught:
        device.target().profile({"a": described, "b": bare}, ONCE, Silent())
    assert caught.value.message == f"pi: {bare}: no stream description in the file and no tiny.json beside it"


def test_a_damaged_description_is_named_as_the_user_knows_it(device, tiny):
    model = tiny(where="beside")
    model.with_suffix(".json").write_text("{}")
    with pytest.raises(ModelError, match=rf"^pi: {model.with_suffix('.json')}: damaged stream description"):
        device.target().profile({"m": model}, ONCE, Silent())


def test_an_emulated_device_brings_its_own_reading(device, tiny):
    def read(variant, raw, target):
        return read_result(variant, raw, target, Provenance.EMULATED)

    target = ssh_target.SshTarget("pi-emulated", device.options, read)
    (result,) = target.profile({"m": tiny()}, QUICK, Silent())
    assert {m.provenance for m in result.measurements} == {Provenance.EMULATED}


def test_the_driver_opens_from_a_profile():
    options = {"host": "pi5.local", "user": "pi", "key": "~/.ssh/pi", "core": 3}
    profile = DeviceProfile(kind="raspberry-pi", driver="ssh", title="mine", options=options)
    opened = open_profile("kitchen", profile)
    assert opened.name == "kitchen" and opened.kind == "raspberry-pi" and not opened.exclusive
    assert opened.options.key == Path("~/.ssh/pi").expanduser()
    assert str(opened.options) == "pi@pi5.local"
    wrong = profile.model_copy(update={"options": {"host": "pi5.local", "prot": 22}})
    with pytest.raises(ConfigError, match="target kitchen: options: prot: unknown key; did you mean 'port'"):
        open_profile("kitchen", wrong)


def test_the_core_is_the_requests_else_the_devices(device, tiny):
    """Core 0 exists everywhere; the default is the last."""
    (chosen,) = device.target(core=0).profile({"m": tiny()}, QUICK, Silent())
    assert chosen.environment["cores"] == [0]


def firmware(folder, *flags):
    """A vcgencmd that answers with each of these flags in turn, and stays at the last: a stand-in for the firmware."""
    folder.mkdir()
    lines = "\n".join(flags)
    script = folder / "vcgencmd"
    script.write_text(
        f"""#!/bin/sh
        case $1 in
        measure_clock) echo "frequency(48)=1500398464" ;;
        get_throttled) echo x >>{folder}/asked
            count=$(wc -l <{folder}/asked)
            flag=$(printf '{lines}\\n' | sed -n "${{count}}p")
            echo "throttled=${{flag:-{flags[-1]}}}" ;;
        esac
        """
    )
    script.chmod(0o755)
    return f"PATH={folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("flags", "held_back", "marked"),
    [
        (["0x50000"], [], False),  # long before the run, and not since
        (["0x0", "0x50005", "0x50000"], ["under-voltage", "throttled"], True),  # in the middle
    ],
)
def test_a_run_whose_clock_was_held_back_is_marked(make_device, tiny, tmp_path, flags, held_back, marked):
    device = make_device(environment=firmware(tmp_path / "bin", *flags))
    (result,) = device.target().profile({"m": tiny()}, QUICK, Silent())
    assert result.environment["held_back"] == held_back
    assert result.environment["clock_mhz"] == [1500.398464]
    found = flags_of(result)
    assert all(found[metric] == (("throttled",) if marked else ()) for metric in TIMES)
    assert all(found[metric] == () for metric in COUNTS)


def test_a_delegate_that_did_not_apply_is_marked(device, tiny):
    """A true result without a delegate, as it was asked for, and as it would be had XNNPACK been asked for."""
    plain = QUICK.model_copy(update={"delegate": False})
    (result,) = device.target().profile({"m": tiny()}, plain, Silent())
    assert result.raw["delegate_coverage"] == 0
    assert set(flags_of(result).values()) == {()}
    asked = {**result.raw, "environment": {**result.raw["environment"], "delegate": True}}
    found = flags_of(read_result("m", asked, "pi"))
    assert all(found[metric] == ("delegate-missing",) for metric in TIMES)
    assert all(found[metric] == () for metric in COUNTS)
    assert set(flags_of(read_result("m", {**asked, "precision": "int16x8"}, "pi")).values()) == {()}


def test_the_command_line_uses_no_python_of_newer_versions():
    """The agent and the probe run on Python 3.9: no syntax that came later."""
    import ast

    from earshot.targets.agent_link import AGENT
    from earshot.targets.ssh.device import PROBE

    for source in (AGENT.read_text(), PROBE):
        ast.parse(source, feature_version=(3, 9))
    assert subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True).stdout.startswith(b"{")


def test_without_the_library_it_says_how_to_get_it(device, monkeypatch):
    assert device.target().availability().ok
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    found = device.target().availability()
    assert not found.ok and found.reason == "asyncssh is not installed"
    assert found.enable == "pip install 'earshot[devices]'"
