"""One SSH connection for ordinary code: asyncssh runs in a thread of its own, and every call here waits for it."""

from __future__ import annotations

import asyncio
import shlex
import threading
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import asyncssh

from earshot.core.errors import DeviceError
from earshot.targets.agent_link import Ending
from earshot.targets.ssh.address import SshOptions
from earshot.targets.ssh.failures import DEFAULT_PORT, Attempt, explain, vanished

SIGNS_MISSED = 3
FAREWELL_SECONDS = 5.0
NOTHING_KNOWN = b"# no host keys\n"
# Kinds that are known come first; the others are let in so that a changed key is met, and named, as one.
HOST_KEYS = "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Output:
    """What a command on the device left."""

    ending: Ending
    text: str


class Deadline:
    """A time by which something has to be done. `message` and `hint` say what was late."""

    def __init__(self, seconds: float, message: str, hint: str | None = None) -> None:
        self._end = time.monotonic() + seconds
        self.late = DeviceError(message, hint)

    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._end - time.monotonic())


class SshConnection:
    """A login on a device; commands run in it side by side."""

    def __init__(self, device: str, options: SshOptions) -> None:
        self.device, self._options = device, options
        self._visit = _Visit()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"ssh {device}", daemon=True)

    def __enter__(self) -> SshConnection:
        """Connects and logs in. Raises DeviceError that says what to do."""
        self._thread.start()
        limit = self._options.connect_timeout_seconds
        try:
            settings = prepare(self.device, self._options, self._visit)
            connecting = asyncssh.connect(settings.host, settings.port, config=None, options=settings)
            try:
                self._connection = self._result(asyncio.wait_for(connecting, limit), None)
            except (OSError, asyncssh.Error, ValueError) as error:
                seen = (self._visit.key, _is_known(settings, self._visit.address))
                attempt = Attempt(self.device, self._options, settings.host, settings.port, *seen)
                raise explain(error, attempt) from error
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(TimeoutError, OSError, asyncssh.Error):
            self._loop.call_soon_threadsafe(self._connection.close)
            self._result(self._connection.wait_closed(), FAREWELL_SECONDS)
        self._loop.call_soon_threadsafe(self._connection.abort)
        self._stop()

    @property
    def host_key(self) -> str:
        """Fingerprint of the device's key, as OpenSSH writes it; empty where it showed none."""
        key = self._connection.get_server_host_key()
        return key.get_fingerprint() if key else ""

    def run(self, script: str, *arguments: str, deadline: Deadline, data: bytes = b"") -> Output:
        """Runs a shell script with these arguments and this standard input, to its end.

        Raises:
            DeviceError: the connection was lost, or the deadline passed.
        """
        done = self.wait(
            self._connection.run(command(script, *arguments), input=data, encoding=None, check=False), deadline
        )
        return Output(_ending(self.device, done), _text(done.stdout))

    def start(self, script: str, *arguments: str, deadline: Deadline) -> SshChannel:
        """Starts a shell script. Raises DeviceError as `run`."""
        starting = self._connection.create_process(command(script, *arguments), errors="replace")
        return SshChannel(self, self.wait(starting, deadline), deadline)

    def wait(self, work: Awaitable[Value], deadline: Deadline) -> Value:
        """The result of something asyncssh does on this connection. Raises DeviceError as `run`."""
        try:
            return self._result(work, deadline.left())
        except TimeoutError as error:
            raise deadline.late from error
        except asyncssh.ChannelOpenError as error:
            if self._connection.is_closed():
                raise vanished(self.device) from error
            hint = "raise MaxSessions in its sshd_config, or profile fewer models at once"
            raise DeviceError(f"{self.device}: the SSH server opens no more sessions ({error})", hint) from error
        except (OSError, asyncssh.Error) as error:
            raise vanished(self.device) from error

    def _result(self, work: Awaitable[Value], seconds: float | None) -> Value:
        future = asyncio.run_coroutine_threadsafe(_wait_for(work), self._loop)
        try:
            return future.result(seconds)
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        with suppress(TimeoutError):
            self._result(_cancel_all(), FAREWELL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(FAREWELL_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


class SshChannel:
    """A command that runs on the device, its standard streams at hand (a `Channel` of `targets/agent_link.py`)."""

    def __init__(self, connection: SshConnection, process: asyncssh.SSHClientProcess[str], deadline: Deadline) -> None:
        self._connection, self._process, self._deadline = connection, process, deadline

    def readline(self) -> str:
        """The next line of its standard output; empty once it has ended. Raises DeviceError: lost, or too late."""
        return self._connection.wait(self._process.stdout.readline(), self._deadline)

    def write(self, text: str) -> None:
        """Text for its standard input; lost without an error when it has ended."""
        self._connection.wait(self._tell(text), self._deadline)

    def close_input(self) -> None:
        """Ends its standard input."""
        self._connection.wait(self._tell(None), self._deadline)

    def ending(self, deadline: Deadline | None = None) -> Ending:
        """Waits for its end. Raises DeviceError: the connection was lost, or the deadline passed."""
        done = self._connection.wait(self._process.wait(), deadline or self._deadline)
        return _ending(self._connection.device, done)

    async def _tell(self, text: str | None) -> None:
        with suppress(BrokenPipeError):
            if text is None:
                self._process.stdin.write_eof()
            else:
                self._process.stdin.write(text)


class _Visit(asyncssh.SSHClient):
    """Keeps what a server showed, for the message that says why it was not trusted."""

    def __init__(self) -> None:
        self.key, self.address = "", ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Called for a key that is not among the trusted ones. It stays untrusted."""
        self.key, self.address = f"{key.get_algorithm()} {key.get_fingerprint()}", addr
        return False


async def _wait_for(work: Awaitable[Value]) -> Value:
    return await work


async def _cancel_all() -> None:
    """Ends what still waits in this loop, so that nothing complains when the loop is closed."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def command(script: str, *arguments: str) -> str:
    """One line that any login shell hands to sh: the script is free of single quotes and of line ends."""
    return f"exec sh -c {shlex.join([script, 'sh', *arguments])}"


def prepare(device: str, options: SshOptions, visit: asyncssh.SSHClient | None = None) -> Any:
    """Asyncssh's settings for a connection, the user's SSH configuration read. Raises DeviceError."""
    given: dict[str, Any] = {"config": () if options.ssh_config else None}
    if options.user:
        given["username"] = options.user
    if options.port:
        given["port"] = options.port
    if options.key:
        given |= {"client_keys": [str(options.key)], "agent_path": None}
    if options.known_hosts:
        given["known_hosts"] = str(options.known_hosts) if options.known_hosts.is_file() else NOTHING_KNOWN

    def settings(**more: Any) -> Any:
        return asyncssh.SSHClientConnectionOptions(
            host=options.host,
            client_factory=lambda: visit or asyncssh.SSHClient(),
            keepalive_interval=options.keepalive_seconds,
            keepalive_count_max=SIGNS_MISSED,
            password_auth=False,
            kbdint_auth=False,
            server_host_key_algs=HOST_KEYS,
            **given | more,
        )

    try:
        found = settings()
        # `UserKnownHostsFile none` would trust every key: a measured number must be the device's own.
        return settings(known_hosts=[]) if found.known_hosts is None else found
    except (OSError, ValueError, asyncssh.Error) as error:
        raise explain(error, Attempt(device, options, options.host, options.port or DEFAULT_PORT)) from error


def _is_known(settings: Any, address: str) -> bool:
    """Whether known_hosts holds any key of this host."""
    port = settings.port if settings.port != DEFAULT_PORT else None
    files = settings.known_hosts or [str(Path("~/.ssh/known_hosts").expanduser())]
    try:
        return bool(asyncssh.match_known_hosts(files, settings.host, address, port)[0])
    except (OSError, ValueError):
        return False


def _ending(connection: str, process: asyncssh.SSHClientProcess[Any] | asyncssh.SSHCompletedProcess) -> Ending:
    """How a process ended. Raises DeviceError when nobody knows, because the connection went first."""
    if process.exit_signal:
        return Ending(None, process.exit_signal[0], _text(process.stderr))
    if process.exit_status is None:
        raise vanished(connection)
    return Ending(process.exit_status, words=_text(process.stderr))


def _text(data: Any) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""
