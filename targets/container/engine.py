"""A container engine that speaks Docker's API; what it refuses comes as DeviceError with the fix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from earshot.core.errors import DeviceError

ANSWER = 60.0  # seconds for one answer of the engine
BUILD = 600.0
INSTALL = "pip install 'earshot[docker]'"
START = "sudo systemctl start docker  (to install it: sudo apt-get install docker.io)"
EMULATE = "sudo apt-get install qemu-user-static binfmt-support"
REFUSED = "mend the option it names (cpuset, cpus, memory_bytes, image); its log says more: journalctl -u docker"
ARM64 = ("arm64", "aarch64")
PLATFORM = "linux/arm64"


class Engine:
    """One engine.

    Args:
        url: where it listens, e.g. `unix:///run/docker.sock` or `tcp://pi:2376`; None takes DOCKER_HOST or the
            usual socket, as the docker command does.
        seconds: how long an answer may take.
    """

    def __init__(self, url: str | None = None, seconds: float = ANSWER) -> None:
        self.url = url or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._seconds = seconds

    @cached_property
    def api(self) -> Any:
        """Docker's low-level client, connected. Raises DeviceError."""
        docker = _sdk()
        with self.asked():
            settings = docker.utils.kwargs_from_env() if self.url == os.environ.get("DOCKER_HOST") else {}
            return docker.APIClient(**{"base_url": self.url, **settings}, version="auto", timeout=self._seconds)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around every question to the engine. Raises DeviceError for all that can go wrong with it."""
        docker = _sdk()
        import requests

        try:
            yield
        except docker.errors.APIError as error:
            raise DeviceError(f"the container engine refused: {_line(error.explanation or error)}", REFUSED) from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise self._unreachable(str(error)) from error

    def architecture(self) -> str:
        """The engine's own, e.g. `amd64`. Raises DeviceError."""
        with self.asked():
            return str(self.api.version()["Arch"])

    def version(self) -> str:
        """The engine's version. Raises DeviceError."""
        with self.asked():
            return str(self.api.version()["Version"])

    def image(self, reference: str) -> Mapping[str, Any] | None:
        """What the engine knows of an image, None where it has none of that name. Raises DeviceError."""
        docker = _sdk()
        with self.asked():
            try:
                found: Mapping[str, Any] = self.api.inspect_image(reference)
            except docker.errors.ImageNotFound:
                return None
        return found

    def build(self, folder: Path, tag: str, network: str | None, arguments: Mapping[str, str] | None = None) -> None:
        """Builds an arm64 image from the folder's Dockerfile.

        Args:
            folder: the context.
            tag: the image's name.
            network: network of the build's own commands; None takes the engine's default.
            arguments: values of the Dockerfile's ARGs.

        Raises:
            DeviceError: the build failed; the message holds its last words.
        """
        said = ""
        with self.asked():
            for event in self.api.build(
                path=str(folder),
                tag=tag,
                platform=PLATFORM,
                network_mode=network,
                buildargs=dict(arguments or {}),
                rm=True,
                forcerm=True,
                decode=True,
                timeout=BUILD,
            ):
                said = str(event.get("stream", "")).strip() or said
                if "error" in event:
                    raise DeviceError(*_build_failure(tag, str(event["error"]), said))

    def remove(self, container: str) -> None:
        """Removes a container, running or not, and waits until it is gone; one that is gone already is no error."""
        import docker
        import requests

        with suppress(docker.errors.DockerException, requests.RequestException, OSError):
            try:
                self.api.remove_container(container, force=True, v=True)
            except docker.errors.APIError:  # the engine may be at it itself
                self.api.wait(container, timeout=self._seconds, condition="removed")

    def kill(self, container: str) -> None:
        """Kills a container; one that is gone already is no error."""
        import docker
        import requests

        with suppress(docker.errors.DockerException, requests.RequestException, OSError):
            self.api.kill(container)

    def _unreachable(self, why: str) -> DeviceError:
        if "Permission denied" in why or "PermissionError" in why:
            hint = "sudo usermod -aG docker $USER, then log in again"
            return DeviceError(f"the container engine at {self.url} lets this user not in", hint)
        if "timed out" in why or "Timeout" in why:
            return DeviceError(f"the container engine at {self.url} does not answer", "restart it")
        silent = "FileNotFoundError" in why or "refused" in why
        reason = "nothing listens there" if silent else _line(why)
        return DeviceError(f"no container engine answers at {self.url} ({reason})", START)


def _sdk() -> Any:
    """The Docker SDK. Raises DeviceError where it is not installed."""
    try:
        import docker
    except ModuleNotFoundError as error:
        raise DeviceError("the Docker SDK for Python is not installed", INSTALL) from error
    return docker


def _build_failure(tag: str, error: str, said: str) -> tuple[str, str]:
    if cannot_execute(error + said):
        return f"{tag}: this engine cannot run arm64 programs", EMULATE
    hint = "check the engine's network; without one, leave out the option base to build from a local root file system"
    return f"{tag} could not be built: {_line(error)}" + (f" ({_line(said)})" if said else ""), hint


def cannot_execute(words: str) -> bool:
    """Whether an engine says that it has no way to run programs of this architecture."""
    return "exec format error" in words.lower()


def _line(value: object) -> str:
    return " ".join(str(value).split())[:300]
