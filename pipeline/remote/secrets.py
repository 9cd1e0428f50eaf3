"""Keeps credentials out of everything that is said: locations, errors, tracebacks."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit, urlunsplit

from earshot.core.errors import UsageError

HIDDEN = "***"
_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_QUERY = re.compile(r"(?<=[?&;])([^\s=?&;]{1,80})=[^\s&;'\"<>]+")
_TELLING = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_SHORTEST = 6  # a shorter value is no secret, and would be found in ordinary words


_KEYED = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "r2", "b2")
_HINT = "give them by environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or a configuration file"


def checked_location(location: str) -> str:
    """A location that holds no password.

    Raises:
        UsageError: it holds one. Other programs see command lines, and shells keep them.
    """
    parts = urlsplit(location)
    # In a bucket's address nothing but a key can stand before an @.
    bucket = parts.scheme not in ("", "file", "sftp", "ssh", "ftp")
    if parts.scheme in _KEYED and ":" in parts.netloc:
        # A key may hold a slash, behind which nothing tells it from a path: none of it is shown.
        raise UsageError(f"{parts.scheme}://...: credentials do not belong into a location", _HINT)
    if "@" in parts.netloc and (bucket or ":" in parts.netloc.rpartition("@")[0]):
        raise UsageError(f"{shown(location)}: credentials do not belong into a location", _HINT)
    if _WITH_PASSWORD.search(location):  # behind another protocol: `simplecache::https://...`
        raise UsageError(f"{shown(location)}: credentials do not belong into a location", _HINT)
    return location


def shown(location: str) -> str:
    """The location without user, password and query."""
    parts = urlsplit(location)
    if not parts.scheme:
        return location
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return _USER.sub(HIDDEN, plain)


def redacted(text: str) -> str:
    """A text without secrets: values of environment variables whose names tell of one, names and passwords before a
    host, and values in an address's query, where signatures of shared links stand.
    """
    values = {value for name, value in os.environ.items() if _TELLING.search(name) and len(value) >= _SHORTEST}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return _QUERY.sub(rf"\1={HIDDEN}", _USER.sub(HIDDEN, text))
