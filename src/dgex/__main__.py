"""The command line: ``python -m dgex info | train | predict | compare``."""

from __future__ import annotations

import argparse
import ast
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import dgex
from dgex._signals import handled, interrupts_sent_again

DESCRIPTION = """\
Infer the expression of target genes from landmark genes.

  python -m dgex info profiles.gctx
  python -m dgex train compendium.gctx model.dgex --landmarks landmarks.txt
  python -m dgex predict model.dgex measured.gctx inferred.gctx
  python -m dgex compare tested.gctx model.dgex linear.dgex

Files of expression may be GCTX, GCT, h5ad, Parquet, npz or text with tabs or commas; what they are is read off their
content. Ask a command for its own help: python -m dgex train --help
"""

TRAIN = """\
Train a model to infer target genes from landmark genes, and save it.

The file has profiles in which all genes were measured, in log2 units, normalized so that they are comparable. A tenth
of the profiles is held out to choose by (the epoch of a network, the penalty of a ridge regression, the number of
neighbours of KNN-GE), unless --validation gives others.
"""

PREDICT = """\
Infer the target genes of all profiles in a file, and write them with the landmarks into another.

Landmarks are looked up by name, in any order, with or without Ensembl versions. The new file says of each gene whether
it is a landmark, as measured, or a target, as inferred ("role"). Memory does not grow with the number of profiles.
"""

COMPARE = """\
Say how far inferred expression is from measured expression.

Compared are models (of `dgex train`, or the matrix of weights of the Connectivity Map's pipeline) and files of inferred
expression that have the same profiles. Only genes that all of them infer count, and no landmark of any of them.
"improvement" and "genes won" are against the first, or --baseline. One without a NAME is called like its file, such as
"model.dgex".
"""

