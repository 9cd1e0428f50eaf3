"""Whether the guest computes what this machine computes: the same stored frames through the same engine on both.

Integer masks have to be equal to the bit. Float ones differ in the last places from one instruction set to the next,
because sums are taken in another order.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.core.errors import DeviceError
from earshot.targets.agent_link import AGENT, AgentLink
from earshot.targets.base import ProfileConfig
from earshot.targets.stream import open_stream

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress
    from earshot.targets.ssh.target import SshTarget

FLOAT_TOLERANCE = 1e-5  # float32 masks; a graph of this depth was seen to differ by 5e-7


@dataclass(frozen=True)
class Expected:
    """What this machine's runtime makes of a model.

    Attributes:
        frames: `[frames, bins]`, raw, as the graph stores them.
        masks: `[frames, bins]`, as the graph stores them.
    """

    frames: bytes
    masks: np.ndarray

    def compare(self, result: Mapping[str, Any]) -> Difference:
        """How a device's trace differs. Raises DeviceError: it is a trace of something else."""
        if (result["dtype"], tuple(result["shape"])) != (str(self.masks.dtype), self.masks.shape):
            raise DeviceError(
                f"{result['model']}: the device gave {result['dtype']} {result['shape']}, "
                f"expected {self.masks.dtype} {list(self.masks.shape)}",
                "its agent is another than this one: build the image anew",
            )
        theirs = np.frombuffer(base64.b64decode(result["masks"]), self.masks.dtype).reshape(self.masks.shape)
        difference = np.abs(theirs.astype(np.float64) - self.masks.astype(np.float64))
        allowed = FLOAT_TOLERANCE if self.masks.dtype == np.float32 else 0.0
        # Not `> allowed`: NaN on either side is a mismatch.
        return Difference(int(np.count_nonzero(~(difference <= allowed))), difference.size, float(difference.max()))


@dataclass(frozen=True)
class Difference:
    """Of `values` mask values `mismatches` differ, float ones by more than FLOAT_TOLERANCE; `largest` is the most."""

    mismatches: int
    values: int
    largest: float


def expect(model: Path, config: ProfileConfig, frames: int) -> Expected:
    """Runs a model here, with the delegate and threads that the device will use. Raises ModelError or DeviceError."""
    from earshot.targets.agent import stored_frames, trace

    enhancer = open_stream(model, config.threads, config.delegate)
    stored = stored_frames(enhancer, frames)
    return Expected(stored.tobytes(), trace(enhancer.graph, stored))


def trace_on(
    guest: SshTarget,
    models: Mapping[str, Path],
    config: ProfileConfig,
    expected: Mapping[str, Expected],
    progress: Progress,
) -> dict[str, Difference]:
    """Runs every model's frames on the device and compares. Raises DeviceError."""
    from earshot.targets.ssh.connection import Deadline, SshConnection
    from earshot.targets.ssh.device import DeviceFolder, find_python

    late = f"{guest.name}: tracing took longer than {config.timeout_seconds:g} s"
    deadline = Deadline(config.timeout_seconds, late, "raise timeout_seconds")
    arguments = ["--threads", str(config.threads), *([] if config.delegate else ["--no-delegate"])]
    found: dict[str, Difference] = {}
    progress.start(f"compare outputs of {guest.name}", len(models))
    with (
        SshConnection(guest.name, guest.options) as connection,
        DeviceFolder(connection, guest.options.folder, config.timeout_seconds) as folder,
    ):
        command = (find_python(connection, guest.options), folder.send(AGENT, AGENT.name), "trace")
        for index, (variant, path) in enumerate(models.items()):
            model = folder.send_model(path, f"model{index}")
            channel = folder.start(*command, model, *arguments, deadline=deadline)
            channel.write(base64.b64encode(expected[variant].frames).decode() + "\n")
            result = AgentLink(str(path), channel, guest.name, {model: str(path)}).expect("result")
            found[variant] = expected[variant].compare(result)
            progress.advance(note=f"{variant} {found[variant].mismatches} of {found[variant].values} differ")
    progress.finish()
    return found
