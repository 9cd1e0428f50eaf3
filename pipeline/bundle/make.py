"""Makes a bundle: a run's model, what runs it on a class of device, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import earshot
from earshot.ci.run_file import Run
from earshot.ci.verdict import Status, Verdict, worst
from earshot.core.errors import UsageError
from earshot.core.files import write_atomic
from earshot.pipeline.bundle.archive import write_archive
from earshot.pipeline.bundle.card import model_card, read_evaluation
from earshot.pipeline.bundle.description import (
    CARD,
    DESCRIPTION,
    README,
    SBOM,
    SIGNATURE,
    SUMS,
    Description,
    Kind,
    sums_text,
)
from earshot.pipeline.bundle.part import Entry, Part, template
from earshot.pipeline.bundle.sbom import bill_of_materials
from earshot.pipeline.bundle.signal import signal_json
from earshot.pipeline.bundle.signature import NAMESPACE, sign
from earshot.pipeline.shipped import Shipped, shipped_model
from earshot.pipeline.store import Store
from earshot.quantize.metadata import read_description
from earshot.targets.registry import find_profile

DEVICES: dict[Kind, str] = {
    "pi": "raspberry-pi-5",
    "android": "phone",
    "cortex-m": "cortex-m4",
    "ethos-u": "ethos-u55",
}
_SIGNED = f"""Signed with an SSH key over `{SUMS}`: `earshot verify BUNDLE.zip --key KEY.pub`, or with OpenSSH alone
```
echo "earshot $(cut -d' ' -f1,2 KEY.pub)" > allowed
ssh-keygen -Y verify -f allowed -I earshot -n {NAMESPACE} -s {SIGNATURE} < {SUMS}
```
"""


@dataclass(frozen=True)
class Request:
    """What to bundle.

    Attributes:
        target: class of device.
        device: the target whose settings count; None takes the class's own.
        key: private SSH key to sign with.
        licence: of the weights.
    """

    target: Kind
    device: str | None = None
    key: Path | None = None
    licence: str | None = None


def make_bundle(store: Store, run: Run, verdicts: Sequence[Verdict], request: Request, out: Path) -> Description:
    """Writes a bundle; the same run and request give the same bytes.

    Args:
        store: where the run's artifacts lie.
        run: the run.
        verdicts: what its budgets say; whether a failed gate may be bundled is for the caller to decide.
        request: what to bundle.
        out: the zip.

    Raises:
        UsageError: the run made no model; no such device, or one of another class; the key cannot sign.
        ArtifactError: the model's artifact is gone or damaged.
        ModelError: the model cannot become C where the device needs that.
        DeviceError, ToolError: a compiler is missing or fails; `out` cannot be written.
    """
    shipped = shipped_model(store, run)
    model = f"model/{shipped.model.name}"
    device = request.device or DEVICES[request.target]
    part = _PARTS[request.target](shipped, model, device)
    stream = read_description(shipped.model)
    evaluation = read_evaluation(store, shipped)
    card = model_card(shipped, verdicts, part, stream.frontend, evaluation, request.licence)
    licence = Path(earshot.__file__).with_name("LICENSE").read_bytes()
    entries = {
        model: Entry(shipped.model.read_bytes(), "the model that ships"),
        f"model/{shipped.model.stem}.json": Entry(_sidecar(shipped.model), "stream description, as in the model"),
        "frontend.json": Entry(signal_json(shipped.model), "signal processing around the network"),
        CARD: Entry(card.encode(), "what the model was trained and judged on"),
        "LICENSE": Entry(licence, "licence of the code in this bundle"),
        **part.files,
    }
    what = {name: entry.what for name, entry in entries.items()}
    description = Description(
        earshot=version("earshot"),
        run=run.name,
        artifact=shipped.artifact.id,
        target=request.target,
        device=device,
        model=model,
        precision=stream.precision,
        gate=_outcome(run, verdicts),
        contents=dict(sorted({**what, README: "how to use it", SBOM: "software bill of materials"}.items())),
    )
    files = {name: entry.content for name, entry in entries.items()}
    created = shipped.artifact.manifest.created
    files[README] = _readme(description, part, request.key is not None).encode()
    files[SBOM] = bill_of_materials(description, files, part, shipped.row, stream.network, created, request.licence)
    files[DESCRIPTION] = description.to_json()
    files[SUMS] = sums_text(files)
    if request.key is not None:
        files[SIGNATURE] = sign(files[SUMS], request.key)
    write_atomic(out, write_archive(files))
    return description


def _check_kind(device: str, kind: str, what: str) -> None:
    """Raises UsageError for a device that is unknown, or of another kind."""
    profile = find_profile(device)
    if profile is not None and profile.kind != kind:
        raise UsageError(f"target {device} is no {what}", "see: earshot targets")


def _pi(shipped: Shipped, model: str, device: str) -> Part:
    from earshot.pipeline.bundle.pi import pi_part

    _check_kind(device, "raspberry-pi", "Raspberry Pi")
    return pi_part(shipped, model)


def _android(shipped: Shipped, model: str, device: str) -> Part:
    from earshot.pipeline.bundle.android import android_part

    _check_kind(device, "phone", "phone")
    return android_part(shipped, model)


def _cortex_m(shipped: Shipped, model: str, device: str) -> Part:
    from earshot.pipeline.bundle.cortex_m import cortex_m_part

    return cortex_m_part(shipped, device)


def _ethos_u(shipped: Shipped, model: str, device: str) -> Part:
    from earshot.pipeline.bundle.ethos_u import ethos_u_part

    return ethos_u_part(shipped, device)


_PARTS: Mapping[Kind, Callable[[Shipped, str, str], Part]] = {
    "pi": _pi,
    "android": _android,
    "cortex-m": _cortex_m,
    "ethos-u": _ethos_u,
}


def _outcome(run: Run, verdicts: Sequence[Verdict]) -> Status:
    if run.status != "complete":
        return Status.FAIL
    return worst(verdict.status for verdict in verdicts) or Status.PASS


def _sidecar(model: Path) -> bytes:
    return (json.dumps(read_description(model).to_json(), indent=2, ensure_ascii=False) + "\n").encode()


def _readme(description: Description, part: Part, signed: bool) -> str:
    rows = "".join(f"| `{name}` | {what} |\n" for name, what in description.contents.items())
    return template(
        "README.md",
        {
            "RUN": description.run,
            "TARGET": description.target,
            "VERSION": description.earshot,
            "USAGE": part.usage,
            "SIGNED": _SIGNED if signed else "",
            "FILES": f"| file | is |\n|---|---|\n{rows}",
        },
    )
