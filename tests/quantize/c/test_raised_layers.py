"""An int8 file with layers on 16 bits becomes C that computes what LiteRT's reference kernels do, bit by bit."""

from __future__ import annotations

from collections import Counter

import pytest

from earshot.quantize.graph import read_graph
from earshot.quantize.integer import quantize_graph
from earshot.quantize.metadata import read_description, write_stream_model

from .harness import NATIVE
from .test_bit_exactness import compare


@pytest.mark.parametrize("pattern", ["^TRANSPOSE_CONV$", "^CONV_2D$|^FULLY_CONNECTED$", "^TANH$|^LOGISTIC$"])
def test_raised_layers_become_c(pattern, unet, kernels, tmp_path):
    source, plan = unet
    content = quantize_graph(source, plan, "int8", keep_wide=[pattern])
    graph = read_graph(content)
    types = Counter(graph.tensors[operator.outputs[0]].dtype for operator in graph.operators)
    assert types["int16"] and types["int8"]
    path = tmp_path / "model.tflite"
    write_stream_model(path, content, read_description(source).for_graph(graph, "int8"))
    assert compare(path, tmp_path / "c", kernels, NATIVE, "int8", 8) == []
