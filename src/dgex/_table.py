"""Tables of results, without a dependency that draws them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Rows of a table that are shown.
SHOWN_ROWS = 10

# Items of a cell that are shown.
SHOWN_ITEMS = 5


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
        return as_text(self._cells())

    __repr__ = __str__

    def to_markdown(self) -> str:
        """The table as Markdown."""
        header, *body = ([cell.replace("|", r"\|") for cell in cells] for cells in self._cells())
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`, with the model as index."""
        import pandas as pd

        return pd.DataFrame(self.rows).set_index("model")

    def _repr_html_(self) -> str:
        return as_html(self._cells())

    def _cells(self) -> list[list[str]]:
        header = list(self.rows[0])
        return [header, *([_formatted(name, row[name]) for name in header] for row in self.rows)]


def _formatted(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name in ("improvement", "genes won"):
        return f"{value:.1%}"
    return f"{value:.3f}" if name == "correlation" else f"{value:.4f}"


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of the same length, by name: printed, rendered in notebooks, or handed to pandas.

    Parameters
    ----------
    columns : mapping of str to ndarray
        The columns, in order.
    """

    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        sizes = {name: len(column) for name, column in self.columns.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"Got columns of lengths {sizes}, but expected the same length.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise KeyError(f"Got the column {name!r}, but expected one of {list(self.columns)}.")
        return self.columns[name]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True))

    def rows(self, selection: Any) -> Table:
        """Some rows.

        Parameters
        ----------
        selection : slice, ndarray of int or ndarray of bool
            Which ones, as for an array.

        Returns
        -------
        table : Table
            A table of these.
        """
        return Table({name: column[selection] for name, column in self.columns.items()})

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame(dict(self.columns))

    def __str__(self) -> str:
        rest = len(self) - SHOWN_ROWS
        return as_text(self._cells()) + (f"\n... and {rest:,} more rows" if rest > 0 else "")

    def __repr__(self) -> str:
        return f"Table({len(self)} rows: {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        rest = len(self) - SHOWN_ROWS
        return as_html(self._cells()) + (f"<p>... and {rest:,} more rows</p>" if rest > 0 else "")

    def _cells(self) -> list[list[str]]:
        shown = self.rows(slice(SHOWN_ROWS))
        return [list(self.columns), *([_short(value) for value in row.values()] for row in shown)]


def as_text(cells: Sequence[Sequence[str]]) -> str:
    """Cells, the first row being the header, as aligned text."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    header, *body = cells
    lines = [header, ["-" * width for width in widths], *body]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in lines)


def as_html(cells: Sequence[Sequence[str]]) -> str:
    """Cells, the first row being the header, as HTML."""
    header, *body = (map(html.escape, row) for row in cells)
    head = "".join(f"<th>{cell}</th>" for cell in header)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _short(value: Any) -> str:
    """A cell of a table."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        rest = f" and {len(value) - SHOWN_ITEMS} more" if len(value) > SHOWN_ITEMS else ""
        return ", ".join(map(str, value[:SHOWN_ITEMS])) + rest
    return str(value)
