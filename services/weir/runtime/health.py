"""HTTP server for `/livez`, `/readyz` and `/metrics` of a worker, on a separate port."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from weir.runtime.browser_requests import RESPONSE_HEADERS, is_loopback, refuse_foreign_page
from weir.runtime.stall_watch import StallWatch

PARTITIONS_TAKEN = "its partitions were revoked, and new ones are not assigned yet"


class Health:
    """The readiness of a worker: ready, or a sentence that says why not."""

    def __init__(self, progress: StallWatch | None = None) -> None:
        """`progress`: makes the service not ready while records wait without progress."""
        self._unready = "starting"
        self._progress = progress

    def ready(self) -> None:
        self._unready = ""

    def unready(self, why: str) -> None:
        self._unready = why

    @property
    def why_unready(self) -> str:
        stalled = self._progress.explain() if self._progress else ""
        return "; ".join(filter(None, (self._unready, stalled)))


def serve(host: str, port: int, health: Health) -> Callable[[], None]:
    """Serve in a daemon thread until the returned function is called; with port 0, serve nothing."""
    if port == 0:
        return lambda: None

    class HealthResponse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            foreign = refuse_foreign_page(
                lambda name: self.headers.get_all(name) or (), is_loopback(host)
            )
            if foreign is not None:
                self._reply(403, f"{foreign}\n")
            elif self.path == "/livez":
                self._reply(200, "live\n")
            elif self.path == "/readyz":
                why = health.why_unready
                self._reply(503 if why else 200, f"{why or 'ready'}\n")
            elif self.path == "/metrics":
                self._reply(200, generate_latest().decode(), CONTENT_TYPE_LATEST)
            else:
                self._reply(404, "only /livez, /readyz and /metrics exist\n")

        def _reply(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in RESPONSE_HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: probes come every second."""

    server = ThreadingHTTPServer((host, port), HealthResponse)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
