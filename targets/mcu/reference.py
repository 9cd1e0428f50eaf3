"""The same stream on this machine with the TFLite reference kernels: what a program's sound is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from earshot.core.errors import ModelError
from earshot.quantize.graph import Graph, read_graph
from earshot.quantize.metadata import StreamDescription, description_of


class ReferenceStream:
    """A stream model on the reference kernels, which generated C equals bit for bit.

    Args:
        path: the .tflite.
        observe: keep every tensor readable after a step.

    Raises:
        ModelError: the file is no stream model, or LiteRT refuses it.
    """

    def __init__(self, path: Path, observe: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        from earshot.quantize.quiet import quiet

        self.graph: Graph = read_graph(path)
        self.description: StreamDescription = description_of(self.graph)
        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_path=str(path),
                    num_threads=1,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                    experimental_preserve_all_tensors=observe,
                )
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: refused by the reference kernels ({' '.join(str(error).split())})") from error
        self._frame = self.graph.inputs[self.description.input]
        self._mask = self.graph.outputs[self.description.output]
        self._states = [
            (self.graph.inputs[state.input], self.graph.outputs[state.output]) for state in self.description.states
        ]
        self.reset()

    def reset(self) -> None:
        """Back to the start of a stream."""
        self._carried = {entry: self._zeros(entry) for entry, _ in self._states}

    def step(self, frame: np.ndarray) -> np.ndarray:
        """The mask's integers `[bins]` for a frame's integers `[bins]`; the states go on."""
        interpreter = self._interpreter
        interpreter.set_tensor(self._frame, frame.reshape(self.graph.tensors[self._frame].shape))
        for entry, value in self._carried.items():
            interpreter.set_tensor(entry, value)
        interpreter.invoke()
        self._carried = {entry: interpreter.get_tensor(leaving) for entry, leaving in self._states}
        return np.asarray(interpreter.get_tensor(self._mask)).reshape(-1)

    def tensor(self, index: int) -> np.ndarray:
        """A tensor's values after a step, when observing."""
        return np.asarray(self._interpreter.get_tensor(index))

    def _zeros(self, index: int) -> np.ndarray:
        tensor = self.graph.tensors[index]
        zero = tensor.quantization.zero_point if tensor.quantization else 0
        return np.full(tensor.shape, zero, tensor.dtype)


def enhance_on_host(path: Path, sound: np.ndarray) -> np.ndarray:
    """Enhanced sound float32 `[hops * hop]` of sound of that shape, `delay_samples` late. Raises ModelError."""
    from earshot.targets.agent import Stft

    stream = ReferenceStream(path)
    stft = Stft(stream.description.frontend.model_dump())
    frame = stream.graph.tensors[stream.graph.inputs[stream.description.input]]
    mask = stream.graph.tensors[stream.graph.outputs[stream.description.output]]
    if frame.quantization is None or mask.quantization is None:
        raise ModelError(f"{path}: it computes in floating point", "give the int8 or int16x8 file of the same model")
    limits, enhanced = np.iinfo(frame.dtype), []
    for hop in sound.reshape(-1, stft.hop):
        spectrum = stft.analyse(hop)
        steps = np.rint(stft.features(spectrum)[0] / np.float32(frame.quantization.scale))
        integers = np.clip(steps + frame.quantization.zero_point, limits.min, limits.max)
        gains = stream.step(integers.astype(frame.dtype)).astype(np.float32) - mask.quantization.zero_point
        enhanced.append(stft.synthesise(spectrum * (gains * np.float32(mask.quantization.scale))))
    return np.concatenate(enhanced)
