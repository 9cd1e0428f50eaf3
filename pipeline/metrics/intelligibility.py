"""STOI and ESTOI from one analysis: resampling, silence removal and bands by `pystoi`'s own functions, computed once.

The results equal `pystoi.stoi` (a test holds both to 1e-9); the correlations are written without its diagonal matrices.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from earshot.pipeline.metrics.base import Signals, UnscorableError


def stoi(signals: Signals) -> float:
    """Short-time objective intelligibility, an index up to 1.

    Source: Taal, Hendriks, Heusdens, Jensen, "An algorithm for intelligibility prediction of time-frequency weighted
    noisy speech", IEEE TASLP 19(7), 2011.
    """
    from pystoi.stoi import BETA

    clean, enhanced = _segments(signals.at_16k)
    scale = _norm(clean, 2) / (_norm(enhanced, 2) + _EPSILON)
    limited = np.minimum(enhanced * scale, clean * (1 + 10 ** (-BETA / 20)))
    return float(np.mean(np.sum(_unit(_centred(limited, 2), 2) * _unit(_centred(clean, 2), 2), axis=2)))


def estoi(signals: Signals) -> float:
    """Extended STOI, for noise that varies in time, an index up to 1.

    Source: Jensen, Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise maskers",
    IEEE/ACM TASLP 24(11), 2016.
    """
    clean, enhanced = (_unit(_centred(_unit(_centred(x, 2), 2), 1), 1) for x in _segments(signals.at_16k))
    return float(np.sum(clean * enhanced) / clean.shape[2] / clean.shape[0])


@lru_cache(maxsize=1)
def _segments(signals: Signals) -> tuple[np.ndarray, np.ndarray]:
    """Third-octave envelopes of clean and enhanced in sliding windows of 384 ms: `[windows, bands, frames]` each."""
    from pystoi import utils
    from pystoi.stoi import DYN_RANGE, FS, N_FRAME, NFFT, OBM, N

    clean, enhanced = (utils.resample_oct(x, FS, signals.rate) for x in (signals.clean, signals.enhanced))
    if clean.size <= N_FRAME:
        raise UnscorableError(f"{signals.seconds:.2f} s is too short for STOI")
    clean, enhanced = utils.remove_silent_frames(clean, enhanced, DYN_RANGE, N_FRAME, N_FRAME // 2)
    bands = [np.sqrt(OBM @ np.square(np.abs(utils.stft(x, N_FRAME, NFFT, overlap=2).T))) for x in (clean, enhanced)]
    if bands[0].shape[1] < N:
        raise UnscorableError("too little speech for STOI: fewer than 30 frames (384 ms) stay after silence is removed")
    windows = [np.lib.stride_tricks.sliding_window_view(x, N, axis=1).swapaxes(0, 1) for x in bands]
    return windows[0], windows[1]


_EPSILON = np.finfo(float).eps


def _norm(x: np.ndarray, axis: int) -> np.ndarray:
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=True))


def _centred(x: np.ndarray, axis: int) -> np.ndarray:
    return x - np.mean(x, axis=axis, keepdims=True)


def _unit(x: np.ndarray, axis: int) -> np.ndarray:
    return x / (_norm(x, axis) + _EPSILON)
