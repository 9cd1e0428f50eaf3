"""`bundle.json`, what a bundle says of itself, and `SHA256SUMS`, which covers every file of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from earshot.ci.verdict import Status
from earshot.core.config import Config, parse
from earshot.core.errors import ConfigError
from earshot.pipeline.bundle.archive import plain

SCHEMA = "earshot.bundle/1"
DESCRIPTION = "bundle.json"
SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
CARD = "MODEL_CARD.md"
SBOM = "sbom.cdx.json"
README = "README.md"
ALWAYS = (README, CARD, SBOM, "LICENSE", "frontend.json")
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")

Kind = Literal["pi", "android", "cortex-m", "ethos-u"]


class Description(Config):
    """The contents of `bundle.json`.

    Attributes:
        earshot: version that wrote it.
        run: name of the run whose model it holds.
        artifact: identity of the artifact the model comes from.
        target: class of device it is for.
        device: the target whose settings it was built with.
        model: path of the .tflite that ships.
        precision: of that file.
        gate: outcome of the run's budgets when the bundle was made.
        contents: path -> what it is, of every file but this one, the sums and their signature.
    """

    # A later minor version may add keys.
    model_config = ConfigDict(extra="ignore")

    schema_: Annotated[Literal["earshot.bundle/1"], Field(alias="schema")] = "earshot.bundle/1"
    earshot: str
    run: str
    artifact: str
    target: Kind
    device: str
    model: str
    precision: str
    gate: Status
    contents: dict[str, str]

    def to_json(self) -> bytes:
        """The file's text."""
        return json_text(self.model_dump(mode="json", by_alias=True))


def json_text(value: object) -> bytes:
    """JSON for people and machines: indented, keys in the order given."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_description(content: bytes) -> Description | str:
    """`bundle.json` as read from a bundle, or what is wrong with it."""
    try:
        value = json.loads(content)
        schema = value["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "not the description of a bundle"
    if schema != SCHEMA:
        return f"its schema is {str(schema)[:80]!r}, this version of earshot reads '{SCHEMA}'"
    try:
        return parse(Description, value, DESCRIPTION)
    except ConfigError as error:
        return error.message[:400]


def sums_text(files: Mapping[str, bytes]) -> bytes:
    """SHA256SUMS of some files, as `sha256sum --check` reads it."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def read_sums(content: bytes) -> dict[str, str] | None:
    """Path -> SHA-256; None for a text that is no table of sums."""
    try:
        found = [_SUM.fullmatch(line) for line in content.decode().splitlines()]
    except UnicodeDecodeError:
        return None
    sums = {match[2]: match[1] for match in found if match and plain(match[2])}
    return sums if len(sums) == len(found) else None
