"""Reading sound: right samples, right rates, and one clear error for every way a file can be bad."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.core.errors import DataError
from earshot.pipeline.data.audio import Header, probe, read_audio, resample


def tone(rate: int, hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_reads_what_was_written(tmp_path: Path) -> None:
    sound = tone(16000, 440)
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    assert probe(tmp_path / "a.wav") == Header(16000, 1, 16000)
    got = read_audio(tmp_path / "a.wav", 16000)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, sound)


@pytest.mark.parametrize("quality", ["HQ", "VHQ"])
def test_resampling_keeps_a_tone_and_its_length(quality: str) -> None:
    got = resample(tone(48000, 1000), 48000, 16000, quality)
    assert len(got) == 16000
    middle = slice(2000, -2000)
    np.testing.assert_allclose(got[middle], tone(16000, 1000)[middle], atol=1e-3)


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    got = resample(tone(48000, 11000), 48000, 16000)
    assert np.abs(got[2000:-2000]).max() < 1e-3


def test_channels_are_averaged_or_the_first_is_taken(tmp_path: Path) -> None:
    stereo = np.stack([tone(16000, 300), tone(16000, 500)], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "s.wav", 16000), stereo.mean(axis=1), atol=1e-7)
    np.testing.assert_array_equal(read_audio(tmp_path / "s.wav", 16000, channel="first"), stereo[:, 0])


def make_missing(path: Path) -> None:
    path.unlink()


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_foreign(path: Path) -> None:
    path.write_bytes(b"this is not sound " * 20)


def make_without_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), 16000)


def make_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def make_not_finite(path: Path) -> None:
    sound = tone(16000, 440)
    sound[77] = np.nan
    soundfile.write(path, sound, 16000, format="WAV", subtype="FLOAT")


def make_silent(path: Path) -> None:
    soundfile.write(path, np.zeros(16000), 16000)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (make_missing, "no such file"),
        (make_empty, "empty"),
        (make_foreign, "not a sound file"),
        (make_without_samples, "no samples|empty"),
        (make_cut, "cut short"),
        (make_not_finite, "not finite"),
        (make_silent, "silent"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, suffix: str, damage, says: str) -> None:
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 16000), 16000, subtype="PCM_16")
    read_audio(path, 16000)  # sound before the damage
    damage(path)
    with pytest.raises(DataError, match=says) as caught:
        read_audio(path, 16000)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_wav_written_to_a_pipe_is_not_taken_for_a_cut_one(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, tone(16000, 440), 16000, subtype="PCM_16")
    raw = bytearray(path.read_bytes())
    raw[40:44] = b"\xff\xff\xff\xff"  # the length a writer that streams leaves in the data chunk
    path.write_bytes(raw)
    assert len(read_audio(path, 16000)) == 16000
