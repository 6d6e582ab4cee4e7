"""Findings are bounded, so that one event can always tell them."""

from commands.log import MAX_EVENT_BYTES
from domain.catalogue import ChapterRefused, Finding
from domain.kernel import encode
from ingest.refusal import MAX_FINDINGS, bounded


def test_any_number_of_findings_about_any_names_fits_one_event() -> None:
    findings = [Finding("page_gap", "\x01" * 60_000, "\x01" * 60_000)] * 900
    refused = ChapterRefused(
        chapter_id="c1",
        uploaded_by="ana",
        archive="a" * 1_000,
        findings=bounded(findings),
        malicious=True,
    )
    assert len(encode(refused).encode()) < MAX_EVENT_BYTES
    assert refused.findings[-1] == Finding("more_findings", f"{900 - MAX_FINDINGS} more")


def test_few_findings_are_told_whole() -> None:
    findings = (Finding("no_pages"), Finding("page_gap", "2 is missing", "3.jpg"))
    assert bounded(findings) == findings
