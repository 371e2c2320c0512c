"""A client for the HTTP listener that follows nothing and keeps nothing."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict, compare=False)


def ask(url: str, method: str = "GET", form: dict[str, str] | None = None, **fields: str) -> Answer:
    """One request; underscores in the names of header fields stand for hyphens.  OSError if none answers."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.netloc, timeout=20, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    body = None
    if form is not None:
        body = urlencode(form)
        headers["content-type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, parts._replace(scheme="", netloc="").geturl(), body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        return Answer(answer.status, text, {name.lower(): value for name, value in answer.getheaders()})
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
