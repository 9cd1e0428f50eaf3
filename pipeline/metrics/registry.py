"""The metrics by name; a user's own by `package.module:NAME`, naming a `Metric`."""

from __future__ import annotations

import difflib
import importlib

from earshot.core.errors import UsageError
from earshot.pipeline.metrics.base import Metric
from earshot.pipeline.metrics.composite import cbak, covl, csig
from earshot.pipeline.metrics.intelligibility import estoi, stoi
from earshot.pipeline.metrics.perceptual import LONGEST_SECONDS, pesq_nb, pesq_wb
from earshot.pipeline.metrics.si_sdr import si_sdr

_PESQ_LENGTH = f"clips of 0.25 to {LONGEST_SECONDS:.0f} s"
_TO_16K = "other rates by soxr VHQ to 16 kHz"
_COMPOSITE = f"Hu and Loizou 2008 as in composite.m, with wide-band PESQ, at 16 kHz, {_TO_16K}, {_PESQ_LENGTH}"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "pesq_wb",
            "MOS",
            True,
            f"ITU-T P.862.2 wide band at 16 kHz, {_TO_16K}, {_PESQ_LENGTH}",
            pesq_wb,
            library="pesq",
            minimum_rate=16000,
        ),
        Metric(
            "pesq_nb",
            "MOS",
            True,
            f"ITU-T P.862.1 narrow band at 8 or 16 kHz, {_TO_16K}, {_PESQ_LENGTH}",
            pesq_nb,
            library="pesq",
            minimum_rate=8000,
        ),
        Metric("stoi", "1", True, f"STOI, {_TO_16K}, then 10 kHz", stoi, library="pystoi", minimum_rate=8000),
        Metric(
            "estoi", "1", True, f"extended STOI, {_TO_16K}, then 10 kHz", estoi, library="pystoi", minimum_rate=8000
        ),
        Metric("csig", "MOS", True, f"CSIG, {_COMPOSITE}", csig, library="pesq", minimum_rate=16000),
        Metric("cbak", "MOS", True, f"CBAK, {_COMPOSITE}", cbak, library="pesq", minimum_rate=16000),
        Metric("covl", "MOS", True, f"COVL, {_COMPOSITE}", covl, library="pesq", minimum_rate=16000),
        Metric("si_sdr", "dB", True, "SI-SDR (Le Roux et al. 2019), native rate, means left in", si_sdr),
    )
}


def resolve(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: no such metric, or the module or attribute is absent or not a `Metric`.
    """
    if name in METRICS:
        return METRICS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(METRICS)}, or package.module:NAME"
        raise UsageError(f"unknown metric '{name}'", hint)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"metric '{name}': {error}", "the module must be importable from where earshot runs"
        ) from error
    if not isinstance(found, Metric):
        raise UsageError(f"metric '{name}' is a {type(found).__name__}, not an earshot Metric")
    return found
