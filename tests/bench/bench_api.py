"""The HTTP API, end to end on this machine's loopback interface; figures, no verdict.

    python tests/bench/bench_api.py [-c 20] [-n 5000] [--size 4096]

Signed v2 SendEmail calls with raw content, management calls, and how long others wait while bodies of
40 MB are taken.  Calls are signed beforehand, so that the client costs little.  Prints rates and the CPU
of the gateway for each call.  Needs Postfix's smtp-sink as the next hop.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.bench.processes import cpu_seconds, memory_bytes
from tests.bench.sink import Sink
from tests.support.aws import EVERYTHING, Key, key_of
from tests.support.gateway import OWNER, REGION, Gateway

_RAW_BYTES_40_MB = 39 * 1024 * 1024
_PINGS = 400


def signed(key: Key, method: str, path: str, body: bytes) -> bytes:
    """A whole HTTP request."""
    request = AWSRequest(method, f"{key.endpoint}{path}", {"Content-Type": "application/json"}, body)
    SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "ses", REGION).add_auth(request)
    headers = {
        "Host": key.endpoint.removeprefix("http://"),
        "Content-Length": str(len(body)),
        **request.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def raw_send(key: Key, size: int, number: int) -> bytes:
    head = (
        f"From: a@owner.example\r\nTo: user@customer.example\r\nSubject: Load {number}\r\n"
        "Date: Wed, 25 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\r\n"
    )
    line = "the quick brown fox jumps over the lazy dog and carries a letter\r\n"
    octets = (head + line * (size // len(line))).encode()
    content = {"Content": {"Raw": {"Data": base64.b64encode(octets).decode()}}}
    return signed(key, "POST", "/v2/email/outbound-emails", json.dumps(content).encode())


async def connection(port: int, requests: list[bytes], failures: list[bytes]) -> None:
    """Send what is left of the requests over one kept connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    while requests:
        writer.write(requests.pop())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            failures.append(head + body)
    writer.close()


def measure(gateway: Gateway, name: str, requests: list[bytes], connections: int) -> None:
    assert gateway.process is not None
    count, failures = len(requests), list[bytes]()
    before, started = cpu_seconds(gateway.process.pid), time.perf_counter()

    async def run() -> None:
        await asyncio.gather(*(connection(gateway.http_port, requests, failures) for _ in range(connections)))

    asyncio.run(run())
    seconds = time.perf_counter() - started
    cpu = cpu_seconds(gateway.process.pid) - before
    each = f"{cpu / count * 1000:6.2f} ms CPU a call"
    print(f"{name:34} {count / seconds:8.0f}/s   {each}   {len(failures)} failed")
    if failures:
        print(failures[0][:600])


def ping(port: int, waits: Any) -> None:
    """How long a small request takes, again and again, in milliseconds; a process of its own."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(_PINGS):
            started = time.perf_counter()
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.recv(4096)
            waits.put((time.perf_counter() - started) * 1000)
            time.sleep(0.005)


def waited(gateway: Gateway, large: list[bytes]) -> None:
    """What a small request waits while large ones are taken."""
    failures: list[bytes] = []
    queue = multiprocessing.Queue()
    pinging = multiprocessing.Process(target=ping, args=(gateway.http_port, queue))
    pinging.start()
    waits = []

    async def send() -> None:
        await asyncio.gather(*(connection(gateway.http_port, [one], failures) for one in large))

    started = time.perf_counter()
    asyncio.run(send())
    seconds = time.perf_counter() - started
    waits = sorted(queue.get() for _ in range(_PINGS))
    pinging.join()
    assert gateway.process is not None
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(f"{len(large)} bodies of 40 MB at once: {seconds:.1f} s, {len(failures)} failed")
    print(f"  meanwhile a small request waits p50 {p50:.1f}, p99 {p99:.1f}, at most {waits[-1]:.1f} ms")
    print(f"  {memory_bytes(gateway.process.pid) / 1e6:.0f} MB in the largest process")
    for one in failures:
        print(one[:600])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--connections", type=int, default=20)
    parser.add_argument("-n", "--count", type=int, default=5000)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    sink = Sink()
    try:
        with tempfile.TemporaryDirectory() as directory:
            settings = {"RELAY_RELAY__WORKERS": str(arguments.workers), "RELAY_API__CALLS_PER_SECOND": "0"}
            gateway = Gateway(Path(directory) / "g", sink, **settings)  # type: ignore[arg-type]
            gateway.run("init", str(gateway.directory))
            gateway.account(OWNER)
            gateway.identity("owner.example")
            key = key_of(gateway, "admin", policy=EVERYTHING)
            gateway.start()
            calls = [raw_send(key, arguments.size, number) for number in range(arguments.count)]
            measure(gateway, f"SendEmail, raw, {arguments.size} octets", calls[:500], arguments.connections)
            measure(gateway, f"SendEmail, raw, {arguments.size} octets", calls[500:], arguments.connections)
            for name, path in (("GetEmailIdentity", "/identities/owner.example"), ("GetAccount", "/account")):
                one = signed(key, "GET", f"/v2/email{path}", b"")
                measure(gateway, name, [one] * 1000, arguments.connections)
            made = [
                signed(
                    key, "POST", "/v2/email/configuration-sets", b'{"ConfigurationSetName": "s%d"}' % number
                )
                for number in range(500)
            ]
            measure(gateway, "CreateConfigurationSet", made, arguments.connections)
            waited(gateway, [])
            waited(gateway, [raw_send(key, _RAW_BYTES_40_MB, number) for number in range(3)])
            gateway.stop()
    finally:
        sink.close()


if __name__ == "__main__":
    main()
