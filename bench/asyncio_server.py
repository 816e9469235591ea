"""Files by Python's own means: asyncio, and its loop.sendfile.

    python3 asyncio_server.py DIR
"""

import asyncio
import os
import sys

DIRECTORY = sys.argv[1]


async def serve(reader, writer):
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ", 2)[1].decode()
            with open(DIRECTORY + path, "rb") as file:
                await send(writer, file)
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.SendfileNotAvailableError):
        # The client has left, which is how each of its runs ends; asyncio calls it "not available" where the
        # file's first bytes meet a connection that is gone.
        pass
    finally:
        writer.close()


async def send(writer, file):
    size = os.fstat(file.fileno()).st_size
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nContent-Type: application/octet-stream\r\n\r\n"
    writer.write(head.encode())
    # Without fallback: what is to be measured is sendfile(2), or nothing.
    await asyncio.get_running_loop().sendfile(writer.transport, file, fallback=False)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
