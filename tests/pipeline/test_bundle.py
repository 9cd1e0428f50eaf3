"""Bundles of a real run: the same bytes twice, a card that tells the truth, a bill of materials, a gate that holds."""

import html
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from earshot.pipeline.bundle.sbom import _files
from earshot.pipeline.cli.main import application
from earshot.pipeline.store import Store

SCHEMA_HINT = (
    "CycloneDX's published schemas: python3 -m venv V && V/bin/pip install cyclonedx-python-lib "
    "&& export EARSHOT_TEST_TOOLS=$PWD/V"
)


def earshot(store, *arguments):
    """A command in this process, on a store."""
    given = [*arguments, *(["--store", str(store)] if arguments[0] == "bundle" else [])]
    return CliRunner().invoke(application, given)


@pytest.fixture(scope="module")
def store(finished):
    return finished.folder / ".earshot"


@pytest.fixture(scope="module")
def bundled(store, tmp_path_factory):
    """target -> the folder of an unpacked bundle of the tiny run, beside its zip; made once."""
    made = {}

    def of(target):
        if target not in made:
            folder = tmp_path_factory.mktemp(target)
            done = earshot(store, "bundle", "latest", "--target", target, "--out", str(folder / "b.zip"))
            assert done.exit_code == 0, done.stderr
            with zipfile.ZipFile(folder / "b.zip") as archive:
                archive.extractall(folder / "b")
            made[target] = folder / "b"
        return made[target]

    return of


@pytest.mark.parametrize("target", ["pi", "cortex-m"])
def test_a_bundle_is_intact_and_always_the_same(store, bundled, tmp_path, target):
    whole = bundled(target).with_suffix(".zip")
    done = earshot(store, "verify", str(whole))
    assert (done.exit_code, "intact" in done.stdout) == (0, True), done.stderr
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(store, elsewhere)
    again = tmp_path / "again.zip"
    done = earshot(elsewhere, "bundle", "latest", "--target", target, "--out", str(again))
    assert done.exit_code == 0, done.stderr
    assert again.read_bytes() == whole.read_bytes()
    assert str(store.parent).encode() not in whole.read_bytes()


