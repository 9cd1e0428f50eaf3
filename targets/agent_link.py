"""What every target that runs the device agent shares: its command line, its events, its refusals and its endings.

    Target ── AgentLink ── Channel ══ agent.py          one link a model; repeats of several models alternate

A `Channel` is the way to a running agent: a pipe, an SSH session, a container's attached streams.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from earshot.core.errors import DeviceError, EarshotError, ModelError
from earshot.targets.base import ProfileConfig

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress

AGENT = Path(__file__).with_name("agent.py")
LAST_CORE = "last"


@dataclass(frozen=True)
class Ending:
    """How an agent ended.

    Attributes:
        code: exit code; None when a signal ended it.
        signal: the signal's name without SIG, e.g. `KILL`; empty when it exited.
        words: what it wrote on standard error.
    """

    code: int | None
    signal: str = ""
    words: str = ""

    @classmethod
    def of_process(cls, code: int, words: str = "") -> Ending:
        """From a code as `subprocess` gives it: minus the number of a signal."""
        if code >= 0:
            return cls(code, words=words)
        known = -code in set(signal.Signals)
        return cls(None, signal.Signals(-code).name.removeprefix("SIG") if known else str(-code), words)


class Channel(Protocol):
    """The way to a running agent. Every method may raise DeviceError: the way is cut, or its time is up."""

    def readline(self) -> str:
        """The next line of its standard output; empty once it has ended."""

    def write(self, text: str) -> None:
        """Text for its standard input; lost without an error when it has ended."""

    def ending(self) -> Ending:
        """Waits for its end."""


class AgentLink:
    """One running agent, its events read in turn.

    Args:
        model: the model's file, as the user named it.
        channel: the way to the agent.
        device: name that begins every message; empty where it is this machine.
        named: a model's file as the agent was given it -> as the user named it, where that is another.
    """

    def __init__(self, model: str, channel: Channel, device: str = "", named: Mapping[str, str] | None = None) -> None:
        self._model, self._channel = model, channel
        self._device, self._named = f"{device}: " if device else "", named or {}

    def go_on(self) -> None:
        """Lets the agent run its next repeat."""
        self._channel.write("\n")

    def expect(self, name: str) -> dict[str, Any]:
        """The next event called `name`.

        Raises:
            ModelError: the agent refused the model.
            DeviceError: it ended, crashed or took too long.
        """
        while line := self._channel.readline():
            event = _parse(line)
            if event.get("event") == name:
                return event
            if event.get("event") == "error":
                raise self._refusal(event)
        raise self._death()

    def finish(self) -> None:
        """Waits until it has ended. Raises DeviceError: the way is cut, or its time is up."""
        self._channel.ending()

    def _refusal(self, event: Mapping[str, Any]) -> EarshotError:
        refused = self._channel.ending().code == ModelError.exit_code
        message = self._device + _renamed(event["message"], self._named)
        return (ModelError if refused else DeviceError)(message, event.get("hint"))

    def _death(self) -> DeviceError:
        ending = self._channel.ending()
        last = ending.words.strip().splitlines()[-1:]
        how = f"was killed by signal {ending.signal}" if ending.signal else f"ended with code {ending.code}"
        hint = "out of memory? profile fewer models at once" if ending.signal == "KILL" else None
        return DeviceError(f"{self._device}{self._model}: the agent {how}" + (f" ({last[0]})" if last else ""), hint)


class RaceLink:
    """A race of two models on a device, round by round; `environment` says what it holds for."""

    def __init__(self, link: AgentLink) -> None:
        self._link = link
        self.environment: Mapping[str, Any] = link.expect("start")["environment"]

    def round(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The figures of base and candidate in one more round, by metric. Raises as `AgentLink.expect`."""
        self._link.go_on()
        base, candidate = self._link.expect("round")["models"]
        return base, candidate


def race_arguments(base: str, candidate: str, config: ProfileConfig, core: int | None) -> list[str]:
    """Arguments of agent.py for a race; core as in `agent_arguments`."""
    arguments = ["race", base, candidate, "--core", LAST_CORE if core is None else str(core)]
    arguments += ["--threads", str(config.threads)]
    return arguments if config.delegate else [*arguments, "--no-delegate"]


def agent_arguments(model: str, config: ProfileConfig, core: int | None) -> list[str]:
    """Arguments of agent.py, for a paced profile of one model; core None pins to the last it may use, one a thread."""
    arguments = ["profile", model, "--paced", "--core", LAST_CORE if core is None else str(core)]
    for option in ("frames", "repeats", "warmup", "threads"):
        arguments += [f"--{option}", str(getattr(config, option))]
    return arguments if config.delegate else [*arguments, "--no-delegate"]


def take_turns(agents: Mapping[str, AgentLink], repeats: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """Runs all repeats, A B A B, so that a machine that slows down slows all models alike.

    Returns:
        The result of every variant, in order. `progress` has been started with `repeats * len(agents)` steps.

    Raises:
        ModelError, DeviceError: as `AgentLink.expect`.
    """
    for agent in agents.values():
        agent.expect("start")
    for _ in range(repeats):
        for variant, agent in agents.items():
            agent.go_on()
            repeat = agent.expect("repeat")
            progress.advance(note=f"{variant} {repeat['graph_us']['p50']:.1f} us")
    results = {variant: agent.expect("result") for variant, agent in agents.items()}
    for agent in agents.values():
        agent.finish()
    return results


def _renamed(message: str, named: Mapping[str, str]) -> str:
    """The agent's message with the user's names of the models and of the descriptions beside them."""
    names: dict[str, str] = {}
    for there, here in named.items():
        described = Path(there).with_suffix(".json"), Path(here).with_suffix(".json")
        names |= {there: here, str(described[0]): str(described[1]), described[0].name: described[1].name}
    if not names:
        return message
    longest_first = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: names[found[0]], message)


def _parse(line: str) -> dict[str, Any]:
    """A line of the agent; runtimes may write lines of their own between."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
