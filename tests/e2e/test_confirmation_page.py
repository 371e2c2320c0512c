"""R2: the link mailed to an address, by real HTTP: to look confirms nothing, the button does, and once."""

from __future__ import annotations

import email
import html
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.policy import default
from itertools import count
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway
from tests.support.stores import ENGINES
from tests.support.web import Answer, ask

PUBLIC = "https://mail.example.com/relay"
NOT_CONFIRMED = "This link does not confirm anything"
_numbers = count(1)


@pytest.fixture(scope="module", params=ENGINES)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers; whatever one of them showed, the other may confirm."""
    directory: Path = tmp_path_factory.mktemp("relay")
    recorder = Recorder(refused=frozenset())
    settings = {
        "RELAY_RELAY__WORKERS": "2",
        "RELAY_HTTP__PUBLIC_URL": f"{PUBLIC}/",
        "RELAY_VERIFICATION__CONFIRM_SECONDS": "60",
    }
    with ExitStack() as stack:
        stack.callback(recorder.close)
        if request.param == "postgresql":
            database = request.getfixturevalue("postgresql").database(empty=True)
            settings["RELAY_STORE__URL"] = stack.enter_context(database)
        one = Gateway(directory, recorder, **settings)
        one.run("init", str(directory))
        one.account(OWNER)
        one.start()
        yield one
        assert one.stop() == 0, one.log()
        assert "Traceback" not in one.log()


class Invited:
    """An address that waits, the link in its mail, and a client of its own."""

    def __init__(self, gateway: Gateway, name: str = "ann") -> None:
        number = next(_numbers)
        self.gateway = gateway
        self.address = f"{name}{number}@person.example"
        self.client = f"192.0.2.{number}"
        gateway.identity(self.address, verified=False)
        mail = gateway.recorder.wait_for(self.address, 20).data
        text = email.message_from_bytes(mail, policy=default).get_content()
        self.code = re.search(rf"^    {re.escape(PUBLIC)}/confirm\?code=(\w+)\s*$", text, re.MULTILINE)[1]
        assert f"relay identity confirm {self.code}" in text

    def ask(self, method: str, code: str | None = None, **kwargs: dict[str, str]) -> Answer:
        """What the proxy in front passes on: the path without the prefix, and whom it speaks for."""
        url = f"http://127.0.0.1:{self.gateway.http_port}/confirm"
        return ask(
            f"{url}?code={self.code if code is None else code}", method, x_forwarded_for=self.client, **kwargs
        )

    def press(self, code: str | None = None) -> Answer:
        return self.ask("POST", code, form={"code": self.code if code is None else code})

    def status(self) -> str:
        shown = self.gateway.run("identity", "show", self.address, "--account", OWNER)
        assert isinstance(shown, dict)
        return shown["verification_status"]


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def test_r02_button_behind_the_link_confirms_the_address(gateway):
    ann = Invited(gateway)
    shown = ann.ask("GET")
    assert shown.status == 200
    assert ann.address in shown.text
    assert OWNER in shown.text
    # What the button sends is what stands in the form.
    [form] = re.findall(r"<form([^>]*)>(.*?)</form>", shown.text, re.DOTALL)
    fields = dict(re.findall(r'name="(\w+)" value="(\w+)"', form[1]))
    assert (form[0], fields) == (' method="post"', {"code": ann.code})
    done = ann.ask("POST", form=fields)
    assert (done.status, "is confirmed" in done.text) == (200, True)
    assert ann.status() == "SUCCESS"


def test_r02_looking_at_the_page_confirms_nothing(gateway):
    """Mail scanners and previews follow links."""
    ann = Invited(gateway)
    for method in ("GET", "HEAD", "GET"):
        assert ann.ask(method).status == 200
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert ann.ask(method).status == 405
    assert ann.ask("POST").status == 404  # a code in the link alone is no pressed button
    assert ann.status() == "PENDING"


def test_r02_code_that_was_used_is_not_taken_again(gateway):
    ann = Invited(gateway)
    assert ann.press().status == 200
    for again in (ann.press(), ann.ask("GET")):
        assert (again.status, NOT_CONFIRMED in again.text) == (404, True)


def test_r02_wrong_late_used_and_replaced_codes_get_the_same_page(gateway, monkeypatch):
    used, replaced = Invited(gateway), Invited(gateway)
    used.press()
    gateway.invoke("identity", "verify", replaced.address, "--account", OWNER)
    pages = {
        used.press().text,
        replaced.press().text,
        used.press("A" * 32).text,
        used.press("").text,
        used.press("<script>alert(1)</script>").text,
        used.ask("GET", "'%3B%20DROP%20TABLE%20identity%3B--").text,
        used.ask("GET", "%ff%00").text,
        used.ask("GET", "x" * 5000).text,
    }
    [page] = pages
    assert NOT_CONFIRMED in page
    assert "newest mail" in page
    assert replaced.status() == "PENDING"


def test_r02_late_code_confirms_nothing(tmp_path):
    recorder = Recorder(refused=frozenset())
    settings = {"RELAY_HTTP__PUBLIC_URL": PUBLIC, "RELAY_VERIFICATION__CONFIRM_SECONDS": "2"}
    gateway = Gateway(tmp_path, recorder, **settings)
    gateway.run("init", str(tmp_path))
    gateway.account(OWNER)
    gateway.start()
    try:
        ann = Invited(gateway)
        wait_until(lambda: ann.ask("GET").status == 404)
        late = ann.press()
        assert (late.status, NOT_CONFIRMED in late.text) == (404, True)
        assert ann.status() in ("PENDING", "FAILED")
    finally:
        gateway.stop()
        recorder.close()


def test_pages_run_and_load_nothing_and_are_not_kept(gateway):
    ann = Invited(gateway)
    for answer in (ann.ask("GET"), ann.press(), ann.press()):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert not re.search(r"<script|\bon\w+=|https?://", answer.text)


def test_address_is_text_on_the_page(gateway):
    odd = Invited(gateway, "a&b'")
    page = odd.ask("GET").text
    assert html.escape(odd.address) in page
    assert odd.address not in page


def test_who_guesses_has_to_wait_and_nobody_else(gateway):
    guesser, ann = Invited(gateway), Invited(gateway)
    for _ in range(20):  # ten for each worker
        guesser.press("B" * 32)
    wait_until(lambda: guesser.press("B" * 32).status == 429)
    waiting = next(one for one in iter(lambda: guesser.press("B" * 32), None) if one.status == 429)
    assert 0 < int(waiting.headers["retry-after"]) <= 600
    assert "Please wait" in waiting.text
    assert ann.press().status == 200


def test_audit_names_the_page_and_from_where(gateway):
    ann = Invited(gateway)
    ann.press()
    entries = gateway.run("audit", "--action", "ConfirmEmailIdentity")
    [entry] = [one for one in entries if ann.address in json.dumps(one)]
    assert entry["actor"] == f"http:confirm from {ann.client}"
    assert ann.code not in gateway.log()
