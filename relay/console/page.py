"""One look for every page: plain HTML without scripts, under a policy that allows its one style sheet."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from relay.httpd import Response

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 36rem; margin: 12vh auto; padding: 0 1.25rem; }
h1 { font-size: 1.4rem; line-height: 1.25; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; margin: 1.25rem 0; }
dt { opacity: .7; }
dd { margin: 0; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
button { font: inherit; font-weight: 600; padding: .6rem 1.4rem; border: 0; border-radius: .4rem;
  background: #1857b8; color: #fff; cursor: pointer; }
button:hover, button:focus-visible { background: #0f3f8a; }
"""
_NONE: Mapping[str, str] = {}
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)


def page(status: int, title: str, body: str, headers: Mapping[str, str] = _NONE) -> Response:
    """A page; ``body`` is HTML in which all that came from outside is escaped."""
    html = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )
    return Response(
        status, html.encode(), "text/html; charset=utf-8", {"content-security-policy": _POLICY, **headers}
    )
