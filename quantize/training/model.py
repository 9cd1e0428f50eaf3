"""A network that trains as its int8 file will compute (Jacob et al. 2018, arXiv 1712.05877, section 3).

Rounded, in every pass, as `quantize/` writes the file:

- weights of convolutions and of fully connected and recurrent layers: int8, symmetric, a scale for each output; a
  BatchNorm that is folded multiplies whole rows and changes no integer
- what every operator puts out, skips, gates and the frame itself included: int8 on one grid a tensor; convolution,
  BatchNorm and ReLU are one operator; sigmoid, tanh and softmax on the grid that their kernels prescribe
- states: they are these values. What only moves shares the range of what it moves, so that a look-back holds the
  integers it was left with; GRU and LSTM run frame by frame, and every gate, sum and state is rounded before the next
  frame hears it

Ranges are measured before training on calibration sound, widen at once to what training shows and shrink slowly.

Not simulated: integer accumulation and the kernels' fixed-point rescaling (half a step at most), int32 biases and
other constants, the widening of ranges that are too narrow for some kernels, `keep_float`, which names operators of the
file, and 16-bit values: modules with `wide = True` (running norms and means) round only what they put out. Fused layers
over bins, in both directions, have a range for each gate and direction here, in the file they share some. int16x8 files
have the same weights and finer values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from earshot.core.errors import DataError
from earshot.models.streaming import StreamingModel, Trace
from earshot.quantize.training.passes import Loops, Pass, following
from earshot.quantize.training.ranges import Keeper, Place, Ranges, Rounding, Survey

_FRAMES = 16  # of the sounds on which modules that work frame by frame are found


class FakeQuantized(StreamingModel):
    """A network whose `trace` rounds like its int8 file; it shares its weights with the network it is made from.

    Args:
        network: to train; `network` afterwards holds what was learnt.
        features: calibration sound, float32 `[clips, inputs, frames, bins]`.
        advance: called after every clip.

    Raises:
        DataError: the clips are too short to tell frames from layers, or not finite.
        ModelError: the network writes into its values, or these are not finite.
    """

    def __init__(self, network: StreamingModel, features: Tensor, advance: Callable[[], object] | None = None) -> None:
        super().__init__(network.frontend, network.params)
        if features.shape[2] < 2 * _FRAMES:
            raise DataError(
                f"calibration clips of {features.shape[2]} frames are too short", f"give them {2 * _FRAMES} or more"
            )
        if not features.isfinite().all():
            raise DataError("calibration clips hold NaN or infinity", "a sound file they come from is damaged")
        self.network = network
        self._places: dict[Place, int] = {}
        self.ranges = Ranges(torch.empty(0), torch.empty(0), {})
        self._loops = Loops()
        self._measure(features, advance)

    def trace(self, sequence: Tensor) -> Trace:
        """The network's trace of `[batch, inputs, frames, bins]`, rounded; latent and layers before their rounding.

        Raises:
            ToolError: its values are not finite, in training.
        """
        keeper = Rounding(self._places, self.ranges, observe=self.training)
        trace = self._through(sequence, keeper)[0]
        if self.training:
            self.ranges.follow(keeper.observed)
        return trace

    @torch.no_grad()
    def _measure(self, features: Tensor, advance: Callable[[], object] | None) -> None:
        training = self.network.training
        self.network.eval()
        found = None
        while found != self._loops:
            self._loops = found or self._loops
            short, long = (self._through(features[:1, :, :frames], Survey())[1] for frames in (_FRAMES, 2 * _FRAMES))
            found = self._loops.joined(short, long)
        survey = Survey()
        for clip in features:
            self._through(clip[None], survey)
            if advance is not None:
                advance()
        self._places, self.ranges = survey.found()
        self.network.train(training)

    def _through(self, sequence: Tensor, keeper: Keeper) -> tuple[Trace, Pass]:
        running = Pass(keeper, self._loops)
        with following(self.network, running):
            running.begin(sequence)
            trace = self.network.trace(sequence)
        return replace(trace, output=running.settle(trace.output)), running
