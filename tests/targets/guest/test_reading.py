"""The agent's own words as counts: no time of the guest comes out as a time of a board."""

import pytest

from earshot.core.measurement import Provenance
from earshot.targets import agent
from earshot.targets.guest.options import GuestOptions
from earshot.targets.guest.outputs import Difference
from earshot.targets.guest.reading import GuestReader, with_difference

SIZES = {"peak_rss_bytes", "arena_bytes", "delegate_coverage"}
COUNTS = {"graph_instructions_per_frame", "instructions_per_frame"}
TIMES = {"rtf", "hop_rtf", "graph_rtf", "frame_p50_us"}


@pytest.fixture(scope="module")
def raw(tiny):
    """What the agent says of a real model, with times put in whose instructions are known."""
    found = agent.profile(str(tiny()), frames=4, repeats=1, warmup=1)
    return {
        **found,
        "graph_us": {**found["graph_us"], "min": 209.28, "p50": 212.507},
        "path_us": {**found["path_us"], "min": 381.846, "p50": 385.109},
        "rtf": 0.02,
        "hop_rtf": 0.024,
        "graph_rtf": 0.013,
    }


def read(raw, clock_mhz=2000.0, **options):
    reader = GuestReader(GuestOptions(cpu="cortex-a72", **options), clock_mhz, {"emulator": "QEMU 0"})
    return reader.result("int8", raw, "pi4-emulated")


def test_a_microsecond_is_a_thousand_instructions(raw):
    result = read(raw)
    found = {measurement.metric: measurement for measurement in result.measurements}
    assert set(found) == COUNTS | SIZES
    assert found["graph_instructions_per_frame"].value == 209_280
    assert found["instructions_per_frame"].value == 381_846
    assert {found[name].unit for name in COUNTS} == {"instructions"}
    assert {found[name].n for name in COUNTS} == {4}
    assert {m.provenance for m in result.measurements} == {Provenance.EMULATED}
    assert {m.target for m in result.measurements} == {"pi4-emulated"}


def test_nothing_of_the_result_shows_a_time(raw):
    result = read(raw)
    assert result.histogram is None
    assert not {m.metric for m in result.measurements} & (TIMES | {"frame_p99_us", "deadline_misses"})
    assert "instructions" in result.raw["clock"]
    assert result.environment["emulator"] == "QEMU 0"
    assert not {"governor", "clock_mhz", "held_back", "cpi"} & set(result.environment)


def test_a_cpi_with_its_source_gives_estimates(raw):
    # 212,507 instructions of a frame in the middle x 1.5 cycles / 2000 MHz
    result = read(raw, cpi=1.5, cpi_source="a board on a desk")
    found = {measurement.metric: measurement for measurement in result.measurements}
    assert set(found) == COUNTS | SIZES | TIMES
    assert found["frame_p50_us"].value == pytest.approx(159.380, abs=1e-3)
    assert found["hop_rtf"].value == pytest.approx(0.018)
    assert {found[name].provenance for name in TIMES} == {Provenance.ESTIMATED}
    assert {found[name].provenance for name in COUNTS} == {Provenance.EMULATED}
    assert result.environment["cpi_source"] == "a board on a desk"


def test_a_delegate_that_did_not_apply_marks_the_counts(raw):
    marked = read({**raw, "delegate_coverage": 0.0})
    plain = read(raw)
    assert {m.flags for m in marked.measurements if m.metric in COUNTS} == {("delegate-missing",)}
    assert {m.flags for m in plain.measurements} == {()}


def test_mismatches_join_the_result(raw):
    result = with_difference(read(raw), Difference(3, 330, 2.0))
    found = result.measurements[-1]
    assert (found.metric, found.value, found.n, found.target) == ("output_mismatches", 3, 330, "pi4-emulated")
    assert found.provenance is Provenance.EMULATED
    assert result.environment["largest_output_difference"] == 2.0
