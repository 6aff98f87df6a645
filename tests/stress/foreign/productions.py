"""What the server keeps: productions, their files, and how it fills the gaps in the contract."""

import base64
import gzip
import hashlib
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

HABITS: dict[str, tuple[Any, ...]] = {  # a seed chooses one of each, as a real team would
    "list_key": ("", "items", "data", "value"),  # "": a bare list
    "status_key": ("", "data", "production"),  # "": a bare object
    "id_field": ("productionId", "id"),  # of a status
    "framing": ("length", "chunked"),
    "gzip": (False, True),
    "lower_headers": (False, True),
    "floats": (False, True),  # for integers
    "nulls": (False, True),  # null for an absent value, instead of no field
    "times": ("z", "offset", "nanoseconds"),
    "location": ("absolute", "path", "unprefixed", "relative"),
    "packaging": (False, True),  # a status that is not documented
    "not_ready": ("409", "404", "empty"),  # the list in the first seconds of Published
    "ids": (False, True),  # deliverables have one
    "sizes": (False, True),
    "shuffled": (False, True),  # each list of deliverables has another order
    "unseen": (0.0, 0.0, 3.0),  # seconds for which a new production is a 404
}
SUBMIT_FAULTS = (
    "before",
    "after",
    "after",
    "500 before",
    "500 after",
    "502 after",
    "503",
    "slow",
    "truncated",
)
FATES = ("failed", "failed", "expired", "operator", "approval", "approval", "empty", "late", "never")
_FILES = {
    "final cut.mp4": "Video",
    "a+b.jpg": "Thumbnail",
    "16%2F9.png": "Thumbnail",
    "sous-titres-été.vtt": "ClosedCaptions",
    "1/clip.mp4": "SocialClip",
    "2/clip.mp4": "SocialClip",
    "LICENCES.md": "Attribution",
}


@dataclass
class File:
    name: str
    type: str
    id: str
    content: bytes = field(repr=False)
    platform: str | None = None
    encoded: bool = False  # stored with Content-Encoding: gzip
    etag: str = "strong"  # weak, none
    md5: str = "base64"  # hex, none
    framing: str = "length"  # chunked, close
    ranges: str = "yes"  # star (without the total), short (less than was asked for), no
    fault: str = ""  # cut, 503, redirect, 404, 403, late, never
    faults_left: int = 0
    stored: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.stored = gzip.compress(self.content, mtime=0) if self.encoded else self.content

    @property
    def is_bounded(self) -> bool:
        """Whether a response shows that the stored file is complete."""
        return self.md5 != "none" or self.framing != "close"


@dataclass
class Production:
    id: str
    account: str
    body: dict[str, Any]
    created: float
    fate: str
    phases: list[tuple[float, str]]  # seconds after the creation, status
    files: list[File]
    cancelled: float | None = None

    def status(self, now: float) -> str:
        if self.cancelled is not None and now >= self.cancelled:
            return "Cancelled"
        return [status for start, status in self.phases if now - self.created >= start][-1]

    @property
    def ended(self) -> float:
        return self.created + self.phases[-1][0]


def identifier(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def draw(
    random: Random, account: str, body: dict[str, Any], now: float, fate: str, *, packaging: bool
) -> Production:
    """Create a production that ends after 15 to 45 seconds, and 40 later if it waits for approval."""
    length = random.uniform(15, 45)
    phases = [(0.0, "Queued"), (length * 0.2, "Producing")]
    if packaging:
        phases.append((length * 0.8, "Packaging"))
    if fate == "expired":
        phases = [(0.0, "Queued"), (length * 0.7, "Failed")]
    elif fate == "failed":
        phases.append((length * 0.9, "Failed"))
    else:
        released = length * 0.9 + (40.0 if fate == "approval" else 1.0)
        phases += [
            (length * 0.9, "AwaitingApproval"),
            (released, "Distributing"),
            (released + 2.0, "Published"),
        ]
    files = [] if fate == "empty" else [_draw_file(random, name) for name in _FILES]
    if fate in ("late", "never"):
        files[0].fault = fate
    cancelled = now + length * 0.5 if fate == "operator" else None
    return Production(identifier(random), account, body, now, fate, phases, files, cancelled)


def _draw_file(random: Random, name: str) -> File:
    kind = _FILES[name]
    size = random.choice([0, 1_000, 300_000]) if kind == "Attribution" else random.randrange(500, 150_000)
    file = File(name, kind, identifier(random), random.randbytes(size))
    if kind == "ClosedCaptions" and random.random() < 0.7:
        file = File(name, kind, file.id, base64.b64encode(file.content), encoded=True)
    file.platform = "TikTok" if kind == "SocialClip" else random.choice([None, "YouTube"])
    file.etag = random.choice(["strong", "weak", "none"])
    file.md5 = random.choice(["base64", "hex", "none"])
    file.framing = random.choice(["length", "length", "chunked", "close"])
    file.ranges = random.choice(["yes", "star", "short", "no"])
    if random.random() < 0.35:
        file.fault, file.faults_left = (
            random.choice(["cut", "cut", "503", "redirect", "404", "403"]),
            random.choice([1, 2, 3]),
        )
    return file


def truth(production: Production, now: float, *, sizes: bool) -> dict[str, Any]:
    """Return what became of a production, and its files."""
    files = [
        {
            "name": file.name,
            "sha256": hashlib.sha256(file.content).hexdigest(),
            "served": file.fault != "never",
            "bounded": sizes or file.is_bounded,
        }
        for file in production.files
    ]
    facts = {"id": production.id, "account": production.account, "topic": production.body["topic"]}
    return {**facts, "fate": production.fate, "status": production.status(now), "files": files}
