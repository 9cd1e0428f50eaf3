"""What names an image, and what goes into it."""

import re
from pathlib import Path

import pytest

from earshot.targets.guest import recipe as module
from earshot.targets.guest.recipe import Recipe


@pytest.mark.parametrize("field", Recipe.model_fields)
def test_every_change_is_another_image(field):
    plain = Recipe()
    value = getattr(plain, field)
    changed = plain.model_copy(update={field: f"{value} " if isinstance(value, str) else (*value, "more")})
    assert changed.digest != plain.digest == Recipe().digest


def test_another_builder_is_another_image(monkeypatch):
    plain = Recipe().digest
    monkeypatch.setattr(module, "VERSION", 0)
    assert Recipe().digest != plain


def test_wheels_are_those_this_project_is_tested_with():
    lock = (Path(module.__file__).parents[2] / "requirements.lock").read_text()
    locked = {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)}
    assert {wheel: locked[wheel.partition("==")[0]] for wheel in Recipe().wheels} == {
        wheel: wheel.partition("==")[2] for wheel in Recipe().wheels
    }


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("usr/bin/python3.11", True),
        ("usr/lib/python3.11/json/decoder.py", True),
        ("usr/lib/aarch64-linux-gnu/libcrypto.so.3", True),
        ("lib/aarch64-linux-gnu/libc.so.6", True),
        ("usr/sbin/sshd", True),
        ("python/numpy/_core/_multiarray_umath.cpython-311-aarch64-linux-gnu.so", True),
        ("python/ai_edge_litert/libLiteRt.so", True),
        ("etc/passwd", False),
        ("usr/share/doc/dash/copyright", False),
        ("usr/bin/perl", False),
        ("lib/modules/6.1.0/kernel/fs/xfs/xfs.ko", False),
        ("python/ai_edge_litert/libLiteRtWebGpuAccelerator.so", False),
        ("python/numpy/ma/tests/test_core.py", False),
    ],
)
def test_only_what_an_agent_needs_goes_in(path, wanted):
    assert Recipe().wants(path) is wanted


def test_modules_are_known_by_their_name():
    recipe = Recipe()
    assert recipe.module("lib/modules/6.1.0/kernel/drivers/net/virtio_net.ko") == "virtio_net"
    assert recipe.module("lib/modules/6.1.0/kernel/drivers/net/e1000.ko") is None
    assert recipe.module("usr/share/doc/virtio_net") is None
