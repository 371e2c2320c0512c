"""Settings: one schema, everything that is wrong told at once."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from relay.settings import Settings, SettingsError, example, load, parse_endpoint


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("RELAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "relay.toml"
        file.write_text(text)
        return file

    return write


def problems(file: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load(file)
    return "\n".join(caught.value.problems)


def test_empty_file_gives_the_defaults(write):
    settings = load(write(""))
    assert settings.relay.region == "us-east-1"
    assert settings.smtp.listen == ("0.0.0.0:587", "0.0.0.0:2587")
    assert settings.smtp.max_recipients == 50
    assert settings.delivery.expire_seconds == 14 * 3600


def test_example_has_every_key_with_its_default(settings_file):
    beside = {"directory"}
    assert load(settings_file).model_dump(exclude=beside) == Settings().model_dump(exclude=beside)
    sections = tomllib.loads(example())
    assert {section: set(keys) for section, keys in sections.items()} == {
        section: set(info.annotation.model_fields)
        for section, info in Settings.model_fields.items()
        if section != "directory"
    }


def test_every_problem_is_listed_at_once(write):
    file = write(
        '[relay]\nregion = "nowhere"\nhostname = "-x-"\nspeed = 5\n'
        '[smtp]\nlisten = ["nowhere:25", "127.0.0.1:99999"]\nmax_recipients = 0\n'
        '[delivery]\nsmarthost = "mail.example.com"\nsmarthost_tls = "maybe"\n[extra]\nx = 1\n'
    )
    told = problems(file)
    for key in (
        "[relay] region",
        "[relay] hostname",
        "[relay] speed: unknown key",
        "[smtp] listen",
        "[smtp] max_recipients",
        "[delivery] smarthost:",
        "[delivery] smarthost_tls",
        "[extra]",
    ):
        assert key in told
    assert told.count(str(file)) == len(told.splitlines())


def test_environment_overrides_the_file(write, monkeypatch):
    monkeypatch.setenv("RELAY_RELAY__REGION", "eu-west-1")
    monkeypatch.setenv("RELAY_SMTP__LISTEN", "127.0.0.1:25,[::1]:26")
    monkeypatch.setenv("RELAY_SMTP__LISTEN_TLS", '["127.0.0.1:27"]')
    settings = load(write('[relay]\nregion = "us-west-2"\nhostname = "a.example"\n'))
    assert (settings.relay.region, settings.relay.hostname) == ("eu-west-1", "a.example")
    assert settings.smtp.listen == ("127.0.0.1:25", "[::1]:26")
    assert settings.smtp.listen_tls == ("127.0.0.1:27",)


def test_bad_variable_is_named(write, monkeypatch):
    monkeypatch.setenv("RELAY_RELAY__WORKERS", "many")
    assert "environment: RELAY_RELAY__WORKERS" in problems(write(""))


@pytest.mark.parametrize(
    "name", ["RELAY_WORKERS", "RELAY_SMPT__LISTEN", "RELAY_SMTP", "RELAY_SMTP__NONSENSE"]
)
def test_variable_that_is_no_setting_stops_the_start(write, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert problems(write(""))


@pytest.mark.parametrize("text", ["[relay", "relay = 5", 'x = "\\'])
def test_file_that_is_no_toml_is_named(write, text):
    assert str(write(text)) in problems(write(text))


def test_missing_file_names_the_cure(tmp_path):
    assert "relay init" in problems(tmp_path / "relay.toml")


def test_files_of_a_first_start_lie_beside_the_settings_file(settings_file):
    settings = load(settings_file)
    assert settings.store_url == f"sqlite:///{settings_file.parent}/relay.db"
    assert settings.path(settings.store.key_file) == settings_file.parent / "relay.key"


def test_files_are_relative_to_the_settings_file(write, tmp_path):
    settings = load(write('[store]\nurl = "sqlite:///data/relay.db"\nkey_file = "/run/relay.key"\n'))
    assert settings.store_url == f"sqlite:///{tmp_path}/data/relay.db"
    assert settings.path(settings.store.key_file) == Path("/run/relay.key")
    assert load(write('[store]\nurl = "postgresql://u:p@h/d"\n')).store_url == "postgresql://u:p@h/d"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:587", ("127.0.0.1", 587)),
        ("[::1]:25", ("::1", 25)),
        ("mail.example.com:25", ("mail.example.com", 25)),
    ],
)
def test_endpoints(text, expected):
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize("text", ["", "587", ":587", "host", "host:", "host:x", "host:70000", "host:²"])
def test_what_is_no_endpoint(text):
    with pytest.raises(ValueError, match="address:port"):
        parse_endpoint(text)


def test_routes_are_read_in_order(write):
    routes = '[{domain = ".Lab.example", smarthost = "h:25"}, {account = "111122223333", tls = "verify"}]'
    first, second = load(write(f"[delivery]\nroutes = {routes}\n")).delivery.routes
    assert (first.domain, first.smarthost, first.tls) == (".lab.example", "h:25", "opportunistic")
    assert (second.account, second.smarthost, second.tls) == ("111122223333", "", "verify")
    tables = '[[delivery.routes]]\ndomain = "x.example"\n[[delivery.routes]]\ndomain = "y.example"\n'
    assert [one.domain for one in load(write(tables)).delivery.routes] == ["x.example", "y.example"]


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ('smarthost = "h:25"', "routes: route 0: name the domain or the account whose mail takes it"),
        ('domain = "*.x.example"', "routes.0.domain: '*.x.example' is not a domain in ASCII"),
        ('domain = "x.example", smarthost = "h"', "routes.0.smarthost: 'h' is not address:port"),
        ('domain = "x.example", tls = "always"', "routes.0.tls:"),
        ('account = "12"', "routes.0.account:"),
        ('domain = "x.example", user = "u"', "routes.0: a user needs a password file"),
        ('domain = "x.example", user = "u", password_file = "p"', "routes.0: user: there is no AUTH"),
        ('domain = "x.example", port = 25', "routes.0.port: unknown key"),
    ],
)
def test_bad_route_is_named_with_what_is_wrong(write, route, problem):
    assert problem in problems(write(f"[delivery]\nroutes = [{{{route}}}]\n"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[delivery]\nsmarthost = "h:25"\nsmarthost_user = "u"\n', "a user needs a password file"),
        ("[smtp]\nmax_recipients = true\n", "[smtp] max_recipients: a number is expected"),
        ('[delivery]\nsmarthost = "mail.example.com:0"\n', "port 0 cannot be connected to"),
        ('[http]\npublic_url = "relay.example.com"\n', "[http] public_url: 'relay.example.com' is not http"),
        ('[http]\npublic_url = "https://relay.example.com/?x=1"\n', "is not http(s)://host[:port][/path]"),
        ('[http]\nlisten = []\npublic_url = "https://a.example"\n', "[http]: public_url: nothing listens"),
        ('[http]\nlisten = ["localhost:8025"]\n', "[http] listen.0: 'localhost:8025': an IP address"),
        ('[bounce]\ndomain = "bounces.example.com"\n', "[bounce]: listen: name where reports"),
        ('[bounce]\ndomain = "-x-"\nlisten = ["0.0.0.0:25"]\n', "[bounce] domain: '-x-' is not a domain"),
        ('[bounce]\nlisten = ["0.0.0.0:25"]\n[retention]\ndays = 3\n', "[bounce] token_days: a report needs"),
    ],
)
def test_value_that_only_looks_right_is_refused(write, text, problem):
    assert problem in problems(write(text))


@pytest.mark.parametrize("text", ["https://relay.example.com", "http://[::1]:8025/mail/"])
def test_public_url_is_taken_without_its_last_slash(write, text):
    assert load(write(f'[http]\npublic_url = "{text}"\n')).http.public_url == text.rstrip("/")
