"""Enhances speech with the model of this bundle: a sound file, or what a microphone hears.

    python enhance.py noisy.wav enhanced.wav
    python enhance.py --live [--input DEVICE] [--output DEVICE]      (needs: pip install sounddevice)
    python enhance.py --devices

Files are 16-bit WAV at the model's sample rate; every channel is a stream of its own, unless the model takes several
microphones. Needs numpy and a TFLite runtime (requirements.txt), Python 3.9 or later.
"""

from __future__ import annotations

import argparse
import sys
import time
import wave
from pathlib import Path

import numpy as np
from agent import AgentError, StreamEnhancer

MODEL = Path(__file__).resolve().parent.parent / "@MODEL@"
BLOCK_HOPS = 64  # of a file; live sound goes hop by hop


def read_wav(path, rate):
    """Samples float32 [frames, channels] of a 16-bit WAV."""
    try:
        with wave.open(str(path), "rb") as file:
            found = file.getframerate(), 8 * file.getsampwidth()
            if found != (rate, 16):
                sys.exit(f"error: {path}: {found[1]} bit at {found[0]} Hz; this model needs 16 bit at {rate} Hz\n"
                         f"fix: sox {path} -b 16 -r {rate} converted.wav")  # fmt: skip
            content, channels = file.readframes(file.getnframes()), file.getnchannels()
    except (OSError, EOFError, wave.Error) as error:
        sys.exit(f"error: {path}: {error}\nfix: give a WAV file that plays")
    return np.frombuffer(content, "<i2").reshape(-1, channels) / np.float32(32768)


def write_wav(path, samples, rate):
    """A 16-bit WAV of samples float32 [frames, channels]; what is too loud is clipped.

    As libsndfile writes it, so that the file is earshot's own: rounded to 32 bits, of which the upper 16 are kept.
    """
    wide = np.clip(np.rint(samples.astype(np.float64) * 2**31), -(2**31), 2**31 - 1).astype(np.int64)
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes((wide >> 16).astype("<i2").tobytes())


def enhance_stream(enhancer, sound):
    """Enhanced samples [frames] of sound [frames] or [frames, microphones], aligned with it, block after block."""
    enhancer.reset()
    hops = -(-(len(sound) + enhancer.delay) // enhancer.hop)
    padded = np.zeros((hops * enhancer.hop, *sound.shape[1:]), np.float32)
    padded[: len(sound)] = sound
    block = BLOCK_HOPS * enhancer.hop
    parts = [np.array(enhancer.process(padded[at : at + block])) for at in range(0, len(padded), block)]
    return np.concatenate(parts)[enhancer.delay : enhancer.delay + len(sound)]


def enhance_file(enhancer, source, sink):
    """One file into another; what it says is its speed."""
    sound = read_wav(source, enhancer.rate)
    microphones = enhancer.stft.channels
    if microphones > 1 and sound.shape[1] != microphones:
        sys.exit(f"error: {source}: {sound.shape[1]} channels; this model takes {microphones} microphones")
    started = time.perf_counter()
    heard = [sound] if microphones > 1 else list(sound.T)
    enhanced = np.stack([enhance_stream(enhancer, np.ascontiguousarray(one)) for one in heard], axis=1)
    seconds = len(sound) / enhancer.rate
    write_wav(sink, enhanced, enhancer.rate)
    print(f"{sink}: {seconds:.1f} s, real-time factor {(time.perf_counter() - started) / max(seconds, 1e-9):.4f}")


class Live:
    """What a sound device calls with every hop: the microphone's buffer in, the loudspeaker's out."""

    def __init__(self, enhancer):
        self.enhancer, self.late, self.lost = enhancer, 0, 0

    def __call__(self, heard, played, frames, when, status):
        if status:
            self.lost += 1
        started = time.perf_counter()
        sound = heard if self.enhancer.stft.channels > 1 else heard[:, 0]
        played[:, 0] = self.enhancer.process(np.ascontiguousarray(sound, np.float32))
        self.late += time.perf_counter() - started > frames / self.enhancer.rate


def run_live(enhancer, source, sink):
    """From a microphone to a loudspeaker, until Ctrl-C."""
    devices = sound_devices()
    live = Live(enhancer)
    settings = {"samplerate": enhancer.rate, "blocksize": enhancer.hop, "dtype": "float32"}
    try:
        with devices.Stream(
            channels=(enhancer.stft.channels, 1), device=(source, sink), latency="low", callback=live, **settings
        ):
            print("listening; Ctrl-C ends")
            while True:
                time.sleep(1)
    except KeyboardInterrupt:
        print(f"{live.late} hops took longer than they sound, {live.lost} were lost")
    except (devices.PortAudioError, ValueError) as error:
        sys.exit(f"error: no live sound: {error}\nfix: choose devices with --input and --output; see --devices")


def sound_devices():
    """The library that opens them."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        sys.exit(f"error: no live sound: {error}\nfix: apt-get install libportaudio2 && pip install sounddevice")
    return sounddevice


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", help="a 16-bit WAV file")
    parser.add_argument("sink", nargs="?", help="the WAV file to write")
    parser.add_argument("--live", action="store_true", help="from a microphone to a loudspeaker")
    parser.add_argument("--devices", action="store_true", help="list sound devices")
    parser.add_argument("--input", help="number or name of the microphone")
    parser.add_argument("--output", help="number or name of the loudspeaker")
    given = parser.parse_args()
    if given.devices:
        print(sound_devices().query_devices())
        return
    if not given.live and not (given.source and given.sink):
        parser.error("name a source and a sink, or --live")
    try:
        enhancer = StreamEnhancer(MODEL)
    except AgentError as error:
        sys.exit(f"error: {error.message}" + (f"\nfix: {error.hint}" if error.hint else ""))
    if given.live:
        run_live(enhancer, *(int(name) if name and name.isdigit() else name for name in (given.input, given.output)))
    else:
        enhance_file(enhancer, given.source, given.sink)


if __name__ == "__main__":
    main()
