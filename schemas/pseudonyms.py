"""User ids that say nothing to whoever lacks the key: HMAC-SHA256, 144 bits of it, in URL-safe base64."""

import base64
import hashlib
import hmac

BYTES = 18


def pseudonym(key: bytes, user_id: str) -> str:
    """The pseudonym of a user under a key: always the same one, 24 characters; other users have others.

    >>> pseudonym(b"key", "alice")
    'dvtV6SnAa5ewHDWVDuX3L-QV'
    """
    digest = hmac.new(key, user_id.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:BYTES]).decode()
