"""Rows of results as tables for people."""

from typing import Any

from benchmarks._pages import markdown

Rows = list[dict[str, Any]]

# Which cases each table of the page has, by the words that their names begin with.
PARTS = {
    "performance_training": ("training", "errors", "small fit", "grid search"),
    "performance_memory": ("memory",),
    "performance_baselines": ("normalizer", "KNN-GE"),
    "performance_import": ("import",),
    "performance_growth": ("growth",),
}


def tables(rows: Rows) -> dict[str, str]:
    """All tables by name."""
    return {name: table([row for row in rows if row["case"].startswith(cases)]) for name, cases in PARTS.items()}


def table(rows: Rows) -> str:
    """A line for each row, with its verdict."""
    lines = [["case", "what", "measured", "asked", "verdict"], ["---", "---", "---:", "---", "---"]]
    for row in rows:
        value = f"{row['value']:.3g} {row['unit']}".strip()
        lines.append([row["case"], row["what"], value, row["asked"] or "", row["verdict"]])
    return markdown(lines)
