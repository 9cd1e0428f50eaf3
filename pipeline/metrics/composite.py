"""The composite measures CSIG, CBAK and COVL: what listeners would say of the speech, of the noise left, and of both.

    CSIG = 3.093 - 1.029 LLR + 0.603 PESQ - 0.009 WSS
    CBAK = 1.634 + 0.063 segSNR + 0.478 PESQ - 0.007 WSS
    COVL = 1.594 - 0.512 LLR + 0.805 PESQ - 0.007 WSS          each limited to 1 ... 5

As papers on VoiceBank-DEMAND report them: constants, windows and means of Loizou's `composite.m` with wide-band PESQ
(MOS-LQO of P.862.2) in the place of the raw narrow-band score that the regression was fitted to. Frames are 30 ms every
7.5 ms at 16 kHz; the last whole frame is left out; LLR and WSS are means over the lowest 95 % of the frames.

`composite.m` adds 2e-16 to every sample, and in digital silence its LLR is what rounding makes of that constant. Here
silence has the flat spectrum of white noise, and a prediction error ends 120 dB below its frame's energy. Elsewhere the
two agree.

Source: Hu, Loizou, "Evaluation of objective quality measures for speech enhancement", IEEE TASLP 16(1), 2008;
`composite.m`: on the disc of Loizou, "Speech Enhancement: Theory and Practice", CRC Press; WSS: Klatt, "Prediction of
perceived phonetic distance from critical-band spectra: a first step", ICASSP 1982.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from earshot.pipeline.metrics.base import Signals, UnscorableError
from earshot.pipeline.metrics.perceptual import pesq_wb

_RATE = 16000
_FRAME = 480
_HOP = 120
_FFT = 1024
_ORDER = 16
_EPSILON = np.finfo(float).eps
_SILENCE = 1e-30  # energy of a silent frame: far below that of one sample at the 16th bit, 1e-9
_DEEPEST_PREDICTION = 1e-12


def csig(signals: Signals) -> float:
    """Predicted rating of the distortion of the speech, MOS 1 to 5. Raises UnscorableError, as `pesq_wb` does."""
    parts = _parts(signals)
    return _mos(3.093 - 1.029 * parts.llr + 0.603 * parts.pesq - 0.009 * parts.wss)


def cbak(signals: Signals) -> float:
    """Predicted rating of the intrusion of the background, MOS 1 to 5. Raises UnscorableError, as `pesq_wb` does."""
    parts = _parts(signals)
    return _mos(1.634 + 0.063 * parts.segmental_snr + 0.478 * parts.pesq - 0.007 * parts.wss)


def covl(signals: Signals) -> float:
    """Predicted rating of the overall quality, MOS 1 to 5. Raises UnscorableError, as `pesq_wb` does."""
    parts = _parts(signals)
    return _mos(1.594 - 0.512 * parts.llr + 0.805 * parts.pesq - 0.007 * parts.wss)


def segmental_snr(clean: np.ndarray, enhanced: np.ndarray) -> float:
    """Mean over frames of their SNR in dB, each limited to -10 ... 35. Signals float64 `[samples]` at 16 kHz."""
    signal, noise = (np.sum(np.square(_frames(x)), axis=1) for x in (clean, clean - enhanced))
    return float(np.mean(np.clip(10 * np.log10(signal / (noise + _EPSILON) + _EPSILON), -10, 35)))


def log_likelihood_ratio(clean: np.ndarray, enhanced: np.ndarray) -> float:
    """LLR: how much worse the enhanced signal's linear predictor predicts the clean signal than its own does, nat.

        LLR = ln( a_e' R_c a_e / a_c' R_c a_c )    per frame; a: predictors of order 16, R_c: of the clean signal

    Signals float64 `[samples]` at 16 kHz; 0 or more, not limited upwards.
    """
    lags = _autocorrelation(_frames(clean))
    _, smallest = _predictor(lags)
    predictor, _ = _predictor(_autocorrelation(_frames(enhanced)))
    distance = np.abs(np.subtract.outer(np.arange(_ORDER + 1), np.arange(_ORDER + 1)))
    error = np.einsum("fi,fij,fj->f", predictor, lags[:, distance], predictor)
    return _mean_of_lowest(np.log(np.maximum(error, smallest) / smallest))


def weighted_spectral_slope(clean: np.ndarray, enhanced: np.ndarray) -> float:
    """WSS: squared differences of the slopes between critical bands in dB, weighted towards spectral peaks.

    Signals float64 `[samples]` at 16 kHz, full scale 1: bands end at 1e-10.
    """
    (slope_c, weight_c), (slope_e, weight_e) = (_slopes(_frames(x)) for x in (clean, enhanced))
    weight = (weight_c + weight_e) / 2
    return _mean_of_lowest(np.sum(weight * np.square(slope_c - slope_e), axis=1) / np.sum(weight, axis=1))


@dataclass(frozen=True)
class _Parts:
    pesq: float
    llr: float
    wss: float
    segmental_snr: float


@lru_cache(maxsize=1)
def _parts(signals: Signals) -> _Parts:
    """What the three measures share, computed once a clip."""
    if signals.rate < _RATE:
        raise UnscorableError(f"CSIG, CBAK and COVL are measured at 16 kHz only, this is at {signals.rate} Hz")
    pesq = pesq_wb(signals)  # first: it refuses what is too short for one frame
    pair = signals.at_16k.clean, signals.at_16k.enhanced
    return _Parts(pesq, log_likelihood_ratio(*pair), weighted_spectral_slope(*pair), segmental_snr(*pair))


def _mos(value: float) -> float:
    return min(max(value, 1.0), 5.0)


def _frames(signal: np.ndarray) -> np.ndarray:
    """Windowed frames `[frames, 480]`, without the last whole one."""
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, _FRAME + 1) / (_FRAME + 1)))
    return np.lib.stride_tricks.sliding_window_view(signal, _FRAME)[::_HOP][:-1] * window


def _mean_of_lowest(distortions: np.ndarray) -> float:
    """Mean of the lowest 95 %, halves rounded up."""
    return float(np.mean(np.sort(distortions)[: (19 * distortions.size + 10) // 20]))


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """Lags 0 to 16, `[frames, 17]`."""
    lags = np.stack([np.sum(frames[:, : _FRAME - k] * frames[:, k:], axis=1) for k in range(_ORDER + 1)], axis=1)
    lags[:, 0] += _SILENCE
    return lags


def _predictor(lags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levinson and Durbin's recursion: prediction error filters `[frames, 17]`, led by 1, and their errors `[frames]`.

    Where rounding would make the error negative, as for a pure tone, both limits keep the filter one that is stable.
    """
    taps = np.zeros_like(lags)
    taps[:, 0] = 1
    error = lags[:, 0].copy()
    for order in range(1, _ORDER + 1):
        reflection = np.clip(np.sum(taps[:, :order] * lags[:, order:0:-1], axis=1) / error, -1, 1)
        taps[:, : order + 1] -= reflection[:, None] * taps[:, order::-1]
        error = np.maximum(error * (1 - np.square(reflection)), _DEEPEST_PREDICTION * lags[:, 0])
    return taps, error


