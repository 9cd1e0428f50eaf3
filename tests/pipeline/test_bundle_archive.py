"""Archives and their checks on small bundles made by hand; every damage is found, and said of the right file."""

import hashlib
import io
import json
import shutil
import subprocess
import zipfile

import pytest
from click.testing import CliRunner

from earshot.core.errors import ArtifactError, UsageError
from earshot.pipeline.bundle.archive import MAX_FILES, read_archive, write_archive
from earshot.pipeline.bundle.description import sums_text
from earshot.pipeline.bundle.signature import sign
from earshot.pipeline.bundle.verify import verify
from earshot.pipeline.cli.main import application

PAYLOAD = {
    "README.md": b"read me\n",
    "MODEL_CARD.md": b"# card\n",
    "sbom.cdx.json": b"{}\n",
    "LICENSE": b"free\n",
    "frontend.json": b"{}\n",
    "model/model.int8.tflite": bytes(range(256)),
}
ABOUT = {
    "schema": "earshot.bundle/1",
    "earshot": "0.1.0",
    "run": "a-run",
    "artifact": "0" * 64,
    "target": "pi",
    "device": "raspberry-pi-5",
    "model": "model/model.int8.tflite",
    "precision": "int8",
    "gate": "pass",
}


def bundle_files(payload=PAYLOAD, **about):
    contents = {"contents": dict.fromkeys(payload, "a file")}
    files = {**payload, "bundle.json": json.dumps(ABOUT | contents | about).encode()}
    return files | {"SHA256SUMS": sums_text(files)}


@pytest.fixture
def check(tmp_path):
    """The problems of a bundle: of its files, or of its bytes."""

    def problems(given, key=None):
        path = tmp_path / "given.zip"
        path.write_bytes(given if isinstance(given, bytes) else write_archive(given))
        return [str(problem) for problem in verify(path, key).problems]

    return problems


def test_a_whole_bundle_has_no_problem(check, tmp_path):
    assert check(bundle_files()) == []
    found = verify(tmp_path / "given.zip")
    assert (found.description.run, found.files, found.signature) == ("a-run", 8, "none")


def test_bytes_depend_on_the_files_alone():
    files = bundle_files()
    backwards = dict(reversed(files.items()))
    assert write_archive(files) == write_archive(backwards)
    with zipfile.ZipFile(io.BytesIO(write_archive(files))) as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    assert [entry.filename for entry in entries] == sorted(files)
    assert {(e.date_time, e.external_attr, e.compress_type, e.create_system) for e in entries} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644 << 16, 0, 3)
    }


def test_every_single_byte_counts(check):
    """Each byte changed, one after the other, in content, names and the zip's own tables."""
    whole = write_archive(bundle_files())
    missed = [at for at in range(len(whole)) if not check(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])]
    assert missed == []


def test_the_changed_file_is_named(check):
    whole = write_archive(bundle_files())
    for name, content in PAYLOAD.items():
        if len(content) < 5:
            continue
        at = whole.index(name.encode() + content) + len(name)
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert f"{name}: its bytes were changed" in check(changed)


def test_a_byte_changed_with_a_new_checksum_of_the_zip_is_named_too(check):
    assert check(bundle_files() | {"LICENSE": b"fre\x00\n"}) == ["LICENSE: its bytes were changed"]


def test_bytes_beside_the_files_are_found(check):
    whole = write_archive(bundle_files())
    assert check(whole + b"more") and check(b"before" + whole)
    assert check(whole[:-1]) and check(whole[: len(whole) // 2]) and check(b"") and check(b"no zip at all")


def test_missing_extra_and_unlisted_files(check):
    files = bundle_files()
    assert "LICENSE: missing" in check({name: files[name] for name in files if name != "LICENSE"})
    assert "more.txt: not in SHA256SUMS" in check(files | {"more.txt": b"x"})
    listed = {**files, "more.txt": b"x"}
    listed["SHA256SUMS"] = sums_text({name: listed[name] for name in listed if name != "SHA256SUMS"})
    assert check(listed) == ["more.txt: not in bundle.json"]
    assert "SHA256SUMS: missing" in check({name: files[name] for name in files if name != "SHA256SUMS"})
    assert check(files | {"SHA256SUMS": b"\xff nonsense"})[0] == "SHA256SUMS: not a table of sums"
    less = {name: PAYLOAD[name] for name in PAYLOAD if name != "sbom.cdx.json"}
    assert check(bundle_files(less)) == ["sbom.cdx.json: missing"]
    assert "bundle.json: missing" in check({name: files[name] for name in files if name != "bundle.json"})


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"schema": "earshot.bundle/2"}, "its schema is 'earshot.bundle/2', this version of earshot reads"),
        ({"target": "toaster"}, "target"),
        ({"model": "model/other.tflite"}, "model/other.tflite: missing"),
        ({"contents": {"../../etc/passwd": "x"}}, "passwd: missing"),
    ],
)
def test_descriptions_that_do_not_fit(check, about, said):
    assert any(said in problem for problem in check(bundle_files(**about)))
    assert check(bundle_files(a_later_key="is ignored")) == []  # negative control


