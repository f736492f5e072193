#!/usr/bin/env python3
"""A look-alike of CoinGecko's candles that answers after a given time, and a load that is hardly one.

    mock.py serve --coins 1000 --latency-ms 20           prints its port, and serves until it is ended
    mock.py drive --port P --coins 1000 --connections 10  asks for each coin once; prints the seconds it took
"""
import argparse
import asyncio
import json
import random
import time

HALF_HOUR = 1_800_000


def candles(coin, end):
    """48 candles of half an hour, stamped with their close, the last at `end`; what a coin costs depends on its name alone."""
    draw, rows = random.Random(coin), []
    price = 10 ** draw.uniform(-2, 4)
    for at in range(end - 47 * HALF_HOUR, end + 1, HALF_HOUR):
        opened, price = price, price * draw.uniform(0.99, 1.01)
        rows.append([at, *(float(f"{p:.6g}") for p in (opened, max(opened, price) * 1.01, min(opened, price) * 0.99, price))])
    return json.dumps(rows).encode()


class Answers(asyncio.Protocol):
    """HTTP/1.1 with connections that stay open."""

    ready, delay = {}, 0.0

    def connection_made(self, transport):
        self.transport, self.held = transport, b""

    def data_received(self, data):
        self.held += data
        while b"\r\n\r\n" in self.held:
            head, self.held = self.held.split(b"\r\n\r\n", 1)
            path = head.split(b" ", 2)[1].split(b"?")[0]
            asyncio.get_running_loop().call_later(self.delay, self.answer, path)

    def answer(self, path):
        status, body = (b"200 OK", self.ready[path]) if path in self.ready else (b"404 Not Found", b'{"error":"coin not found"}')
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


async def serve(coins, latency):
    end = int(time.time() * 1000) // HALF_HOUR * HALF_HOUR
    Answers.ready = {f"/coins/coin-{n:04d}/ohlc".encode(): candles(f"coin-{n:04d}", end) for n in range(coins)}
    Answers.delay = latency / 1000
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def drive(port, coins, connections):
    left = iter(range(coins))

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for n in left:
            writer.write(f"GET /coins/coin-{n:04d}/ohlc?vs_currency=usd&days=1 HTTP/1.1\r\nHost: mock\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("what", choices=["serve", "drive"])
    a.add_argument("--coins", type=int, default=100)
    a.add_argument("--latency-ms", type=float, default=20)
    a.add_argument("--port", type=int)
    a.add_argument("--connections", type=int, default=10)
    a = a.parse_args()
    asyncio.run(serve(a.coins, a.latency_ms) if a.what == "serve" else drive(a.port, a.coins, a.connections))
