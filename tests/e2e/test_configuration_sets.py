"""A configuration set that requires TLS: its mail leaves under TLS or not at all."""

from __future__ import annotations

import time

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway


def test_mail_of_a_set_that_requires_tls_does_not_leave_in_plaintext(gateway: Gateway, recorder: Recorder):
    """The next hop here offers none."""
    gateway.identity("tls.example")
    login = gateway.login("tls", OWNER)
    gateway.run("configuration-set", "create", "secret", "--account", OWNER, "--tls-policy", "require")
    gateway.run("configuration-set", "create", "plain", "--account", OWNER)
    for name in ("secret", "plain"):
        headers = {"From": "a@tls.example", "X-SES-CONFIGURATION-SET": name}
        code, text = gateway.send(
            login, mail_from="a@tls.example", rcpt=f"{name}@customer.example", headers=headers
        )
        assert code == 250, text
    recorder.wait_for("plain@customer.example", 20)
    give_up_at = time.monotonic() + 20
    while "STARTTLS is required and not offered" not in gateway.log() and time.monotonic() < give_up_at:
        time.sleep(0.05)
    [line] = [line for line in gateway.log().splitlines() if " deferred " in line]
    assert "to=secret@customer.example" in line
    assert "STARTTLS is required and not offered" in line
