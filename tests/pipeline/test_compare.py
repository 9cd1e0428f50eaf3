"""`earshot compare`, `baseline`, `tag` and gates against a baseline, on a real run of the tiny recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from tiny_recipe import earshot

from earshot.ci.evidence import baseline_text, read_baseline
from earshot.core.errors import UsageError
from earshot.pipeline.cli.main import application
from earshot.pipeline.progress import Silent
from earshot.pipeline.recipe import load_recipe
from earshot.pipeline.runner import run
from earshot.pipeline.store import Store

BUDGETS = {
    "schema": "earshot.budgets/1",
    "without": [f"{metric}-not-worse-than-noisy" for metric in ("pesq_wb", "stoi", "si_sdr")],
    "budgets": [{"metric": "si_sdr", "relative_to": "baseline", "max_loss": 0.1}],
}


class Shop:
    """A copy of the finished store, and commands in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.run,) = (path.stem for path in (folder / ".earshot" / "runs").glob("*.json"))

    def __call__(self, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(application, [*arguments, "--store", str(self.folder / ".earshot")])
        return done.exit_code, done.output

    def budgets(self, *extra: dict[str, object]) -> str:
        """A budget file."""
        path = self.folder / "budgets.yaml"
        path.write_text(yaml.safe_dump(BUDGETS | {"budgets": [*BUDGETS["budgets"], *extra]}))
        return str(path)

    def baseline(self, better_by: float = 0.0, **replaced: object) -> str:
        """A baseline file of the run; its SI-SDR is better by so many dB in every clip."""
        path = self.folder / "base.json"
        assert self("baseline", self.run, str(path))[0] == 0
        evidence = read_baseline(path)
        scores = {
            row: found.model_copy(
                update={"values": {"si_sdr": tuple(value + better_by for value in found.values["si_sdr"])}, **replaced}
            )
            for row, found in evidence.scores.items()
        }
        path.write_text(baseline_text(evidence.model_copy(update={"scores": scores})))
        return str(path)


@pytest.fixture
def shop(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_a_candidate_that_failed_is_no_pass(shop):
    path = shop.folder / ".earshot" / "runs" / f"{shop.run}.json"
    base = shop.baseline()
    content = json.loads(path.read_text())
    assert shop("compare", base, shop.run)[0] == 0
    path.write_text(json.dumps(content | {"status": "failed", "error": "convert died"}))
    code, said = shop("compare", base, shop.run)
    assert code == 1 and "convert died" in said


def test_a_run_compares_with_its_own_tag_and_file(shop):
    assert shop("tag", "latest", "baseline")[0] == 0
    path = shop.baseline()
    for base in ("baseline", path, shop.run):
        code, text = shop("compare", base, "latest", "--json")
        assert code == 0, text
        found = {one["metric"]: one for one in json.loads(text)["differences"]}
        assert found["si_sdr"]["outcome"] == found["model_bytes"]["outcome"] == "same"
        assert (found["si_sdr"]["method"], found["si_sdr"]["n"]) == ("paired", 2)
        assert found["frame_p50_us"]["outcome"] == "not comparable"  # two repeats tell no spread
        assert "peak_rss_bytes" not in found


def test_a_worse_run_fails_its_gate_and_names_the_clips(shop):
    budgets = shop.budgets()
    assert shop("gate", "latest", "--budgets", budgets, "--baseline", shop.baseline())[0] == 0
    code, text = shop("gate", "latest", "--budgets", budgets, "--baseline", shop.baseline(0.2), "--annotate")
    assert code == 1
    assert "0.2 worse" in text
    assert "worst clips: awb_000" in text
    assert "\n::error title=earshot%3A si_sdr" in text
    code, text = shop("compare", shop.baseline(0.2), "--budgets", budgets, "--report", str(shop.folder / "r.md"))
    assert code == 1
    assert "worst clips in si" in (shop.folder / "r.md").read_text()


def test_another_evaluation_set_is_refused(shop):
    base = shop.baseline(dataset="0" * 64)
    code, text = shop("gate", "latest", "--budgets", shop.budgets(), "--baseline", base)
    assert code == 1
    assert "another evaluation set" in text
    assert shop("compare", base)[0] == 0  # counts still compare
    evidence = read_baseline(Path(base))
    scored = [
        row.model_copy(update={"measurements": tuple(m for m in row.measurements if m.metric == "si_sdr")})
        for row in evidence.rows
    ]
    Path(base).write_text(baseline_text(evidence.model_copy(update={"rows": tuple(scored), "timings": ()})))
    code, text = shop("compare", base)
    assert code == 2
    assert "nothing compares" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "no such run or baseline"),
        (lambda path: path.write_text(path.read_text().replace("baseline/1", "baseline/9")), "earshot.baseline/9"),
        (lambda path: path.write_text(path.read_text().replace("awb_000", "awb_001")), "does not match its digest"),
        (lambda path: path.write_text(path.read_text()[:2000]), "a damaged one"),
    ],
)
def test_a_spoilt_baseline_is_exit_code_2_and_never_a_pass(shop, spoil, message):
    base = shop.baseline()
    spoil(Path(base))
    for command in (("gate", "latest", "--budgets", shop.budgets(), "--baseline", base), ("compare", base)):
        code, text = shop(*command)
        assert code == 2
        assert message in text


