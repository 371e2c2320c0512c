"""Bounces in nobody's format: addresses that flufl.bounce finds in the words of known servers.

It knows who failed and not why, and takes nothing for granted that a line of a stranger's mail cannot break;
``reading`` answers for what it raises.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from flufl.bounce import all_failures

from relay.reports import mime
from relay.reports.report import About, Kind, address_of

# It logs each detector, and what mail it could not read with a traceback.
logging.getLogger("flufl.bounce").disabled = True


# Its patterns take time with the square of a line, and what it looks for stands in front.
_MOST_OCTETS = 64 * 1024
_LONGEST_LINE = 200


def read(octets: bytes) -> tuple[About, ...]:
    """Who failed, or is late."""
    message = mime.parse(octets, _MOST_OCTETS, _LONGEST_LINE)
    for part in mime.parts(message):
        if part.get_content_maintype() == "message":
            part.set_payload("")  # a mail within the mail: a bounce in it is somebody else's
    late, failed = all_failures(message)
    return (*_about(Kind.BOUNCE, failed), *_about(Kind.DELAY, late - failed))


def _about(kind: Kind, found: Iterable[bytes]) -> list[About]:
    named = (address_of(octets.decode("ascii", "replace")) for octets in sorted(found))
    return [About(kind, (address,)) for address in named if address]