def test_one_changed_byte_is_told_with_its_file(store, bundled, tmp_path):
    content = bytearray(bundled("pi").with_suffix(".zip").read_bytes())
    model = (bundled("pi") / "model/model.int8.tflite").read_bytes()
    content[content.index(model) + len(model) // 2] ^= 1
    changed = tmp_path / "changed.zip"
    changed.write_bytes(content)
    done = earshot(store, "verify", str(changed))
    assert done.exit_code == 1
    assert "model/model.int8.tflite: its bytes were changed" in done.stderr
    done = earshot(store, "verify", str(changed), "--json")
    assert (done.exit_code, json.loads(done.stdout)["problems"][0]["file"]) == (1, "model/model.int8.tflite")
    assert earshot(store, "verify", str(tmp_path / "none.zip")).exit_code == 2


def test_the_model_is_the_one_that_ships(store, bundled):
    about = json.loads((bundled("pi") / "bundle.json").read_text())
    (artifact,) = (store / "artifacts").glob(f"convert-{about['artifact'][:16]}")
    assert (bundled("pi") / about["model"]).read_bytes() == (artifact / "model.int8.tflite").read_bytes()
    assert (about["precision"], about["gate"], about["target"]) == ("int8", "pass", "pi")


def test_the_card_says_what_was_measured(store, bundled):
    (path,) = (store / "runs").glob("*.json")
    run = json.loads(path.read_text())
    (row,) = [row for row in run["rows"] if row["row"] == "convert:int8"]
    card = (bundled("pi") / "MODEL_CARD.md").read_text()
    assert card.startswith(f"# {run['name']}\n")
    lines = html.unescape(card).splitlines()
    for found in row["measurements"]:
        shown = [line for line in lines if line.startswith(f"| {found['metric']} |")]
        on = [line for line in shown if f"| {found['target']} |" in line] if found.get("target") else shown
        assert len(on) == 1, found["metric"]
        assert found["provenance"] in on[0] and f"| {found['n']}" in on[0]
    (score,) = [one for one in row["measurements"] if one["metric"] == "si_sdr"]
    (line,) = [line for line in lines if line.startswith("| si_sdr |")]
    assert f"| {score['value']:.6g} dB |" in line and f"| {score['n']} |" in line
    (budget,) = [line for line in lines if line.startswith("| pass |") and "fits" in line]
    (size,) = [one["value"] for one in row["measurements"] if one["metric"] == "model_bytes"]
    assert f"{1_000_000 - size:,.0f} bytes" in budget  # the margin
    assert "not stated: ask who trained it" in card.replace("&#58;", ":")
    assert "no device was there to call it" in card


@pytest.mark.parametrize("stated", [None, "CC-BY-NC-4.0"])
def test_what_holds_weights_has_the_licence_of_the_weights(stated):
    names = ("src/model_weights.c", "src/model.h", "npu/model.vela.tflite", "README.md", "src/frontend.c")
    found = {one["name"]: one.get("licenses") for one in _files(dict.fromkeys(names, b""), stated)}
    weights = [{"license": {"name": stated}}] if stated else None
    assert [found[name] for name in names[:3]] == [weights] * 3
    assert [found[name] for name in names[3:]] == [[{"license": {"id": "Apache-2.0"}}]] * 2


def test_a_stated_licence_stands_in_card_and_bill(store, tmp_path):
    out = tmp_path / "b.zip"
    stated = "CC-BY-4.0 <script>"
    done = earshot(store, "bundle", "--target", "pi", "--license", stated, "--out", str(out))
    assert done.exit_code == 0, done.stderr
    with zipfile.ZipFile(out) as archive:
        card, bill = archive.read("MODEL_CARD.md").decode(), json.loads(archive.read("sbom.cdx.json"))
    assert "CC-BY-4.0" in card and "<script>" not in card
    assert bill["components"][0]["licenses"] == [{"license": {"name": stated}}]


def test_a_failed_gate_is_refused_unless_anyway(store, tmp_path):
    budgets = tmp_path / "tight.yaml"
    budgets.write_text("schema: earshot.budgets/1\nbudgets: [{name: too-tight, metric: model_bytes, max: 10}]\n")
    ask = ["bundle", "--target", "pi", "--budgets", str(budgets), "--out", str(tmp_path / "b.zip")]
    done = earshot(store, *ask)
    assert done.exit_code == 1 and "too-tight" in done.stderr and "--anyway" in done.stderr
    assert not (tmp_path / "b.zip").exists()
    done = earshot(store, *ask, "--anyway")
    assert done.exit_code == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        first = archive.read("MODEL_CARD.md").decode().splitlines()[0]
        about = json.loads(archive.read("bundle.json"))
    assert "THE GATE FAILED" in first and "too-tight" in first
    assert about["gate"] == "fail"
    assert "its gate: fail" in earshot(store, "verify", str(tmp_path / "b.zip")).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["no-such-run", "--target", "pi"], 2, "no such run"),
        (["--target", "toaster"], 2, "toaster"),
        (["--target", "cortex-m", "--device", "host"], 2, "no Cortex-M"),
        (["--target", "cortex-m", "--device", "cortex-m5"], 2, "did you mean"),
        (["--target", "ethos-u", "--device", "cortex-m4"], 2, "no Ethos-U"),
        (["--target", "pi", "--sign", "nokey"], 2, "no such key"),
        (["--target", "pi", "--device", "cortex-m4"], 2, "no Raspberry Pi"),
        (["--target", "android", "--device", "toaster"], 2, "unknown target"),
    ],
)
def test_wrong_requests(store, tmp_path, arguments, code, said):
    done = earshot(store, "bundle", *arguments, "--out", str(tmp_path / "b.zip"))
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "b.zip").exists()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="apt-get install openssh-client")
def test_a_signed_bundle(store, tmp_path):
    for name in ("own", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    out = tmp_path / "b.zip"
    key = str(tmp_path / "own")
    done = earshot(store, "bundle", "--target", "pi", "--sign", key, "--out", str(out))
    assert done.exit_code == 0, done.stderr
    assert "signed by that key" in earshot(store, "verify", str(tmp_path / "b.zip"), "--key", f"{key}.pub").stdout
    assert "not checked" in earshot(store, "verify", str(tmp_path / "b.zip")).stdout
    assert earshot(store, "verify", str(tmp_path / "b.zip"), "--key", str(tmp_path / "other.pub")).exit_code == 1
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "b")
    lines = (tmp_path / "b/README.md").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("echo "))
    commands = "\n".join(lines[at : at + 2]).replace("KEY.pub", f"{key}.pub")
    done = subprocess.run(["sh", "-ec", commands], cwd=tmp_path / "b", capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Good" in done.stdout, done.stderr  # what the README says works without earshot


def cyclonedx_schema():
    """CycloneDX's published schema of version 1.6 and what it refers to; skipped where the package is not installed."""
    places = [*sys.path, *Path(os.environ.get("EARSHOT_TEST_TOOLS", "/nowhere")).glob("lib/python*/site-packages")]
    folders = [found for place in places if (found := Path(place) / "cyclonedx/schema/_res").is_dir()]
    if not folders:
        pytest.skip(SCHEMA_HINT)
    folder = folders[0]
    return {
        name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text())
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }


