"""A line between two programs that can be slow, in pieces, torn, cut or half-closed."""

import asyncio
from contextlib import suppress

_AT_ONCE = 1 << 16


class Proxy:
    """Passes octets on between whoever connects to it and a server. up: towards the server.

    delay_s: of each piece, at most; piece: octets of one, at most; 0: as they come.
    """

    def __init__(self, dice):
        self.dice = dice
        self.delay_s = 0.0
        self.piece = 0
        self._lines = {}
        self._wanted = None

    async def start(self, server):
        """The port it listens on. server: a port of this machine, or the path of a socket."""
        self._server = server
        self._listening = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return self._listening.sockets[0].getsockname()[1]

    async def stop(self):
        self._listening.close()
        for line in self._lines.values():
            line.abort()
        await asyncio.gather(*self._lines)

    def cut(self, how, marker=b""):
        """Ends the line that next brings octets with this marker up. Returns a future of that moment.

        torn: half of them arrive. after: all arrive, and both ends are cut at once. answer: the server
        answers, and that is lost. half up, half down: all arrive, and the server, or the other end, hears no
        more.
        """
        done = asyncio.get_running_loop().create_future()
        self._wanted = (how, marker, done)
        return done

    async def _pass_on(self, reader, writer):
        to_port = isinstance(self._server, int)
        opening = (
            asyncio.open_connection("127.0.0.1", self._server)
            if to_port
            else asyncio.open_unix_connection(self._server)
        )
        try:
            far_reader, far_writer = await opening
        except OSError:  # nobody is there any more
            writer.transport.abort()
            return
        line = self._lines[asyncio.current_task()] = _Line(writer, far_writer)
        await asyncio.gather(self._up(reader, line), self._down(far_reader, line))
        line.abort()
        del self._lines[asyncio.current_task()]

    async def _pieces(self, reader):
        with suppress(ConnectionError):
            while octets := await reader.read(self.dice.randint(1, self.piece) if self.piece else _AT_ONCE):
                if self.delay_s:
                    await asyncio.sleep(self.dice.uniform(0, self.delay_s))
                yield octets

    async def _up(self, reader, line):
        async for octets in self._pieces(reader):
            if self._wanted and self._wanted[1] in octets:
                how, _, done = self._wanted
                self._wanted = None
                await line.end(how, octets)
                done.set_result(None)
            else:
                await line.up(octets)
        await line.up(b"")

    async def _down(self, reader, line):
        async for octets in self._pieces(reader):
            await line.down(octets)
        await line.down(b"")


class _Line:
    """near: towards whoever connected; far: towards the server. No octets: the end of one direction."""

    def __init__(self, near, far):
        self._near = near
        self._far = far
        self._answer_lost = False
        self._deaf = set()

    async def up(self, octets):
        await self._write(self._far, octets)

    async def down(self, octets):
        if self._answer_lost:
            self.abort()
        await self._write(self._near, octets)

    async def _write(self, writer, octets):
        if writer in self._deaf:
            return
        with suppress(ConnectionError, OSError):
            if octets:
                writer.write(octets)
                await writer.drain()
            else:
                self._end_of(writer)

    def _end_of(self, writer):
        self._deaf.add(writer)
        if not writer.is_closing():
            writer.write_eof()

    async def end(self, how, octets):
        await self._write(self._far, octets[: len(octets) // 2] if how == "torn" else octets)
        while self._far.transport.get_write_buffer_size():  # noqa: ASYNC110 - an abort would throw it away
            await asyncio.sleep(0)
        match how:
            case "torn" | "after":
                self.abort()
            case "answer":
                self._answer_lost = True
            case "half up":
                self._end_of(self._far)
            case "half down":
                self._end_of(self._near)

    def abort(self):
        self._deaf = {self._near, self._far}
        self._near.transport.abort()
        self._far.transport.abort()
