"""What a client is set up with, checked before anything is sent."""

import re
import warnings
from urllib.parse import urlsplit

from jarai_async._errors import ConfigurationError
from jarai_async._secret import Secret

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_SENDABLE = re.compile(r"[\x21-\x7e]+")


def checked_key(key: str) -> Secret:
    """Check that the key can be sent; warn of one that does not look like JARAI's."""
    if not isinstance(key, str):
        raise ConfigurationError(f"the API key must be text, not {type(key).__name__}")
    if not key:
        raise ConfigurationError("no API key: pass api_key, or set JARAI_API_KEY")
    if not _SENDABLE.fullmatch(key):
        raise ConfigurationError("the API key has white space or characters that no header can carry")
    if not key.startswith("jarai_"):
        warnings.warn("the API key does not begin with jarai_: is it JARAI's?", stacklevel=3)
    return Secret(key)


def checked_url(url: str) -> str:
    """Check the base URL, and give it without a final slash."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and parts.username is None
    except ValueError:
        valid = False
    # urlsplit overlooks white space around and line ends within, and a query that is empty as yet
    if not valid or "?" in url or "#" in url or not _SENDABLE.fullmatch(url):
        raise ConfigurationError(
            "base_url must be http(s)://host/path, without user, query, fragment or space"
        )
    if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        warnings.warn(f"the API key travels to {parts.hostname} unencrypted: use https", stacklevel=3)
    return url.rstrip("/")
