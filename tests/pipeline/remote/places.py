"""Stores, locations and an S3-compatible server that pushing and pulling are tried with."""

from __future__ import annotations

import json
from dataclasses import dataclass

from earshot.ci.run_file import SCHEMA
from earshot.pipeline.progress import Silent
from earshot.pipeline.remote.folder import RemoteFolder
from earshot.pipeline.remote.pull import pull
from earshot.pipeline.remote.push import push
from earshot.pipeline.runs import write_run


def build(store, name, inputs=None):
    def produce(out, work):
        (out / "deep").mkdir()
        (out / "deep" / "weights.bin").write_bytes(name.encode() * 5000)
        (out / "same.txt").write_text("the same in all")
        return []

    return store.build("distill", 1, config={"name": name}, inputs=inputs or {}, producer=produce)


def add_run(store, name, *artifacts):
    rows = [{"row": f"row{number}", "artifact": one.id} for number, one in enumerate(artifacts)]
    write_run(store, name, {"schema": SCHEMA, "name": name, "status": "complete", "rows": rows})


@dataclass
class Place:
    """A location that is empty at first."""

    location: str

    def open(self):
        return RemoteFolder(self.location)

    def change(self, path, content):
        self.open().put(path, content)

    def read(self, path):
        return self.open().read(path, 2**30)


def files(root):
    """Path -> bytes of all that a store shares."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for part in ("artifacts", "runs", "tags.json")
        for path in ([root / part] if (root / part).is_file() else (root / part).rglob("*"))
        if path.is_file()
    }


def send(store, place, *references):
    return push(store, place.open(), references, Silent())


def fetch(store, place, *references):
    return pull(store, place.open(), references, Silent())


def manifest_of(store, name):
    (found,) = [folder for folder in store.folders() if store.open(folder).manifest.config["name"] == name]
    return found.name, json.loads((found / "manifest.json").read_text())
