"""A client that says exactly the octets it is told to, for what real clients do not."""

from __future__ import annotations

import base64
import socket
import ssl

from tests.support.gateway import Gateway, Login


class Wire:
    """One connection to the gateway, from the address ``sender``, with ``preface`` before anything else."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        tls: bool = True,
        implicit: bool = False,
        sender: str = "127.0.0.1",
        preface: bytes = b"",
    ) -> None:
        self._gateway = gateway
        port = gateway.tls_port if implicit else gateway.port
        self.sock: socket.socket = socket.create_connection(("127.0.0.1", port), 20, (sender, 0))
        self.sock.sendall(preface)
        if implicit:
            self._wrap()
        self._file = self.sock.makefile("rb")
        self.greeting = self.reply()
        if tls and not implicit:
            self.say("EHLO client.example")
            self.say("STARTTLS")
            self._wrap()
            self._file = self.sock.makefile("rb")

    def _wrap(self) -> None:
        context = ssl.create_default_context(cafile=str(self._gateway.directory / "relay.crt"))
        self.sock = context.wrap_socket(self.sock, server_hostname="relay.example")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def reply(self) -> str:
        """The next reply, lines joined; empty at the end of the stream."""
        lines = []
        while True:
            line = self._file.readline().decode("ascii")
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    def say(self, command: str) -> str:
        self.send(command.encode("latin-1") + b"\r\n")
        return self.reply()

    def log_in(self, login: Login) -> Wire:
        self.say("EHLO client.example")
        plain = base64.b64encode(f"\0{login.username}\0{login.password}".encode()).decode()
        assert self.say(f"AUTH PLAIN {plain}").startswith("235")
        return self

    def envelope(self, mail_from: str, *rcpts: str) -> None:
        """MAIL, RCPT and DATA, all taken."""
        assert self.say(f"MAIL FROM:<{mail_from}>").startswith("250")
        for rcpt in rcpts or ("user@customer.example",):
            assert self.say(f"RCPT TO:<{rcpt}>").startswith("250")
        assert self.say("DATA").startswith("354")

    def is_closed(self) -> bool:
        return self._file.read(1) == b""
