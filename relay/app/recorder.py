"""A next hop for the demonstration: it takes mail on the loopback interface and keeps it in memory.

It speaks just enough SMTP for a client that follows the rules, refuses the recipients it is told to
refuse, and is of no use as a mail server.
"""

from __future__ import annotations

import socketserver
import threading
import time
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as it arrived: the envelope and the octets, not dot-stuffed."""

    reverse_path: str
    recipients: tuple[str, ...]
    data: bytes


class Recorder:
    """The next hop, listening from construction until ``close``."""

    def __init__(self, refused: frozenset[str], port: int = 0) -> None:
        self.refused = refused
        self.arrived: list[Arrived] = []
        self._server = _Server(("127.0.0.1", port), _Session)
        self._server.recorder = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def wait_for(self, recipient: str, seconds: float) -> Arrived:
        """The first message for that recipient; TimeoutError if none comes."""
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            for message in list(self.arrived):
                if recipient in message.recipients:
                    return message
            time.sleep(0.02)
        raise TimeoutError(f"no mail for {recipient} arrived within {seconds:.0f} s")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128  # every lane of every worker may dial at once
    recorder: Recorder


class _Session(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True  # replies to pipelined commands go out one by one

    def handle(self) -> None:
        self._reverse_path = ""
        self._recipients: list[str] = []
        self._say("220 next-hop.example ESMTP")
        try:
            self._converse()
        except OSError:
            pass  # the client went away

    def _converse(self) -> None:
        while line := self.rfile.readline(1024):
            verb, _, argument = line.decode("ascii", "replace").strip().partition(" ")
            if verb.upper() == "QUIT":
                self._say("221 2.0.0 Bye")
                return
            self._command(verb.upper(), argument)

    def _say(self, reply: str) -> None:
        self.wfile.write(reply.encode("ascii") + b"\r\n")

    def _command(self, verb: str, argument: str) -> None:
        if verb == "EHLO":
            self._say("250-next-hop.example\r\n250-PIPELINING\r\n250 8BITMIME")
        elif verb == "MAIL":
            self._reverse_path, self._recipients = _path(argument), []
            self._say("250 2.1.0 Ok")
        elif verb == "RCPT":
            self._recipient(_path(argument))
        elif verb == "DATA":
            self._data()
        else:
            self._say("250 2.0.0 Ok")

    def _recipient(self, address: str) -> None:
        recorder = cast(_Server, self.server).recorder
        if address in recorder.refused:
            self._say(f"550 5.1.1 <{address}>: no such user here")
        else:
            self._recipients.append(address)
            self._say("250 2.1.5 Ok")

    def _data(self) -> None:
        if not self._recipients:
            self._say("554 5.5.1 No valid recipients")
            return
        self._say("354 End data with <CR><LF>.<CR><LF>")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                raise ConnectionError("the client went away in the data")
            lines.append(line[1:] if line.startswith(b".") else line)
        recorder = cast(_Server, self.server).recorder
        recorder.arrived.append(Arrived(self._reverse_path, tuple(self._recipients), b"".join(lines)))
        self._say("250 2.0.0 Ok: recorded")


def _path(argument: str) -> str:
    return argument[argument.find("<") + 1 : argument.rfind(">")]
