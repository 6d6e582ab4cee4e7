"""What README.md says of roles is what the registry says."""

from collections.abc import Iterator
from pathlib import Path

from domain.tenancy import PERMISSIONS, ROLES
from runtime.registry import COMMANDS, QUERIES

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- roles and permissions -->\n", "<!-- end of roles and permissions -->\n"

REGENERATE = "uv run python -m tests.test_readme"


def table() -> str:
    """Every permission, the roles that grant it, and what asks for it."""
    heads = ["permission", *ROLES, "for"]
    lines = [heads, ["---", *[":-:"] * len(ROLES), "---"]]
    lines += (
        [
            f"`{permission}`",
            *("x" if permission in granted else "" for granted in ROLES.values()),
            ", ".join(sorted(asking(permission))),
        ]
        for permission in sorted(PERMISSIONS)
    )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def asking(permission: str) -> Iterator[str]:
    """The commands and queries that need a permission."""
    for registered in (COMMANDS, QUERIES):
        for kind, spec in registered.items():
            if spec.needs == permission:
                yield kind.__name__


def with_table(text: str) -> str:
    """The text with the table of today between its two markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def test_the_table_of_roles_is_current() -> None:
    text = README.read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == with_table(text), f"README.md is behind; run `{REGENERATE}`"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