def hostile(name, content=b"x", compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "/etc/out.txt",
        "a/../../out",
        "C:\\out",
        "a//b",
        "./a",
        "a/.",
        "-\u202e.txt",
        "a b",
        "é",
        "a\nb",
        "\x1b[2J",
        "a" * 81,
    ],
)
def test_paths_that_leave_the_bundle(check, tmp_path, name):
    before = set(tmp_path.iterdir()) | {tmp_path / "given.zip"}
    assert "leaves the bundle, or is no plain one" in check(hostile(name))[0]
    assert set(tmp_path.iterdir()) == before
    with pytest.raises(ValueError, match="no path for a bundle"):
        write_archive({name: b""})


def test_a_name_that_ends_early_is_found(check):
    """Readers stop at a NUL: what the archive calls `README.md\\0x` would be read, and unpacked, as README.md."""
    files = bundle_files()
    whole = write_archive(files)
    assert check(whole) == []
    changed = write_archive(files | {"README.mdzx": files["README.md"]}).replace(b"README.mdzx", b"README.md\0x")
    assert check(changed)


def test_words_of_a_bundle_do_not_steer_the_terminal(tmp_path):
    path = tmp_path / "b.zip"
    path.write_bytes(write_archive(bundle_files(run="\x1b[2Jrun\n::error::x\u202e", device="\ud800")))
    done = CliRunner().invoke(application, ["verify", str(path)])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 2
    path.write_bytes(write_archive(bundle_files(contents={"\x1b[2J\nmissing": "a file"})))
    refused = CliRunner().invoke(application, ["verify", str(path)])
    assert refused.exit_code == 1
    assert not set("\x1b\u202e") & set(done.output + refused.output)


def test_a_name_there_twice_is_refused(check):
    buffer = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    assert check(buffer.getvalue()) == ["a: there twice"]


def test_zip_bombs_are_not_unpacked(check):
    bomb = hostile("a", bytes(50_000_000), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    assert check(bomb)[0] == "a: compressed or encrypted; a bundle's files are stored as they are"
    lie = bytearray(hostile("a", b"1234"))
    for at in (lie.index(b"PK\x03\x04") + 18, lie.index(b"PK\x01\x02") + 20):  # both sizes, in both tables
        lie[at : at + 8] = (2**31).to_bytes(4, "little") * 2
    assert check(bytes(lie)) == ["its files claim to be larger than it is"]
    many = write_archive({f"f{number}": b"" for number in range(MAX_FILES + 1)})
    assert check(many) == [f"{MAX_FILES + 1:,} files, a bundle has {MAX_FILES:,} at most"]


def test_links_are_refused(check):
    """A link as a file's mode: the archive that its files make has none."""
    files = bundle_files()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (0o120777 if name == "LICENSE" else 0o100644) << 16
            archive.writestr(entry, files[name])
    assert check(buffer.getvalue())


def test_no_such_file(tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_archive(tmp_path / "none.zip")


# ---- signatures

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="apt-get install openssh-client")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return folder


@needs_ssh_keygen
def test_signatures_are_checked_against_the_key(check, keys):
    files = bundle_files()
    signed = files | {"SHA256SUMS.sig": sign(files["SHA256SUMS"], keys / "own")}
    assert signed["SHA256SUMS.sig"] == sign(files["SHA256SUMS"], keys / "own")
    assert check(signed) == []
    assert check(signed, keys / "own.pub") == []
    assert check(signed, keys / "other.pub") == ["SHA256SUMS.sig: not a signature of these sums by that key"]
    assert check(files, keys / "own.pub") == ["it is not signed"]
    again = bundle_files(PAYLOAD | {"LICENSE": b"sold\n"})
    assert check(again | {"SHA256SUMS.sig": signed["SHA256SUMS.sig"]}, keys / "own.pub") != []
    assert check(again | {"SHA256SUMS.sig": b"nonsense"}, keys / "own.pub") != []


@needs_ssh_keygen
def test_keys_that_are_none(check, keys, tmp_path):
    (tmp_path / "text").write_text("no key\n")
    with pytest.raises(UsageError, match="cannot sign"):
        sign(b"sums", tmp_path / "text")
    with pytest.raises(UsageError, match="no such key"):
        sign(b"sums", tmp_path / "none")
    files = bundle_files()
    signed = files | {"SHA256SUMS.sig": sign(files["SHA256SUMS"], keys / "own")}
    for key in (tmp_path / "text", tmp_path / "none.pub", keys / "own"):
        with pytest.raises(UsageError, match="public key"):
            check(signed, key)


def test_sums_are_what_sha256sum_reads(tmp_path):
    text = sums_text(PAYLOAD)
    assert f"{hashlib.sha256(b'free' + bytes([10])).hexdigest()}  LICENSE\n".encode() in text
    (tmp_path / "model").mkdir()
    for name, content in {**PAYLOAD, "SHA256SUMS": text}.items():
        (tmp_path / name).write_bytes(content)
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "LICENSE").write_bytes(b"sold\n")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode != 0
