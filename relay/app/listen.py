"""The listening sockets.  The supervisor binds them and all workers accept from them, so that a worker that
dies or is busy holds up no connection, and each gets an even share (``relay.session.listener``)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from relay.settings import Settings, parse_endpoint

_BACKLOG = 1024


class ListenError(Exception):
    """An address cannot be listened on; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen, for what, and whether TLS begins at once; by SMTP it may also begin by STARTTLS."""

    host: str
    port: int
    implicit_tls: bool
    protocol: Literal["smtp", "http", "bounce"] = "smtp"  # as its section in the settings

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def endpoints(settings: Settings) -> tuple[Endpoint, ...]:
    """Every listener the settings name."""
    smtp, bounce, http = settings.smtp, settings.bounce, settings.http
    return (
        *(Endpoint(*parse_endpoint(text), implicit_tls=False) for text in smtp.listen),
        *(Endpoint(*parse_endpoint(text), implicit_tls=True) for text in smtp.listen_tls),
        *(Endpoint(*parse_endpoint(text), implicit_tls=False, protocol="bounce") for text in bounce.listen),
        *(Endpoint(*parse_endpoint(text), implicit_tls=False, protocol="http") for text in http.listen),
        *(Endpoint(*parse_endpoint(text), implicit_tls=True, protocol="http") for text in http.listen_tls),
    )


def bind(where: Iterable[Endpoint]) -> dict[Endpoint, socket.socket]:
    """A listening socket for each."""
    sockets: dict[Endpoint, socket.socket] = {}
    try:
        for endpoint in where:
            sockets[endpoint] = _bind(endpoint)
    except OSError as error:
        for one in sockets.values():
            one.close()
        raise ListenError(f"{endpoint}: {error.strerror or error}") from error
    return sockets


def _bind(endpoint: Endpoint) -> socket.socket:
    is_v6 = ipaddress.ip_address(endpoint.host).version == 6
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((endpoint.host, endpoint.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
