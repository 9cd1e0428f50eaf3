"""A device over SSH: the agent and the models are copied there, run side by side, and nothing stays behind."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.config import parse
from earshot.core.errors import DeviceError
from earshot.targets.agent_link import AGENT, AgentLink, RaceLink, agent_arguments, race_arguments, take_turns
from earshot.targets.base import (
    PRECISIONS,
    Availability,
    DeviceProfile,
    Kind,
    ProfileConfig,
    ProfileResult,
    read_result,
)
from earshot.targets.ssh.address import SshOptions

if TYPE_CHECKING:
    from earshot.pipeline.progress import Progress
    from earshot.targets.ssh.device import DeviceFolder

SESSIONS = 8  # OpenSSH opens 10 in one connection; two are for copying and for the folder
SETUP_SECONDS = 600.0
KNOCK_SECONDS = 2.0

Reader = Callable[[str, Mapping[str, Any], str], ProfileResult]


class SshTarget:
    """Profiles on a device that is reached over SSH.

    Args:
        name: what recipes and measurements call it.
        options: its address and how it wants to be driven.
        read: turns (variant, the agent's result, target name) into a result; the default holds for a real device,
            whose clock is its own. An emulated one brings its own reading.
        kind: class of device.
    """

    precisions = PRECISIONS
    exclusive = False

    def __init__(self, name: str, options: SshOptions, read: Reader = read_result, kind: Kind = "raspberry-pi") -> None:
        self.name, self.options, self.kind = name, options, kind
        self._read = read

    @classmethod
    def open(cls, name: str, profile: DeviceProfile) -> SshTarget:
        """The driver's entry in the registry. Raises ConfigError."""
        return cls(name, parse(SshOptions, profile.options, f"target {name}: options"), kind=profile.kind)

    def availability(self) -> Availability:
        """Ready where something answers at the address; nobody logs in."""
        if importlib.util.find_spec("asyncssh") is None:
            return Availability(False, "asyncssh is not installed", "pip install 'earshot[devices]'")
        from earshot.targets.ssh.connection import prepare
        from earshot.targets.ssh.failures import Attempt, explain

        key = self.options.key
        if key and not key.is_file():
            return Availability(False, f"its key {key} is not there", "name another key, or none to use ~/.ssh")
        try:
            settings = prepare(self.name, self.options)
            if settings.tunnel or settings.proxy_command:
                return Availability(True)  # what stands between can only be asked by logging in
            attempt = Attempt(self.name, self.options, settings.host, settings.port)
            try:
                socket.create_connection((attempt.host, attempt.port), KNOCK_SECONDS).close()
            except OSError as error:
                raise explain(error, attempt) from error
        except DeviceError as error:
            return Availability(False, error.message.removeprefix(f"{self.name}: "), error.hint or "")
        return Availability(True)

    def profile(self, models: Mapping[str, Path], config: ProfileConfig, progress: Progress) -> list[ProfileResult]:
        """Profiles every model, their repeats alternating, at most eight at once.

        Raises:
            ModelError: a model is no stream model, or the runtime refuses it.
            DeviceError: the device cannot be reached, was lost, or lacks something; says what and how to mend it.
        """
        from earshot.targets.ssh.connection import SshConnection
        from earshot.targets.ssh.device import DeviceFolder, find_python

        variants = list(models)
        rounds = [variants[start : start + SESSIONS] for start in range(0, len(variants), SESSIONS)]
        found: dict[str, dict[str, Any]] = {}
        progress.start(f"profile on {self.name}", config.repeats * len(models))
        with SshConnection(self.name, self.options) as connection:
            python = find_python(connection, self.options)
            lifetime = SETUP_SECONDS + config.timeout_seconds * len(rounds)
            with DeviceFolder(connection, self.options.folder, lifetime) as folder:
                command = (python, folder.send(AGENT, AGENT.name))
                for round_ in rounds:
                    agents = self._agents(folder, command, {variant: models[variant] for variant in round_}, config)
                    found |= take_turns(agents, config.repeats, progress)
            for raw in found.values():  # a board that cannot tell itself from its like is told by its key
                raw["environment"]["device"] = raw["environment"].get("device") or connection.host_key
        progress.finish()
        return [self._read(variant, raw, self.name) for variant, raw in found.items()]

    @contextmanager
    def race(self, base: Path, candidate: Path, config: ProfileConfig) -> Iterator[RaceLink]:
        """Runs two models by turns in one process there. Raises as `profile`."""
        from earshot.targets.ssh.connection import Deadline, SshConnection
        from earshot.targets.ssh.device import DeviceFolder, find_python

        core = self.options.core if config.core is None else config.core
        late = f"{self.name}: the race took longer than {config.timeout_seconds:g} s"
        with SshConnection(self.name, self.options) as connection:
            python = find_python(connection, self.options)
            with DeviceFolder(connection, self.options.folder, SETUP_SECONDS + config.timeout_seconds) as folder:
                agent = folder.send(AGENT, AGENT.name)
                sent = [folder.send_model(path, name) for path, name in ((base, "base"), (candidate, "candidate"))]
                deadline = Deadline(config.timeout_seconds, late, "raise timeout_seconds")
                command = (python, agent, *race_arguments(sent[0], sent[1], config, core))
                channel = folder.start(*command, deadline=deadline)
                named = {sent[0]: str(base), sent[1]: str(candidate)}
                yield RaceLink(AgentLink(f"{base} and {candidate}", channel, self.name, named))

    def _agents(
        self, folder: DeviceFolder, command: tuple[str, str], models: Mapping[str, Path], config: ProfileConfig
    ) -> dict[str, AgentLink]:
        """Copies the models and starts an agent for each; they wait for their first turn."""
        from earshot.targets.ssh.connection import Deadline

        core = self.options.core if config.core is None else config.core
        sent = {
            variant: folder.send_model(path, f"model{index}") for index, (variant, path) in enumerate(models.items())
        }
        late = f"{self.name}: profiling took longer than {config.timeout_seconds:g} s"
        deadline = Deadline(config.timeout_seconds, late, "raise timeout_seconds")
        return {
            variant: AgentLink(
                str(path),
                folder.start(*command, *agent_arguments(sent[variant], config, core), deadline=deadline),
                self.name,
                {sent[variant]: str(path)},
            )
            for variant, path in models.items()
        }
