"""The same stream on this machine with the TFLite reference kernels: what a program's sound is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from earshot.core.errors import ModelError
from earshot.quantize.graph import Graph, Quantization, TensorInfo, read_graph
from earshot.quantize.metadata import StreamDescription, description_of

TOLERANCE = 1e-3  # of full scale


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


@dataclass(frozen=True)
class Comparison:
    """How a program's run differs from this machine's.

    Attributes:
        frame_steps: the largest difference of the network's inputs, in steps of their integers. Single precision rounds
            its own way, so one step here and there is right.
        masks: how many of the network's outputs are not what the reference kernels make of the program's own inputs.
        sound: the largest difference of enhanced samples, of full scale, for the program's own masks; infinite for
            other lengths or what is no number.
    """

    frame_steps: int
    masks: int
    sound: float

    def complaint(self) -> str:
        """What is wrong; empty where nothing is."""
        if self.frame_steps > 1:
            return f"the frontend's frames differ from the host's by {self.frame_steps} steps"
        if self.masks:
            return f"{self.masks:,} values of the masks are not those of the reference kernels"
        if self.sound > TOLERANCE:
            return f"its sound differs from the host's by {self.sound:.2g} of full scale"
        return ""


def split_frames(path: Path, content: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The network's input and output integers of every hop, from the file that bare/main.c writes."""
    graph = read_graph(path)
    description = description_of(graph)
    frame, mask = graph.tensors[graph.inputs[description.input]], graph.tensors[graph.outputs[description.output]]
    split = int(np.prod(frame.shape))
    length = split + int(np.prod(mask.shape))
    values = np.frombuffer(content, np.dtype(frame.dtype).newbyteorder("<"))
    hops = values[: values.size // length * length].reshape(-1, length)
    return [(hop[:split], hop[split:]) for hop in hops]


def compare(path: Path, sound: np.ndarray, frames: bytes, enhanced: bytes) -> Comparison:
    """A program's run against this machine: frontend against frontend, network against the reference kernels.

    Each part is given what the program gave it, so that one step of rounding in a frame does not spread.

    Args:
        path: the model.
        sound: what it was given, float32 `[hops * hop]`, or `[hops * hop, channels]`.
        frames, enhanced: the files of bare/main.c.
    """
    host = HostStream(path)
    steps, masks, expected = 0, 0, []
    for hop, (frame, mask) in zip(host.hops(sound), split_frames(path, frames), strict=False):
        steps = max(steps, int(np.abs(host.analyse(hop).astype(np.int64) - frame).max()))
        masks += int((host.network.step(frame) != mask).sum())
        expected.append(host.synthesise(mask))
    given = np.frombuffer(enhanced, "<f4")
    if given.size != len(sound) or len(expected) * host.hop != len(sound) or not np.isfinite(given).all():
        return Comparison(steps, masks, float("inf"))
    return Comparison(steps, masks, float(np.abs(given - np.concatenate(expected)).max()))


def enhance_on_host(path: Path, sound: np.ndarray) -> np.ndarray:
    """Enhanced sound float32 `[hops * hop]` of sound as `compare` takes it. Raises ModelError."""
    host = HostStream(path)
    return np.concatenate([host.synthesise(host.network.step(host.analyse(hop))) for hop in host.hops(sound)])


class HostStream:
    """The frontend as the device agent computes it, around the reference kernels. Raises ModelError."""

    def __init__(self, path: Path) -> None:
        from earshot.targets.agent import Chunks, Stft

        self.network = ReferenceStream(path)
        graph, description = self.network.graph, self.network.description
        kind = Chunks if description.frontend.kind == "wave" else Stft
        self._stft = kind(description.frontend.model_dump())
        self.hop: int = self._stft.hop
        self._frame = graph.tensors[graph.inputs[description.input]]
        self._mask = graph.tensors[graph.outputs[description.output]]

    def hops(self, sound: np.ndarray) -> np.ndarray:
        """Sound `[samples]` or `[samples, channels]` hop by hop."""
        return sound.reshape(-1, self.hop, *sound.shape[1:])

    def analyse(self, hop: np.ndarray) -> np.ndarray:
        """The next frame's integers, flat."""
        self._spectrum = self._stft.analyse(hop)
        real = self._stft.features(self._spectrum)[0]
        quantization, limits = _integers(self._frame), np.iinfo(self._frame.dtype)
        steps = np.rint(real / np.float32(quantization.scale)) + quantization.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self._frame.dtype)

    def synthesise(self, mask: np.ndarray) -> np.ndarray:
        """The next samples float32 `[hop]`, of the frame analysed last."""
        quantization = _integers(self._mask)
        gains = (mask.astype(np.float32) - quantization.zero_point) * np.float32(quantization.scale)
        return np.asarray(self._stft.synthesise(self._stft.apply(self._spectrum.copy(), gains[np.newaxis])))


def _integers(tensor: TensorInfo) -> Quantization:
    if tensor.quantization is None:
        hint = "give the int8 or int16x8 file of the same model"
        raise ModelError(f"tensor '{tensor.name}' is {tensor.dtype}: it computes in floating point", hint)
    return tensor.quantization
