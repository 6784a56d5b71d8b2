"""Files of expression: open any of the customary formats, whatever its name says, and write them safely."""

from dgex.io._create import create_expression, write_expression
from dgex.io._destination import ExpressionWriter
from dgex.io._open import open_expression
from dgex.io._source import Columns, ExpressionFile, ExpressionFileError

__all__ = [
    "Columns",
    "ExpressionFile",
    "ExpressionFileError",
    "ExpressionWriter",
    "create_expression",
    "open_expression",
    "write_expression",
]
