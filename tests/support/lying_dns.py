"""A name server that does not do what it should."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

Answering = Callable[[dns.message.Message], bytes | None]


def silent(_: dns.message.Message) -> None:
    return None


def fails(rcode: dns.rcode.Rcode) -> Answering:
    def answer(question: dns.message.Message) -> bytes:
        response = dns.message.make_response(question)
        response.set_rcode(rcode)
        return response.to_wire()

    return answer


def garbage(_: dns.message.Message) -> bytes:
    return b"\xff" * 40


def of_another_question(question: dns.message.Message) -> bytes:
    """A well-formed answer that nobody asked for."""
    other = dns.message.make_query("other.example", "TXT", id=question.id)
    response = dns.message.make_response(other)
    response.answer.append(dns.rrset.from_text("other.example.", 60, "IN", "TXT", '"lie"'))
    return response.to_wire()


def loop(question: dns.message.Message) -> bytes:
    """a is an alias of b, and b of a."""
    response = dns.message.make_response(question)
    response.flags |= dns.flags.AA
    name = question.question[0].name.to_text()
    other = "b.loop.example." if name.startswith("a.") else "a.loop.example."
    response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", other))
    response.answer.append(dns.rrset.from_text(other, 60, "IN", "CNAME", name))
    return response.to_wire()


class LyingDNS:
    """Listens from construction until ``close``; ``questions`` counts."""

    def __init__(self, answer: Answering) -> None:
        self.questions = 0
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                octets, sock = self.request
                outer.questions += 1
                response = answer(dns.message.from_wire(octets))
                if response is not None:
                    sock.sendto(response, self.client_address)

        self._server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
