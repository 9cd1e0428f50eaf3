"""Streams a sound file of any rate and length through a .tflite, a second at a time.

    source -> soxr -> model's rate -> one stream a channel -> delay dropped -> soxr -> sink

Every channel is a stream of its own; a model of several microphones is one stream of as many channels, whose output is
the sound of the first, enhanced. What a model's rate cannot carry is not in the output: through a 16 kHz model a
48 kHz file keeps its rate but ends at 8 kHz.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from earshot.core.errors import DataError, UsageError
from earshot.pipeline.data.audio import check_microphones, probe
from earshot.pipeline.progress import Progress, Silent
from earshot.pipeline.soundsink import open_sink, sound_format, write_block
from earshot.targets.stream import open_stream

if TYPE_CHECKING:
    import numpy as np

    from earshot.targets.agent import StreamEnhancer

_REPLACE = "give a sound file that plays"


@dataclass(frozen=True)
class EnhanceReport:
    """What was enhanced.

    Attributes:
        seconds: length of the sound.
        rtf: computing time a second of sound, reading, resampling and writing included.
        rate: of source and sink alike.
        channels: of the sink: those of the source, or one where they were a model's microphones.
        model_rate: rate the model ran at, Hz.
    """

    seconds: float
    rtf: float
    rate: int
    channels: int
    model_rate: int


def enhance_file(model: Path, source: Path, sink: Path, progress: Progress | None = None) -> EnhanceReport:
    """Enhances `source` into `sink`: same rate and length, aligned to the sample, in constant memory.

    The channels are the same too, or one where the model takes several microphones.

    Args:
        model: a stream model (.tflite).
        source: any file libsndfile reads.
        sink: .wav or .flac; takes its name only when it is whole.
        progress: counts source frames.

    Raises:
        ModelError: no stream model.
        DataError: the source is absent, empty, damaged, cut short or not finite, or has not as many channels as the
            model has microphones.
        UsageError: the sink's suffix, or the sink is the source.
        ToolError: the disk is full.
    """
    import soundfile

    progress = progress or Silent()
    header = probe(source)
    if sink.exists() and sink.samefile(source):
        raise UsageError(f"{sink}: the output would replace its source", "name another output")
    streams = [open_stream(model)]
    microphones = streams[0].stft.channels
    if microphones == 1:
        streams += [open_stream(model) for _ in range(1, header.channels)]
    else:
        check_microphones(source, header.channels, microphones)
    container, subtype = sound_format(sink, soundfile.info(source).subtype, header.frames * len(streams))
    aligned = _Aligned(streams, header.rate)
    seconds, started = header.frames / header.rate, time.perf_counter()
    fed = written = 0
    progress.start(f"enhance {source.name}", header.frames)
    with open_sink(sink, header.rate, len(streams), container, subtype) as file:
        for block in _blocks(source, header.rate, header.frames):
            enhanced = aligned.push(block)[: header.frames - written]
            write_block(file, sink, enhanced)
            written += len(enhanced)
            fed += len(block)
            progress.advance(len(block), f"RTF {(time.perf_counter() - started) * header.rate / fed:.4f}")
        write_block(file, sink, aligned.finish(header.frames - written))
    rtf = (time.perf_counter() - started) / seconds
    progress.finish(f"RTF {rtf:.4f}")
    return EnhanceReport(seconds, rtf, header.rate, len(streams), streams[0].rate)


def _blocks(source: Path, size: int, frames: int) -> Iterator[np.ndarray]:
    """Float32 blocks `[size, channels]` of a sound file. Raises DataError where it is not sound to the end."""
    import numpy as np
    import soundfile

    done = 0
    try:
        with soundfile.SoundFile(source) as file:
            for block in file.blocks(size, dtype="float32", always_2d=True):
                if not np.isfinite(block).all():
                    where = done + int(np.argmin(np.isfinite(block).all(axis=1)))
                    at = f"{where / file.samplerate:.3f} s"
                    raise DataError(f"{source}: not finite (NaN or infinity) at {at}", _REPLACE)
                done += len(block)
                yield block
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{source}: damaged after {done} of {frames} frames ({error})", _REPLACE) from error
    if done < frames:
        raise DataError(f"{source}: cut short, {done} of {frames} frames", _REPLACE)


class _Aligned:
    """The streams between two rates; what has come out so far never runs ahead of what went in."""

    def __init__(self, streams: list[StreamEnhancer], rate: int) -> None:
        import numpy as np

        self._streams = streams
        self._hop = streams[0].hop
        self._microphones = streams[0].stft.channels
        self._inputs = len(streams) * self._microphones
        self._down = _Resampler(rate, streams[0].rate, self._inputs)
        self._up = _Resampler(streams[0].rate, rate, len(streams))
        self._waiting = np.zeros((0, self._inputs), np.float32)
        self._late = streams[0].delay

    def push(self, block: np.ndarray) -> np.ndarray:
        """Sound `[frames, channels]` at the outer rate in; whatever is ready of the enhanced sound out."""
        return self._up.push(self._enhance(self._down.push(block)))

    def finish(self, frames: int) -> np.ndarray:
        """The last `frames` enhanced frames, after which the object is spent."""
        import numpy as np

        rest = self._down.finish()
        tail = self._late_frames(len(rest))
        silence = np.zeros((tail, self._inputs), np.float32)
        enhanced = self._up.push(self._enhance(np.concatenate((rest, silence))))
        whole = np.concatenate((enhanced, self._up.finish()))[:frames]
        return np.pad(whole, ((0, frames - len(whole)), (0, 0)))

    def _late_frames(self, rest: int) -> int:
        """Silence that pushes the last sample out: the delay, and up to the end of a hop."""
        held = len(self._waiting) + rest + self._streams[0].delay
        return -(-held // self._hop) * self._hop - len(self._waiting) - rest

    def _enhance(self, samples: np.ndarray) -> np.ndarray:
        import numpy as np

        self._waiting = np.concatenate((self._waiting, samples))
        ready = len(self._waiting) // self._hop * self._hop
        if not ready:
            return np.zeros((0, len(self._streams)), np.float32)
        block, self._waiting = self._waiting[:ready], self._waiting[ready:]
        heard = [block] if self._microphones > 1 else [block[:, index] for index in range(self._inputs)]
        columns = [
            stream.process(np.ascontiguousarray(sound)) for stream, sound in zip(self._streams, heard, strict=True)
        ]
        dropped = min(self._late, ready)
        self._late -= dropped
        return np.ascontiguousarray(np.stack(columns, axis=1)[dropped:])


class _Resampler:
    """soxr's streaming resampler, which compensates its own delay; nothing at all between equal rates."""

    def __init__(self, rate: int, wanted: int, channels: int) -> None:
        import numpy as np
        import soxr

        self._empty = np.zeros((0, channels), np.float32)
        self._stream = None
        if rate != wanted:
            self._stream = soxr.ResampleStream(rate, wanted, channels, dtype="float32", quality="VHQ")

    def push(self, block: np.ndarray) -> np.ndarray:
        return self._shaped(self._stream.resample_chunk(block)) if self._stream else block

    def finish(self) -> np.ndarray:
        return self._shaped(self._stream.resample_chunk(self._empty, last=True)) if self._stream else self._empty

    def _shaped(self, block: np.ndarray) -> np.ndarray:
        return block.reshape(-1, self._empty.shape[1])
