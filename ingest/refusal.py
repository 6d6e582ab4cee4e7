"""What is said about an archive: findings for the reviewer, and the refusal."""

from domain.catalogue import Finding

__all__ = ["ArchiveRefused", "Finding", "refusal"]


class ArchiveRefused(Exception):
    """The archive is not accepted; `malicious` only where harm was plainly intended."""

    def __init__(self, *findings: Finding, malicious: bool = False) -> None:
        super().__init__("; ".join(f"{f.code}: {f.detail} {f.entry}".rstrip() for f in findings))
        self.findings = findings
        self.malicious = malicious


def refusal(code: str, detail: str, entry: str = "", *, malicious: bool = False) -> ArchiveRefused:
    """Build the refusal of an archive for one reason."""
    return ArchiveRefused(Finding(code, detail, entry), malicious=malicious)
