"""A submission: everything that was handed in, as one frozen value.

SMTP and HTTP both end in this value; from here on nobody knows which of the two it was, except by the
protocol name that goes into the Received field.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.submission.envelope import Envelope
from relay.submission.headers import HeaderBlock
from relay.submission.principal import Principal


@dataclass(frozen=True, slots=True)
class Client:
    """The peer that submits.  ``source_ip`` is an address without zone; v4-mapped v6 is given as v4.

    ``protocol`` is the keyword for the Received field (RFC 3848: ESMTPSA; HTTP for the API).
    ``tls_version`` is None without TLS.  ``user_agent`` exists for HTTP only.
    """

    source_ip: str
    helo: str
    protocol: str
    tls_version: str | None = None
    user_agent: str | None = None

    @property
    def is_secure(self) -> bool:
        return self.tls_version is not None


@dataclass(frozen=True, slots=True)
class Body:
    """The octets after the header block's blank line, with clean CRLF line ends, not dot-stuffed.

    ``parts`` holds them in order; it is None when they are in the store already because the body was
    too large to keep in memory.  ``simple_digest`` is the SHA-256 of the body under DKIM's simple
    canonicalization (RFC 6376 section 3.4.3), taken while the octets arrived.
    """

    size_bytes: int
    simple_digest: bytes
    parts: tuple[bytes, ...] | None


@dataclass(frozen=True, slots=True)
class Parameters:
    """What an API call names besides the message; each beats the header field of the same meaning (R5).

    ``action`` and ``api_version`` are what the call counts as; the defaults are SMTP's (SES Developer
    Guide, policy anatomy).
    """

    source_arn: str | None = None
    from_arn: str | None = None
    return_path_arn: str | None = None
    configuration_set: str | None = None
    tags: tuple[tuple[str, str], ...] | None = None
    action: str = "ses:SendRawEmail"
    api_version: str = "2"


@dataclass(frozen=True, slots=True)
class Submission:
    """One message as submitted.  ``id`` is its 64-bit key; ``received_at`` microseconds UTC."""

    id: int
    received_at: int
    principal: Principal
    client: Client
    envelope: Envelope
    headers: HeaderBlock
    body: Body
    parameters: Parameters = field(default_factory=Parameters)
