"""Every streaming network becomes a float and an int8 file that agree with it, says what stays float, and becomes C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from earshot.models.frontend import Frontend
from earshot.models.registry import NETWORKS, build, network
from earshot.quantize.c import generate
from earshot.quantize.convert import ConvertConfig, convert_model
from earshot.quantize.export import export_float
from earshot.quantize.graph import read_graph
from earshot.quantize.metadata import read_description
from earshot.quantize.parity import float_parity, snr_db, stream
from earshot.quantize.plan import QuantizeConfig, quantize_model
from earshot.quantize.runner import to_real

SIZES = {"window": 64, "hop": 32, "fft": 64}
COMPLEX = Frontend(**SIZES, features="complex", mask="complex")
# name -> frontend, sizes, operators that stay float in the int8 file
STREAMS: dict[str, tuple[Frontend, dict[str, Any], set[str]]] = {
    "dae_unet": (Frontend(**SIZES), {"channels": [4, 6], "strides": [4, 2], "latent": 6, "hidden": 6}, set()),
    "dccrn": (COMPLEX, {"channels": [3, 4], "hidden": 5}, set()),
    "metricgan": (Frontend(**SIZES, features="log1p"), {"hidden": 8, "wide": 6}, set()),
    "rt_senet": (Frontend(kind="wave", hop=32), {"channels": [4, 6], "strides": [4, 4]}, set()),
    "wave_unet": (Frontend(kind="wave", hop=32), {"channels": [4, 6], "strides": [4]}, set()),
    # Running norms divide by a deviation, which the quantizer would take from a coarse table of 16 bits.
    "conv_tasnet": (
        Frontend(kind="wave", hop=32),
        {"basis": 8, "kernel": 32, "stride": 16, "bottleneck": 4, "inner": 6, "blocks": 1, "stacks": 1},
        {"ADD", "RSQRT"},
    ),
    "manner_causal": (
        Frontend(kind="wave", hop=32),
        {"hidden": 6, "depth": 2, "attention": "deepest", "chunk": 4, "window": 3},
        set(),
    ),
    "mobile_unet": (
        Frontend(**SIZES),
        {"channels": [4, 6], "strides": [4, 2], "hidden": 6, "mask_hidden": 4},
        {"ADD", "RSQRT"},
    ),
    "ft_jnf": (
        Frontend(window=16, hop=8, fft=16, features="complex", mask="complex"),
        {"hidden_frequency": 3, "hidden_time": 3},
        set(),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_a_network_converts_and_its_integer_file_agrees_with_the_reference(name: str, tmp_path: Path) -> None:
    frontend, params, floats = STREAMS[name]
    torch.manual_seed(0)
    model = build(name, frontend, params).eval()
    features = frontend.analyse(0.1 * torch.randn(2, frontend.rate // 4)).sequence
    (tmp_path / "plan").mkdir()
    plan = quantize_model(model, features, tmp_path / "plan", QuantizeConfig(parity_seconds=0.2), network=name)
    assert plan.parity.float32 is not None
    assert plan.parity.float32.max_abs <= 1e-5
    config = ConvertConfig(variants=("int8",), parity_seconds=0.2)
    made = convert_model(tmp_path / "plan", tmp_path, config, features).variants["int8"]
    assert {found.operator for found in made.float_operators} == floats
    assert all(found.reason for found in made.float_operators)
    assert made.parity.unavailable is None
    assert made.parity.max_lsb <= 6 and made.parity.snr_db > 35
    assert made.parity.float_snr_db > 10
    states = {state.name: state.dtype for state in read_description(made.path).states}
    assert {state for state, dtype in states.items() if dtype == "int16"} == model.wide_states()
    # As C: no operator is refused.
    assert generate(made.path, tmp_path / "c").state_bytes == made.state_bytes


@pytest.mark.slow
@torch.no_grad()
def test_two_minutes_stream_like_the_whole_and_an_integer_file_does_not_drift(tmp_path: Path) -> None:
    """Cumulative norms, one column a chunk: their counts go far beyond what calibration has shown."""
    sizes = {"basis": 8, "kernel": 512, "stride": 512, "bottleneck": 4, "inner": 6, "blocks": 1, "stacks": 1}
    torch.manual_seed(0)
    model = build("conv_tasnet", Frontend(kind="wave", hop=512), sizes).eval()
    rate, seconds = 16000, 120
    swell = 1 + 0.5 * torch.sin(torch.arange(seconds * rate) / rate)  # louder and softer all along
    sequence = model.frontend.analyse(0.1 * swell * torch.randn(1, seconds * rate)).sequence
    calibration = sequence[:, :, :62]  # two seconds
    (tmp_path / "plan").mkdir()
    plan = quantize_model(
        model, calibration, tmp_path / "plan", QuantizeConfig(parity_seconds=0.2), network="conv_tasnet"
    )
    convert_model(tmp_path / "plan", tmp_path, ConvertConfig(variants=("int8",), parity_seconds=0.2), calibration)

    whole = model(sequence)[0, 0].numpy()
    streamed = stream(plan.float_path, sequence.numpy()).reshape(whole.shape)
    assert np.abs(streamed - whole).max() < 1e-5
    later = sequence.clone()
    later[:, :, :1875] = 0
    assert np.abs(model(later)[0, 0, 1875:].numpy() - whole[1875:]).max() > 1e-3, "nothing is remembered for a minute"

    path = tmp_path / "model.int8.tflite"
    graph = read_graph(path)
    counts = [graph.tensors[index] for name, index in graph.inputs.items() if name.endswith("_count")]
    assert counts and all(32767 * float(one.quantization.scales[0]) < 100 for one in counts), "they stop at 62"
    integer = to_real(stream(path, sequence.numpy()), graph.tensors[graph.outputs["mask"]].quantization)
    ratios = [
        snr_db(whole[first : first + 375], integer.reshape(whole.shape)[first : first + 375])
        for first in range(0, len(whole), 375)
    ]
    assert min(ratios) > 15 and min(ratios[-3:]) > min(ratios[:3]) - 3, ratios


def test_one_moment_a_chunk_is_converted_too(tmp_path: Path) -> None:
    """Splitting it into its one moment is what the converter cannot do."""
    torch.manual_seed(0)
    model = build("rt_senet", Frontend(kind="wave", hop=16), {"channels": [4, 6], "strides": [4, 4]}).eval()
    path = tmp_path / "float32.tflite"
    export_float(model, path)
    assert float_parity(path, model, 0.1 * torch.randn(1, 1, 50, 16), 0.05).max_abs <= 1e-5


def test_every_streaming_network_is_here() -> None:
    assert {name for name in NETWORKS if network(name).causal} == set(STREAMS)
