"""The sample repository's pull request, played from the first baseline to the bundle."""

import html
import json
import re

import pytest
from ci_job import ROOT, SAMPLE, run_script

from earshot.pipeline.checking import check_file

PAGE = ROOT / "docs" / "pull-request.md"


def test_the_sample_reads():
    assert check_file(SAMPLE / "recipe.yaml") == "recipe hearing"
    assert check_file(SAMPLE / "budgets.yaml") == "8 budgets"


def outline(text):
    """The page's own headings and its commands with their exit codes: what is the same at every run."""
    return re.findall(r"^(?:##? .*|\$ .*\n\d+)", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two minutes of processor time; a busy machine takes its own
def test_a_worse_model_is_stopped_and_its_fix_goes_to_the_device(tmp_path):
    done = run_script(["sh", SAMPLE / "flow.sh", tmp_path / "flow"], tmp_path, {}, seconds=1700)
    assert done.returncode == 0, done.stderr

    def result(name):
        return json.loads((tmp_path / "flow" / "reports" / name / "gate.json").read_text())

    def missed(name):
        return {(one["metric"], one["limit"]) for one in result(name)["verdicts"] if one["status"] != "pass"}

    assert missed("main") == missed("fixed") == set()
    assert ("si_sdr", "at most 0.5 dB worse than the baseline") in missed("worse")
    assert "model_bytes" not in {metric for metric, _ in missed("worse")}  # smaller it is
    (reason,) = [
        one["reason"] for one in result("worse")["verdicts"] if one["limit"] == "at most 0.5 dB worse than the baseline"
    ]
    assert "worst clips:" in reason
    assert reason in html.unescape(done.stdout)  # Markdown writes signs as entities
    compared = [one for one in result("fixed")["verdicts"] if "baseline" in str(one["limit"])]
    assert len(compared) == 2
    assert re.findall(r"^\$ .*\n(\d)", done.stdout, re.MULTILINE) == ["0", "1", "0", "0", "0", "1"]
    assert re.search(r"^hearing\.zip: .* bytes were changed$", done.stdout, re.MULTILINE)
    assert outline(PAGE.read_text()) == outline(done.stdout)
