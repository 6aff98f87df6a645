"""The partner's keys and what each may do."""

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
    """A key without its secret; `label` is how records name it."""

    label: str
    scopes: frozenset[str]
    sandbox: bool

    def may(self, scope: str) -> bool:
        """Whether the scope was granted; writing productions includes reading them (documented)."""
        if scope in self.scopes:
            return True
        return scope == "productions:read" and "productions:write" in self.scopes


class KeyStore:
    """Every key of one partner."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._keys: dict[str, Key] = {}
        self._minted = 0

    def mint(self, *scopes: str, sandbox: bool = False) -> str:
        """A new secret with these scopes; ValueError for a scope that the API does not have."""
        unknown = set(scopes) - set(SCOPES)
        if unknown:
            raise ValueError(f"no such scope: {', '.join(sorted(unknown))}")
        self._minted += 1
        kind = "test" if sandbox else "live"
        noise = base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("=")
        secret = f"jarai_{kind}_{noise}"
        self._keys[secret] = Key(f"{kind}-{self._minted}", frozenset(scopes), sandbox)
        return secret

    def find(self, secret: str | None) -> Key | None:
        """The key with this secret, unless there is none or it was revoked."""
        return None if secret is None else self._keys.get(secret)

    def revoke(self, secret: str) -> None:
        """Forget a key; KeyError for one that was never minted or is revoked already."""
        if self._keys.pop(secret, None) is None:
            raise KeyError("no such key")  # without the secret itself
