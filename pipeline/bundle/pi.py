"""For a Raspberry Pi, or any Linux with Python: the agent that earshot measures with, and a program around it."""

from __future__ import annotations

from pathlib import Path

from earshot.pipeline.bundle.part import Entry, Part, template
from earshot.pipeline.shipped import Shipped
from earshot.quantize.metadata import read_description
from earshot.targets import agent

# Pythons of boards are older than the one that made the model: what it was made with is tested, not demanded.
_LEAST = {"numpy": "1.26", "ai-edge-litert": "2.0"}


def pi_part(shipped: Shipped, model: str) -> Part:
    """Files for Linux boards.

    Args:
        shipped: the model.
        model: its path in the bundle.
    """
    frontend = read_description(shipped.model).frontend
    versions = shipped.artifact.manifest.versions
    made_with = {name: versions[name] for name in _LEAST if name in versions}
    needed = "".join(
        f"{name}>={least}" + (f"  # made with {made_with[name]}\n" if name in made_with else "\n")
        for name, least in _LEAST.items()
    )
    return Part(
        files={
            "example/enhance.py": Entry(
                template("raspberry-pi/enhance.py", {"MODEL": model}).encode(), "enhances a file, or live sound"
            ),
            "example/agent.py": Entry(Path(agent.__file__).read_bytes(), "streaming enhancer and profiler, one file"),
            "example/requirements.txt": Entry(needed.encode(), "what to install on the board"),
        },
        usage=template(
            "raspberry-pi/usage.md",
            {"RATE": frontend.rate, "HOP": frontend.hop, "DELAY": frontend.delay_samples, "MODEL": model},
        ),
        runtime=made_with,
        untried=("Live sound: the tests hand hops to the sound device's callback; no device was there to call it.",),
    )
