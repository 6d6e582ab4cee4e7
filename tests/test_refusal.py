"""Findings are bounded, so that one event can always tell them, and say what to do."""

import re

from commands.log import MAX_EVENT_BYTES
from domain.catalogue import ChapterRefused, Finding
from domain.kernel import encode
from ingest.advice import ADVICE
from ingest.refusal import MAX_DETAIL, MAX_FINDINGS, bounded
from tests.processes import PROJECT


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


def test_every_refusal_says_what_to_do_and_no_other_does() -> None:
    code = re.compile(r"""(?:refusal|ImageRefused)\(\s*"(\w+)"|code = "(\w+)" if""")
    said = {
        one or other
        for file in (PROJECT / "ingest").glob("*.py")
        for one, other in code.findall(file.read_text())
    }
    assert said | {"prepended_data"} == ADVICE.keys()
    assert max(map(len, ADVICE.values())) <= MAX_DETAIL - 50, "no room for what was found"
