"""The agent's graph runner: states carried, quantisation at the edges, and files that are not what they should be."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from earshot.targets import agent
from earshot.targets.agent import AgentError, StreamEnhancer, StreamGraph

VARIANTS = [{}, {"integer": True}, {"integer": True, "loose": True}]


def frames(count=50, bins=33):
    return np.random.default_rng(0).random((count, bins), dtype=np.float32) * 3


def by_hand(features):
    """The smoother's masks, from its formula."""
    state, masks = np.zeros(features.shape[1]), []
    for frame in features:
        state = 0.9 * state + 0.1 * frame
        masks.append(1 / (1 + np.exp(-state)))
    return np.array(masks)


def through_the_public_runtime(path, features):
    """The same graph by the runtime's documented calls only, every state requantised through real values."""
    runner = Interpreter(str(path)).get_signature_runner()
    inputs, outputs = runner.get_input_details(), runner.get_output_details()

    def store(values, details):
        scale, zero = details["quantization"]
        return np.clip(np.rint(values / np.float32(scale)) + zero, -128, 127).astype(np.int8).reshape(details["shape"])

    def load(stored, details):
        scale, zero = details["quantization"]
        return (stored.astype(np.float32).ravel() - zero) * np.float32(scale)

    state, masks = np.zeros(features.shape[1], np.float32), []
    for frame in features:
        out = runner(frame=store(frame, inputs["frame"]), state_s=store(state, inputs["state_s"]))
        state = load(out["state_s"], outputs["state_s"])
        masks.append(load(out["mask"], outputs["mask"]))
    return np.array(masks)


@pytest.mark.parametrize("views", [True, False])
def test_states_are_carried(tiny, views):
    features = frames()
    np.testing.assert_allclose(StreamGraph(tiny(), views=views).run(features), by_hand(features), atol=1e-6)


@pytest.mark.parametrize("views", [True, False])
@pytest.mark.parametrize("loose", [True, False])
def test_integer_graphs_equal_the_public_runtime(tiny, views, loose):
    path, features = tiny(integer=True, loose=loose), frames()
    masks = StreamGraph(path, views=views).run(features)
    np.testing.assert_array_equal(masks, through_the_public_runtime(path, features))
    assert np.abs(masks - by_hand(features)).max() < 0.05


@pytest.mark.parametrize("variant", VARIANTS)
def test_views_and_copies_agree_and_steps_are_runs(tiny, variant):
    path, features = tiny(**variant), frames()
    fast, plain = StreamGraph(path), StreamGraph(path, views=False)
    assert fast.run.__name__ == "_run_views"
    assert plain.run.__name__ == "_run_tensors"
    whole = fast.run(features)
    np.testing.assert_array_equal(whole, plain.run(features))
    fast.reset()
    np.testing.assert_array_equal(np.stack([fast.step(frame) for frame in features]), whole)
    assert not np.array_equal(fast.run(features), whole)  # negative control: the state went on


def test_tied_states_are_copied_and_loose_ones_requantised(tiny):
    tied, loose = StreamGraph(tiny(integer=True)), StreamGraph(tiny(integer=True, loose=True))
    assert (len(tied._copies), len(tied._loose)) == (1, 0)
    assert (len(loose._copies), len(loose._loose)) == (0, 1)


def test_an_integer_state_starts_at_its_zero_point(tiny):
    graph = StreamGraph(tiny(integer=True))
    assert set(graph._states[0][0].view.tolist()) == {-128}
    silent = graph.run(np.zeros((5, 33), np.float32))
    np.testing.assert_allclose(silent, 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "zero"), [(np.int8, 0), (np.int8, -128), (np.int8, 7), (np.uint8, 100), (np.int16, 0)]
)
def test_values_are_stored_by_the_affine_formula_and_saturate(dtype, zero):
    class Memory:  # all a port asks of an interpreter
        def tensor(self, index):
            return lambda: np.zeros(1, dtype)

    scale, limits = np.float32(0.05), np.iinfo(dtype)
    port = agent.Port(Memory(), {"index": 0, "name": "t", "dtype": dtype, "shape": [1], "quantization": (scale, zero)})
    span = 1.5 * (limits.max - limits.min) * scale
    values = np.random.default_rng(0).uniform(-span, span, 20_000).astype(np.float32)
    expected = np.clip(np.rint(values / scale) + zero, limits.min, limits.max)
    stored = port.encode(values)
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, expected)
    assert {limits.min, limits.max} <= set(stored.tolist())
    inside = (expected > limits.min) & (expected < limits.max)
    assert (
        np.abs(port.decode(stored) - values)[inside].max() < 0.51 * scale < np.abs(port.decode(stored) - values).max()
    )


def test_plain_kernels_give_the_same_and_count_as_not_delegated(tiny):
    path, features = tiny(), frames()
    delegated, plain = StreamGraph(path), StreamGraph(path, delegate=False)
    np.testing.assert_allclose(delegated.run(features), plain.run(features), atol=1e-6)
    assert agent.delegate_coverage(delegated._interpreter) == (4, 4, [])
    assert agent.delegate_coverage(plain._interpreter) == (0, 4, ["ADD", "LOGISTIC", "MUL", "MUL"])


