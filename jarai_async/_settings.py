"""What a client is set up with, checked before anything is sent."""

import re
import warnings
from urllib.parse import urlsplit

from jarai_async._errors import ConfigurationError
from jarai_async._secret import Secret


def checked_key(key: str) -> Secret:
    """Check that the key can be sent; warn of one that does not look like JARAI's."""
    if not key:
        raise ConfigurationError("no API key: pass api_key, or set JARAI_API_KEY")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ConfigurationError("the API key has white space or characters that no header can carry")
    if not key.startswith("jarai_"):
        warnings.warn("the API key does not begin with jarai_: is it JARAI's?", stacklevel=3)
    return Secret(key)


def checked_url(url: str) -> str:
    """Check the base URL, and give it without a final slash."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment or not url.isascii():
        raise ConfigurationError("base_url must be http(s)://host/path, without user, query or fragment")
    return url.rstrip("/")
