"""`agent.py trace`: stored frames in, stored masks out, on any machine the same."""

import base64
import json
import subprocess
import sys

import numpy as np
import pytest

from earshot.targets import agent
from earshot.targets.agent import AgentError, StreamEnhancer


def by_hand(path, frames):
    """The same through the runtime's documented calls: states carried, nothing read or stored as real values."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    details = runner.get_input_details()
    scale, zero = details["state_s"]["quantization"]
    state = np.full(details["state_s"]["shape"], zero if scale else 0, details["state_s"]["dtype"])
    masks = []
    for frame in frames:
        out = runner(frame=frame.reshape(details["frame"]["shape"]), state_s=state)
        state = out["state_s"]
        masks.append(out["mask"].ravel())
    return np.stack(masks)


@pytest.mark.parametrize("integer", [True, False])
def test_a_trace_is_what_the_graph_stores(tiny, integer):
    path = tiny(integer=integer)
    enhancer = StreamEnhancer(path)
    frames = agent.stored_frames(enhancer, 30)
    assert frames.dtype == (np.int8 if integer else np.float32)
    assert len(np.unique(frames)) > 10
    masks = agent.trace(enhancer.graph, frames)
    np.testing.assert_array_equal(masks, by_hand(path, frames))
    np.testing.assert_array_equal(agent.trace(enhancer.graph, frames), masks)  # a fresh state each time
    assert not np.array_equal(agent.trace(enhancer.graph, frames[::-1]), masks)  # negative control


def test_every_code_of_a_frame_comes_through(tiny):
    graph = StreamEnhancer(tiny(integer=True)).graph
    every = np.resize(np.arange(256, dtype=np.uint8).view(np.int8), (8, 33))
    np.testing.assert_array_equal(graph.frame.encode(graph.frame.decode(every)), every)


def test_the_command_takes_and_gives_base64(tiny):
    path = tiny(integer=True)
    enhancer = StreamEnhancer(path)
    frames = agent.stored_frames(enhancer, 10)
    line = base64.b64encode(frames.tobytes()).decode()
    command = [sys.executable, agent.__file__, "trace", str(path)]
    done = subprocess.run(command, input=line + "\n", capture_output=True, text=True, check=True)
    event = json.loads(done.stdout)
    assert (event["event"], event["dtype"], event["shape"]) == ("result", "int8", [10, 33])
    masks = np.frombuffer(base64.b64decode(event["masks"]), np.int8).reshape(10, 33)
    np.testing.assert_array_equal(masks, agent.trace(enhancer.graph, frames))


@pytest.mark.parametrize("line", ["no base64!", base64.b64encode(bytes(34)).decode()])
def test_what_is_no_whole_frames_is_refused(tiny, line):
    with pytest.raises(AgentError, match="no whole frames of 33 values"):
        agent.trace_line(str(tiny(integer=True)), line, 1, True)
