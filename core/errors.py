"""Every error earshot raises on purpose, with a hint that names the fix and the exit code the command line ends with.

    EarshotError
    ├── UsageError          2  the request is wrong: flags, names, combinations
    │   ├── ConfigError     2  a recipe, budget or inventory file is wrong (names file and dotted path)
    │   ├── DataError       2  a sound file, folder or manifest is wrong (names the file)
    │   ├── ModelError      2  a network, checkpoint or .tflite is wrong (names the file)
    │   └── ArtifactError   2  an artifact is missing, damaged or of another kind
    └── MachineError        3  the machine failed, not the request
        ├── ToolError       3  a library, compiler, disk or worker process failed
        └── DeviceError     3  a target device is absent or failed

A failed gate is a result, not an error: the command line ends with 1 without raising.
"""

from __future__ import annotations


class EarshotError(Exception):
    """Base of the tree.

    Args:
        message: one line that names what is wrong and where (file, dotted path, device).
        hint: one line that says how to mend it, as a command where there is one.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[EarshotError], tuple[str, str | None]]:
        """Errors cross process borders (metric and loader workers) with their hint."""
        return type(self), (self.message, self.hint)


class UsageError(EarshotError):
    """The request is wrong: a flag, a name, a combination."""


class ConfigError(UsageError):
    """A recipe, budget or inventory file is wrong."""


class DataError(UsageError):
    """A sound file, folder or manifest is wrong."""


class ModelError(UsageError):
    """A network, checkpoint or .tflite file is wrong."""


class ArtifactError(UsageError):
    """An artifact is missing, damaged or of another kind."""


class MachineError(EarshotError):
    """The machine failed, not the request."""

    exit_code = 3


class ToolError(MachineError):
    """A library, compiler, disk or worker process failed."""


class DeviceError(MachineError):
    """A target device is absent or failed."""
