"""A little of S3 on this machine: objects in memory, and errors at will.

Only what s3fs asks for when Zarr is written and read without signing.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Fault = Callable[[str, str], int | None]
"""From method and key to a status to answer with; 0 closes the connection, ``None`` is no fault."""

_CODES = {403: "ExpiredToken", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


class FakeS3:
    """Objects by key, such as ``bucket/x.zarr/zarr.json``."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fault: Fault | None = None
        self.requests: list[tuple[str, str]] = []
        self.url = ""

    @property
    def storage_options(self) -> dict[str, object]:
        """What a client needs to know."""
        return {"anon": True, "endpoint_url": self.url}

    def listed(self, prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
        """Return keys below a prefix, and those parts that end in the delimiter."""
        keys, parts = [], []
        for key in sorted(self.objects):
            if not key.startswith(prefix):
                continue
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if found:
                parts.append(prefix + head + delimiter)
            else:
                keys.append(key)
        return keys, sorted(set(parts))


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    """Run one until the end of the context."""
    store = FakeS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # Head and body in one packet, or each answer takes 40 ms.

        def _answer(self) -> None:
            split = urlsplit(self.path)
            key, query = unquote(split.path).strip("/"), parse_qs(split.query, True)
            body = self._body()
            store.requests.append((self.command, key))
            fault = store.fault(self.command, key) if store.fault is not None else None
            if fault == 0:
                self.close_connection = True
                self.connection.close()
            elif fault is not None:
                self._send(fault, _error(fault))
            else:
                self._serve(key, query, body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer

        def handle_expect_100(self) -> bool:
            """Say at once that the body may come."""
            goes_on = super().handle_expect_100()
            self.wfile.flush()
            return goes_on

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            else:
                raw = b""
                while size := int(self.rfile.readline(), 16):
                    raw += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
                return raw
            decoded = b""
            while raw:
                head, _, rest = raw.partition(b"\r\n")
                size = int(head.split(b";")[0], 16)
                if not size:
                    break
                decoded, raw = decoded + rest[:size], rest[size + 2 :]
            return decoded

        def _serve(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
            bucket, _, inside = key.partition("/")
            if self.command == "PUT":
                store.objects[key] = body
                self._send(200, b"", ETag='"0"')
            elif self.command == "DELETE":
                store.objects.pop(key, None)
                self._send(204, b"")
            elif self.command == "POST" and "delete" in query:
                for name in re.findall(rb"<Key>(.*?)</Key>", body):
                    store.objects.pop(f"{bucket}/{name.decode()}", None)
                self._send(200, b"<DeleteResult></DeleteResult>")
            elif not inside:
                self._send(200, self._listing(bucket, query))
            elif key not in store.objects:
                self._send(404, b"" if self.command == "HEAD" else _error(404))
            else:
                self._send_object(store.objects[key])

        def _send_object(self, data: bytes) -> None:
            wanted = re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            status = 200
            if wanted and data:
                first, last = wanted.groups()
                begin = int(first) if first else max(0, len(data) - int(last))
                data = data[begin : int(last) + 1 if first and last else None]
                status = 206
            self._send(status, data, ETag='"0"')

        def _listing(self, bucket: str, query: dict[str, list[str]]) -> bytes:
            prefix = query.get("prefix", [""])[0]
            keys, parts = store.listed(f"{bucket}/{prefix}", query.get("delimiter", [""])[0])
            when = "2026-01-01T00:00:00.000Z"
            found = "".join(
                f"<Contents><Key>{escape(key[len(bucket) + 1 :])}</Key>"
                f"<LastModified>{when}</LastModified><ETag>0</ETag>"
                f"<Size>{len(store.objects[key])}</Size></Contents>"
                for key in keys
            ) + "".join(
                f"<CommonPrefixes><Prefix>{escape(part[len(bucket) + 1 :])}</Prefix>"
                "</CommonPrefixes>"
                for part in parts
            )
            n_found = len(keys) + len(parts)
            return (
                f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{n_found}</KeyCount>"
                f"<IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
            ).encode()

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _error(status: int) -> bytes:
    code = _CODES.get(status, "Error")
    return f"<Error><Code>{code}</Code><Message>as was asked for</Message></Error>".encode()
