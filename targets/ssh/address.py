"""Where a device is reached over SSH, and how it wants to be driven."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from earshot.core.config import Config


class SshAddress(Config):
    """A device's SSH server and who logs in there, by key.

    Attributes:
        host: name or address, or a `Host` of the user's SSH configuration.
        port, user: None takes the SSH configuration's, else 22 and the user of this machine.
        key: private key file; None takes the keys of the SSH agent and those in `~/.ssh`.
        known_hosts: file of trusted host keys; None takes `~/.ssh/known_hosts`. A host key that is not in it is
            refused, always.
        ssh_config: read the user's SSH configuration, e.g. for `ProxyJump`.
    """

    host: str = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    user: str | None = Field(default=None, min_length=1)
    key: Path | None = None
    known_hosts: Path | None = None
    ssh_config: bool = True

    @field_validator("key", "known_hosts")
    @classmethod
    def _home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value else None

    def __str__(self) -> str:
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"{user}{self.host}{port}"


class SshOptions(SshAddress):
    """Options of the driver `ssh`: the address, and what holds for the device.

    Attributes:
        python: interpreter on the device, `~` being the home folder there; None tries `python3`, then
            `~/earshot/bin/python`.
        folder: where the device keeps what is copied while it is profiled; None takes its TMPDIR, else /tmp.
        core: core to pin to where the request names none; None takes the last one.
        connect_timeout_seconds: for the connection and the login, together.
        keepalive_seconds: the device is asked for a sign of life this often, and given up after three without;
            0 never asks.
    """

    python: str | None = Field(default=None, min_length=1)
    folder: str | None = Field(default=None, pattern="^/")
    core: int | None = Field(default=None, ge=0)
    connect_timeout_seconds: float = Field(default=10.0, gt=0)
    keepalive_seconds: float = Field(default=3.0, ge=0)
