"""Requests, as the figures need them: one connection each, counted; or one connection kept."""

import asyncio
import http.client
import time
from collections import Counter


class Kept:
    """Requests over one connection, that is made anew when the other side has ended it."""

    def __init__(self, port, address="127.0.0.1"):
        self.connection = http.client.HTTPConnection(address, port, timeout=30)

    def get(self, path):
        try:
            self.connection.request("GET", path)
            return self.connection.getresponse().read()
        except (ConnectionError, http.client.HTTPException):
            self.connection.close()
            return b""

    def close(self):
        self.connection.close()


def fresh(port, path):
    """A request over a connection of its own."""
    kept = Kept(port)
    try:
        return kept.get(path)
    finally:
        kept.close()


def latency(port, count, address="127.0.0.1"):
    """Seconds of each of some small requests over one connection, in order of size."""
    kept, taken = Kept(port, address), []
    for _ in range(count):
        began = time.perf_counter()
        answer = kept.get("/")
        taken.append(time.perf_counter() - began)
        if not answer:
            raise ConnectionError(f"{address}:{port} did not answer")
    kept.close()
    return sorted(taken)


def download(port, megabytes):
    """Seconds that a stream of zeros takes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    buffer, received = memoryview(bytearray(1 << 20)), 0
    began = time.perf_counter()
    connection.request("GET", f"/zeros/{megabytes}")
    answer = connection.getresponse()
    while count := answer.readinto(buffer):
        received += count
    taken = time.perf_counter() - began
    connection.close()
    if received != megabytes << 20:
        raise ConnectionError(f"{received} bytes came of {megabytes} MiB")
    return taken


async def steadily(port, rate, seconds):
    """Begins so many requests a second whatever became of the earlier ones, each on a connection of its own. Returns how
    they ended, how long the answered ones took, and how late the last one was begun."""
    ends, taken, tasks = Counter(), [], []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(port, ends, taken)))
    late = time.perf_counter() - began - (len(tasks) - 1) / rate
    await asyncio.gather(*tasks)
    return ends, sorted(taken), late


async def one(port, ends, taken):
    began, received = time.perf_counter(), b""
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
                while part := await reader.read(65536):
                    received += part
            finally:
                writer.close()
        end = "answered" if received.startswith(b"HTTP/1.1 200 ") else "failed" if received else "reset"
    except ConnectionRefusedError:
        end = "refused"
    except ConnectionError:
        end = "failed" if received else "reset"
    except TimeoutError:
        end = "failed"
    ends[end] += 1
    if end == "answered":
        taken.append(time.perf_counter() - began)
