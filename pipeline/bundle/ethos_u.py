"""For an Ethos-U: the model as its compiler makes it, what puts it behind the generated frontend, and the notes."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from earshot.core.errors import DeviceError, UsageError
from earshot.pipeline.bundle.cortex_m import example, open_core
from earshot.pipeline.bundle.description import json_text
from earshot.pipeline.bundle.generated import generated_c
from earshot.pipeline.bundle.part import Entry, Part, template
from earshot.pipeline.shipped import Shipped
from earshot.quantize.graph import Graph, load_flatbuffer, read_graph
from earshot.quantize.metadata import StreamDescription, description_of
from earshot.targets.npu.environment import vela_version
from earshot.targets.npu.target import EthosUTarget
from earshot.targets.npu.vela import VelaReport
from earshot.targets.registry import open_target

CPU = "cortex-m55"  # the core that chips with such an NPU have
_COMMAND = "CUSTOM:ethos-u"


def ethos_u_part(shipped: Shipped, device: str) -> Part:
    """Files for firmware on a chip with an NPU.

    Args:
        shipped: an int8 or int16x8 model.
        device: the target that says which NPU, system and memory mode.

    Raises:
        UsageError: the target is no Ethos-U.
        DeviceError: Vela is not installed, or took too long.
        ModelError, ToolError: the model cannot become C, or Vela refuses it.
    """
    npu = open_target(device)
    if not isinstance(npu, EthosUTarget):
        raise UsageError(f"target {device} is no Ethos-U", "see: earshot targets")
    state = npu.availability()
    if not state.ok:
        raise DeviceError(f"target {device}: {state.reason}", state.enable)
    core = open_core(CPU)
    name = f"{shipped.model.stem}.vela.tflite"
    with tempfile.TemporaryDirectory(prefix="earshot-bundle-") as temporary:
        compiled = Path(temporary) / name
        report = npu.compile(shipped.model, compiled)
        content = compiled.read_bytes()
    graph = read_graph(content, name)
    frontend = description_of(graph).frontend
    left = sorted({operator.name for operator in graph.operators if operator.name != _COMMAND})
    header = _header(content, graph, npu, report)
    register = "".join(f"        good = resolver.Add{_camel(operator)}() == kTfLiteOk && good;\n" for operator in left)
    network = template("ethos-u/network.cc", {"OPERATORS": 1 + len(left), "REGISTER": register})
    usage = template(
        "ethos-u/usage.md",
        {
            "COMPILED": name,
            "VELA": vela_version(),
            "CYCLES": f"{report.cycles:,.0f}",
            "SHARE": f"{100 * report.cycles / report.clock_hz / frontend.hop_seconds:.2g}",
            "CLOCK": f"{report.clock_hz / 1e6:g}",
            "ARENA": f"{report.sram_bytes:,}",
            "FLASH": f"{report.other_bytes:,}",
            "LEFT": f"{', '.join(left)}: the totals are lower bounds" if left else "nothing",
            "RATE": frontend.rate,
            "CPU": core.board.core,
        },
    )
    return Part(
        files={
            f"npu/{name}": Entry(content, f"the model as compiled for {npu.config.accelerator}"),
            "npu/model_npu.h": Entry(header.encode(), "its inputs, outputs and states"),
            "npu/model_npu.c": Entry(_array(content).encode(), "the same file as a C array"),
            "npu/network.cc": Entry(network.encode(), "puts the NPU behind model_step"),
            "npu/vela.json": Entry(json_text(asdict(report)), "the compiler's estimates"),
            **example(shipped, core),
            **generated_c(shipped.model),
        },
        usage=usage,
        tools={"ethos-u-vela": vela_version()},
        untried=(
            "On an NPU, nothing of this; its cycles and memory are Vela's estimates.",
            "`npu/network.cc` was not compiled: it needs TensorFlow Lite for Microcontrollers and Arm's driver.",
        ),
    )


def _header(content: bytes, graph: Graph, npu: EthosUTarget, report: VelaReport) -> str:
    description: StreamDescription = description_of(graph)
    # The interpreter counts inputs and outputs as the graph lists them; the signature may list them otherwise.
    main = load_flatbuffer(content).subgraphs[0]
    entering, leaving = [int(index) for index in main.inputs], [int(index) for index in main.outputs]
    states, sizes = [], []
    for found in description.states:
        tensor = graph.tensors[graph.inputs[found.input]]
        zero = tensor.quantization.zero_point if tensor.quantization else 0
        places = entering.index(graph.inputs[found.input]), leaving.index(graph.outputs[found.output])
        sizes.append(tensor.size * np.dtype(tensor.dtype).itemsize)
        states.append(f"    {{{places[0]}, {places[1]}, {zero}, {sizes[-1]}}}, /* {found.name} */\n")
    return template(
        "ethos-u/model_npu.h",
        {
            "ACCELERATOR": npu.config.accelerator,
            "VELA": vela_version(),
            "SYSTEM": npu.config.system,
            "MODE": npu.config.memory_mode,
            "BYTES": report.compiled_bytes,
            "ARENA": report.sram_bytes,
            "FRAME": entering.index(graph.inputs[description.input]),
            "MASK": leaving.index(graph.outputs[description.output]),
            "COUNT": len(states),
            "STATE_BYTES": sum(sizes),
            "STATES": "".join(states),
        },
    )


def _array(content: bytes) -> str:
    rows = (content[at : at + 20] for at in range(0, len(content), 20))
    values = ",\n    ".join(", ".join(str(byte) for byte in row) for row in rows)
    # The driver reads the commands in place, which asks for 16-byte addresses.
    head = '#include "model_npu.h"\n\n__attribute__((aligned(16))) const uint8_t model_npu[MODEL_NPU_BYTES] = {\n    '
    return f"{head}{values}}};\n"


def _camel(operator: str) -> str:
    """TensorFlow Lite Micro's name: CONV_2D is Conv2D."""
    return "".join(word if word[0].isdigit() else word.capitalize() for word in operator.split("_"))
