"""What a client is set up with, checked before anything is sent."""

import re
import warnings
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from urllib.parse import parse_qs, urlsplit

from jarai_async._errors import ConfigurationError

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
SENDABLE = re.compile(r"[\x21-\x7e]+")


def checked_url(url: str) -> str:
    """Check the base URL, and give it without a final slash."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and parts.username is None
    except ValueError:
        valid = False
    # urlsplit overlooks white space around and line ends within, and a query that is empty as yet
    if not valid or "?" in url or "#" in url or not SENDABLE.fullmatch(url):
        raise ConfigurationError(
            "base_url must be http(s)://host/path, without user, query, fragment or space"
        )
    if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
        warnings.warn(f"the API key travels to {parts.hostname} unencrypted: use https", stacklevel=3)
    return url.rstrip("/")


def is_plain(url: str, *, https: bool) -> bool:
    """Whether a URL is one of http to a plain host; with `https` it must be that."""
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
    return plain and parts.scheme in (("https",) if https else ("https", "http"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not this machine, nor its network or cloud."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast


def valid_until(url: str) -> float | None:
    """When a signed URL expires, in seconds since the epoch: Azure's `se`. None where it does not say."""
    try:
        moment = datetime.fromisoformat(parse_qs(urlsplit(url).query)["se"][0])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, KeyError, OverflowError):
        return None
