"""`earshot report`, and `--report FILE.html` of `gate`: what is written, what is refused, what is not loaded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from earshot.pipeline.cli.main import application

_LOADED = """
import sys
from earshot.pipeline.cli.main import main
sys.argv = ["earshot", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"torch", "litert_torch", "ai_edge_litert", "tflite_runtime", "PIL"}
    print("modules:", *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


class Shop:
    """A copy of the finished store, and commands in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / ".earshot"
        (self.path,) = (self.store / "runs").glob("*.json")

    def __call__(self, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(application, [*arguments, "--store", str(self.store)])
        return done.exit_code, done.output

    def file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def shop(finished, tmp_path, monkeypatch):
    shutil.copytree(finished.folder, tmp_path / "shop")
    monkeypatch.chdir(tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_report_writes_every_form_of_the_newest_run_or_a_named_one(shop):
    code, said = shop("report", "a.html")
    assert code == 0 and said.splitlines()[-1] == "a.html"
    content = shop.file("a.html").read_text()
    assert content.count("<audio") == 2 * 4 and "✓ Pass" in content and shop.path.stem in content
    names = ["b.html", "b.json", "b.md", "b.xml", "b.csv"]
    assert shop("report", shop.path.stem, *names, "--no-sound")[0] == 0
    assert all(shop.file(name).stat().st_size > 100 for name in names)
    assert "<audio" not in shop.file("b.html").read_text()
    assert "No sound: it was not asked for." in shop.file("b.html").read_text()
    assert json.loads(shop.file("b.json").read_text())["run"] == shop.path.stem
    assert shop("report", str(shop.path), "c.json")[0] == 0
    assert shop.file("c.json").read_text() == shop.file("b.json").read_text()


def test_report_shows_the_clips_and_the_baseline_that_are_asked_for(shop):
    assert shop("report", "a.html", "--clips", "awb_000_car_0_5dB", "--baseline", shop.path.stem)[0] == 0
    content = shop.file("a.html").read_text()
    assert content.count("<audio") == 4 and "asked for" in content
    assert "<h2>Against the baseline" in content and ">same<" in content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("latest",), "no file to write the report to"),
        (("latest", "x.pdf"), "must end in"),
        (("nobody", "x.html"), "no such run"),
        (("x.html", "--clips", "awb_00"), "some of its 2 clips: awb_000_car_0_5dB"),
        (("x.html", "--clips", "a", "--no-sound"), "contradict"),
        (("x.html", "--baseline", "nobody"), "no such run"),
    ],
)
def test_a_request_that_makes_no_sense_writes_nothing(shop, arguments, message):
    code, said = shop("report", *arguments)
    assert code == 2 and message in said
    assert not shop.file("x.html").exists()


def test_a_report_of_a_run_that_failed_half_way_is_written_and_says_fail(shop):
    content = json.loads(shop.path.read_text())
    broken = {"status": "failed", "error": "convert: the disk is full", "rows": content["rows"][:3], "verdicts": []}
    shop.path.write_text(json.dumps(content | broken))
    assert shop("report", "a.html")[0] == 0
    assert "✗ Fail" in shop.file("a.html").read_text() and "the disk is full" in shop.file("a.html").read_text()
    assert shop("gate", "latest", "--report", "b.html", "--no-sound")[0] == 1
    assert "the run completed" in shop.file("b.html").read_text()


def test_a_run_that_fails_writes_its_reports_before_it_says_so(shop):
    broken = ("--set", "distill.learning_rate=1.0e+30", "--set", "distill.warmup_steps=0")
    code, said = shop("run", "tiny.yaml", "--quiet", *broken, "--report", "a.html", "--report", "a.json")
    assert code == 3 and "training loss became" in said
    content = shop.file("a.html").read_text()
    assert "✗ Fail" in content and "training loss became" in content and "<h2>Stages" in content
    assert json.loads(shop.file("a.json").read_text())["passed"] is False
    code, said = shop("run", "nothing.yaml", "--report", "b.html")
    assert code == 2 and not shop.file("b.html").exists()


def test_a_run_whose_artifacts_are_gone_still_has_its_page(shop):
    shutil.rmtree(shop.store / "artifacts")
    code, said = shop("report", "a.html")
    assert code == 0, said
    content = shop.file("a.html").read_text()
    assert "<h2>Stages" in content and "without convert:int8" in content
    assert content.count("<audio") == 2 * 2, "noisy and clean need no model"


def test_the_gate_s_page_has_its_verdicts_and_differences(shop):
    budgets = shop.file("budgets.yaml")
    strict = {"metric": "si_sdr", "relative_to": "baseline", "min_gain": 1}
    without = [f"{metric}-not-worse-than-noisy" for metric in ("pesq_wb", "stoi", "si_sdr")]
    budgets.write_text(json.dumps({"schema": "earshot.budgets/1", "without": without, "budgets": [strict]}))
    command = ("gate", "latest", "--budgets", str(budgets), "--baseline", shop.path.stem, "--report", "a.html")
    assert shop(*command)[0] == 1
    content = shop.file("a.html").read_text()
    missed = content[content.index("<h2>Missed budgets") : content.index("<h2>All budgets")]
    assert re.search(r'<span class="(bad|warn)">(✗ fail|\? not decidable)</span> si_sdr', missed)
    assert "<h2>Against the baseline" in content and "<audio" in content


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        ((), ""),
        (("--report", "a.html", "--no-sound"), ""),
        (("--report", "a.md"), ""),
        (("--report", "a.html"), " PIL ai_edge_litert"),
    ],
)
def test_what_a_gate_loads(shop, arguments, loaded):
    command = [sys.executable, "-c", _LOADED, "gate", *arguments]
    done = subprocess.run(command, cwd=shop.folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"modules:{loaded}"


def test_a_gate_that_says_why_loads_no_more(shop):
    (shop.folder / "strict.yaml").write_text(
        "schema: earshot.budgets/1\nbudgets:\n- {metric: si_sdr, min: 50}\n- {metric: rtf, target: host, max: 1.0e-9}\n"
    )
    command = [sys.executable, "-c", _LOADED, "gate", "--budgets", "strict.yaml", "--report", "a.json"]
    done = subprocess.run(command, cwd=shop.folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "operators: host tells no costs" in " ".join(done.stdout.split()), done.stderr
    assert done.stderr.splitlines()[-1] == "modules:"
