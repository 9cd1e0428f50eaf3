"""What goes wrong with SSH, told as what the user has to do."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import asyncssh

from earshot.core.errors import DeviceError
from earshot.targets.ssh.address import SshAddress

DEFAULT_PORT = 22


def vanished(device: str) -> DeviceError:
    """The connection was there and is no more."""
    return DeviceError(
        f"{device}: the connection was lost in the middle",
        "check the device's power and network, then run again; the device removes what was copied by itself",
    )


@dataclass(frozen=True)
class Attempt:
    """A connection that did not come to be.

    Attributes:
        device: the target's name.
        address: as the user gave it.
        host, port: behind it, the user's SSH configuration read.
        offered: type and fingerprint of the untrusted host key that the server showed; empty when it came to none.
        known: whether known_hosts holds a key of this host.
    """

    device: str
    address: SshAddress
    host: str
    port: int
    offered: str = ""
    known: bool = False


def explain(error: Exception, attempt: Attempt) -> DeviceError:
    """Why a connection did not come to be, from what asyncssh or the system raised."""
    address = attempt.address
    by_hand = f"see what it says to: {ssh(address)}"
    match error:
        case asyncssh.HostKeyNotVerifiable():
            what, hint = _untrusted(attempt)
        case asyncssh.PermissionDenied():
            what, hint = "the login was refused", f"have it accept your key: {_copy_key(attempt)}"
        case asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
            what = f"the key cannot be used ({error})"
            hint = f"a key with a passphrase goes through the SSH agent: ssh-add {address.key}, and no option `key`"
        case asyncssh.ConfigParseError():
            what, hint = f"your SSH configuration cannot be read ({error})", "mend it, or set ssh_config: false"
        case socket.gaierror():
            what, hint = "no such host", "check its name, or give its address; is it on this network?"
        case ConnectionRefusedError():
            what = f"nothing listens on port {attempt.port}"
            hint = "start its SSH server, on the device: sudo systemctl enable --now ssh"
        case TimeoutError():
            what = f"no answer from {attempt.host} port {attempt.port}"
            hint = "is it switched on and on this network? A slow one wants a longer connect_timeout_seconds"
        case asyncssh.DisconnectError() | ConnectionError():
            what, hint = f"it closed the connection before the login ({error})", by_hand
        case _:
            what, hint = str(error), by_hand
    return DeviceError(f"{attempt.device}: {address}: {what}", hint)


def ssh(address: SshAddress) -> str:
    """The same login as a command for people."""
    port = f"-p {address.port} " if address.port else ""
    key = f"-i {address.key} " if address.key else ""
    trusted = f"-o UserKnownHostsFile={address.known_hosts} " if address.known_hosts else ""
    user = f"{address.user}@" if address.user else ""
    return f"ssh {port}{key}{trusted}{user}{address.host}"


def _untrusted(attempt: Attempt) -> tuple[str, str]:
    file = attempt.address.known_hosts or "~/.ssh/known_hosts"
    add = f"ssh-keyscan -p {attempt.port} {attempt.host} >> {file}"
    shown = f" (it shows {attempt.offered})" if attempt.offered else ""
    if not attempt.known:
        compare = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
        return f"its host key is unknown{shown}", f"compare it with what `{compare}` says on the device, then: {add}"
    entry = attempt.host if attempt.port == DEFAULT_PORT else f"[{attempt.host}]:{attempt.port}"
    forget = f"ssh-keygen -f {file} -R '{entry}'"
    return (
        f"its host key is not the one in {file}{shown}",
        f"somebody else may be answering; if the device was set up anew: {forget}, then {add}",
    )


def _copy_key(attempt: Attempt) -> str:
    key, user = attempt.address.key, attempt.address.user
    return f"ssh-copy-id {f'-i {key}.pub ' if key else ''}-p {attempt.port} {f'{user}@' if user else ''}{attempt.host}"
