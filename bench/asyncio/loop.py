"""What people write without a batch system: a file of requests, aiohttp, a semaphore,
and a file of answers.

It calls as fusillade does, tries again after 429, 5xx and broken connections, and
writes each answer as a line. It forgets everything when it is killed. Prints one
JSON object with its rate.

    python3 loop.py --url http://127.0.0.1:8080 --requests 20000 --concurrency 64
"""

import argparse
import asyncio
import json
import resource
import tempfile
import time

import aiohttp

ATTEMPTS = 5


def request_file(path, requests, body_bytes):
    """Writes a file of requests in OpenAI's batch format."""
    body = {"model": "bench", "messages": [{"role": "user", "content": ""}]}
    body["messages"][0]["content"] = "x" * max(0, body_bytes - len(json.dumps(body)))
    with open(path, "w") as f:
        for i in range(requests):
            line = {"custom_id": f"request-{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            f.write(json.dumps(line) + "\n")


async def call(session, base, line):
    """Makes one call, and tries again where that can help."""
    for attempt in range(ATTEMPTS):
        try:
            async with session.post(base + line["url"], json=line["body"]) as response:
                text = await response.read()
                if response.status == 200:
                    return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": json.loads(text)}}
                if response.status not in (408, 409, 429) and response.status < 500:
                    return {"custom_id": line["custom_id"], "error": response.status}
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1 * 2**attempt)
    return {"custom_id": line["custom_id"], "error": "it failed each time"}


async def run(args, requests, results):
    semaphore = asyncio.Semaphore(args.concurrency)
    failed = 0
    with open(results, "w") as out:

        async def one(line):
            nonlocal failed
            try:
                answer = await call(session, args.url, line)
                failed += "error" in answer
                out.write(json.dumps(answer) + "\n")
            finally:
                semaphore.release()

        connector = aiohttp.TCPConnector(limit=args.concurrency)
        timeout = aiohttp.ClientTimeout(total=600)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            async with asyncio.TaskGroup() as group:
                with open(requests) as lines:
                    for line in lines:
                        await semaphore.acquire()  # no more tasks than calls
                        group.create_task(one(json.loads(line)))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--body-bytes", type=int, default=1024)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        requests, results = directory + "/requests.jsonl", directory + "/results.jsonl"
        request_file(requests, args.requests, args.body_bytes)
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.monotonic()
        failed = asyncio.run(run(args, requests, results))
        took = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({
        "requests": args.requests,
        "requests_per_second": args.requests / took,
        "cpu_seconds_per_request": cpu / args.requests,
        "failed": failed,
    }))


if __name__ == "__main__":
    main()
