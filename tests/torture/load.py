"""Honest clients: they log in, send, and send again whatever they were told nothing about.

A message keeps its Message-ID and its recipients over all tries, so that what a client sent twice can be
told from what the gateway delivered twice.
"""

from __future__ import annotations

import random
import smtplib
import threading
import time
from collections.abc import Callable
from hashlib import sha256

from tests.support.gateway import arn
from tests.torture.ledger import Ledger
from tests.torture.plan import GONE
from tests.torture.values import Sent, Told

DOMAINS = tuple(f"d{number}.example" for number in range(6))
_LINE = "the quick brown fox jumps over the lazy dog and carries a letter\r\n"
# Most letters are short, a few long enough for several chunks of the store.
_SIZES = (1_000,) * 60 + (4_000,) * 30 + (50_000,) * 8 + (700_000,) * 2
# Of the recipients, who do not exist.
_GONE_SHARE = 0.03
_AGAIN_SECONDS = 0.2
# How long a client goes on with its last message when no new ones are to be sent.
_PATIENCE_SECONDS = 30.0


class Load:
    """Clients that send ``rate`` messages a second together, from construction until ``stop``.

    ``log_in`` gives an open session.
    """

    def __init__(
        self, log_in: Callable[[], smtplib.SMTP], ledger: Ledger, seed: str, clients: int, rate: float
    ) -> None:
        self._log_in, self._ledger = log_in, ledger
        self._pause = clients / rate
        self._stopped_at: float | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(f"{seed}c{number}",), daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No new messages; returns when every client had its last answer or gave up."""
        self._stopped_at = time.monotonic()
        for thread in self._threads:
            thread.join()

    @property
    def _gives_up(self) -> bool:
        return self._stopped_at is not None and time.monotonic() > self._stopped_at + _PATIENCE_SECONDS

    def _run(self, name: str) -> None:
        chance = random.Random(name)
        client = _Client(self._log_in)
        number = 0
        while self._stopped_at is None:
            number += 1
            began_at = time.monotonic()
            self._send(client, *_message(f"{name}m{number}", chance))
            time.sleep(max(self._pause * 2 * chance.random() - (time.monotonic() - began_at), 0))
        client.close()

    def _send(self, client: _Client, sent: Sent, octets: bytes) -> None:
        """Until it is answered for good."""
        while not self._gives_up:
            self._ledger.sending(sent)
            code, text = client.transact(sent, octets)
            relay_id = text.removeprefix("Ok ") if code == 250 else None
            self._ledger.told(Told(sent.id, code, relay_id), text)
            if code is not None and not 400 <= code < 500:
                return
            time.sleep(_AGAIN_SECONDS)


class _Client:
    """A session that is opened anew when it is lost."""

    def __init__(self, log_in: Callable[[], smtplib.SMTP]) -> None:
        self._log_in = log_in
        self._session: smtplib.SMTP | None = None

    def transact(self, sent: Sent, octets: bytes) -> tuple[int | None, str]:
        """The reply to the dot, or to what was refused before; None if there was none."""
        try:
            if self._session is None:
                self._session = self._log_in()
            return self._say(self._session, sent, octets)
        except smtplib.SMTPResponseException as error:  # refused at the greeting, or logging in
            self.close()
            return int(error.smtp_code), repr(error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            return None, repr(error)

    def _say(self, session: smtplib.SMTP, sent: Sent, octets: bytes) -> tuple[int, str]:
        code, text = session.mail(sent.reverse_path)
        for address in sent.recipients:
            if code == 250:
                code, text = session.rcpt(address)
        if code == 250:
            code, text = session.data(octets)
        else:
            session.rset()
        if code == 421:
            self.close()
        return code, text.decode("latin-1")

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _message(name: str, chance: random.Random) -> tuple[Sent, bytes]:
    """The message of that name: one to four recipients, a body that holds the name."""
    domains = chance.sample(DOMAINS, 2)
    recipients = tuple(
        f"{GONE if chance.random() < _GONE_SHARE else 'user'}{name}r{n}@{domains[n % 2]}"
        for n in range(chance.choice((1, 1, 1, 2, 4)))
    )
    size = chance.choice(_SIZES)
    # A line that begins with a dot, so that stuffing is part of it.
    body = f"{name}\r\n.{name}\r\n" + _LINE * (size // len(_LINE))
    sent = Sent(name, f"{name}@owner.example", recipients, sha256(body.encode()).hexdigest())
    head = {
        "From": "Acme Alerts <alerts@owner.example>",
        "To": ", ".join(recipients),
        "Subject": f"Message {name}",
        "Message-ID": f"<{name}@client.example>",
        "X-SES-SOURCE-ARN": arn("owner.example"),
    }
    fields = "".join(f"{field}: {value}\r\n" for field, value in head.items())
    return sent, f"{fields}\r\n{body}".encode()
