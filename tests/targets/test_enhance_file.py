"""Sound files through a stream model: alignment, length, formats, bad input, constant memory, kills."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.core.errors import DataError, ModelError, ToolError, UsageError
from earshot.pipeline.enhance import enhance_file
from earshot.pipeline.progress import Silent
from earshot.pipeline.soundsink import sound_format
from earshot.targets.agent import StreamEnhancer


def tones(rate, frames, channels):
    """Swept tones below 3 kHz, other ones in every channel."""
    t = np.arange(frames) / rate
    sweeps = [np.sin(2 * np.pi * (200 * (1 + c) + 300 * t) * t) for c in range(channels)]
    return (0.3 * np.stack(sweeps, axis=1)).astype(np.float32)


def write(path, sound, rate, subtype="FLOAT"):
    soundfile.write(path, sound, rate, subtype=subtype)
    return path


def shift(ours, theirs):
    """Samples by which `ours` is late, by cross-correlation."""
    spectrum = np.fft.rfft(ours, 2 * len(ours)) * np.conj(np.fft.rfft(theirs, 2 * len(theirs)))
    peak = int(np.argmax(np.fft.irfft(spectrum)))
    return peak if peak < len(ours) else peak - 2 * len(ours)


@pytest.fixture(scope="module")
def identity(tiny):
    return tiny("identity", bins=257)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_output_is_aligned_and_of_equal_length(identity, tmp_path, rate, channels):
    sound = tones(rate, 3 * rate + 1234, channels)
    source, sink = write(tmp_path / "in.wav", sound, rate), tmp_path / "out.wav"
    report = enhance_file(identity, source, sink)
    enhanced, found = soundfile.read(sink, dtype="float32", always_2d=True)
    assert (found, enhanced.shape) == (rate, sound.shape)
    assert (report.rate, report.channels, report.model_rate) == (rate, channels, 16000)
    assert report.seconds == pytest.approx(len(sound) / rate)
    assert report.rtf > 0
    for channel in range(channels):
        assert shift(enhanced[:, channel], sound[:, channel]) == 0
        assert shift(np.roll(enhanced[:, channel], 1), sound[:, channel]) == 1  # negative control
    inner = slice(200, -200)  # resampling cannot know what lies beyond the ends
    assert np.abs(enhanced[inner] - sound[inner]).max() < (1e-5 if rate == 16000 else 1e-3)


@pytest.mark.parametrize("frames", [1, 2, 255, 256, 257, 16000, 16001])
@pytest.mark.parametrize("rate", [11025, 16000])
def test_short_files_keep_their_length(identity, tmp_path, rate, frames):
    source = write(tmp_path / "in.wav", tones(rate, frames, 1), rate)
    enhance_file(identity, source, tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").frames == frames


def test_a_file_is_enhanced_like_the_whole_signal_at_once(tiny, tmp_path):
    model, sound = tiny(bins=257), tones(16000, 40_000, 2)
    enhance_file(model, write(tmp_path / "in.wav", sound, 16000), tmp_path / "out.wav")
    enhanced, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    for channel in range(2):  # every channel with a state of its own
        alone = StreamEnhancer(model).enhance(np.ascontiguousarray(sound[:, channel]))
        np.testing.assert_allclose(enhanced[:, channel], alone, atol=1e-6)
    assert np.abs(enhanced - sound).max() > 0.01  # negative control: this model changes the sound


@pytest.mark.parametrize(
    ("suffix", "subtype", "kept"),
    [
        (".wav", "PCM_16", "PCM_16"), (".wav", "PCM_24", "PCM_24"), (".wav", "FLOAT", "FLOAT"),
        (".flac", "PCM_16", "PCM_16"), (".flac", "PCM_24", "PCM_24"), (".flac", "FLOAT", "PCM_24"),
        (".wav", "PCM_U8", "PCM_U8"), (".flac", "PCM_U8", "PCM_16"), (".wav", "ULAW", "PCM_16"),
    ],
)  # fmt: skip
def test_the_suffix_decides_the_format_and_the_sample_format_stays(identity, tmp_path, suffix, subtype, kept):
    source = write(tmp_path / "in.wav", tones(16000, 5000, 1), 16000, subtype)
    enhance_file(identity, source, tmp_path / f"out{suffix}")
    info = soundfile.info(tmp_path / f"out{suffix}")
    assert (info.format, info.subtype, info.frames) == (suffix[1:].upper(), kept, 5000)


def test_a_wav_beyond_four_gigabytes_becomes_rf64():
    assert sound_format(Path("x.wav"), "FLOAT", 2**30) == ("RF64", "FLOAT")
    assert sound_format(Path("x.wav"), "FLOAT", 2**20) == ("WAV", "FLOAT")


def bad_source(folder, kind):
    path, sound = folder / "bad.wav", tones(16000, 40_000, 1)
    if kind == "absent":
        return path
    if kind == "nan":
        sound[31_000] = np.nan
    write(path, sound[:0] if kind == "no samples" else sound, 16000)
    if kind == "cut short":
        path = path.with_suffix(".flac")
        soundfile.write(path, sound, 16000)
    if kind in ("cut short", "cut wav"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if kind in ("empty", "foreign"):
        path.write_bytes(b"" if kind == "empty" else b"these are words, no samples" * 99)
    return path


@pytest.mark.parametrize("kind", ["absent", "empty", "foreign", "no samples", "nan", "cut short", "cut wav"])
def test_bad_sound_is_named_and_nothing_is_written(identity, tmp_path, kind):
    source, folder = bad_source(tmp_path, kind), tmp_path / "out"
    folder.mkdir()
    with pytest.raises(DataError, match=source.name) as caught:
        enhance_file(identity, source, folder / "out.wav")
    assert caught.value.hint
    assert list(folder.iterdir()) == []


def test_where_the_nan_lies_is_said(identity, tmp_path):
    with pytest.raises(DataError, match=r"at 1\.938 s"):
        enhance_file(identity, bad_source(tmp_path, "nan"), tmp_path / "out.wav")


def test_a_failure_leaves_an_older_output_alone(identity, tmp_path):
    sink = tmp_path / "out.wav"
    sink.write_bytes(b"precious")
    with pytest.raises(DataError):
        enhance_file(identity, bad_source(tmp_path, "nan"), sink)
    assert sink.read_bytes() == b"precious"


def test_requests_that_cannot_be_met(identity, tmp_path):
    source = write(tmp_path / "in.wav", tones(16000, 2000, 1), 16000)
    with pytest.raises(UsageError, match=r"cannot write '\.mp3'"):
        enhance_file(identity, source, tmp_path / "out.mp3")
    with pytest.raises(UsageError, match="replace its source"):
        enhance_file(identity, source, source)
    with pytest.raises(ModelError, match=r"in\.wav: not a \.tflite"):
        enhance_file(source, source, tmp_path / "out.wav")
    with pytest.raises(ToolError, match="No such file"):
        enhance_file(identity, source, tmp_path / "absent" / "out.wav")
    many = write(tmp_path / "many.wav", tones(16000, 2000, 9), 16000)
    with pytest.raises(UsageError, match="cannot hold 9 channels"):
        enhance_file(identity, many, tmp_path / "out.flac")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "many.wav"]


def test_progress_counts_every_frame(identity, tmp_path):
    class Count(Silent):
        total, done = None, 0

        def start(self, task, total):
            self.total = total

        def advance(self, steps=1, note=""):
            self.done += steps

    count = Count()
    source = write(tmp_path / "in.wav", tones(44100, 100_000, 1), 44100)
    enhance_file(identity, source, tmp_path / "out.wav", count)
    assert count.total == count.done == 100_000


ENHANCE = (
    "import sys, pathlib; from earshot.pipeline.enhance import enhance_file; "
    "enhance_file(*map(pathlib.Path, sys.argv[1:4])); "
    "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
)


def test_memory_does_not_grow_with_the_file(identity, tmp_path):
    peaks = []
    for minutes in (1, 10):
        source = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(source, "w", 16000, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(tones(16000, 60 * 16000, 1))
        command = [sys.executable, "-c", ENHANCE, str(identity), str(source), str(tmp_path / "out.wav")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    # Nine more minutes are 17 MB as 16 bit and 35 MB as float32.
    assert peaks[1] < peaks[0] + 4096, peaks


def test_a_kill_half_way_leaves_nothing(identity, tmp_path):
    source, folder = tmp_path / "in.wav", tmp_path / "out"
    folder.mkdir()
    write(source, np.zeros((16000 * 1200, 1), np.float32), 16000, "PCM_16")
    command = [sys.executable, "-c", ENHANCE, str(identity), str(source), str(folder / "out.wav")]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 30
        while not _writes_into(process.pid, folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _writes_into(process.pid, folder)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list(folder.iterdir()) == []


def _writes_into(pid, folder):
    try:
        return any(str(item.readlink()).startswith(str(folder)) for item in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root to mount a small disk")
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_full_disk_is_said_and_leaves_nothing(identity, tmp_path, suffix):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (160_000, 1)).astype(np.float32)
        source = write(tmp_path / "in.wav", noise, 16000)
        with pytest.raises(ToolError, match="cannot be written"):
            enhance_file(identity, source, disk / f"out{suffix}")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
