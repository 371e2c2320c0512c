"""TLS contexts, made once per process."""

from __future__ import annotations

import ssl

from relay.settings import Settings


def server_context(settings: Settings) -> ssl.SSLContext:
    """For the listeners: TLS 1.2 or later; OSError or SSLError if the files are not usable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(
        settings.path(settings.smtp.certificate), settings.path(settings.smtp.private_key)
    )
    return context
