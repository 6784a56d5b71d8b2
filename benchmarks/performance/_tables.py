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
    """A line for each thing that was measured, with what it is and its verdict on every processor."""
    processors = sorted({row["run"]["processor"] for row in rows})
    lines = [["case", "what", "asked", *map(short, processors)], ["---", "---", "---", *["---:"] * len(processors)]]
    for case, what in dict.fromkeys((row["case"], row["what"]) for row in rows):
        of_all = [row for row in rows if (row["case"], row["what"]) == (case, what)]
        measured = {row["run"]["processor"]: f"{row['value']:.3g} {row['unit']} {row['verdict']}" for row in of_all}
        cells = [" ".join(measured.get(processor, "").split()) for processor in processors]
        lines.append([case, what, of_all[0]["asked"] or "", *cells])
    return markdown(lines)


def short(processor: str) -> str:
    """The name of a processor without what all of them have."""
    return " ".join(processor.replace("(R)", "").replace("Processor", "").split())
