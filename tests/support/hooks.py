"""A receiver of webhooks in a thread, for tests whose gateway is another process."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Posted:
    """One request: the notification's id, which a repeat has again, and the event."""

    id: str
    event: dict[str, Any]

    @property
    def type(self) -> str:
        """``event:Bounce`` or ``notification:Bounce``."""
        shape = "event" if "eventType" in self.event else "notification"
        return f"{shape}:{self.event[f'{shape}Type']}"

    @property
    def message_id(self) -> str:
        return str(self.event["mail"]["messageId"])


class Hooks:
    """Listens on loopback from construction until ``close``.

    ``posted`` is what came about mail, ``tests`` what came when a topic was set somewhere.
    """

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.tests: list[str] = []
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                take(self.headers["webhook-id"], json.loads(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _take(self, id_: str, event: dict[str, Any]) -> None:
        if "mail" in event:
            self.posted.append(Posted(id_, event))
        else:
            self.tests.append(event["message"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def of(self, message_id: str) -> list[Posted]:
        return [one for one in list(self.posted) if one.message_id == message_id]

    def wait_for(self, message_id: str, type_: str, seconds: float = 20) -> Posted:
        """The first of that type about the message; TimeoutError if none comes."""
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            for one in self.of(message_id):
                if one.type == type_:
                    return one
            time.sleep(0.02)
        raise TimeoutError(f"no {type_} about {message_id} within {seconds:.0f} s: {self.of(message_id)}")

    def wait_for_test(self, message: str, seconds: float = 20) -> None:
        """Until the test message has come; TimeoutError if it does not."""
        give_up_at = time.monotonic() + seconds
        while message not in self.tests:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"no test message {message!r} within {seconds:.0f} s: {self.tests}")
            time.sleep(0.02)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
