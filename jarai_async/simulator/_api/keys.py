"""The partner's API keys and their scopes."""

import base64
import random

from attrs import frozen

SCOPES = (
    "accounts:read",
    "productions:read",
    "productions:write",
    "deliverables:read",
    "analytics:read",
    "webhooks:read",
    "webhooks:write",
    "logs:read",
)


@frozen
class Key:
    """A key without its secret; request records show its `label`."""

    label: str
    scopes: frozenset[str]
    sandbox: bool

    def allows(self, scope: str) -> bool:
        """Return whether the key has a scope; productions:write includes productions:read (documented)."""
        if scope in self.scopes:
            return True
        return scope == "productions:read" and "productions:write" in self.scopes


class KeyStore:
    """The valid keys of one partner."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._keys: dict[str, Key] = {}
        self._created = 0

    def create(self, *scopes: str, sandbox: bool = False) -> str:
        """Return a new secret with these scopes. Raises ValueError for a scope that the API does not have."""
        unknown = set(scopes) - set(SCOPES)
        if unknown:
            raise ValueError(f"no such scope: {', '.join(sorted(unknown))}")
        self._created += 1
        kind = "test" if sandbox else "live"
        noise = base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("=")
        secret = f"jarai_{kind}_{noise}"
        self._keys[secret] = Key(f"{kind}-{self._created}", frozenset(scopes), sandbox)
        return secret

    def find(self, secret: str | None) -> Key | None:
        """Return the valid key with this secret, or None."""
        return None if secret is None else self._keys.get(secret)

    def revoke(self, secret: str) -> None:
        """Make a key invalid. Raises KeyError if it is not a valid key."""
        if self._keys.pop(secret, None) is None:
            raise KeyError("no such key")  # without the secret itself