def _slopes(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes from each critical band to the next in dB, and Klatt's weights of them: `[frames, 24]` each."""
    power = np.square(np.abs(np.fft.rfft(frames, _FFT)))[:, : _FFT // 2]
    level = 10 * np.log10(np.maximum(power @ _critical_bands().T, 1e-10))
    slope = np.diff(level)
    band = np.arange(slope.shape[1])
    # Uphill the peak is looked for to the right, and found one band short of the top, as `composite.m` has it.
    top = np.minimum.accumulate(np.where(slope > 0, band.size, band)[:, ::-1], axis=1)[:, ::-1] - 1
    summit = np.maximum.accumulate(np.where(slope > 0, band, -1), axis=1) + 1
    peak = np.take_along_axis(level, np.where(slope > 0, top, summit), axis=1)
    below_maximum = np.max(level, axis=1, keepdims=True) - level[:, :-1]
    return slope, 20 / (20 + below_maximum) / (1 + peak - level[:, :-1])


# Critical bands of WSS, Hz, below 540 Hz linear.
_CENTRES = (
    *(50.0, 120.0, 190.0, 260.0, 330.0, 400.0, 470.0, 540.0, 617.372, 703.378, 798.717, 904.128, 1020.38),
    *(1148.30, 1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63),
)
_WIDTHS = (
    *(70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914),
    *(140.423, 153.823, 168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136),
)


@cache
def _critical_bands() -> np.ndarray:
    """Gaussian filters over the spectrum's bins, nearly of equal sums, without their tails: `[25, 512]`."""
    bins_per_hz = _FFT / _RATE
    centres = np.floor(np.array(_CENTRES) * bins_per_hz)[:, None]
    widths = np.array(_WIDTHS)[:, None]
    filters = widths[0] / widths * np.exp(-11 * np.square((np.arange(_FFT // 2) - centres) / (widths * bins_per_hz)))
    return np.where(filters > np.exp(-30 / (2 * 2.303)), filters, 0)
