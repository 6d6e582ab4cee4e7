"""What is said about an archive: findings for the reviewer, and the refusal."""

from collections.abc import Sequence

from domain.catalogue import Finding
from ingest.advice import ADVICE

__all__ = ["ArchiveRefused", "Finding", "bounded", "refusal"]


MAX_FINDINGS = 40
MAX_DETAIL = 150
MAX_ENTRY = 100
"""Together they keep any number of findings about any names within one event."""


def bounded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The first findings with their texts cut short, and how many more there were."""
    kept = [
        Finding(one.code, one.detail[:MAX_DETAIL], one.entry[-MAX_ENTRY:])
        for one in findings[:MAX_FINDINGS]
    ]
    if more := len(findings) - len(kept):
        kept.append(Finding("more_findings", f"{more} more"))
    return tuple(kept)


class ArchiveRefused(Exception):
    """The archive is not accepted; `malicious` only where harm was plainly intended."""

    def __init__(self, *findings: Finding, malicious: bool = False) -> None:
        super().__init__("; ".join(f"{f.code}: {f.detail} {f.entry}".rstrip() for f in findings))
        self.findings = findings
        self.malicious = malicious


def refusal(code: str, found: str, entry: str = "", *, malicious: bool = False) -> ArchiveRefused:
    """Build the refusal of an archive for one reason: what to do about it, and what was found."""
    return ArchiveRefused(Finding(code, f"{ADVICE[code]} ({found})", entry), malicious=malicious)
