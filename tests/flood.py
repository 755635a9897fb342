"""A flood of keys that nobody has, from a process of its own, so that who measures beside it is not slowed by it.

``python -m tests.flood GRPC COUNT SEED`` reads a management key and a master key from standard input, a line each, and
prints how many answers of each code it got, as JSON. Every answer is counted; one that is none ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from itertools import cycle, islice

from keystead.gen.v1 import verification_pb2
from tests.clients import GrpcClient
from tests.forgeries import FORGED, MALFORMED, UNKNOWN, Forger

BATCH = 1_000
# One in ten gets as far as the database.
KINDS = (FORGED, MALFORMED) * 4 + (FORGED, UNKNOWN)

_Code = verification_pb2.VerifyKeyResponse.Code


async def flood(client: GrpcClient, forger: Forger, count: int) -> Counter[str]:
    """Ask about ``count`` texts, all different, from as many addresses, in batches of a thousand."""
    told: Counter[str] = Counter()
    kinds = cycle(KINDS)
    for _ in range(count // BATCH):
        requests = [
            {"key": forger.text(kind), "environment": "LIVE", "client_ip": forger.address()}
            for kind in islice(kinds, BATCH)
        ]
        reply = (await client.call("BatchVerify", requests=requests)).must()
        told.update(_Code.Name(verdict.code) for verdict in reply.responses)
    return told


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grpc")
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    token, master_key = sys.stdin.read().split()
    async with GrpcClient(options.grpc, token) as client:
        told = await flood(client, Forger(master_key, seed=options.seed), options.count)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(_main())
