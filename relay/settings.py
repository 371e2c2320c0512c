"""The settings: one TOML file, overridable by ``RELAY_*``, read once into frozen values.

Unknown keys and bad values stop the start, all of them listed at once.  What changes while the gateway
runs (accounts, identities, policies) is in the store, not here.  The example file in ``config/`` is
made from this schema (``example``), so that a key, its meaning and its default stand in one place.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

FILE_NAME = "relay.toml"
# Names under the prefix that are not settings: where the file is, and which server the tests use.
_NOT_SETTINGS = {"RELAY_CONFIG", "RELAY_TEST_PG"}


class SettingsError(Exception):
    """Everything that is wrong with the settings; ``problems`` has a line for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def _split(value: Any) -> Any:
    """Lists may be given in the environment as ``a,b`` or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def parse_endpoint(text: str) -> tuple[str, int]:
    """``address:port`` to its two parts; an IPv6 address stands in brackets."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not address:port, such as 0.0.0.0:587 or [::]:587")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _listen_address(text: str) -> str:
    host, _ = parse_endpoint(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r}: an IP address is needed, such as 127.0.0.1:2587") from None
    return text


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network such as 10.0.0.0/8 or 2001:db8::/32: {error}") from None
    return text


def _smarthost(text: str) -> str:
    if text and parse_endpoint(text)[1] == 0:
        raise ValueError(f"{text!r}: port 0 cannot be connected to")
    return text


HOST_NAME = re.compile(
    r"(?i)(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
).fullmatch


def _host_name(text: str) -> str:
    if not HOST_NAME(text):
        raise ValueError(f"{text!r} is not a host name in ASCII, such as relay.example.com")
    return text.lower()


def _route_domain(text: str) -> str:
    if text and not HOST_NAME(text.removeprefix(".")):
        raise ValueError(
            f"{text!r} is not a domain in ASCII: customer.example for that domain alone,"
            " .customer.example for all below it"
        )
    return text.lower()


def _domain_or_none(text: str) -> str:
    if text and not HOST_NAME(text):
        raise ValueError(f"{text!r} is not a domain in ASCII, such as mail.example.com")
    return text.lower()


def _base_url(text: str) -> str:
    if text and not _BASE_URL(text):
        raise ValueError(f"{text!r} is not http(s)://host[:port][/path], such as https://relay.example.com")
    return text.rstrip("/")


_BASE_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/\-]*)?").fullmatch

