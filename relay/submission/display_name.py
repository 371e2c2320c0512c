"""Display names: decoded fully and strictly, so that policies see what the reader will see.

A name is a phrase of RFC 5322: atoms, quoted strings, RFC 2047 encoded words, one blank between them.
What a mail program might decode otherwise than we do is refused, and so is a name that pretends: one
that holds an address other than its own, a control character or one that turns the writing direction.
"""

from __future__ import annotations

import binascii
import re
import unicodedata

from relay.submission.address import Mailbox


class DisplayNameError(ValueError):
    """The name is refused.  ``reason`` is a sentence for whoever wrote it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# The full stop stands for RFC 5322's obs-phrase ("John Q. Public"), which everybody writes.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]"
_is_plain = re.compile(rf"(?!\.){_ATOM}++(?: {_ATOM}++)*").fullmatch
_match_word = re.compile(rf' *(?:"((?:[^"\\]|\\.)*)"|({_ATOM}++))(?= |\Z)').match
# No specials of RFC 5322 inside: a reader that takes words apart first would stop at them.
_match_encoded = re.compile(
    r"=\?([A-Za-z0-9_.:-]+)(?:\*[A-Za-z0-9-]+)?\?([BbQq])\?([A-Za-z0-9!#$%&'*+/=^_`{|}~.-]*)\?="
).fullmatch
_unescape = re.compile(r"\\(.)").sub
_find_bad_escape = re.compile(r"=(?![0-9A-F]{2})", re.IGNORECASE).search

# Text encodings only, without UTF-7, whose readers differ, and without Python's own inventions.
_ISO_8859 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)
_CHARSETS = frozenset(
    {"utf-8", "us-ascii", "koi8-r", "koi8-u", "tis-620", "gb2312", "gbk", "gb18030", "big5", "euc-kr"}
    | {"shift_jis", "euc-jp", "iso-2022-jp"}
    | {f"iso-8859-{part}" for part in _ISO_8859}
    | {f"windows-{page}" for page in range(1250, 1259)}
)


def decode_display_name(text: str, own: Mailbox) -> str | None:
    """The name that ``text`` shows, None if it shows nothing; DisplayNameError if refused.

    ``text`` is unfolded printable ASCII without white space around it; ``own`` is the address that it
    may repeat.
    """
    name = text if _is_plain(text) and "=?" not in text else _join(text)
    _check(name, own)
    return name or None


def _join(text: str) -> str:
    if text.startswith("."):  # obs-phrase begins with a word; some readers stumble over this
        raise DisplayNameError("Display name is not a phrase")
    parts: list[str] = []
    position, after_encoded = 0, False
    while position < len(text):
        found = _match_word(text, position)
        if found is None:
            raise DisplayNameError("Display name is not a phrase")
        word, is_encoded = _decode_word(found[1], found[2])
        # RFC 2047 section 6.2: the blank between two encoded words is not shown.
        if parts and not (after_encoded and is_encoded):
            parts.append(" ")
        parts.append(word)
        position, after_encoded = found.end(), is_encoded
    return "".join(parts)


def _decode_word(quoted: str | None, atom: str | None) -> tuple[str, bool]:
    """The word as shown, and whether it was an encoded one."""
    written = atom if quoted is None else quoted
    assert written is not None
    if "=?" not in written:
        return (written, False) if quoted is None else (_unescape(r"\1", written), False)
    if quoted is not None:  # not to be decoded there (RFC 2047 section 5), but some readers do
        raise DisplayNameError("Display name has an encoded word inside quotes")
    found = _match_encoded(written)
    if found is None:
        raise DisplayNameError("Display name has a malformed encoded word")
    return _decode(*found.groups()), True


def _decode(charset: str, encoding: str, text: str) -> str:
    if charset.lower() not in _CHARSETS:
        raise DisplayNameError("Display name has an encoded word of an unknown charset")
    try:
        octets = _from_base64(text) if encoding in "Bb" else _from_q(text)
        return octets.decode(charset, "strict")
    except ValueError as error:  # UnicodeDecodeError and binascii.Error are such
        raise DisplayNameError("Display name has an encoded word that cannot be decoded") from error


def _from_base64(text: str) -> bytes:
    return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)


def _from_q(text: str) -> bytes:
    """RFC 2047 section 4.2."""
    if _find_bad_escape(text):
        raise ValueError(text)
    return binascii.a2b_qp(text.encode("ascii"), header=True)


# ---------------------------------------------------------------- what a name may hold

_BIDI_CONTROLS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_find_unshowable = re.compile(
    f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufff9-\ufffb\ud800-\udfff{_BIDI_CONTROLS}]"
).search
_find_addresses = re.compile(r"""([^\s@<>"(),;:]+)(\s*)@(\s*)([^\s@<>"(),;:]+)""").findall


def _check(name: str, own: Mailbox) -> None:
    if _find_unshowable(name):
        raise DisplayNameError("Display name contains control characters")
    seen = name if name.isascii() else _as_seen(name)
    if "@" not in seen:
        return
    for local, before, after, domain in _find_addresses(seen):
        spaced = bool(before or after)
        if spaced and "." not in domain.strip("."):
            continue  # "Dinner @ Joe's"
        if f"{local}@{domain.rstrip('.')}".lower() != str(own).lower():
            raise DisplayNameError("Display name contains another address")


def _as_seen(name: str) -> str:
    """Without what has no width, and look-alikes of "@" and "." made plain."""
    composed = unicodedata.normalize("NFKC", name).replace("\u3002", ".")
    return "".join([letter for letter in composed if unicodedata.category(letter) != "Cf"])
