"""The SMTP password that belongs to a secret access key, by SES's algorithm (version 4).

SES Developer Guide, obtaining SMTP credentials: the same derivation that SES's users have scripts for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

_STEPS = ("11111111", "{region}", "ses", "aws4_request", "SendRawEmail")
_VERSION = b"\x04"


def smtp_password(secret_access_key: str, region: str) -> str:
    """44 characters; another region gives another password."""
    key = f"AWS4{secret_access_key}".encode()
    for step in _STEPS:
        key = hmac.new(key, step.format(region=region).encode(), hashlib.sha256).digest()
    return base64.b64encode(_VERSION + key).decode("ascii")
