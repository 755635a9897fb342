"""The only place where a concrete class meets its port.

``core`` puts the domains on their adapters, ``server`` puts transports and loops on the core, ``installing`` does what
the command line asks for when no server is needed (``journals`` what it asks of those), and ``examining`` looks at the
world for ``keystead doctor``.
"""

from __future__ import annotations

from keystead.bootstrap.examining import Finding, examine
from keystead.bootstrap.installing import create_workspace, first_run, migrate, mint_operator
from keystead.bootstrap.journals import declare_journal_lost, list_journals
from keystead.bootstrap.server import Running, running
from keystead.keys.installation import FirstRun

__all__ = [
    "Finding",
    "FirstRun",
    "Running",
    "create_workspace",
    "declare_journal_lost",
    "examine",
    "first_run",
    "list_journals",
    "migrate",
    "mint_operator",
    "running",
]
