"""RSA-2048 signatures eight at a time, where libcrypto_mb is installed and the processor fits it.

Intel's multi-buffer library computes one step of eight signatures with each instruction (AVX-512 IFMA): eight
cost less than three of OpenSSL's.  It is Debian's ``libcrypto-mb11`` and is loaded if it is there.
It works in constant time.  A wrong signature made with the Chinese remainder theorem gives the key away
(Boneh, DeMillo, Lipton 1997), so none is handed out before the public key has undone it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from relay.signing.dkim import PrivateKey

LANES: Final = 8

# Their interface for RSA is the same in all of these.
_NAMES: Final = ("libcrypto_mb.so.13", "libcrypto_mb.so.12", "libcrypto_mb.so.11")
_AVX512_IFMA: Final = 0x1_0000_0000 | 0x2_0000_0000  # of mbx_get_cpu_features: the processor's, the system's
_BITS: Final = 2048
_BYTES: Final = _BITS // 8
_EXPONENT: Final = 65537
# EMSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 9.2): what stands before the digest.
_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
_PADDING: Final = b"\x00\x01".ljust(_BYTES - len(_DIGEST_INFO) - 33, b"\xff") + b"\x00" + _DIGEST_INFO

_Pointers = ctypes.c_void_p * LANES


@dataclass(frozen=True, slots=True)
class Lane:
    """A key's numbers as the library reads them, the least octet first, and where in ``memory`` each is."""

    addresses: tuple[int, ...]  # n, p, q, d mod (p - 1), d mod (q - 1), 1/q mod p
    memory: ctypes.Array[ctypes.c_char] = field(repr=False)


def lane_of(key: PrivateKey) -> Lane | None:
    """None if the library signs for no such key: RSA with two primes of 1024 bits, p > q, and e = 65537."""
    if not isinstance(key, RSAPrivateKey) or key.key_size != _BITS:
        return None
    of = key.private_numbers()
    n, e, half = of.public_numbers.n, of.public_numbers.e, _BITS // 2
    if e != _EXPONENT or of.p <= of.q or of.q.bit_length() != half or of.p.bit_length() != half:
        return None
    parts = [(n, _BYTES)] + [(part, _BYTES // 2) for part in (of.p, of.q, of.dmp1, of.dmq1, of.iqmp)]
    memory = ctypes.create_string_buffer(b"".join(part.to_bytes(size, "little") for part, size in parts))
    start = ctypes.addressof(memory)
    return Lane((start, *(start + _BYTES + at * _BYTES // 2 for at in range(5))), memory)


class MultiBuffer:
    """The library with memory of its own for one call at a time: not for several threads."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.mbx_RSA_Method_BufSize.argtypes = [ctypes.c_void_p]
        self._sign, self._undo = library.mbx_rsa_private_crt_mb8, library.mbx_rsa_public_mb8
        how = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)  # bits, method, scratch
        self._sign.argtypes = (*[_Pointers] * 7, *how)
        self._undo.argtypes = (*[_Pointers] * 3, *how)
        self._signing = _with_scratch(library, "mbx_RSA_private_crt_Method")
        self._undoing = _with_scratch(library, "mbx_RSA_pub65537_Method")
        self._blocks, self._signatures, self._undone = (
            ctypes.create_string_buffer(LANES * _BYTES) for _ in range(3)
        )
        self._from, self._to, self._back = map(_lanes_of, (self._blocks, self._signatures, self._undone))
        self._keys = tuple(_Pointers() for _ in range(6))

    def sign(self, wanted: Sequence[tuple[Lane, bytes]]) -> list[bytes] | None:
        """Signatures (PKCS #1 v1.5) of one to eight SHA-256 digests, each by the key of its lane.

        None if the library failed or one of them is wrong: then none of them may be shown to anybody.
        """
        # All lanes are always computed: what is left over does the first one's work again.
        filled = [*wanted, *[wanted[0]] * (LANES - len(wanted))]
        blocks = b"".join([_PADDING + digest for _, digest in filled])
        ctypes.memmove(self._blocks, blocks, len(blocks))
        for at, (lane, _) in enumerate(filled):
            for pointers, address in zip(self._keys, lane.addresses, strict=True):
                pointers[at] = address
        modulus, *parts = self._keys
        failed = self._sign(self._from, self._to, *parts, _BITS, *self._signing)
        failed = failed or self._undo(self._to, self._back, modulus, _BITS, *self._undoing)
        if failed or self._undone.raw != blocks:
            return None
        made = self._signatures.raw
        return [made[at * _BYTES : (at + 1) * _BYTES] for at in range(len(wanted))]


def _with_scratch(library: ctypes.CDLL, name: str) -> tuple[int, ctypes.Array[ctypes.c_char]]:
    """A method of the library and the memory that it works in."""
    find = library[name]
    find.restype = ctypes.c_void_p
    method = find(_BITS)
    return method, ctypes.create_string_buffer(library.mbx_RSA_Method_BufSize(method))


def _lanes_of(memory: ctypes.Array[ctypes.c_char]) -> ctypes.Array[ctypes.c_void_p]:
    start = ctypes.addressof(memory)
    return _Pointers(*(start + lane * _BYTES for lane in range(LANES)))


def load() -> MultiBuffer | None:
    """The installed library, or None if there is none or the processor is not for it."""
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.mbx_get_cpu_features.restype = ctypes.c_uint64
        has_instructions = library.mbx_get_cpu_features() & _AVX512_IFMA == _AVX512_IFMA
        return MultiBuffer(library) if has_instructions else None
    return None
