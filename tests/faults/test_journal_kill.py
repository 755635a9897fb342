"""P5 for the journal alone: ``kill -9`` at any instant loses no verdict that was written down, and doubles none."""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import subprocess
import sys
from pathlib import Path

from keystead.usage.model import Call
from tests.journals import JournalWorld, drained

ROUNDS = 20
REPORT = struct.Struct("<Q")
CHILD = """
import os, struct, sys
from pathlib import Path
from tests.journals import CountedKey, JournalWorld, SEGMENT_BYTES
world = JournalWorld(Path(sys.argv[1]), seed=int(sys.argv[2]), segment_bytes=4 * SEGMENT_BYTES)
keys = [CountedKey(key_id=f"key_{number}") for number in range(50)]
turn = 0
while True:
    turn += 1
    world.clock.advance(1)
    world.verdict(keys[turn % 50], operation=f"op {turn % 9}", client_ip=f"10.0.0.{turn % 200}")
    os.write(1, struct.pack("<Q", world.ids.last_ordinal))
    if turn % 97 == 0:
        stretch = world.stretches.next(world.journal_id, at_most=50)
        if turn % 2:
            print(flush=True, file=sys.stderr)
"""


def reported_before_the_kill(path: Path, seed: int, reports: int) -> list[int]:
    """Let a child write verdicts down, kill it after ``reports`` of them, and return every ordinal it reported."""
    command = [sys.executable, "-c", CHILD, str(path), str(seed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=Path.cwd()
    ) as child:
        assert child.stdout is not None
        descriptor, held = child.stdout.fileno(), b""
        while len(held) < reports * REPORT.size:
            assert select.select([descriptor], [], [], 30)[0]
            some = os.read(descriptor, 65_536)
            assert some, child.wait(5)
            held += some
        child.send_signal(signal.SIGKILL)
        while some := os.read(descriptor, 65_536):
            held += some
    return [ordinal for (ordinal,) in REPORT.iter_unpack(held[: len(held) // REPORT.size * REPORT.size])]


def ordinals_of(calls: list[Call]) -> list[int]:
    """Read the ordinals out of verification ids."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    ordinals = []
    for call in calls:
        value = 0
        for character in call.verification_id[-8:]:
            value = value * 32 + alphabet.index(character)
        ordinals.append(value)
    return ordinals


def test_kill_9_loses_no_verdict(tmp_path: Path) -> None:
    """Twenty processes killed at random instants: each reported ordinal is read exactly once, at most one more."""
    chooser = random.Random(7)
    for turn in range(ROUNDS):
        reported = reported_before_the_kill(tmp_path, turn, chooser.randint(1, 4_000))
        world = JournalWorld(tmp_path, seed=1_000)
        (dead,) = world.stretches.journals()[1:]
        read = ordinals_of(drained(world.stretches, dead))
        assert read[: len(reported)] == reported, turn
        assert len(read) <= len(reported) + 1, turn
        assert world.stretches.damaged <= 1  # the record under way, whose answer had not left
        world.stretches.remove(dead)
        world.journal.let_go()
        world.stretches.remove(world.journal_id)
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["lock"]
