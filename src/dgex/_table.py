"""Tables of results, without a dependency that draws them."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ComparisonTable:
    """A table of models: printed, rendered in notebooks, or handed to pandas.

    Parameters
    ----------
    rows : tuple of dict
        One per model, with the same keys in the same order; "model" first.
    """

    rows: tuple[dict[str, Any], ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, model: str) -> dict[str, Any]:
        for row in self.rows:
            if row["model"] == model:
                return row
        raise KeyError(f"Got model {model!r}, but expected one of {[row['model'] for row in self.rows]}.")

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ["-" * width for width in widths])
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)

    def to_markdown(self) -> str:
        """The table as Markdown."""
        header, *body = self._cells()
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`, with the model as index."""
        import pandas as pd

        return pd.DataFrame(self.rows).set_index("model")

    def _repr_html_(self) -> str:
        header, *body = (map(html.escape, row) for row in self._cells())
        head = "".join(f"<th>{cell}</th>" for cell in header)
        lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"

    def _cells(self) -> list[list[str]]:
        header = list(self.rows[0])
        return [header, *([_formatted(name, row[name]) for name in header] for row in self.rows)]


def _formatted(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name in ("improvement", "genes won"):
        return f"{value:.1%}"
    return f"{value:.3f}" if name == "correlation" else f"{value:.4f}"