def test_every_invoke_is_timed(tiny):
    graph = StreamGraph(tiny())
    spent = graph.time_invokes()
    graph.run(frames(7))
    assert len(spent) == 7
    assert min(spent) > 0


def test_arena_holds_every_tensor_that_is_no_constant(tiny):
    # frame, mask, state in and out, two intermediates of 33 floats: at least what must live at once, at most all of
    # them with the arena's alignment of 64 bytes.
    assert 4 * 33 * 4 <= agent.arena_bytes(str(tiny())) <= 6 * 192 + 64


def test_description_is_read_from_inside_or_from_beside(tiny):
    inside, beside = (agent.read_description(str(tiny(where=where))) for where in ("inside", "beside"))
    assert inside == beside
    assert inside["states"][0]["name"] == "s"


def test_a_description_inside_wins_over_the_one_beside(tiny):
    path = tiny()
    path.with_suffix(".json").write_text('{"schema": "other"}')
    assert agent.read_description(str(path))["network"] == "tiny"


def test_no_description_at_all(tiny):
    with pytest.raises(AgentError, match=r"no tiny\.json beside it"):
        StreamGraph(tiny(where="nowhere"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": "earshot.stream/9"}', "reads earshot.stream/1"),
        ("{", "damaged stream description"),
        ("[]", "damaged stream description"),
        ('{"schema": "earshot.stream/1", "frontend": {}, "input": "frame", "output": "mask"}', "damaged stream"),
    ],
)
def test_a_damaged_description(tiny, text, message):
    path = tiny(where="nowhere")
    path.with_suffix(".json").write_text(text)
    with pytest.raises(AgentError, match=message):
        StreamGraph(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "picture"}, "'picture'"),
        ({"states": []}, r"\['state_s'\] are in no state"),
        ({"states": [{"input": "state_s", "output": "state_x"}]}, "'state_x'"),
    ],
)
def test_a_description_of_another_graph(tiny, change, message):
    path = tiny(where="beside")
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **change}))
    with pytest.raises(AgentError, match=message):
        StreamGraph(path)


def test_a_frontend_of_another_size(tiny):
    path = tiny(where="beside")
    sidecar = path.with_suffix(".json")
    description = json.loads(sidecar.read_text())
    description["frontend"].update(window=128, hop=64, fft=128)
    sidecar.write_text(json.dumps(description))
    with pytest.raises(AgentError, match="the graph takes 33 values a frame, the frontend has 65"):
        StreamEnhancer(path)


@pytest.mark.parametrize("content", [b"", b"TFL3", b"not a model at all, only text", b"\x1c\0\0\0TFL3" + b"\xff" * 60])
def test_a_foreign_file(tmp_path, content):
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    with pytest.raises(AgentError, match=r"m\.tflite"):
        StreamGraph(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(AgentError, match="No such file"):
        StreamGraph(tmp_path / "m.tflite")


def test_a_file_cut_anywhere_is_an_error_and_never_a_crash(tiny, tmp_path):
    whole = tiny(where="beside")
    (tmp_path / "m.json").write_bytes(whole.with_suffix(".json").read_bytes())
    content, path = whole.read_bytes(), tmp_path / "m.tflite"
    path.write_bytes(content)
    StreamGraph(path)  # negative control: uncut it loads
    for length in range(0, len(content) - 64, 37):
        path.write_bytes(content[:length])
        with pytest.raises(AgentError):
            StreamGraph(path)


@pytest.mark.skipif(
    "EARSHOT_TFLITE_RUNTIME_PYTHON" not in os.environ,
    reason="EARSHOT_TFLITE_RUNTIME_PYTHON names no interpreter with tflite-runtime",
)
@pytest.mark.parametrize(("integer", "tolerance"), [(False, 1e-6), (True, 4 / 256)])  # its integer kernels round apart
def test_the_older_runtime_gives_the_same_masks(tiny, tmp_path, integer, tolerance):
    path, features = tiny(integer=integer), frames()
    np.save(tmp_path / "features.npy", features)
    program = (
        "import sys, runpy, numpy as np; a = runpy.run_path(sys.argv[1]); "
        "np.save(sys.argv[3], a['StreamGraph'](sys.argv[2]).run(np.load(sys.argv[4]))); "
        "print(a['load_runtime']().__name__)"
    )
    arguments = [agent.__file__, str(path), str(tmp_path / "masks.npy"), str(tmp_path / "features.npy")]
    python = os.environ["EARSHOT_TFLITE_RUNTIME_PYTHON"]
    run = subprocess.run([python, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "tflite_runtime.interpreter"
    np.testing.assert_allclose(np.load(tmp_path / "masks.npy"), StreamGraph(path).run(features), atol=tolerance)


def test_the_agent_needs_nothing_of_earshot_and_speaks_old_python():
    program = (
        "import ast, pathlib, runpy, sys\n"
        "ast.parse(pathlib.Path(sys.argv[1]).read_text(), feature_version=(3, 9))\n"
        "runpy.run_path(sys.argv[1])\n"
        "print({name.split('.')[0] for name in sys.modules} & {'earshot', 'torch', 'pydantic', 'ai_edge_litert'})"
    )
    run = subprocess.run([sys.executable, "-c", program, agent.__file__], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
