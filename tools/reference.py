"""Writes the table of settings into docs/configuration.md, from the code; ``--write`` changes the file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from artemis.api.config import settings

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- settings: made from api/config.py by `make fix` -->\n"
END = "<!-- end of settings -->\n"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def render() -> str:
    """Markdown: a table per group."""
    lines: list[str] = []
    table = settings()
    for group in dict.fromkeys(setting.group for setting in table):
        lines += [f"### {group}", "", "| TOML key | allowed | default | meaning |", "|---|---|---|---|"]
        for setting in table:
            if setting.group == group:
                default = setting.default or "empty"
                meaning = setting.help.replace("<", "&lt;")
                lines.append(f"| `{setting.key}` | {setting.kind.allowed} | {_code(default)} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def updated(page: str) -> str:
    """The page with its table made anew. Raises ``ValueError`` if the page has lost its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} must hold the lines {BEGIN.strip()!r} and {END.strip()!r}")
    return f"{before}{begin}\n{render()}\n{end}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update the page instead of comparing it")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    wanted = updated(page)
    if arguments.write:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if page != wanted:
        print(f"{PAGE} differs from api/config.py; run make fix", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
