"""Tools that build: what they print is read, how they fail is told, none runs on."""

import psutil
import pytest

from earshot.core.errors import ToolError
from earshot.targets.tool import last_words, running


def tool(folder, script):
    path = folder / "mixer"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return [str(path)]


def run(command, folder, seconds=20.0):
    with running(command, folder, seconds, "stir again") as process:
        return process.stdout.read()


def test_its_output_is_read_and_its_temporary_files_lie_where_told(tmp_path):
    assert run(tool(tmp_path, 'echo "$TMPDIR"'), tmp_path) == f"{tmp_path}\n".encode()


def test_output_that_nobody_reads_does_not_fail_it(tmp_path):
    mark = tmp_path / "whole"
    with running(tool(tmp_path, f"head -c 1000000 /dev/zero && touch {mark}"), tmp_path, 20, ""):
        pass
    assert mark.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'E: no such package' >&2; echo done >&2; exit 3", "mixer ended with code 3: E: no such package"),
        ("echo one >&2; echo two >&2; exit 4", "mixer ended with code 4: two"),
        ("exit 5", "mixer ended with code 5"),
    ],
)
def test_its_last_words_say_why_it_failed(tmp_path, script, message):
    with pytest.raises(ToolError) as caught:
        run(tool(tmp_path, script), tmp_path)
    assert (caught.value.message, caught.value.hint) == (message, "stir again")


def test_a_tool_that_is_not_installed(tmp_path):
    with pytest.raises(ToolError, match=r"^no-such-mixer is not installed$") as caught:
        run(["no-such-mixer"], tmp_path)
    assert caught.value.hint == "sudo apt-get install no-such-mixer"


def test_a_tool_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(ToolError, match=r"^sleep took longer than 0\.2 s$") as caught:
        run(["sleep", "60"], tmp_path, seconds=0.2)
    assert caught.value.hint == "stir again"
    assert not sleepers()


def test_an_error_in_the_block_ends_the_tool_and_is_kept(tmp_path):
    with pytest.raises(KeyError), running(["sleep", "60"], tmp_path, 60, ""):
        assert sleepers()
        raise KeyError
    assert not sleepers()


def test_words_of_which_none_is_an_error():
    assert last_words("") == ""
    assert last_words("one\nERROR: two\nERROR: three\nfour\n") == "ERROR: three"


def sleepers():
    """Processes of this one that sleep."""
    return [child for child in psutil.Process().children() if child.name() == "sleep"]
