"""Every problem of the settings is told with where it comes from: the file and key, or the variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.settings import Settings, SettingsError, example, load


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("RELAY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "relay.toml"
    file.write_text("")
    return file


def problems(file: Path, text: str = "") -> list[str]:
    """What is wrong, without the file's path in front."""
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("[smtp]\nlisen = []", "[smtp] lisen: unknown key", id="unknown-key"),
        pytest.param("[smpt]\nlisten = []", "[smpt]: unknown key", id="unknown-section"),
        pytest.param("listen = []", "[listen]: unknown key", id="key-outside-a-section"),
        pytest.param("[relay.sub]\na = 1", "[relay] sub: unknown key", id="section-within"),
        pytest.param("directory = '/x'", "directory: unknown key", id="what-is-no-setting"),
        pytest.param("[log]\nlevel = 'loud'", "[log] level: Input should be 'debug', 'info'", id="choice"),
        pytest.param(
            "[smtp]\nmax_recipients = 0", "[smtp] max_recipients: Input should be greater", id="small"
        ),
        pytest.param(
            "[smtp]\nmax_recipients = 1001", "[smtp] max_recipients: Input should be less", id="large"
        ),
        pytest.param(
            "[relay]\nworkers = 'many'", "[relay] workers: Input should be a valid integer", id="type"
        ),
        pytest.param("[relay]\nregion = 'Europe'", "[relay] region: String should match", id="region"),
        pytest.param(
            "[relay]\nhostname = 'a_b'",
            "[relay] hostname: 'a_b' is not a host name in ASCII, such as relay.example.com",
            id="host-name",
        ),
        pytest.param(
            "[smtp]\nlisten = ['127.0.0.1:25', 'localhost:25']",
            "[smtp] listen.1: 'localhost:25': an IP address is needed, such as 127.0.0.1:2587",
            id="listener-by-name",
        ),
        pytest.param(
            "[smtp]\nlisten_tls = ['127.0.0.1']",
            "[smtp] listen_tls.0: '127.0.0.1' is not address:port, such as 0.0.0.0:587 or [::]:587",
            id="listener-without-a-port",
        ),
        pytest.param(
            "[delivery]\nsmarthost = 'mail.example.com'",
            "[delivery] smarthost: 'mail.example.com' is not address:port",
            id="smart-host-without-a-port",
        ),
    ],
)
def test_problem_in_the_file_names_section_and_key(file: Path, text: str, problem: str) -> None:
    [told] = problems(file, text)
    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("RELAY_RELAY__WORKERS", "many", "Input should be a valid integer"),
        ("RELAY_SMTP__NONSENSE", "1", "unknown key"),
        ("RELAY_NONSENSE__LISTEN", "1", "no such setting; the form is RELAY_SMTP__LISTEN"),
        ("RELAY_WORKERS", "1", "no such setting; the form is RELAY_SMTP__LISTEN"),
        ("RELAY_RELAY", '{"workers": 3}', "no such setting; the form is RELAY_SMTP__LISTEN"),
        ("RELAY_DIRECTORY", "/tmp", "no such setting; the form is RELAY_SMTP__LISTEN"),
        ("RELAY_SMTP__LISTEN", "localhost:25", "'localhost:25': an IP address is needed"),
        ("RELAY_SMTP__LISTEN", "[", "Expecting value"),
        ("RELAY_SMTP__LISTEN__0", "127.0.0.1:25", ""),
        ("RELAY_DELIVERY__SMARTHOST", "mail", "'mail' is not address:port"),
    ],
)
def test_problem_in_the_environment_names_the_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    [told] = problems(file)
    assert told.startswith(f"environment: {name}: {problem}")


