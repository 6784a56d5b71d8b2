"""Tables of Markdown in pages with marks for them: `<!-- table: accuracy_arrays_random -->`."""

import re
from collections.abc import Sequence
from pathlib import Path

MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(\n?<!-- end of table -->)", re.S)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, a heading first, as a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def fill(page: Path, tables: dict[str, str]) -> None:
    """Put the tables where a page has marks for them."""
    page.write_text(MARK.sub(lambda mark: f"{mark[1]}{tables[mark[2]]}\n<!-- end of table -->", page.read_text()))
