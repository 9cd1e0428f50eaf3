"""The software bill of materials: CycloneDX 1.6, JSON (ECMA-424), https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from earshot.ci.run_file import Row
from earshot.core.files import digest_json
from earshot.pipeline.bundle.description import Description, json_text
from earshot.pipeline.bundle.part import Part

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # of URLs, RFC 4122


def bill_of_materials(
    description: Description,
    files: Mapping[str, bytes],
    part: Part,
    row: Row,
    network: str,
    created: str,
    licence: str | None,
) -> bytes:
    """The bill of one bundle.

    Args:
        description: what the bundle is.
        files: path in it -> content; each is told with its digest.
        part: says what has to be installed beside it, and which tools made some of it.
        row: what was measured on the model.
        network: name of its architecture.
        created: when the model was made, ISO 8601: the only time in it, so that the same run gives the same bytes.
        licence: of the weights, as the user stated it.
    """
    model = _model(description, files[description.model], row, network, licence)
    code = {name: content for name, content in files.items() if name not in (description.model,)}
    runtime = [_package(name, version) for name, version in sorted(part.runtime.items())]
    subject = {
        "type": "application",
        "bom-ref": "bundle",
        "name": f"{description.run}-{description.target}",
        "version": description.artifact[:16],
        "description": f"speech enhancer for {description.target}",
    }
    components = [model, *_files(code, licence), *runtime]
    content: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {
                "components": [
                    {"type": "application", "name": name, "version": version}
                    for name, version in {"earshot": description.earshot, **part.tools}.items()
                ]
            },
            "component": subject,
        },
        "components": components,
        "dependencies": [{"ref": "bundle", "dependsOn": [component["bom-ref"] for component in components]}],
    }
    serial = uuid.uuid5(_NAMESPACE, f"urn:earshot:bundle:{digest_json(content)}")
    return json_text({**content, "serialNumber": f"urn:uuid:{serial}"})


def _model(description: Description, content: bytes, row: Row, network: str, licence: str | None) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": description.model,
        "version": description.artifact[:16],
        "description": f"{description.precision} streaming speech enhancer",
        "hashes": [_sha256(content)],
        "modelCard": {
            "modelParameters": {"task": "speech enhancement", "modelArchitecture": network},
            "quantitativeAnalysis": {
                "performanceMetrics": [
                    {
                        "type": one.metric,
                        "value": f"{one.value:.6g} {one.unit}",
                        "slice": f"n={one.n}, {one.provenance}" + (f", on {one.target}" if one.target else ""),
                    }
                    for one in row.measurements
                    if one.value is not None
                ]
            },
        },
    }
    if licence:
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def _files(files: Mapping[str, bytes], licence: str | None) -> Iterable[dict[str, Any]]:
    """What the model's numbers were written into has the model's licence, unknown where the user stated none."""
    for name, content in sorted(files.items()):
        component = {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [_sha256(content)]}
        if not _holds_model(name):
            yield {**component, "licenses": [{"license": {"id": "Apache-2.0"}}]}
        elif licence:
            yield {**component, "licenses": [{"license": {"name": licence}}]}
        else:
            yield component


def _holds_model(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".tflite" or path.stem.startswith("model")


def _package(name: str, version: str) -> dict[str, Any]:
    """A library that has to be installed; it is not in the bundle."""
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "scope": "required"}


def _sha256(content: bytes) -> dict[str, str]:
    return {"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}
