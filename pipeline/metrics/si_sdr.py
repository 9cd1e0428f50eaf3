"""Scale-invariant signal-to-distortion ratio."""

from __future__ import annotations

import math

import numpy as np

from earshot.pipeline.metrics.base import Signals, UnscorableError


def si_sdr(signals: Signals) -> float:
    """SI-SDR in dB, at the data's own rate, means left in.

        target = (<enhanced, clean> / <clean, clean>) clean
        SI-SDR = 10 log10( ||target||² / ||enhanced - target||² )

    Source: Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019.

    Raises:
        UnscorableError: infinite, as the enhanced signal is a scaled copy of the clean one or orthogonal to it.
    """
    clean, enhanced = signals.clean, signals.enhanced
    target = (np.dot(enhanced, clean) / np.dot(clean, clean)) * clean
    distortion = enhanced - target
    signal_power, distortion_power = float(np.dot(target, target)), float(np.dot(distortion, distortion))
    if distortion_power == 0:
        raise UnscorableError("SI-SDR is infinite: the enhanced signal is a scaled copy of the clean one")
    if signal_power == 0:
        raise UnscorableError("SI-SDR is minus infinity: the enhanced signal holds nothing of the clean one")
    return 10 * math.log10(signal_power / distortion_power)