def test_without_a_baseline_the_gate_says_how_to_get_one(shop):
    budgets = shop.budgets()
    code, text = shop("gate", "latest", "--budgets", budgets)
    assert code == 2
    assert "no run is tagged 'baseline'" in text
    code, text = shop("gate", "latest", "--budgets", budgets, "--no-baseline")
    assert code == 0
    assert "left out, because of --no-baseline: 1 budgets" in text
    assert shop("gate", "latest", "--budgets", budgets, "--no-baseline", "--baseline", "x")[0] == 2
    code, text = shop("gate", "latest", "--baseline", shop.run)
    assert code == 2
    assert "no budget compares with one" in text


def test_a_failed_run_is_no_baseline(shop):
    path = shop.folder / ".earshot" / "runs" / f"{shop.run}.json"
    content = json.loads(path.read_text()) | {"status": "failed", "error": "disk full", "name": "half"}
    path.with_name("half.json").write_text(json.dumps(content))
    for command in (("compare", "half", shop.run), ("baseline", "half", str(shop.folder / "half.json"))):
        code, text = shop(*command)
        assert code == 2
        assert "the run failed (disk full), it cannot be a baseline" in text


def test_turns_are_taken_where_both_models_are_there(shop):
    budgets = shop.budgets({"metric": "frame_p50_us", "target": "host", "relative_to": "baseline", "max_loss": 1000})
    code, text = shop("gate", "latest", "--budgets", budgets, "--baseline", shop.run)
    assert code == 1
    assert "too few repeats" in text
    code, text = shop("compare", shop.run, "latest", "--budgets", budgets, "--remeasure", "--json")
    assert code == 0, text
    found = {one["metric"]: one for one in json.loads(text)["differences"]}
    assert found["frame_p50_us"]["method"] == found["hop_rtf"]["method"] == "race"
    assert found["frame_p50_us"]["n"] == 12  # a limit so far away is decided at the first look
    base = shop.baseline()
    shutil.rmtree(next((shop.folder / ".earshot" / "artifacts").glob("convert-*")))
    for path in (shop.folder / ".earshot" / "artifacts").glob("convert-*"):
        shutil.rmtree(path)
    code, text = shop("compare", base, "latest", "--remeasure")
    assert code == 2
    assert "is not in" in text
    code, text = shop("compare", base, "latest", "--target", "host")
    assert code == 2
    assert "add --remeasure" in text


def test_the_gate_says_what_it_leaves_as_stored(shop):
    """No race tells a share of real time in the graph: it is judged as stored, which two repeats are too few for."""
    budgets = shop.budgets({"metric": "graph_rtf", "target": "host", "relative_to": "baseline", "max_loss": 1000})
    ask = ("gate", "latest", "--budgets", budgets, "--baseline", shop.run)
    code, text = shop(*ask, "--remeasure")
    assert code == 1
    assert "left as stored: graph_rtf on host: models by turns do not tell it" in text
    assert "too few repeats" in text
    assert "left as stored" not in shop(*ask)[1]
    code, text = shop("gate", "latest", "--budgets", shop.budgets(), "--baseline", shop.run, "--remeasure")
    assert (code, "left as stored" in text) == (0, False)  # no budget on a time at all


def test_a_recipe_names_its_baseline_and_nothing_is_made_without_one(shop, monkeypatch):
    monkeypatch.chdir(shop.folder)
    named = f"budgets.budgets={json.dumps(BUDGETS['budgets'])}"
    code, text = shop("run", "tiny.yaml", "--quiet", "--set", named)
    assert code == 2
    assert "no run is tagged 'baseline'" in text
    with pytest.raises(UsageError, match="compares with a baseline"):
        run(load_recipe("tiny.yaml", [named]), Store(shop.folder / "new"), Silent())
    assert not (shop.folder / "new").exists()
    assert shop("tag", shop.run, "v1")[0] == 0
    code, text = shop("run", "tiny.yaml", "--quiet", "--set", named, "--set", "budgets.baseline=v1")
    assert code == 0, text
    assert "at most 0.1 dB worse than the baseline" in text


def test_a_gate_against_a_baseline_needs_no_torch(shop):
    base, budgets = shop.baseline(), shop.budgets()
    done = earshot(shop.folder, "gate", "latest", "--budgets", budgets, "--baseline", base)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "modules:"