# What can be wrong with files and parameters; anything else is a defect, and shown in full.
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError, FloatingPointError)

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 after an error, 2 if the command is wrong, 130 if interrupted."""
    options = vars(command_line().parse_args(arguments))
    command, show_traceback = options.pop("command"), options.pop("traceback")
    finished = False
    try:
        with warnings.catch_warnings(), interrupts_sent_again(), ended_like_ctrl_c() as requests:
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show_warning
            run(command, options)
        finished = True
        if sys.stdout is not None:  # closed by who has called
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"dgex {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if command == "train" and not finished:
            print("dgex train: error: the reader of the output has left; the model is not finished", file=sys.stderr)
        return 1
    except EXPECTED as error:
        if show_traceback:
            traceback.print_exc()
        print(f"dgex {command}: error: {as_options(str(error), options)}", file=sys.stderr)
        return 1
    return INTERRUPTED if requests else 0


def as_options(message: str, options: Collection[str]) -> str:
    """A message about parameters of functions, as one about the options that a command has."""
    message = re.sub(r"\b(landmark|target)_names\b(=\.\.\.)?", r"--\1s", message)
    message = message.replace("resume=True", "--resume").replace("resume=False", "leave --resume out")

    def option(found: re.Match[str]) -> str:
        return f"--{found[1]} {found[2]}" if found[1] in options else found[0]

    return re.sub(r"\b(\w+)=\[?'([^']*)'\]?", option, message)


@contextmanager
def ended_like_ctrl_c() -> Iterator[list[int]]:
    """Treat a request to end, as schedulers and containers send it, like Ctrl-C; yields those that have come."""
    requests: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        requests.append(number)
        handler = signal.getsignal(signal.SIGINT)  # which may hold it back
        (handler if callable(handler) else signal.default_int_handler)(number, frame)

    with handled(signal.SIGTERM, interrupt):
        yield requests


def run(command: str, options: dict[str, Any]) -> None:
    """Run a command, importing what it needs."""
    if command == "info":
        from dgex._commands._info import info

        info(**options)
    elif command == "train":
        from dgex._commands._train import train

        train(**options)
    elif command == "predict":
        from dgex._commands._predict import predict

        predict(**options)
    else:
        from dgex._commands._compare import compare

        compare(**options)


def show_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    """Print a warning without the line of code that it comes from."""
    print(f"dgex: warning: {message}", file=sys.stderr)


def command_line() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m dgex", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"dgex {dgex.__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument(
            "--rows",
            choices=["auto", "profiles", "genes"],
            default="auto",
            help="what the rows of a table in text or Parquet are, if their names do not tell",
        )
        command.add_argument(
            "--metadata",
            metavar="NAME",
            action="append",
            default=[],
            help="a column of a table that is not expression, such as age; may be repeated",
        )
        command.add_argument("--layer", metavar="NAME", help="the layer of an h5ad file to read, instead of X")
        return command

    summary = "say what is in a file of expression or of a model"
    command = add("info", summary, f"{summary.capitalize()}.")
    command.add_argument("files", nargs="+", metavar="FILE", help="what to look at")
    add_train(add("train", "train a model on a file of expression", TRAIN))
    add_predict(add("predict", "infer the targets of a file's profiles", PREDICT))
    add_compare(add("compare", "compare models with measured expression", COMPARE))
    return parser


def add_train(command: argparse.ArgumentParser) -> None:
    """What can be asked of `train`."""
    add = command.add_argument
    add("expression", metavar="EXPRESSION", help="file of profiles with landmarks and targets")
    add("destination", metavar="MODEL", help="file to save the model in, such as model.dgex")
    add(
        "--landmarks",
        metavar="FILE",
        required=True,
        help="the landmark genes: a list, one in each line, or a file of expression that has them only",
    )
    add("--targets", metavar="FILE", help="the genes to infer, given likewise; all others if left out")
    add("--validation", metavar="FILE", help="file of other profiles to choose by, with the same genes")
    add(
        "--method",
        choices=["network", "knn", "ridge"],
        default="network",
        help="D-GEX's network (the default), its baseline KNN-GE, or ridge regression",
    )
    add(
        "--recipe",
        metavar="NAME",
        help="modern, the most accurate; or a network of the paper by its name, such as D-GEX-10%%-9000x2",
    )
    add("--hidden", metavar="UNITS", type=int, nargs="+", help="units of each hidden layer (default: 3000)")
    add("--dropout", metavar="RATE", type=float, help="share of hidden units dropped in training (default: 0.1)")
    add("--epochs", metavar="N", type=int, help="passes over the profiles (default: 200)")
    add("--seed", metavar="N", type=seed, default=0, help="seed of everything random (default: 0)")
    add(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=assignment,
        help="any other parameter of the estimator, such as --set solver=adamw; may be repeated",
    )
    add("--quiet", action="store_true", help="print errors and warnings only")


def add_predict(command: argparse.ArgumentParser) -> None:
    """What can be asked of `predict`."""
    add = command.add_argument
    add("model", metavar="MODEL", help="model of `dgex train`, or a matrix of weights with a row OFFSET")
    add("source", metavar="SOURCE", help="file of profiles in which the landmarks were measured")
    add("destination", metavar="DESTINATION", help="file to write: .gctx, .h5ad, .parquet, .tsv or .tsv.gz")
    add_missing(command)
    add_names(command)
    levels = "gzip of GCTX, h5ad and .tsv.gz, from 0 to 9 (default: 0)"
    add("--compression", metavar="LEVEL", type=int, default=0, help=levels)
    add("--resume", action="store_true", help="keep what is written when interrupted, and go on with it the next time")
    add("--quiet", dest="verbose", action="store_false", help="show no progress")


def add_compare(command: argparse.ArgumentParser) -> None:
    """What can be asked of `compare`."""
    add = command.add_argument
    add("measured", metavar="MEASURED", help="file of profiles with landmarks and targets, not used in training")
    add("candidates", metavar="[NAME=]FILE", nargs="+", help="models, or files of inferred expression")
    add("--baseline", metavar="NAME", help="the one that others are compared with (default: the first)")
    add("--standardized", action="store_true", help="divide errors by the genes' standard deviations in training")
    add_missing(command)
    add_names(command)
    add("--output", metavar="FILE", help="write the table, separated by tabs")
    add("--by-gene", metavar="FILE", help="write error and correlation of every gene, separated by tabs")


def add_missing(command: argparse.ArgumentParser) -> None:
    """What to do about landmarks without values."""
    command.add_argument(
        "--missing",
        choices=["raise", "mean", "nan"],
        default="raise",
        help="missing landmarks and values: an error (the default), the mean of training, or left to the model",
    )


def add_names(command: argparse.ArgumentParser) -> None:
    """Names of genes, for models that were fitted without."""
    add, lists = (
        command.add_argument,
        "for models that know no names: its {}, in the order of training, one in each line",
    )
    add("--landmarks", metavar="FILE", help=lists.format("landmarks"))
    add("--targets", metavar="FILE", help=lists.format("targets"))


def seed(text: str) -> int:
    """A seed, which is zero or above."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, but expected a whole number, 0 or above")
    return int(text)


def assignment(text: str) -> tuple[str, Any]:
    """A parameter and its value: a Python literal, or text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"got {text!r}, but expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    sys.exit(main())
