"""Serves files with asyncio's loop.sendfile, and the header fields of the package's servers.

    python3 asyncio_server.py DIR
"""

import asyncio
import email.utils
import os
import sys

DIRECTORY = sys.argv[1]
HOST = os.environ.get("BENCH_HOST", "127.0.0.1")
PAD = os.environ.get("BENCH_PAD")
FIELDS = (
    "Accept-Ranges: bytes\r\n"
    'ETag: "100000-6b013e87.28599f8e"\r\n'
    "Last-Modified: Sat, 21 Nov 2026 06:47:35 GMT\r\n"
    "Content-Type: application/octet-stream\r\n"
) + (f"X-Pad: {PAD}\r\n" if PAD else "")


async def serve(reader, writer):
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ", 2)[1].decode()
            with open(DIRECTORY + path, "rb") as file:
                await send(writer, file)
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.SendfileNotAvailableError):
        # The client has left, which is how each run ends. asyncio raises SendfileNotAvailableError if the client leaves
        # before the file's first bytes.
        pass
    finally:
        writer.close()


async def send(writer, file):
    size = os.fstat(file.fileno()).st_size
    date = email.utils.formatdate(usegmt=True)
    head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\n{FIELDS}Content-Length: {size}\r\n\r\n"
    writer.write(head.encode())
    # Without fallback, so that only sendfile(2) is measured.
    await asyncio.get_running_loop().sendfile(writer.transport, file, fallback=False)


async def main():
    server = await asyncio.start_server(serve, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
