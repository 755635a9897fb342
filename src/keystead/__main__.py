"""Runs the command line: ``keystead …`` and ``python -m keystead …`` are the same."""

from __future__ import annotations

import io
import sys

from keystead.cli.application import application


def main() -> None:
    """Run one command and exit with its code. A terminal that cannot show a character gets a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    application.main(prog_name="keystead")


if __name__ == "__main__":
    main()
