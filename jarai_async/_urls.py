"""Checks of URLs and addresses before anything is sent to them."""

import re
import warnings
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, parse_qs, quote, urljoin, urlsplit

from jarai_async._errors import ConfigurationError

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
_HOST = re.compile(r"\s*[^:/?#]+://([^/?#]*)")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")  # contains an IPv4 address, and no public host needs it
_NAT64 = IPv6Network("64:ff9b::/96")  # how a network without IPv4 reaches any IPv4 address
_AZURE_HOST = IPv4Address("168.63.129.16")  # serves secrets to every virtual machine of Azure
SENDABLE = re.compile(r"[\x21-\x7e]+")
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")


def checked_url(url: str) -> str:
    """Return the base URL without a trailing slash. Raises ConfigurationError; warns of unencrypted http."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and parts.username is None
    except ValueError:
        valid = False
    # urlsplit strips surrounding white space and line ends, and does not report an empty query or fragment
    if not valid or "?" in url or "#" in url or not SENDABLE.fullmatch(url):
        raise ConfigurationError(
            "base_url must be http(s)://host/path, without user, query, fragment or white space"
        )
    if parts.scheme == "http" and parts.hostname not in LOCAL_HOSTS:
        warnings.warn(f"the API key is sent to {parts.hostname} unencrypted: use https", stacklevel=3)
    return url.rstrip("/")


def canonical_url(url: str) -> str:
    """Return a URL in the form that is the same for all ways to write it: lower case, no default port."""
    parts = urlsplit(url)
    netloc = parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, ""))
    return parts._replace(netloc=netloc, path=parts.path.rstrip("/")).geturl()


def is_http_url(url: str, *, https_only: bool) -> bool:
    """Return whether a URL is an http or https URL with a host and without a user name."""
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
    return valid and parts.scheme in (("https",) if https_only else ("https", "http"))


def without_queries(text: str) -> str:
    """Remove the query string, which may be a signature, from every URL in a text."""
    return _QUERY.sub(r"\1", text)


def url_parts(url: str) -> SplitResult:
    """Return the parts of a URL; all are empty if it is invalid."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def host_and_path(url: str) -> tuple[str, str]:
    """Return the host and the path of a URL, without the query, which may be a signature."""
    parts = url_parts(url)
    return parts.hostname or "", parts.path


def joined_url(base: str, reference: str) -> str:
    """Return the URL that a reference in a response means; "" if it is invalid."""
    try:
        return urljoin(base, reference.strip())
    except ValueError:
        return ""


def percent_encoded(url: str) -> str:
    """Encode what is illegal in a URL, such as a space; "" if that is not possible.

    All else stays byte for byte: it may be signed. A URL without a scheme (`//host/path`) gets https.
    """
    url = url.strip()
    if url.startswith("//"):
        url = f"https:{url}"
    host = _HOST.match(url)
    try:
        if host and not host[1].isascii():
            url = url.replace(host[1], host[1].encode("idna").decode(), 1)
        return quote(_STRAY_PERCENT.sub("%25", url), safe="%:/?#[]@!$&'()*+,;=-._~")
    except UnicodeError:
        return ""


def is_public(address: str) -> bool:
    """Return whether an IP address is public: not of this machine, its network or its cloud provider."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None and ip not in _NAT64:
            return ip in _GLOBAL_UNICAST and ip not in _SIX_TO_FOUR and ip.is_global
        ip = IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.is_global and not ip.is_multicast and ip != _AZURE_HOST


def valid_until(url: str) -> float | None:
    """Return the expiry of a signed URL (Azure's parameter `se`) as Unix seconds; None if it has none."""
    try:
        expiry = datetime.fromisoformat(parse_qs(urlsplit(url).query)["se"][0])
        return (expiry if expiry.tzinfo else expiry.replace(tzinfo=UTC)).timestamp()
    except (ValueError, KeyError, OverflowError):
        return None