Listen = Annotated[
    tuple[Annotated[str, AfterValidator(_listen_address)], ...], NoDecode, BeforeValidator(_split)
]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split)]
HostName = Annotated[str, AfterValidator(_host_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _number_is_no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None and field.annotation in (int, float):
            raise ValueError("a number is expected")  # else true would be read as 1
        return value


class RelaySection(_Section):
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = Field(
        "us-east-1",
        description="The region of every identity ARN here. A store belongs to one region for good.",
    )
    hostname: HostName = Field(
        "localhost",
        description="Our name in the banner, EHLO, Received and Message-ID: a fully qualified one.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Worker processes; 0 is one for each processor, where it stays; more never help.",
    )
    dialect: Literal["relay", "ses"] = Field(
        "relay", description='"ses" replaces Message-ID and Date as SES does; "relay" keeps the author\'s.'
    )
    node: str = Field(
        "", max_length=64, description="This machine among several on one store; empty is its host name."
    )


class StoreSection(_Section):
    url: str = Field(
        "sqlite:///relay.db",
        description="sqlite:///FILE (relative to this file) or postgresql://user:password@host/database.",
    )
    key_file: str = Field(
        "relay.key", description="The key that encrypts secrets in the store. Keep a copy elsewhere."
    )
    low_disk_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        description="With less free space no mail is taken (452), while deliveries can still be recorded.",
    )
    cache_bytes: int = Field(
        134_217_728,
        ge=1_048_576,
        description="What each worker may keep of accounts, credentials, identities and policies in memory;"
        " a sender with an identity takes some 20 KB.",
    )


class SmtpSection(_Section):
    listen: Listen = Field(
        ("0.0.0.0:587", "0.0.0.0:2587"),
        description="address:port of the listeners that offer STARTTLS.",
    )
    listen_tls: Listen = Field(
        ("0.0.0.0:465", "0.0.0.0:2465"),
        description="address:port of the listeners that begin with TLS.",
    )
    certificate: str = Field("relay.crt", description="PEM file with our certificate and its chain.")
    private_key: str = Field("relay.pem", description="PEM file with the certificate's private key.")
    allow_plaintext_auth: bool = Field(
        False, description="Offer AUTH without TLS to clients on the loopback interface; never to others."
    )
    max_recipients: int = Field(50, ge=1, le=1000, description="Recipients of one message (SES: 50).")
    max_message_bytes: int = Field(
        41_943_040, ge=1024, description="Octets of one message, attachments as encoded (SES: 40 MB)."
    )
    max_arriving_bytes: int = Field(
        134_217_728,
        ge=1024,
        description="Memory of one worker for messages that arrive; past it further ones are answered 452.",
    )
    max_connections: int = Field(
        2000,
        ge=1,
        description="Open client connections of one worker; an account has at most three times what it leaves"
        " free.",
    )
    max_connections_per_address: int = Field(
        100, ge=1, description="Of these, from one IPv4 address or IPv6 /64."
    )
    idle_seconds: int = Field(300, ge=1, description="A client silent for so long is disconnected.")
    max_auth_failures: int = Field(5, ge=1, description="Failed logins after which we disconnect.")
    max_auth_failures_per_address: int = Field(
        30,
        ge=1,
        description="Failed logins from one IPv4 address or IPv6 /64, at one worker, after which others are"
        " refused (421); who has logged in from there before still may.",
    )
    auth_failures_seconds: int = Field(900, ge=1, description="The time within which so many count.")
    proxy_from: Networks = Field(
        (),
        description="Load balancers, as addresses or networks, whose connections begin with a PROXY header"
        " (version 1 or 2): the client is whom it names. They must send one, nobody else may.",
    )
    enhanced_status_codes: bool = Field(
        False, description="Put RFC 3463 codes into replies; SES does not, so the default does not."
    )


class HttpSection(_Section):
    listen: Listen = Field(
        ("127.0.0.1:8025",),
        description="address:port of the HTTP listeners: API, metrics, health, confirmation pages; none: no"
        " HTTP.",
    )
    listen_tls: Listen = Field(
        (), description="address:port of those under TLS, with the certificate of [smtp]."
    )
    proxy_from: Networks = Field(
        (), description="Load balancers whose connections begin with a PROXY header, as in [smtp]."
    )
    public_url: Annotated[str, AfterValidator(_base_url)] = Field(
        "",
        description="How others reach them, https://relay.example.com: links in mail and notifications begin"
        " so; empty: only codes are mailed.",
    )
    metrics_token_file: str = Field(
        "",
        description="File with the bearer token that /metrics wants; empty: it answers this machine alone.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> HttpSection:
        if self.public_url and not (self.listen or self.listen_tls):
            raise ValueError("public_url: nothing listens there; name an address in listen or listen_tls")
        return self


class BounceSection(_Section):
    domain: Annotated[str, AfterValidator(_domain_or_none)] = Field(
        "",
        description="Mail leaves with a return path of ours in this domain, whose MX is us; empty: with the"
        " author's.",
    )
    listen: Listen = Field(
        (),
        description="address:port of the listeners that reports come back to, such as 0.0.0.0:25; also for"
        " MAIL FROM domains.",
    )
    token_days: int = Field(
        7, ge=1, le=365, description="Days that a return path of ours serves; at most [retention] days."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> BounceSection:
        if self.domain and not self.listen:
            raise ValueError("listen: name where reports to [bounce] domain are heard, such as 0.0.0.0:25")
        return self


class ApiSection(_Section):
    calls_per_second: int = Field(
        20,
        ge=0,
        description="Management calls of one account to one worker in a second; 0: any (SES: 1 for most).",
    )


TLS = Literal["none", "opportunistic", "require", "verify"]
_USER_AND_FILE = "a user needs a password file, and a password file a user"


class RouteSection(_Section):
    """Where some mail goes.  ``smarthost`` empty is by MX; an empty domain or account matches all."""

    domain: Annotated[str, AfterValidator(_route_domain)] = ""
    account: Annotated[str, Field(pattern=r"^([0-9]{12})?$")] = ""
    smarthost: Annotated[str, AfterValidator(_smarthost)] = ""
    tls: TLS = "opportunistic"
    user: str = ""
    password_file: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> RouteSection:
        if bool(self.user) != bool(self.password_file):
            raise ValueError(_USER_AND_FILE)
        if self.user and not self.smarthost:
            raise ValueError("user: there is no AUTH to the MX of a domain; name a smarthost")
        return self


class DeliverySection(_Section):
    smarthost: Annotated[str, AfterValidator(_smarthost)] = Field(
        "", description="host:port of the next hop that takes all mail; empty: mail goes to the domains' MX."
    )
    smarthost_tls: TLS = Field(
        "opportunistic",
        description='TLS to it, or to the MX: "require" never falls back to plaintext, "verify" also checks'
        " the name.",
    )
    smarthost_user: str = Field("", description="User name for AUTH to it; empty is no AUTH.")
    smarthost_password_file: str = Field("", description="File that holds the password for it.")
    port: int = Field(25, ge=1, le=65535, description="Port of the MX hosts.")
    ca_file: str = Field(
        "", description="PEM file of authorities to trust at next hops besides the system's."
    )
    mta_sts: Literal["on", "private", "off"] = Field(
        "on",
        description='Heed MTA-STS policies of MX domains; "private" fetches them from any address, "on" from'
        " public ones.",
    )
    connections: int = Field(
        20,
        ge=1,
        le=500,
        description="Connections to one next hop from one worker, if it bears as many (docs/delivery.md).",
    )
    connections_in_all: int = Field(
        500, ge=1, le=10_000, description="Connections to all next hops together from one worker."
    )
    connection_messages: int = Field(
        1000, ge=1, description="Messages over one connection, then it is closed."
    )
    connection_seconds: int = Field(300, ge=1, description="Age at which a connection takes no more.")
    retry_first_seconds: int = Field(60, ge=1, description="Wait before the second attempt; it doubles.")
    retry_max_seconds: int = Field(3600, ge=1, description="The longest wait between two attempts.")
    expire_seconds: int = Field(50_400, ge=1, description="After so long mail bounces (SES: 14 h).")
    delay_notice_seconds: int = Field(
        14_400, ge=0, description="After so long the Return-Path is told of the delay; 0 is never."
    )
    revoked: Literal["release", "hold", "bounce"] = Field(
        "release",
        description='Mail that waits when the owner takes the grant back: "release" lets it go, "hold" stops'
        ' it (relay queue), "bounce" returns it.',
    )
    routes: tuple[RouteSection, ...] = Field(
        (),
        description="Other ways for some mail, the first match wins (docs/delivery.md):"
        ' [{ domain = ".lab.example", smarthost = "mail.lab.example:25", tls = "require" }].',
    )

    @field_validator("routes")
    @classmethod
    def _routes_match_something(cls, routes: tuple[RouteSection, ...]) -> tuple[RouteSection, ...]:
        for at, route in enumerate(routes):
            if not route.domain and not route.account:
                raise ValueError(f"route {at}: name the domain or the account whose mail takes it")
        return routes

    @model_validator(mode="after")
    def _fits_together(self) -> DeliverySection:
        if bool(self.smarthost_user) != bool(self.smarthost_password_file):
            raise ValueError(f"smarthost_user, smarthost_password_file: {_USER_AND_FILE}")
        if self.smarthost_user and not self.smarthost:
            raise ValueError("smarthost_user: there is no AUTH to the MX of a domain; name a smarthost")
        return self


class WebhooksSection(_Section):
    allow: Networks = Field(
        (),
        description="Networks that notifications may be posted to though they are not public:"
        ' ["127.0.0.1/32"].',
    )
    ca_file: str = Field(
        "", description="PEM file of authorities to trust at receivers besides the system's."
    )
    connections: int = Field(
        8, ge=1, le=500, description="Posts to one subscription at once, from one worker."
    )
    connections_in_all: int = Field(
        200, ge=2, le=10_000, description="Posts to all together at once, from one worker."
    )
    timeout_seconds: int = Field(10, ge=1, le=300, description="The longest wait for a receiver's answer.")
    retry_first_seconds: int = Field(5, ge=1, description="Wait before the second attempt; it doubles.")
    retry_max_seconds: int = Field(1200, ge=1, description="The longest wait between two attempts.")
    give_up_seconds: int = Field(
        86_400, ge=1, description="A notification is dead once the waits between its attempts add up to this."
    )
    dead_seconds: int = Field(
        259_200, ge=1, description="A subscription that fails for so long, without a success, is dead."
    )
    confirm_seconds: int = Field(
        259_200, ge=1, description="How long a subscription may be confirmed (SNS: 3 days)."
    )
    file_directory: str = Field(
        "notifications",
        description="Directory that file subscriptions are written in; empty: there are none.",
    )
    aws_endpoint_url: str = Field(
        "", description="Where sns and sqs subscriptions find AWS; empty is AWS itself."
    )


class DnsSection(_Section):
    servers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (),
        description="Name servers to ask, address or address:port; none is the machine's own (resolv.conf).",
    )
    timeout_seconds: int = Field(5, ge=1, description="The longest wait for one answer.")

    @field_validator("servers")
    @classmethod
    def _are_addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            try:
                ipaddress.ip_address(server)
            except ValueError:
                _listen_address(server)
        return servers


class VerificationSection(_Section):
    pending_seconds: int = Field(
        60, ge=1, description="How often DNS is asked for the records of an identity that waits for them."
    )
    verified_seconds: int = Field(3600, ge=1, description="How often for those of a verified one.")
    give_up_seconds: int = Field(
        259_200, ge=1, description="An identity whose records are missing for so long fails (SES: 72 h)."
    )
    confirm_seconds: int = Field(
        86_400, ge=1, description="How long the code that is mailed to an address serves (SES: 24 h)."
    )


class QuotaSection(_Section):
    production_24h: int = Field(
        50_000,
        ge=-1,
        description="Recipients in 24 hours of an account with no number of its own; -1: any.",
    )
    production_rate: int = Field(14, ge=-1, description="Recipients a second of such an account; -1: any.")
    sandbox_24h: int = Field(200, ge=-1, description="The same for an account in the sandbox (SES: 200).")
    sandbox_rate: int = Field(1, ge=-1, description="The same for an account in the sandbox (SES: 1).")


def _rate(default: float, description: str) -> Any:
    return Field(default, ge=0, le=100, description=description)


class ReputationSection(_Section):
    window_days: int = Field(
        14, ge=1, le=366, description="Rates are of the mail that was accepted in so many days."
    )
    minimum_recipients: int = Field(
        1000, ge=1, description="With fewer recipients in these days an account is not judged."
    )
    bounce_warning: float = _rate(
        5.0, "Percent of hard bounces from which the log warns; 0 is never (SES reviews at 5)."
    )
    bounce_pause: float = _rate(
        0.0, "From which the account is paused until `relay account resume`; 0 is never (SES: 10)."
    )
    complaint_warning: float = _rate(
        0.1, "Percent of complaints from which the log warns; 0 is never (SES reviews at 0.1)."
    )
    complaint_pause: float = _rate(0.0, "From which the account is paused; 0 is never (SES: 0.5).")
    check_seconds: int = Field(60, ge=1, description="How often accounts are judged.")


class SandboxSection(_Section):
    owner_too: bool = Field(
        False, description="A lent identity's owner must be out of the sandbox too, not only the sender."
    )


class SimulatorSection(_Section):
    domain: Annotated[str, AfterValidator(_domain_or_none)] = Field(
        "simulator.amazonses.com",
        description="Mailboxes that show what can become of mail: what is sent there never leaves us. Empty:"
        " none.",
    )


class RetentionSection(_Section):
    days: int = Field(7, ge=1, description="Days that records of finished messages and refusals are kept.")


class LogSection(_Section):
    format: Literal["text", "json"] = Field("text", description="One line an event, for people or machines.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged."
    )


class Settings(BaseSettings):
    """All sections; only ``app`` and ``cli`` see the whole."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="RELAY_", env_nested_delimiter="__"
    )

    relay: RelaySection = RelaySection()
    store: StoreSection = StoreSection()
    smtp: SmtpSection = SmtpSection()
    http: HttpSection = HttpSection()
    bounce: BounceSection = BounceSection()
    api: ApiSection = ApiSection()
    delivery: DeliverySection = DeliverySection()
    webhooks: WebhooksSection = WebhooksSection()
    dns: DnsSection = DnsSection()
    verification: VerificationSection = VerificationSection()
    quota: QuotaSection = QuotaSection()
    reputation: ReputationSection = ReputationSection()
    sandbox: SandboxSection = SandboxSection()
    simulator: SimulatorSection = SimulatorSection()
    retention: RetentionSection = RetentionSection()
    log: LogSection = LogSection()
    directory: Path = Path()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment beats the file, whose content arrives as init arguments.
        return env_settings, init_settings

    def path(self, name: str) -> Path:
        """A file named in the settings, relative to the settings file's directory."""
        return self.directory / name

    @property
    def file_directory(self) -> Path | None:
        """Where file subscriptions are written; None for nowhere."""
        name = self.webhooks.file_directory
        return self.path(name).absolute() if name else None

    @property
    def store_url(self) -> str:
        """The store's URL with SQLite's file made absolute."""
        prefix = "sqlite:///"
        if self.store.url.startswith(prefix):
            return prefix + str(self.path(self.store.url.removeprefix(prefix)).absolute())
        return self.store.url


def load(file: Path) -> Settings:
    """Read the settings file and the environment; SettingsError lists everything that is wrong."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError([f"{file}: no such file; `relay init {file.parent}` makes one"]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([f"{file}: {error}"]) from None
    problems = list(_stray_variables())
    if "directory" in content:
        problems.append(f"{file}: directory: unknown key")
    try:
        settings = Settings(**{**content, "directory": file.absolute().parent})
    except ValidationError as error:
        problems += [_problem(file, detail) for detail in error.errors(include_url=False)]
    except Exception as error:  # pydantic-settings wraps what a variable's JSON raises
        problems.append(f"environment: {error}")
    else:
        problems += _contradictions(settings, file)
    if problems:
        raise SettingsError(problems)
    return settings


def _contradictions(settings: Settings, file: Path) -> Iterator[str]:
    """What is right in each section and does not go together."""
    bounce, days = settings.bounce, settings.retention.days
    if bounce.listen and bounce.token_days > days:
        yield (
            f"{file}: [bounce] token_days: a report needs the record of its message, which [retention] days"
            f" keeps for {days}: raise that, or lower this"
        )


def _stray_variables() -> Iterator[str]:
    sections = {f"RELAY_{name.upper()}" for name in Settings.model_fields if name != "directory"}
    for name in sorted(os.environ):
        if name.upper().startswith("RELAY_") and name.upper() not in _NOT_SETTINGS:
            section, _, key = name.upper().partition("__")
            if section not in sections or not key:
                yield f"environment: {name}: no such setting; the form is RELAY_SMTP__LISTEN"


def _variable(name: str) -> str | None:
    """The variable that sets a key, or a part of it, whatever its letter case."""
    return next(
        (one for one in os.environ if one.upper() == name or one.upper().startswith(f"{name}__")), None
    )


def _problem(file: Path, detail: Any) -> str:
    section, *keys = (str(part) for part in detail["loc"])
    variable = _variable(f"RELAY_{section}__{keys[0]}".upper()) if keys else None
    source = f"environment: {variable}" if variable else f"{file}: [{section}] {'.'.join(keys)}"
    text = (
        "unknown key" if detail["type"] == "extra_forbidden" else detail["msg"].removeprefix("Value error, ")
    )
    return f"{source.rstrip()}: {text}"


def example(**overrides: dict[str, Any]) -> str:
    """The settings file with every key, its meaning and its default, or the value in ``overrides``."""
    lines = ["# Settings of the relay. Relative files are relative to this one's directory."]
    for section, info in Settings.model_fields.items():
        if section == "directory":
            continue
        lines += ["", f"[{section}]"]
        for key, field in info.annotation.model_fields.items():  # type: ignore[union-attr]
            value = overrides.get(section, {}).get(key, field.default)
            lines += [f"# {field.description}", f"{key} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
