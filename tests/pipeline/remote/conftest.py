"""Fixtures of pushing and pulling."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `places`

from places import Place, add_run, build
from s3_server import BUCKET, INSTALL, s3_server, server_command

from earshot.pipeline.runs import set_tag
from earshot.pipeline.store import Store


@pytest.fixture
def store(tmp_path):
    """Two runs: `old` on one artifact, `new` on one that was made from another; one artifact of no run; a tag."""
    made = Store(tmp_path / "store")
    add_run(made, "old", build(made, "first"))
    add_run(made, "new", build(made, "child", {"teacher": build(made, "parent").id}))
    build(made, "stray")
    set_tag(made, "baseline", "old")
    return made


@pytest.fixture(scope="session")
def server():
    if server_command() is None:
        pytest.skip(f"no S3-compatible server: {INSTALL}")
    with s3_server() as running:
        yield running


@pytest.fixture
def s3_environment(monkeypatch):
    """Credentials of nobody's, and no configuration of this machine's."""

    def set_endpoint(url):
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "AKIAEARSHOTTESTS0001",
            "AWS_SECRET_ACCESS_KEY": "never/to/be/seen/0123456789abcdef",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }.items():
            monkeypatch.setenv(name, value)

    return set_endpoint


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    if request.param == "folder":
        return Place(str(tmp_path / "remote"))
    request.getfixturevalue("s3_environment")(request.getfixturevalue("server").url)
    return Place(f"s3://{BUCKET}/{tmp_path.name}/cache")


@pytest.fixture
def folder(tmp_path):
    return Place(str(tmp_path / "remote"))
