"""Quality on the test set: by the noisy input's SNR and by part of the set."""

from __future__ import annotations

from collections.abc import Mapping

from earshot.ci.metrics import QUALITY
from earshot.ci.report.html import svg
from earshot.ci.report.html.axis import linear
from earshot.ci.report.html.page import figure, fold, grid, table, text
from earshot.ci.report.layout import clean, quality_lines, scored
from earshot.ci.run_page import RunPage
from earshot.core.measurement import Measurement

SHOWN = ("pesq_wb", "stoi", "si_sdr")  # drawn; the tables have all metrics
BinScores = Mapping[str, tuple[Measurement, ...]]
HOW = "Measured: means over clips and their 95 % confidence interval; n is the number of clips."


def parts(page: RunPage) -> list[str]:
    """Charts by SNR, and tables of all metrics; nothing where nothing was scored."""
    header, lines = quality_lines(page.run)
    metrics = [metric for metric in QUALITY if any(_mean(found, metric) for found in _bins(page))]
    drawn = [metric for metric in SHOWN if metric in metrics] or metrics[:1]
    charts = grid(_chart(page, metric) for metric in drawn)
    return [
        f'<p class="quiet">{text(HOW)}</p>' if lines or charts else "",
        charts,
        svg.key([(row, tone, "full") for tone, row in enumerate(page.by_snr)]) if charts else "",
        fold("By SNR of the noisy input, as numbers", table(("SNR", "row", *metrics), _snr_lines(page, metrics)))
        if metrics
        else "",
        fold("Every row, by part of the test set", table(header, lines)) if lines else "",
    ]


def _bins(page: RunPage) -> list[tuple[Measurement, ...]]:
    return [found for row in page.by_snr.values() for found in row.values()]


def _names(page: RunPage) -> list[str]:
    """The bins of all rows, lowest first."""
    return list(dict.fromkeys(name for row in page.by_snr.values() for name in row))


def _mean(found: tuple[Measurement, ...], metric: str) -> Measurement | None:
    return next((one for one in found if one.metric == metric and one.value is not None), None)


def _chart(page: RunPage, metric: str) -> str:
    groups = []
    unit = next(one.unit for found in _bins(page) for one in found if one.metric == metric)
    for name in _names(page):
        spans = []
        for tone, (row, bins) in enumerate(page.by_snr.items()):
            found = _mean(bins.get(name, ()), metric)
            if found is not None and found.value is not None:
                low, high = found.interval or (found.value, found.value)
                spans.append((found.n, svg.Span(row, found.value, low, high, f"{found.value:.3g}", tone)))
        if spans:
            clips = sorted({n for n, _ in spans})
            count = f"{clips[0]}" if len(clips) == 1 else f"{clips[0]} to {clips[-1]}"
            groups.append((f"{name}, n = {count}", [span for _, span in spans]))
    values = [value for _, spans in groups for span in spans for value in (span.low, span.high)]
    axis = linear(metric if unit == "1" else f"{metric} ({unit})", values, zero=False)
    return figure(svg.intervals(groups, axis), "", f"{metric} by SNR of the noisy input")


def _snr_lines(page: RunPage, metrics: list[str]) -> list[tuple[str, ...]]:
    lines = []
    for name in _names(page):
        for row, bins in page.by_snr.items():
            if name in bins:
                lines.append((name, clean(row), *(scored(_mean(bins[name], metric)) for metric in metrics)))
    return lines
