"""Whether a bundle is what it says it is: every byte, every file, and who signed it. Nothing is unpacked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from earshot.pipeline.bundle.archive import Problem, read_archive
from earshot.pipeline.bundle.description import (
    ALWAYS,
    DESCRIPTION,
    SIGNATURE,
    SUMS,
    Description,
    read_description,
    read_sums,
)
from earshot.pipeline.bundle.signature import is_signed_by


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        description: what the bundle says of itself, None when that could not be read.
        files: how many files it has.
        problems: everything that is wrong, empty for a bundle that is whole.
        signature: `none`, `not checked` without a key, else `good` or `bad`.
    """

    description: Description | None
    files: int
    problems: tuple[Problem, ...]
    signature: Literal["none", "not checked", "good", "bad"]


def verify(path: Path, key: Path | None = None) -> Verification:
    """Checks a bundle.

    Args:
        path: the zip.
        key: a public key of OpenSSH's: the bundle must be signed with its private half.

    Raises:
        ArtifactError: no such file.
        UsageError: the key is no public key.
        ToolError: ssh-keygen is needed and not installed.
    """
    files, problems = read_archive(path)
    signature: Literal["none", "not checked", "good", "bad"] = "not checked" if SIGNATURE in files else "none"
    if key is not None:
        if SIGNATURE not in files or SUMS not in files:
            problems.append(Problem("", "it is not signed"))
        else:
            signature = "good" if is_signed_by(files[SUMS], files[SIGNATURE], key) else "bad"
            if signature == "bad":
                problems.append(Problem(SIGNATURE, "not a signature of these sums by that key"))
    if not files:
        return Verification(None, 0, tuple(problems), signature)
    problems += _sum_problems(files, {problem.file for problem in problems})
    description = read_description(files[DESCRIPTION]) if DESCRIPTION in files else "missing"
    if isinstance(description, str):
        problems.append(Problem(DESCRIPTION, description))
        return Verification(None, len(files), tuple(problems), signature)
    damaged = {problem.file for problem in problems}
    problems += [problem for problem in _content_problems(files, description) if problem.file not in damaged]
    return Verification(description, len(files), tuple(dict.fromkeys(problems)), signature)


def _sum_problems(files: Mapping[str, bytes], known: set[str]) -> list[Problem]:
    """Files against SHA256SUMS; a file that is `known` to be damaged is not told of twice."""
    sums = read_sums(files[SUMS]) if SUMS in files else {}
    if not sums:
        return [Problem(SUMS, "not a table of sums" if SUMS in files else "missing")]
    found = [Problem(name, "missing") for name in sums if name not in files and name not in known]
    for name, content in files.items():
        if name in (SUMS, SIGNATURE):
            continue
        if name not in sums:
            found.append(Problem(name, f"not in {SUMS}"))
        elif hashlib.sha256(content).hexdigest() != sums[name]:
            found.append(Problem(name, "its bytes were changed"))
    return found


def _content_problems(files: Mapping[str, bytes], description: Description) -> list[Problem]:
    """Files against the table of contents."""
    own = {DESCRIPTION, SUMS, SIGNATURE}
    wanted = {*description.contents, *ALWAYS, description.model}
    missing = [Problem(name, "missing") for name in sorted(wanted - set(files))]
    return missing + [Problem(name, f"not in {DESCRIPTION}") for name in sorted(set(files) - wanted - own)]
