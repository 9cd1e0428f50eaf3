"""Why budgets were missed, as parts of an HTML page: sentences, waterfall, worst clips, dearest parts, layers."""

from __future__ import annotations

from earshot.ci.explanation import Costs, Explanation, Finding, Layers, WorstClips
from earshot.ci.quantity import quantity
from earshot.ci.report.explanation import CLIP_HEADER, LAYER_HEADER, LAYER_NUMBERS, clip_cells, layer_cells, layer_notes
from earshot.ci.report.html import page, svg
from earshot.ci.report.html.waterfall import draw

NUMBERS_OF_CLIPS = (2, 3, 4)


def parts(explanation: Explanation) -> list[str]:
    """One part a finding, and one for the layers; no part where there is nothing to say."""
    found = [_finding(finding) for finding in explanation.findings]
    if explanation.layers is not None:
        found.append(_layers(explanation.layers))
    found += [f'<p class="quiet">{page.text(one)}</p>' for one in explanation.missing]
    return [part for part in found if part]


def sentences(finding: Finding) -> list[str]:
    """Why a budget was missed, in words, and what could not be looked at."""
    said = [f"<p>{page.text(f'{one[:1].upper()}{one[1:]}.')}</p>" for one in finding.sentences]
    return [*said, *(f'<p class="quiet">{page.text(one)}</p>' for one in finding.missing)]


def details(finding: Finding) -> list[str]:
    """Why, in pictures: waterfall, dearest parts, worst clips."""
    drawings = []
    if finding.waterfall is not None:
        fall = finding.waterfall
        words = "lost, green gained" if fall.higher_is_better else "grew, green shrank"
        caption = f"Each bar is what a step changed; red {words}." + (
            f" Open circles: {fall.baseline}." if fall.baseline else ""
        )
        drawings.append(
            page.figure(
                draw(fall, finding.limit),
                caption,
                f"Where {fall.metric} {'was lost' if fall.higher_is_better else 'came from'}",
            )
        )
    if finding.costs is not None:
        drawings.append(_costs(finding.costs))
    clips = [_clips(finding.clips)] if finding.clips is not None and finding.clips.clips else []
    return [*([page.grid(drawings)] if drawings else []), *clips]


def _finding(finding: Finding) -> str:
    body = [*sentences(finding), *details(finding)]
    if not body:
        return ""
    return f'<div class="panel">\n<h3>{page.text(finding.budget)}</h3>\n' + "\n".join(body) + "\n</div>"


def _clips(clips: WorstClips) -> str:
    title = f"Clips that lost most against {clips.against}"
    rows = [clip_cells(clips, one) for one in clips.clips]
    return page.fold(title, page.table(CLIP_HEADER, rows, NUMBERS_OF_CLIPS))


def _costs(costs: Costs) -> str:
    items = [
        svg.Item(
            f"{part.name}  {part.location}".strip(),
            part.value,
            f"{100 * part.share:.1f} %  {quantity(part.value, costs.unit)}"
            + (f"  {part.placement}" if part.placement else ""),
        )
        for part in costs.parts
    ]
    title = "Dearest operators" if costs.what == "operators" else "Parts of the memory"
    caption = f"{len(costs.parts)} of {costs.count}, {costs.row} on {costs.target}."
    return page.figure(svg.bars(items), f"{caption} {costs.remark}".strip(), title)


def _layers(layers: Layers) -> str:
    table = page.table(LAYER_HEADER, [layer_cells(one) for one in layers.layers], LAYER_NUMBERS)
    notes = [f'<p class="quiet">{page.text(note)}</p>' for note in layer_notes(layers)]
    heading = f"<h3>{page.text(f'Layers of {layers.row}: what rounding costs, what 16 bits gain')}</h3>"
    return "\n".join(['<div class="panel">', heading, table, *notes, "</div>"])
