"""The bearer token that whoever reads ``/metrics`` shows."""

from __future__ import annotations

from relay.settings import Settings

_SHORTEST = 16


def metrics_token(settings: Settings) -> str:
    """The token, empty if none is wanted; OSError or ValueError if its file is not fit."""
    if not settings.http.metrics_token_file:
        return ""
    file = settings.path(settings.http.metrics_token_file)
    token = file.read_text(encoding="ascii").strip()
    if len(token) < _SHORTEST or not token.isprintable() or " " in token:
        raise ValueError(
            f"{file}: a token is one word of at least {_SHORTEST} characters; openssl rand -hex 32 makes one"
        )
    return token
