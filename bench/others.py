#!/usr/bin/env python3
"""Runs fusillade and what people use instead on the same mock endpoint, one after the
other, some rounds of all, and prints the medians as a table.

    make bench-others            # five rounds
    python3 bench/others.py --rounds 3 --requests 10000 --latency 50ms --concurrency 250

Each row's command is printed. A row that lacks something is named and left out: the
asyncio row needs `pip install -r bench/asyncio/requirements.txt`, and River's needs Go
and --database, the URL of an empty database of its own, on this machine.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FUSILLADE = os.path.join(ROOT, "build", "fusillade")
RIVER = os.path.join(ROOT, "build", "river")
TIMEOUT_SECONDS = 1800


def start_mock(latency):
    """Starts the mock endpoint, and returns it and its URL."""
    mock = subprocess.Popen([FUSILLADE, "mock", "--listen", "127.0.0.1:0", "--no-custom-ids", "--latency", latency],
                            stdout=subprocess.PIPE, text=True)
    said = mock.stdout.readline().strip()
    url = said.removeprefix("listening on ")
    if url == said:
        mock.kill()
        sys.exit(f"the mock endpoint said {said!r}")
    return mock, url


def rows(args, url):
    """The rows: a name, and its command."""
    common = ["--requests", str(args.requests), "--concurrency", str(args.concurrency), "--body-bytes", str(args.body_bytes)]
    yield "fusillade", [FUSILLADE, "bench", "--json", "--pickups", "1", "--latency", args.latency, *common]
    if importlib.util.find_spec("aiohttp"):
        yield "asyncio and aiohttp", [sys.executable, "bench/asyncio/loop.py", "--url", url, *common]
    else:
        print("left out: asyncio, for Python has no aiohttp here", file=sys.stderr)
    if args.database:
        yield "River", [RIVER, "-database", args.database, "-url", url, *common]
    else:
        print("left out: River, for it has no --database", file=sys.stderr)


def measure(command):
    """Runs a command, and returns the JSON object it prints."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", default="0s")
    parser.add_argument("--body-bytes", type=int, default=1024)
    parser.add_argument("--database", help="URL of an empty database for River")
    args = parser.parse_args()
    if args.database:
        subprocess.run(["go", "build", "-C", "bench/river", "-o", RIVER, "."], cwd=ROOT, check=True)
    mock, url = start_mock(args.latency)
    measured = {}
    try:
        chosen = list(rows(args, url))
        for round_number in range(args.rounds):
            for name, command in chosen[round_number % len(chosen):] + chosen[:round_number % len(chosen)]:
                measured.setdefault(name, []).append(measure(command))
    finally:
        mock.terminate()
        mock.wait(10)
    print(f"| {args.requests} requests, {args.concurrency} in flight, calls of {args.latency} | requests/s, median (range) | to fusillade | CPU/request |")
    print("|---|---|---|---|")
    ours = statistics.median(r["requests_per_second"] for r in measured["fusillade"])
    for name, command in chosen:
        rates = sorted(r["requests_per_second"] for r in measured[name])
        cpu = statistics.median(r["cpu_seconds_per_request"] for r in measured[name])
        print(f"| {name} | {statistics.median(rates):,.0f} ({rates[0]:,.0f}-{rates[-1]:,.0f}) | {statistics.median(rates) / ours:.2f} | {cpu * 1e6:.0f} µs |")
    for name, command in chosen:
        print(f"{name}: {' '.join(os.path.relpath(part, ROOT) if part.startswith(ROOT) else part for part in command)}")


if __name__ == "__main__":
    main()
