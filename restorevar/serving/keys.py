"""API keys: who may ask, without telling by the time it takes how much of a key was right."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from ..errors import UserError

#: Keys shorter than this can be guessed.
SHORTEST = 16


class Keys:
    """Those that open the service; none: it is open to everyone. Only their hashes are kept.

    Raises UserError for keys that a header cannot carry, or that are too short.
    """

    def __init__(self, keys: Iterable[str] = ()):
        keys = list(keys)
        for key in keys:
            if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise UserError(f"an API key has at least {SHORTEST} printable ASCII characters and no space")
        self._hashes = [_hash(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def owner(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Whose request it is, as the hash of its key: of `X-API-Key`, or of `Authorization: Bearer`. None: nobody's.

        "" where no keys are set.
        """
        if not self._hashes:
            return ""
        found = dict(headers)
        scheme, _, token = found.get(b"authorization", b"").partition(b" ")
        given = _hash(found.get(b"x-api-key") or (token.strip() if scheme.lower() == b"bearer" else b""))
        matches = [known for known in self._hashes if hmac.compare_digest(known, given)]  # all, not up to the first
        return matches[0].hex() if matches else None


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