@pytest.mark.parametrize("target", ["pi", "cortex-m"])
def test_the_bill_of_materials_fits_the_published_schema(bundled, target):
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    schemas = cyclonedx_schema()
    base = "http://cyclonedx.org/schema/"
    resources = {
        f"{base}{name}.{end}": text for name, text in schemas.items() for end in ("schema.json", "SNAPSHOT.schema.json")
    }
    registry = Registry().with_resources((uri, Resource.from_contents(text)) for uri, text in resources.items())
    validator = Draft7Validator(schemas["bom-1.6"], registry=registry)
    bill = json.loads((bundled(target) / "sbom.cdx.json").read_text())
    assert [error.message for error in validator.iter_errors(bill)] == []
    assert list(validator.iter_errors(bill | {"specVersion": 7}))  # negative control
    assert list(validator.iter_errors(bill | {"components": [{"name": "no type"}]}))


@pytest.mark.parametrize("target", ["pi", "cortex-m"])
def test_the_bill_names_every_file_with_its_digest(bundled, target):
    folder = bundled(target)
    bill = json.loads((folder / "sbom.cdx.json").read_text())
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    told = {one["name"]: one["hashes"][0]["content"] for one in bill["components"] if "hashes" in one}
    assert told == {name: sums[name] for name in sums if name not in ("bundle.json", "sbom.cdx.json")}
    refs = [one["bom-ref"] for one in bill["components"]]
    assert len(set(refs)) == len(refs) and bill["dependencies"][0]["dependsOn"] == refs
    packages = {one["name"] for one in bill["components"] if one["type"] == "library"}
    assert packages == ({"numpy", "ai-edge-litert"} if target == "pi" else set())


def test_verifying_needs_neither_torch_nor_a_runtime(bundled):
    text = (
        "import sys; from pathlib import Path; from earshot.pipeline.bundle.verify import verify; "
        f"found = verify(Path({str(bundled('pi').with_suffix('.zip'))!r})); assert found.description; "
        "print(sorted(set(sys.modules) & {'torch', 'ai_edge_litert', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def changed_run(store, folder, **changes):
    """A copy of the store in which the run says otherwise; returns its root."""
    root = folder / "store"
    shutil.copytree(store, root)
    (path,) = (root / "runs").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return root


def test_a_run_whose_quality_could_not_be_scored_is_bundled_and_says_so(store, tmp_path):
    (path,) = (store / "runs").glob("*.json")
    artifacts = json.loads(path.read_text())["artifacts"]
    root = changed_run(store, tmp_path)

    def produce(out, work):
        (out / "scores.json").write_text('{"unavailable": "the data is gone"}')
        return []

    unscored = Store(root).build("quality", 1, config={"of": "a test"}, inputs={}, producer=produce)
    (path,) = (root / "runs").glob("*.json")
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"artifacts": artifacts | {"quality of convert:int8": unscored.id}}))
    out = tmp_path / "b.zip"
    done = earshot(root, "bundle", "--target", "pi", "--out", str(out), "--anyway")
    assert done.exit_code == 0, done.stderr
    with zipfile.ZipFile(out) as archive:
        card = archive.read("MODEL_CARD.md").decode()
    assert "| test set | not stated |" in card
    assert earshot(store, "verify", str(out)).exit_code == 0


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a\nb", "x\x1b[2J", "a\0b", ""])
def test_a_runs_name_is_no_path_to_write_to(store, tmp_path, monkeypatch, name):
    root = changed_run(store, tmp_path, name=name)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*.zip")) | set(tmp_path.parent.glob("*.zip"))
    done = earshot(root, "bundle", "--target", "pi")
    assert done.exit_code == 2 and "is not a fit name" in done.stderr
    assert "\x1b" not in done.output and len(done.stderr.splitlines()) == 2
    assert set(tmp_path.rglob("*.zip")) | set(tmp_path.parent.glob("*.zip")) == before
