"""What a metric is: a function of a clean and an enhanced signal, with its unit, direction and protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata

import numpy as np


class UnscorableError(Exception):
    """This clip cannot be scored; the text says why. It is counted and named, and never becomes a number."""


@dataclass(frozen=True, eq=False)
class Signals:
    """A clean signal and its enhanced form, aligned and of equal length.

    Attributes:
        clean: float64 `[samples]`.
        enhanced: float64 `[samples]`.
        rate: Hz.
    """

    clean: np.ndarray
    enhanced: np.ndarray
    rate: int

    @classmethod
    def checked(cls, clean: np.ndarray, enhanced: np.ndarray, rate: int) -> Signals:
        """Refuses what the metric libraries would crash on or turn into a meaningless number.

        Raises:
            UnscorableError: unequal lengths, an empty signal, NaN or infinity, silence.
        """
        pair = {"clean": np.asarray(clean, np.float64), "enhanced": np.asarray(enhanced, np.float64)}
        for name, signal in pair.items():
            if signal.ndim != 1 or signal.size == 0:
                raise UnscorableError(f"the {name} signal has shape {signal.shape}, one channel with samples is needed")
            if not np.isfinite(signal).all():
                raise UnscorableError(f"the {name} signal holds NaN or infinity")
            if not signal.any():
                raise UnscorableError(f"the {name} signal is silent")
        if pair["clean"].size != pair["enhanced"].size:
            raise UnscorableError(
                f"unequal lengths: clean {pair['clean'].size}, enhanced {pair['enhanced'].size} samples"
            )
        return cls(**pair, rate=rate)

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.clean.size / self.rate

    @cached_property
    def at_16k(self) -> Signals:
        """The same signals at 16 kHz (soxr, VHQ); themselves when they are at 16 kHz already."""
        if self.rate == 16000:
            return self
        import soxr

        clean, enhanced = (soxr.resample(x, self.rate, 16000, "VHQ") for x in (self.clean, self.enhanced))
        return Signals(clean, enhanced, 16000)


@dataclass(frozen=True)
class Metric:
    """One quality metric.

    Attributes:
        name: as in recipes and reports.
        unit: `MOS`, `dB`, `1` for an index.
        higher_is_better: the direction.
        protocol: mode, rate and limits; part of what makes two numbers comparable.
        score: `Signals` -> number; raises UnscorableError, and may raise, hang or crash as it likes: it runs apart.
        library: package whose version belongs to the protocol.
        minimum_rate: data below this rate in Hz is refused.
    """

    name: str
    unit: str
    higher_is_better: bool
    protocol: str
    score: Callable[[Signals], float]
    library: str | None = None
    minimum_rate: int = 0

    def describe(self) -> str:
        """The protocol with the library's version, e.g. `pesq 0.0.4: ITU-T P.862.2 wide band, ...`."""
        if self.library is None:
            return self.protocol
        return f"{self.library} {metadata.version(self.library)}: {self.protocol}"
