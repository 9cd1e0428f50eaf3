"""Clips to look at and listen to: a spectrogram and a player of every version."""

from __future__ import annotations

import base64

from earshot.ci.quantity import quantity
from earshot.ci.report.html import svg
from earshot.ci.report.html.axis import Axis
from earshot.ci.report.html.page import text
from earshot.ci.run_page import ClipSounds, Listening, Version

NAMES = {"noisy": "Noisy, as it came in", "clean": "Clean, as it should be"}


def parts(listening: Listening) -> list[str]:
    """The clips, which data they are from, and what is missing."""
    source = f"Sound from {listening.source}." if listening.clips and listening.source else ""
    how = (
        "Enhanced by the run's own files, frame by frame, from their first frame on. 16 bit, levels as they are. "
        "Brightness is level in dB, where a full-scale sine is 0; one scale for all versions of a clip."
    )
    return [
        *(f'<p class="quiet">{text(reason)}</p>' for reason in listening.missing),
        f'<p class="quiet">{text(f"{source} {how}")}</p>' if listening.clips else "",
        *(_clip(clip, listening) for clip in listening.clips),
    ]


def _clip(clip: ClipSounds, listening: Listening) -> str:
    cut = f", the first {clip.seconds:.1f} of {clip.whole_seconds:.1f} s" if clip.seconds < clip.whole_seconds else ""
    snr = f", {clip.snr_db:g} dB SNR" if clip.snr_db is not None else ""
    about = f"{clip.group}{snr}{cut or f', {clip.seconds:.1f} s'}; {clip.why}"
    versions = "\n".join(_version(clip, version, listening) for version in clip.versions)
    low, high = clip.decibels
    scale = svg.colours(_uri("image/png", listening.scale), Axis("dB", low, high))
    return (
        f'<article class="clip">\n<h3>{text(clip.id)}</h3>\n<p class="quiet">{text(about)}</p>\n'
        f'<div class="versions">\n{versions}\n</div>\n<div class="colours">{scale}</div>\n</article>'
    )


def _version(clip: ClipSounds, version: Version, listening: Listening) -> str:
    name = NAMES.get(version.name, version.name)
    scored = version.score is not None
    score = f"{listening.metric} {quantity(round(version.score or 0.0, 3), listening.unit)}" if scored else ""
    label = f"spectrogram of {clip.id}, {name}"
    seconds, kilohertz = Axis("s", 0, clip.seconds), Axis("kHz", 0, clip.rate / 2000)
    drawing = svg.picture(_uri("image/png", version.picture), seconds, kilohertz, text(label))
    clipped = f"{version.clipped} samples were beyond full scale and are cut off" if version.clipped else ""
    caption = f'<figcaption class="warn">{text(clipped)}</figcaption>' if clipped else ""
    return (
        f'<figure>\n<h4>{text(name)} <span class="quiet">{text(score)}</span></h4>\n{drawing}\n'
        f'<audio controls preload="metadata" aria-label="{text(f"{clip.id}, {name}")}" '
        f'src="{_uri("audio/flac", version.sound)}"></audio>\n{caption}</figure>'
    )


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
