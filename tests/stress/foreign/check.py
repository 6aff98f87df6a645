"""Compares what a program reports, and what it has on the disk, with what the server knows."""

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

BAD = (
    "created twice",
    "lost",
    "wrong state",
    "uncertain, but answered",
    "files missing",
    "files corrupt",
    "files left over",
    "429s",
    "downloads with the API key",
    "wrong signatures",
)
_ANSWERED = ("202", "503", "slow", "truncated")
_SLOWEST = 9.0  # seconds for a reply to a submit


def needless_doubts(
    ledger: Mapping[str, Any], uncertain: Collection[str], kills: Sequence[float]
) -> list[str]:
    """Return the uncertain topics whose last submit was answered, and not just before a kill or a restart."""
    last = {attempt["topic"]: attempt for attempt in ledger["attempts"]}
    return [
        topic
        for topic in uncertain
        if last[topic]["answer"] in _ANSWERED
        and not any(0 <= end - last[topic]["at"] <= _SLOWEST for end in (*kills, *ledger["stops"]))
    ]


def compare(
    ledger: Mapping[str, Any], outcomes: Mapping[str, tuple[str, str | None]], folder: Path
) -> Counter[str]:
    """Count the outcomes, and what is wrong. `outcomes` has the state and the production of each topic."""
    result = Counter(ledger["counts"])
    created = defaultdict(list)
    for production in ledger["productions"]:
        created[production["topic"]].append(production)
    for topic in outcomes.keys() | created.keys():
        productions, (state, id_) = created[topic], outcomes.get(topic, ("", None))
        result[state] += 1
        result["created twice"] += sum(production["fate"] != "expired" for production in productions) > 1
        result["lost"] += not productions or not state
        if productions:
            last = productions[-1]
            result["wrong state"] += (last["status"].lower(), last["id"]) != (state, id_)
            result += _compare_files(last, folder) if state == "published" else Counter()
    return result


def _compare_files(production: Mapping[str, Any], folder: Path) -> Counter[str]:
    result: Counter[str] = Counter()
    missing = {file["sha256"]: file for file in production["files"]}
    for folder_of_one in folder.glob(f"*{production['id']}"):
        manifest = json.loads((folder_of_one / "manifest.json").read_bytes())
        complete = [file for file in manifest["files"] if file["complete"]]
        result["files left over"] += sum(1 for _ in folder_of_one.iterdir()) - 1 - len(complete)
        for file in complete:
            content = (folder_of_one / file["file"]).read_bytes()
            content = gzip.decompress(content) if file.get("contentEncoding") == "gzip" else content
            is_known = missing.pop(hashlib.sha256(content).hexdigest(), None) is not None
            result["files complete" if is_known else "files corrupt"] += 1
    for file in missing.values():
        kind = "rejected on purpose" if not file["bounded"] else "that were never there"
        result["files missing" if file["bounded"] and file["served"] else f"files {kind}"] += 1
    return result
