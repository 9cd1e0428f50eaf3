"""Signatures over a bundle's sums, by `ssh-keygen -Y`: with the keys people have, in files, agents or hardware.

The format is OpenSSH's (PROTOCOL.sshsig). Whoever has the public key checks it without earshot:
    ssh-keygen -Y verify -f ALLOWED -I earshot -n earshot-bundle -s SHA256SUMS.sig < SHA256SUMS
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from earshot.core.errors import ToolError, UsageError

NAMESPACE = "earshot-bundle"
IDENTITY = "earshot"
_PROGRAM = "ssh-keygen"
_TIMEOUT_SECONDS = 120.0


def sign(content: bytes, key: Path) -> bytes:
    """The signature of some bytes; an Ed25519 key always gives the same one.

    Args:
        content: what to sign.
        key: a private key of OpenSSH's, or the public one where an agent holds the private.

    Raises:
        UsageError: no such file, or ssh-keygen refuses it as a key.
        ToolError: ssh-keygen is not installed or hangs.
    """
    if not key.is_file():
        raise UsageError(f"{key}: no such key", "make one with: ssh-keygen -t ed25519 -f KEY")
    with tempfile.TemporaryDirectory(prefix="earshot-sign-") as folder:
        file = Path(folder) / "sums"
        file.write_bytes(content)
        done = _run(["-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(file)], b"")
        signature = file.with_name("sums.sig")
        if done.returncode or not signature.is_file():
            raise UsageError(f"{key}: cannot sign with it ({_last(done)})", "give a private key that ssh-keygen reads")
        return signature.read_bytes()


def is_signed_by(content: bytes, signature: bytes, key: Path) -> bool:
    """Whether a signature of some bytes was made with the private half of a public key.

    Raises:
        UsageError: the key is no public key.
        ToolError: ssh-keygen is not installed or hangs.
    """
    line = _public_key(key)
    with tempfile.TemporaryDirectory(prefix="earshot-verify-") as folder:
        allowed, made = Path(folder) / "allowed", Path(folder) / "signature"
        allowed.write_text(f'{IDENTITY} namespaces="{NAMESPACE}" {line}\n')
        made.write_bytes(signature)
        names = ["-f", str(allowed), "-I", IDENTITY, "-n", NAMESPACE, "-s", str(made)]
        return _run(["-Y", "verify", *names], content).returncode == 0


def _public_key(key: Path) -> str:
    """Type and key, without the comment. ssh-keygen would say no more than that the signature is wrong."""
    hint = "give the .pub file that ssh-keygen wrote"
    try:
        words = key.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{key}: cannot be read as a public key", hint) from error
    if _run(["-l", "-f", str(key)], b"").returncode or len(words) < 2 or words[0].startswith("-"):
        raise UsageError(f"{key}: not a public key", hint)
    return " ".join(words[:2])


def _run(arguments: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    if shutil.which(_PROGRAM) is None:
        raise ToolError(f"{_PROGRAM} is not installed", "apt-get install openssh-client")
    try:
        return subprocess.run(
            [_PROGRAM, *arguments], input=given, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(
            f"{_PROGRAM} took longer than {_TIMEOUT_SECONDS:g} s", "does it wait for a passphrase?"
        ) from error


def _last(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {done.returncode}")
