"""No credential is ever said: not of a location, not of a server's answer, not in a traceback."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from earshot.core.errors import UsageError
from earshot.pipeline.cli.main import application
from earshot.pipeline.remote.secrets import checked_location, redacted, shown

KEY, SECRET = "AKIAEARSHOTTESTS0001", "never/to/be/seen/0123456789abcdef"


@contextmanager
def telltale(status):
    """A server that answers every request with an error which quotes what came with it, credentials included."""

    class Answer(BaseHTTPRequestHandler):
        def answer(self):
            told = f"{self.path} {self.headers.get('Authorization')} {KEY} {SECRET}"
            body = f"<Error><Code>Denied</Code><Message>{told}</Message><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("command", ["push", "pull"])
@pytest.mark.parametrize("status", [403, 400])
def test_a_server_that_quotes_credentials(tmp_path, monkeypatch, command, status):
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    with telltale(status) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        ask = ["--debug", command, "s3://bucket/cache", "--store", str(tmp_path / "store"), "--quiet"]
        done = CliRunner().invoke(application, ask)
    assert done.exit_code == 3, done.output
    assert "error: s3://bucket/cache: " in done.output and "Traceback" in done.output
    for secret in (KEY, SECRET, SECRET[:16]):
        assert secret not in done.output


@pytest.mark.parametrize(
    "location",
    [
        f"s3://{KEY}:{SECRET.replace('/', '%2F')}@bucket/cache",
        f"s3://{KEY}@bucket/cache",
        "sftp://me:hunter22@host/cache",
        "https://me:hunter22@host/cache?token=hunter22",
    ],
)
@pytest.mark.parametrize("command", ["push", "pull"])
def test_credentials_in_a_location_are_refused_unsaid(tmp_path, location, command):
    ask = ["--debug", command, location, "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(application, ask)
    assert done.exit_code == 2
    assert "credentials do not belong into a location" in done.output
    for secret in (KEY, "never", "hunter22"):
        assert secret not in done.output


def test_what_is_no_credential_is_let_through():
    for location in ("s3://bucket/cache", "sftp://me@host/cache", "/a/folder", "folder", "file:///a/b", "s3://b/a@b"):
        assert checked_location(location) == location
    assert shown("sftp://me@host/cache") == "sftp://host/cache"
    assert shown("/a/@b?c") == "/a/@b?c"
    with pytest.raises(UsageError):
        checked_location("s3://key:secret@bucket")


def test_a_secret_with_a_slash_in_it_is_refused_unsaid():
    with pytest.raises(UsageError) as caught:
        checked_location("s3://AKIAKEY:half/otherhalf@bucket/place")
    assert not any(part in str(caught.value) for part in ("AKIAKEY", "half", "bucket"))


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:9/cache?sig=TOPSECRETSIG&se=2026",
        "http://127.0.0.1:9/cache?X-Amz-Signature=TOPSECRETSIG",
        "simplecache::http://127.0.0.1:9/cache?token=TOPSECRETSIG",
    ],
)
@pytest.mark.parametrize("command", ["push", "pull"])
def test_what_stands_in_a_query_is_never_said(tmp_path, location, command):
    """Signatures of shared links stand there; the libraries below quote the address they could not reach."""
    ask = ["--debug", command, location, "--store", str(tmp_path / "store"), "--quiet"]
    done = CliRunner().invoke(application, ask)
    assert done.exit_code in (2, 3) and "error: " in done.output
    assert "TOPSECRETSIG" not in done.output


def test_queries_are_masked_wherever_they_are_quoted():
    said = "Cannot connect to https://h/x?sig=ab%2Fc&se=2026-01-01 [why?] or 'http://h/y;token=abc' at 3 = 3"
    assert redacted(said) == ("Cannot connect to https://h/x?sig=***&se=*** [why?] or 'http://h/y;token=***' at 3 = 3")
    assert shown("https://host/cache?sig=abc#x") == "https://host/cache"
    with pytest.raises(UsageError, match="credentials do not belong") as caught:
        checked_location("simplecache::https://me:hunter22@host/cache")
    assert "hunter22" not in str(caught.value)


def test_values_of_the_environment_are_taken_out(monkeypatch):
    monkeypatch.setenv("MY_STORAGE_TOKEN", "abcdef123456")
    monkeypatch.setenv("MY_STORAGE_PATH", "plainvalue")
    monkeypatch.setenv("SHORT_KEY", "abc")
    assert redacted("abcdef123456 plainvalue abc https://u:p@host/x") == "*** plainvalue abc https://***@host/x"
