"""The command line as a user meets it: real processes, exit codes, one clear line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner

from earshot.core.errors import DeviceError, ToolError, UsageError
from earshot.core.measurement import Measurement
from earshot.pipeline.cli.main import Application, application
from earshot.pipeline.runs import set_tag, write_run
from earshot.pipeline.store import Artifact, Store

COMMANDS = (
    *("run", "plan", "evaluate", "profile", "gate", "enhance"),
    *("artifacts", "models", "methods", "targets", "doctor", "init"),
)


def earshot(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from earshot.pipeline.cli.main import main; main()", *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("EARSHOT")}
    return subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".earshot")


@pytest.fixture
def artifact(store: Store) -> Artifact:
    def producer(out: Path, work: Path) -> list[Measurement]:
        for variant in ("float32", "int8"):
            (out / f"model.{variant}.tflite").write_bytes(b"not really")
        return [Measurement("model_bytes", 10.0, "bytes")]

    return store.build("convert", 1, config={"variants": 2}, inputs={"data": "ab" * 32}, producer=producer)


def write_finished_run(store: Store, artifact: Artifact | None = None, pesq: float = 2.5) -> None:
    def row(name: str, value: float) -> dict:
        quality = [("pesq_wb", value, "MOS"), ("stoi", value / 4, "1"), ("si_sdr", value, "dB")]
        measurements = [Measurement(metric, number, unit, n=9).to_dict() for metric, number, unit in quality]
        made = {"artifact": artifact.id if artifact else None}
        return {"row": name, "stage": name.partition(":")[0], **made, "measurements": measurements}

    budgets = {"budgets": [{"metric": "pesq_wb", "min": 2.2}]}
    write_run(
        store,
        "nightly",
        {
            "schema": "earshot.run/1",
            "name": "nightly",
            "recipe": {"name": "nightly", "budgets": budgets},
            "status": "complete",
            "error": None,
            "rows": [row("noisy", 1.5), row("convert:int8", pesq)],
            "verdicts": [],
        },
    )


def test_help_answers_quickly_and_loads_nothing_heavy() -> None:
    began = time.monotonic()
    done = earshot("--help")
    assert time.monotonic() - began < 2
    assert done.returncode == 0
    assert all(f"  {command}  " in done.stdout for command in COMMANDS)
    code = "import sys; import earshot.pipeline.cli.main; sys.exit(', '.join(HEAVY & set(sys.modules)) or 0)"
    heavy = "{'torch', 'litert_torch', 'numpy', 'scipy', 'pydantic', 'rich', 'yaml'}"
    loaded = subprocess.run([sys.executable, "-c", code.replace("HEAVY", heavy)], capture_output=True, check=False)
    assert (loaded.returncode, loaded.stderr) == (0, b"")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = CliRunner().invoke(application, [command, "--help"])
    assert done.exit_code == 0
    assert len(done.output) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "No such command"),
        (["run", "--no-such-flag"], "No such option"),
        (["run", "absent.yaml"], "error: absent.yaml: no such file"),
        (["run", "quickstart", "--set", "sed=3"], "fix: did you mean: seed"),
        (["run", "quickstart", "--report", "r.pdf"], "must end in .json"),
        (["gate"], "error: .earshot/runs/latest.json: no such run"),
        (["gate", "../../etc/passwd"], "is not a fit name"),
        (["evaluate", "absent.tflite"], "error: absent.tflite: no such file"),
        (["profile", "absent.tflite"], "error: absent.tflite: no such file"),
        (["profile", "a.tflite", "--target", "hots"], "fix: did you mean 'host'?"),
        (["enhance", "in.wav", "out.wav"], "no run has made a model yet"),
        (["artifacts", "show", "abcd1234"], "no artifact named 'abcd1234'"),
        (["artifacts", "tag", "v1", "absent"], "no such run"),
        (["init", "--from", "nothing"], ", quickstart, real16k, "),
    ],
)
def test_a_wrong_request_ends_with_2_and_writes_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = earshot(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("lock", "lock.owner")] == []


@pytest.mark.parametrize(
    ("raised", "code", "lines"),
    [
        (UsageError("bad wish", "wish otherwise"), 2, ["error: bad wish", "fix: wish otherwise"]),
        (ToolError("no disk"), 3, ["error: no disk"]),
        (DeviceError("gone", "plug it in"), 3, ["error: gone", "fix: plug it in"]),
        (ZeroDivisionError("boom"), 3, ["error: unexpected ZeroDivisionError: boom", "fix: if earshot is at fault"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_failures_become_lines_and_exit_codes(raised: BaseException, code: int, lines: list[str], debug: bool) -> None:
    @click.group(cls=Application)
    @click.option("--debug", is_flag=True)
    def group(debug: bool) -> None:
        """A group of its own, so that the real one stays as it is."""

    @group.command()
    def fail() -> None:
        raise raised

    done = CliRunner().invoke(group, [*(["--debug"] if debug else []), "fail"])
    assert done.exit_code == code
    assert [line for line in lines if line not in done.stderr] == []
    assert ("Traceback" in done.stderr) == (debug and code != 130)


def test_gate_ends_with_0_when_budgets_hold_and_1_when_one_is_missed(tmp_path: Path, store: Store) -> None:
    write_finished_run(store)
    held = earshot("gate", cwd=tmp_path)
    assert held.returncode == 0, held.stderr
    assert "2.5" in held.stdout
    strict = tmp_path / "strict.yaml"
    strict.write_text("schema: earshot.budgets/1\nbudgets: [{metric: pesq_wb, min: 4.9}]\n")
    missed = earshot("gate", "nightly", "--budgets", str(strict), cwd=tmp_path)
    assert missed.returncode == 1
    assert "4.9" in missed.stdout
    write_finished_run(store, pesq=1.4)  # below the recipe's own budget and below noisy
    assert earshot("gate", cwd=tmp_path).returncode == 1


def test_gate_writes_the_reports_asked_for(tmp_path: Path, store: Store) -> None:
    write_finished_run(store)
    set_tag(store, "baseline", "nightly")
    names = ["r.json", "r.md", "r.xml"]
    done = earshot("gate", "baseline", *[part for name in names for part in ("--report", name)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["run"] == "nightly"
    assert "|" in (tmp_path / "r.md").read_text()
    assert ElementTree.parse(tmp_path / "r.xml").getroot().tag == "testsuites"


def test_artifacts_are_listed_shown_verified_tagged_and_collected(
    tmp_path: Path, store: Store, artifact: Artifact
) -> None:
    write_finished_run(store, artifact)
    assert earshot("artifacts", "tag", "v1", cwd=tmp_path).returncode == 0
    listed = json.loads(earshot("artifacts", "list", "--json", cwd=tmp_path).stdout)
    assert [item["artifact"] for item in listed["artifacts"]] == [artifact.path.name]
    assert listed["runs"] == [{"run": "nightly", "status": "complete", "tags": ["v1"]}]
    shown = earshot("artifacts", "show", artifact.id[:8], cwd=tmp_path)
    assert all(part in shown.stdout for part in (artifact.id, "model.int8.tflite", "model_bytes", "data", "ab" * 8))
    manifest = json.loads(earshot("artifacts", "show", artifact.id[:8], "--json", cwd=tmp_path).stdout)
    assert manifest == json.loads((artifact.path / "manifest.json").read_text())

    assert earshot("artifacts", "verify", cwd=tmp_path).returncode == 0
    stray = store.build("prune", 1, config={}, inputs={}, producer=lambda out, work: [])
    assert stray.path.name in earshot("artifacts", "gc", "--dry-run", cwd=tmp_path).stdout
    assert stray.path.exists()
    assert earshot("artifacts", "gc", cwd=tmp_path).returncode == 0
    assert (stray.path.exists(), artifact.path.exists()) == (False, True)

    artifact.file("model.int8.tflite").write_bytes(b"flipped!!!")
    damaged = earshot("artifacts", "verify", cwd=tmp_path)
    assert damaged.returncode == 1
    assert "model.int8.tflite: its bytes were changed" in damaged.stdout


def test_a_model_is_named_by_artifact_and_file(tmp_path: Path, store: Store, artifact: Artifact) -> None:
    from earshot.core.errors import ArtifactError, ModelError
    from earshot.pipeline.cli.locate import find_model, newest_model

    int8 = artifact.path / "model.int8.tflite"
    assert find_model(store, str(int8)) == int8
    assert find_model(store, f"{artifact.path.name}/model.int8.tflite") == int8
    with pytest.raises(ArtifactError, match="it holds 2 models") as caught:
        find_model(store, artifact.path.name)
    assert "/model.int8.tflite" in (caught.value.hint or "")
    other = tmp_path / "model.pkl"
    other.write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="not a model"):
        find_model(store, str(other))
    write_finished_run(store, artifact)
    assert newest_model(store) == int8


def test_init_writes_a_recipe_that_loads_and_keeps_a_file_that_exists(tmp_path: Path) -> None:
    from earshot.pipeline.recipe import load_recipe

    assert earshot("init", "my own.yaml", cwd=tmp_path).returncode == 0
    path = tmp_path / "my own.yaml"
    recipe = load_recipe(str(path))
    assert recipe.name == "my-own"
    assert recipe.model_copy(update={"name": "quickstart"}) == load_recipe("quickstart")
    assert path.read_text().count("#") > 20
    path.write_text("mine")
    again = earshot("init", "my own.yaml", cwd=tmp_path)
    assert (again.returncode, path.read_text()) == (2, "mine")
    assert "--force" in again.stderr
    assert earshot("init", "my own.yaml", "--force", cwd=tmp_path).returncode == 0
    assert path.read_text() != "mine"


def test_doctor_tells_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    done = earshot("doctor", "--json", cwd=tmp_path, PATH="/nonexistent")
    assert done.returncode == 0, done.stderr
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert findings["torch"]["state"] == "ok"
    assert findings["target host"]["state"] == "ok"
    assert findings["espeak-ng"] == {
        "name": "espeak-ng",
        "state": "optional",
        "detail": "only to make the embedded pack again",
        "fix": "apt-get install espeak-ng",
    }


@pytest.mark.parametrize("command", ["models", "methods", "targets"])
def test_catalogues_list_what_is_registered(tmp_path: Path, command: str) -> None:
    known = {"models": "dae_unet", "methods": "latent_cosine", "targets": "host"}[command]
    done = earshot(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert known in done.stdout


def test_the_sizes_of_one_network_are_told(tmp_path: Path) -> None:
    done = earshot("models", "rt_senet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("channels", "(24, 48, 96)", "kernel", "SPL 2024"))
    refused = earshot("models", "rt_senett", cwd=tmp_path)
    assert refused.returncode == 2
    assert "did you mean 'rt_senet'" in refused.stderr


HOLDER = """
import sys
from pathlib import Path
from earshot.pipeline.store import Store

with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_run_beside_another_fails_at_once_and_names_it(tmp_path: Path, store: Store) -> None:
    command = [sys.executable, "-c", HOLDER, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = earshot("run", cwd=tmp_path)
        holder.send_signal(signal.SIGKILL)
    assert done.returncode == 3
    assert f"(pid {holder.pid})" in done.stderr
    assert "--wait" in done.stderr
