"""`python -m tests.support.tls_front LISTEN TARGET CERT KEY`: accept TLS connections and forward them in plain text."""

import asyncio
import ssl
import sys
from contextlib import suppress


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def serve(listen: int, target: int, context: ssl.SSLContext) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, out), pump(there, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", listen, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    listen, target, cert, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    asyncio.run(serve(int(listen), int(target), context))
