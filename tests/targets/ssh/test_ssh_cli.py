"""From an address to a table, as a user types it, against a real server; a device that is gone stops no other."""

import json
import sys

import pytest
from click.testing import CliRunner

from earshot.pipeline.cli.main import application

QUICK = ("--frames", "20", "--repeats", "1", "--quiet", "--json")


@pytest.fixture
def earshot(tmp_path, monkeypatch):
    """Runs the command line with an inventory of its own; returns its click result."""
    monkeypatch.setenv("EARSHOT_DEVICES", str(tmp_path / "devices.yaml"))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(application, [str(word) for word in words])


def test_a_device_is_added_and_profiled_and_one_that_is_gone_is_reported(device, tiny, earshot):
    settings = {"known_hosts": device.folder / "known_hosts", "python": sys.executable, "ssh_config": "false"}
    common = ["--key", device.folder / "user_key"]
    common += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    assert earshot("targets", "add", "kitchen-pi", "--ssh", f"127.0.0.1:{device.port}", *common).exit_code == 0
    added = earshot("targets", "add", "shed-pi", "--ssh", "127.0.0.1:9", *common)
    assert added.exit_code == 0 and "nothing listens on port 9" in added.stderr

    done = earshot("profile", tiny(integer=True), "--target", "kitchen-pi", "--target", "shed-pi", *QUICK)
    assert done.exit_code == 3
    there, gone = json.loads(done.stdout)["devices"]
    (result,) = there["results"]
    found = {measurement["metric"]: measurement for measurement in result["measurements"]}
    assert there["target"] == "kitchen-pi" and there["error"] is None
    assert found["frame_p99_us"]["provenance"] == "measured" and found["frame_p99_us"]["n"] == 20
    assert gone["target"] == "shed-pi" and "nothing listens on port 9" in gone["error"] and not gone["results"]
    device.empties()
