"""`earshot explain` on a real run: the whole way from a store to sentences, layers, reports, and what is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from referencing import Registry, Resource
from tiny_recipe import Finished, earshot, newest_run

from earshot.ci.run_file import read_run
from earshot.pipeline.layers import stored_layers
from earshot.pipeline.runs import find_run
from earshot.pipeline.store import Store
from earshot.quantize.plan import read_plan

SCHEMAS = Path(__file__).parents[2] / "ci" / "schema"
STRICT = """
schema: earshot.budgets/1
without: [pesq_wb-not-worse-than-noisy, stoi-not-worse-than-noisy, si_sdr-not-worse-than-noisy]
budgets:
  - {name: clear, metric: si_sdr, min: 50}
  - {name: as-float, metric: si_sdr, relative_to: float, min_gain: 20}
  - {name: fast, metric: rtf, target: host, max: 1.0e-9}
  - {name: small, metric: model_bytes, max: 1.0e+9}
"""


@pytest.fixture(scope="module")
def home(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished store, with budgets that its run misses."""
    folder = tmp_path_factory.mktemp("explained") / "home"
    shutil.copytree(finished.folder, folder)
    (folder / "strict.yaml").write_text(STRICT)
    return folder


def kept_layers(folder: Path) -> list[Path]:
    return sorted((folder / ".earshot" / "artifacts").glob("layers-*"))


def validated(path: Path) -> dict:
    result = json.loads(path.read_text())
    schemas = [json.loads((SCHEMAS / name).read_text()) for name in ("run.schema.json", "result.schema.json")]
    known = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in schemas])
    jsonschema.Draft202012Validator(schemas[1], registry=known).validate(result)
    return result


def test_explain_tells_steps_clips_and_layers_and_the_gate_shows_them_from_then_on(home: Path) -> None:
    before = earshot(home, "gate", "--budgets", "strict.yaml")
    assert before.returncode == 1 and "which layers lose most to rounding: earshot explain" in before.stdout
    assert "operators: host tells no costs of single operators" in " ".join(before.stdout.split())
    reports = ("--report", "why.json", "--report", "why.md")
    done = earshot(home, "explain", "--budgets", "strict.yaml", "--layers", "2", "--quiet", *reports)
    assert done.returncode == 1, done.stderr
    assert "layers of convert:int8" in done.stdout and "clips are worse than in" in done.stdout
    (kept,) = kept_layers(home)

    explanation = validated(home / "why.json")["explanation"]
    assert [one["budget"] for one in explanation["findings"]] == ["clear", "as-float", "fast"]
    clear = explanation["findings"][0]
    run = newest_run(home)
    by_row = {row["row"]: {m["metric"]: m.get("value") for m in row["measurements"]} for row in run["rows"]}
    told = {level["row"]: level["value"] for level in clear["waterfall"]["levels"]}
    assert told == {row: by_row[row]["si_sdr"] for row in told} and list(told)[-1] == "convert:int8"
    layers = explanation["layers"]
    built = [one for one in layers["layers"] if "gain_db" in one]
    assert len(built) == 2 and all(one["bytes_more"] > 0 for one in built)
    assert layers["wide_snr_db"] > layers["mask_snr_db"] > 0 and layers["frames"] == layers["simulated_frames"]
    assert "#### Layers of convert:int8" in (home / "why.md").read_text()

    again = earshot(home, "explain", "--budgets", "strict.yaml", "--layers", "2", "--quiet")
    assert again.returncode == 1 and kept_layers(home) == [kept]
    gate = earshot(home, "gate", "--budgets", "strict.yaml", "--report", "gate.json")
    assert gate.returncode == 1 and gate.stderr.strip().endswith("modules:")  # neither torch nor the converter
    assert validated(home / "gate.json")["explanation"]["layers"] == layers
    found = stored_layers(read_run(find_run(Store(home / ".earshot"), "latest")), Store(home / ".earshot"))
    assert found is not None and found.count == layers["count"]


def test_a_run_that_keeps_its_budgets_has_nothing_to_explain(home: Path) -> None:
    done = earshot(home, "explain", "--layers", "0")
    assert done.returncode == 0 and "pass" in done.stdout and "lost" not in done.stdout.replace("lost most", "")


def test_what_is_gone_is_said_and_the_rest_is_told(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    shutil.copytree(home, folder)
    for kind in ("quality", "profile", "quantize", "layers"):
        for path in (folder / ".earshot" / "artifacts").glob(f"{kind}-*"):
            shutil.rmtree(path)
    done = earshot(folder, "explain", "--budgets", "strict.yaml", "--quiet")
    shown = " ".join(done.stdout.split())
    assert done.returncode == 1, done.stderr
    assert "the scores of convert:int8 are no longer in the store" in shown
    assert "its profile is no longer in the store" in shown
    assert "layers were not measured:" in shown and "is gone or damaged" in shown
    assert "row" in shown and "teacher" in shown  # the waterfall stands on the run file alone


def test_a_damaged_result_is_no_result(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    shutil.copytree(home, folder)
    (kept,) = kept_layers(folder)
    (kept / "layers.json").write_text("{}")
    heard: list[str] = []
    store = Store(folder / ".earshot", on_damage=heard.append)
    assert stored_layers(read_run(find_run(store, "latest")), store) is None
    assert heard and "layers.json" in heard[0]


@pytest.mark.slow
def test_the_advice_works_as_a_recipe_key(home: Path, tmp_path: Path) -> None:
    """The pattern that explain names, put into the recipe: the layer is on 16 bits in the file that ships."""
    folder = tmp_path / "home"
    shutil.copytree(home, folder)
    store = Store(folder / ".earshot")
    layers = stored_layers(read_run(find_run(store, "latest")), store)
    assert layers is not None
    chosen = next(one for one in layers.layers if one.gain_db is not None)
    key = f"quantize.keep_wide={json.dumps([chosen.pattern])}"
    done = earshot(folder, "run", "tiny.yaml", "--quiet", "--set", key)
    assert done.returncode == 0, done.stderr
    run = read_run(find_run(store, "latest"))
    by_title = {row.row: row for row in run.rows}
    assert by_title["distill"].cached and not by_title["quantize"].cached
    plan = store.find(run.artifacts["quantize"])
    assert plan is not None
    lines = {line.output: line for line in read_plan(plan.path).precisions.int8}
    assert lines[chosen.location].precision == "int16x8"
    assert any(line.precision == "int8" for line in lines.values())
    (size,) = by_title["convert:int8"].find("model_bytes")
    before = read_run(find_run(store, newest_name(home)))
    (plain,) = next(row for row in before.rows if row.row == "convert:int8").find("model_bytes")
    # The description inside the file grows by some bytes with the states' types.
    assert chosen.bytes_more is not None
    assert size.value - plain.value == pytest.approx(chosen.bytes_more, abs=200)


def newest_name(folder: Path) -> str:
    return str(newest_run(folder)["name"])
