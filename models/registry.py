"""Networks by name. A network is added with one file and one line here; a user's own by `package.module:Name`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.core.config import parse
from earshot.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from earshot.models.frontend import Frontend
    from earshot.models.streaming import StreamingModel

NETWORKS = {
    "dae_unet": "earshot.models.dae_unet:DaeUnet",
    "conv_tasnet": "earshot.models.conv_tasnet:ConvTasnet",
    "dccrn": "earshot.models.dccrn:Dccrn",
    "dptnet": "earshot.models.dptnet:Dptnet",
    "ft_jnf": "earshot.models.ft_jnf:FtJnf",
    "ft_jnf_offline": "earshot.models.ft_jnf:FtJnfOffline",
    "manner": "earshot.models.manner:Manner",
    "manner_causal": "earshot.models.manner_causal:CausalManner",
    "metricgan": "earshot.models.metricgan:MetricGan",
    "metricgan_offline": "earshot.models.metricgan:MetricGanOffline",
    "mobile_unet": "earshot.models.mobile_unet:MobileUnet",
    "rt_senet": "earshot.models.rt_senet:RtSenet",
    "wave_unet": "earshot.models.wave_unet:WaveUnet",
}


def import_name(name: str, what: str) -> Any:
    """The object behind `package.module:Name`; the working directory counts as a place to import from.

    Raises:
        UsageError: the module or the name in it does not exist, or importing it failed.
    """
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(f"{what} '{name}': {error}", "check the spelling and that the package is installed") from error
    except AttributeError as error:
        raise UsageError(f"{what} '{name}': {module_name} has no '{attribute}'") from error


def own_code(*names: str) -> dict[str, str]:
    """Role -> digest of the source files behind the user's own names: a changed class must not meet old artifacts.

    Only names of the form `package.module:Name` count, and only the file that defines the name, not what it imports.
    """
    from earshot.core.files import sha256_file

    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    digests = {}
    for name in names:
        module, colon, _ = name.partition(":")
        try:
            found = importlib.util.find_spec(module) if colon else None
        except (ImportError, ValueError):
            found = None  # building the network says what is wrong with the name
        if found is not None and found.origin and Path(found.origin).is_file():
            digests[f"code of {module}"] = sha256_file(Path(found.origin))
    return digests


def lookup(name: str, known: Mapping[str, str], what: str) -> Any:
    """The class registered as `name`, or the user's own named `package.module:Name`. Raises UsageError."""
    if ":" in name:
        return import_name(name, what)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        meant = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"unknown {what} '{name}'{meant}", f"known: {', '.join(known)}, or package.module:Name")
    return import_name(known[name], what)


def network(name: str) -> type[StreamingModel]:
    """The network class of that name. Raises UsageError, or ModelError when it is not a StreamingModel."""
    from earshot.models.streaming import StreamingModel

    found = lookup(name, NETWORKS, "network")
    if not (isinstance(found, type) and issubclass(found, StreamingModel)):
        raise ModelError(f"network '{name}' is not a StreamingModel", "derive it from earshot.models.streaming")
    return found


def build(name: str, frontend: Frontend, params: Mapping[str, Any], source: str = "params") -> StreamingModel:
    """A freshly initialised network.

    Raises:
        ConfigError: unknown or impossible parameters, with their dotted path.
        ModelError: the parameters do not go together with the frontend.
    """
    kind = network(name)
    typed = parse(kind.Params, params, source)
    try:
        return kind(frontend, typed)
    except ValueError as error:
        raise ModelError(f"{source}: network '{name}' cannot be built: {error}") from error
