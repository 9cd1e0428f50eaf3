"""PESQ by the `pesq` package, fenced: what it would crash on or misjudge is refused first.

The C code keeps at most 50 utterances in fixed arrays and does not check the bound while it finds them: more corrupt
its memory, which shows as a segmentation fault or, worse, as a wrong score (24 s of short bursts: 2.86 for 2.38). An
utterance lasts at least 0.2 s and pauses up to 0.2 s are joined, so that 20 s cannot hold more than 50.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from earshot.pipeline.metrics.base import Signals, UnscorableError

SHORTEST_SECONDS = 0.25
LONGEST_SECONDS = 20.0


@lru_cache(maxsize=1)  # the composite measures of the same clip ask again
def pesq_wb(signals: Signals) -> float:
    """Wide-band PESQ, MOS-LQO at 16 kHz. Source: ITU-T P.862.2 (2007)."""
    return _pesq(signals.at_16k, "wb")


def pesq_nb(signals: Signals) -> float:
    """Narrow-band PESQ, MOS-LQO at 8 kHz where the data is, else at 16 kHz. Source: ITU-T P.862 and P.862.1."""
    return _pesq(signals if signals.rate == 8000 else signals.at_16k, "nb")


def _pesq(signals: Signals, mode: Literal["wb", "nb"]) -> float:
    import pesq

    if signals.seconds < SHORTEST_SECONDS:
        raise UnscorableError(f"{signals.seconds:.2f} s is too short for PESQ, which needs {SHORTEST_SECONDS} s")
    if signals.seconds > LONGEST_SECONDS:
        raise UnscorableError(
            f"{signals.seconds:.1f} s is too long for PESQ: cut clips to at most {LONGEST_SECONDS:.0f} s"
        )
    try:
        return float(pesq.pesq(signals.rate, signals.clean, signals.enhanced, mode))
    except pesq.NoUtterancesError as error:
        raise UnscorableError("PESQ found no speech in the clean signal") from error
