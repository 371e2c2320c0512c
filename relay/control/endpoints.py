"""Endpoints of subscriptions: what each protocol takes, and what is kept of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from relay.control.ground import ControlError, Ground
from relay.httpc import parse_url
from relay.submission.address import AddressError, parse_mailbox

HTTP = frozenset({"http", "https"})
AWS = frozenset({"sns", "sqs"})
PROTOCOLS = ("http", "https", "webhook", "email", "file", "sns", "sqs")
# Whoever answers there has to agree first.
_CONFIRMING = HTTP | {"email"}

_LONGEST = 1024
_FILE = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/){0,8}[A-Za-z0-9_-][A-Za-z0-9._-]*").fullmatch
_AWS_ARN = re.compile(
    r"arn:aws[a-z-]*:(sns|sqs):[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
).fullmatch


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``shown`` is what is stored and shown; ``basic`` the user and password that stood in an URL."""

    protocol: str
    shown: str
    basic: str | None = None

    @property
    def needs_confirmation(self) -> bool:
        return self.protocol in _CONFIRMING

    @property
    def is_signed_by_key(self) -> bool:
        """Whether what goes there is in SNS's form, which its reader verifies by our certificate."""
        return self.protocol in HTTP or self.protocol == "sqs"


def read(ground: Ground, protocol: str, text: str, raw: bool) -> Endpoint:
    """The endpoint, or a ControlError that says what is wrong with it."""
    if len(text) > _LONGEST:
        raise _wrong(f"it has more than {_LONGEST} characters")
    if protocol in HTTP or protocol == "webhook":
        found = _url(protocol, text)
    elif protocol == "email":
        found = Endpoint(protocol, _address(text))
    elif protocol == "file":
        found = Endpoint(protocol, _file(ground, text))
    else:
        found = Endpoint(protocol, _aws_arn(protocol, text))
    if found.is_signed_by_key and not ground.public_url and not (raw and protocol == "sqs"):
        raise ControlError(
            "no_public_url",
            f"{protocol} messages name the addresses of our certificate and confirmation pages:"
            " set [http] public_url in the settings first",
        )
    return found


def _url(protocol: str, text: str) -> Endpoint:
    schemes = ("http", "https") if protocol == "webhook" else (protocol,)
    userinfo, bare = _without_userinfo(text)
    target = parse_url(bare)
    if target is None or target.scheme not in schemes:
        expected = " or ".join(f"{scheme}://host[:port]/path" for scheme in schemes)
        raise _wrong(f"{protocol} wants {expected}, in ASCII and without a fragment")
    return Endpoint(protocol, bare, userinfo)


def _without_userinfo(text: str) -> tuple[str | None, str]:
    """User and password are a secret: they are not kept where the endpoint is shown."""
    try:
        netloc = urlsplit(text).netloc
    except ValueError:
        return None, text
    userinfo, at, host = netloc.rpartition("@")
    if not at:
        return None, text
    return unquote(userinfo), text.replace(netloc, host, 1)


def _address(text: str) -> str:
    try:
        return str(parse_mailbox(text))
    except AddressError as error:
        raise _wrong(f"email wants an address: {error.reason}") from error


def _file(ground: Ground, text: str) -> str:
    """The file's name below the directory that the operator allowed."""
    directory = ground.subscribing.file_directory
    if directory is None:
        raise ControlError("not_allowed", "files are not written: set [webhooks] file_directory first")
    path = Path(text)
    name = str(path.relative_to(directory)) if path.is_relative_to(directory) else text
    if not _FILE(name):
        raise _wrong(
            f"file wants a name below {directory} ([webhooks] file_directory), such as events.jsonl,"
            " of letters, digits and . _ - /"
        )
    return name


def _aws_arn(protocol: str, text: str) -> str:
    found = _AWS_ARN(text)
    if found is None or found[1] != protocol:
        raise _wrong(f"{protocol} wants the ARN at AWS, arn:aws:{protocol}:REGION:ACCOUNT:NAME")
    if text.endswith(".fifo"):
        raise _wrong("a FIFO topic or queue takes no notifications, as with SES; name a standard one")
    if find_spec("boto3") is None:
        raise ControlError(
            "unavailable", f"{protocol} needs boto3, which is not installed: pip install 'relay[aws]'"
        )
    return text


def _wrong(what: str) -> ControlError:
    return ControlError("invalid_endpoint", what)