def test_file_and_environment_are_told_of_together(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_NOPE", "1")
    monkeypatch.setenv("RELAY_RELAY__WORKERS", "99")
    monkeypatch.setenv("RELAY_SMTP__LISTEN", "nowhere")
    told = problems(file, "[relay]\nspeed = 5\nregion = 'x'\n[extra]\n")
    assert [problem.split(": ")[:2] for problem in sorted(told)] == [
        ["[extra]", "unknown key"],
        ["[relay] region", "String should match pattern '^[a-z]{2}(-[a-z]+)+-\\d$'"],
        ["[relay] speed", "unknown key"],
        ["environment", "RELAY_NOPE"],
        ["environment", "RELAY_RELAY__WORKERS"],
        ["environment", "RELAY_SMTP__LISTEN"],
    ]


@pytest.mark.parametrize("name", ["relay_smtp__nonsense", "Relay_Smtp__Nonsense"])
def test_variable_in_other_letters_is_never_blamed_on_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is no setting at all, or its mistakes are its own."""
    monkeypatch.setenv(name, "1")
    told: tuple[str, ...] = ()
    try:
        load(file)
    except SettingsError as error:
        told = error.problems
    assert all(problem.startswith("environment: ") for problem in told), told


def test_variable_hides_a_bad_value_in_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_RELAY__WORKERS", "2")
    file.write_text("[relay]\nworkers = 'many'\n")
    assert load(file).relay.workers == 2


def test_one_variable_leaves_the_rest_of_its_section_to_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_SMTP__MAX_RECIPIENTS", "7")
    file.write_text("[smtp]\nidle_seconds = 5\nmax_recipients = 8\n")
    smtp = load(file).smtp
    assert (smtp.max_recipients, smtp.idle_seconds, smtp.max_auth_failures) == (7, 5, 5)


@pytest.mark.parametrize("name", ["RELAY_CONFIG", "RELAY_TEST_PG", "RELAYED", "XRELAY_WORKERS"])
def test_other_variables_are_nobodys_business(file: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    load(file)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("smtp", "listen", ("0.0.0.0:587", "0.0.0.0:2587")),
        ("smtp", "listen_tls", ("0.0.0.0:465", "0.0.0.0:2465")),
        ("smtp", "allow_plaintext_auth", False),
        ("smtp", "max_recipients", 50),
        ("smtp", "max_message_bytes", 40 * 2**20),
        ("smtp", "max_connections", 2000),
        ("smtp", "max_connections_per_address", 100),
        ("smtp", "idle_seconds", 300),
        ("smtp", "max_auth_failures", 5),
        ("smtp", "enhanced_status_codes", False),
        ("delivery", "retry_first_seconds", 60),
        ("delivery", "retry_max_seconds", 3600),
        ("delivery", "expire_seconds", 14 * 3600),
        ("delivery", "delay_notice_seconds", 4 * 3600),
        ("sandbox", "owner_too", False),
        ("retention", "days", 7),
        ("relay", "dialect", "relay"),
        ("store", "url", "sqlite:///relay.db"),
    ],
)
def test_default_is_that_of_the_design(file: Path, section: str, key: str, value: object) -> None:
    assert getattr(getattr(load(file), section), key) == value


def test_settings_never_change(file: Path) -> None:
    settings = load(file)
    with pytest.raises(ValueError, match="frozen"):
        settings.relay.workers = 5
    with pytest.raises(ValueError, match="frozen"):
        settings.log = None  # type: ignore[assignment]


def test_example_explains_every_key_in_the_line_above_it() -> None:
    lines = example().splitlines()
    for at, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            assert lines[at - 1].startswith("# "), line
            assert lines[at - 1].endswith((".", ".)")), lines[at - 1]


def test_example_takes_values_of_a_first_start(file: Path) -> None:
    file.write_text(example(relay={"hostname": "mx.example"}, delivery={"smarthost": "[::1]:25"}))
    settings = load(file)
    assert (settings.relay.hostname, settings.delivery.smarthost) == ("mx.example", "[::1]:25")
    assert settings.smtp == Settings().smtp


def test_example_file_in_the_tree_is_the_one_that_the_schema_makes() -> None:
    assert (Path(__file__).parents[2] / "config" / "relay.toml").read_text() == example()
