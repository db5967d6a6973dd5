"""TLS between a transport and a protocol: slow readers, goodbyes, damage."""

import asyncio
import os
import random
import ssl

import pytest

from ottla.runtime.file_range import FileRange
from ottla.runtime.loop import loop_factory
from ottla.runtime.tls import PIECE_BYTES, HandshakeError, ReceiveBuffer, TlsTransport, connect_tls
from tests.server.transport.support import BROKER, client_context, until


class Peer(asyncio.BufferedProtocol):
    """Keeps what it gets, and what it is told."""

    def __init__(self):
        self.transport, self.received, self.told, self.room = None, bytearray(), [], bytearray(50_000)

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return memoryview(self.room)

    def buffer_updated(self, nbytes):
        self.received += self.room[:nbytes]

    def eof_received(self):
        self.told.append("eof")

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def connection_lost(self, exc):
        self.told.append(exc)


def run(main):
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def server_context(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "key.pem").write_text(BROKER.key_pem() + BROKER.pem)
    context.load_cert_chain(tmp_path / "key.pem")
    return context


async def serve(tmp_path, *, timeout_s=5.0):
    """A listening server; (server, port, its peers, failures)."""
    context, buffer, peers, failures = server_context(tmp_path), ReceiveBuffer(), [], []

    def made():
        peers.append(Peer())
        return TlsTransport(
            peers[-1],
            context,
            receive_buffer=buffer,
            timeout_s=timeout_s,
            on_established=lambda _: None,
            on_failed=lambda _, error: failures.append(error),
        )

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1], peers, failures


async def connect(port, context=None):
    peer = Peer()
    context = context or client_context()
    await connect_tls(peer, "127.0.0.1", port, context, receive_buffer=ReceiveBuffer(), timeout_s=5.0)
    return peer


def test_what_is_written_to_a_slow_reader_waits_and_arrives_whole(tmp_path):
    sent = b"".join(number.to_bytes(4, "big") for number in range(1_500_000))

    async def main():
        server, port, peers, _ = await serve(tmp_path)
        reader = await connect(port)
        reader.transport.pause_reading()
        writer = peers[0]
        await until(lambda: writer.transport.is_established)
        for start in range(0, len(sent), 700_000):
            writer.transport.write(memoryview(sent)[start : start + 700_000])
        assert writer.told == ["pause"]
        waiting = writer.transport.get_write_buffer_size()
        assert 0 < waiting <= len(sent) + 100_000
        writer.transport.close()  # what was written goes out first, then the goodbye
        reader.transport.resume_reading()
        await until(lambda: "eof" in reader.told)
        assert reader.received == sent
        await until(lambda: reader.told[-1] is None)
        server.close()

    run(main())


def test_a_writer_is_told_when_it_may_go_on(tmp_path):
    async def main():
        server, port, peers, _ = await serve(tmp_path)
        reader = await connect(port)
        writer = peers[0]
        await until(lambda: writer.transport.is_established)
        writer.transport.writelines([bytes(3_000_000), b"x" * 10, bytes(3_000_000)])
        await until(lambda: writer.told[-1:] == ["resume"])
        await until(lambda: len(reader.received) == 6_000_010)
        assert not writer.transport.get_write_buffer_size()
        reader.transport.abort()
        await until(lambda: writer.told[-1] != "resume")
        server.close()

    run(main())


def test_parts_of_all_sizes_and_ranges_of_files_arrive_in_order(tmp_path):
    chance = random.Random(7)
    content = chance.randbytes(3_000_000)
    (tmp_path / "file").write_bytes(content)

    class Opened:
        number = os.open(tmp_path / "file", os.O_RDONLY)

    swapped = content.translate(swap := bytes(range(255, -1, -1)))

    def decrypt(data, position):
        assert data == content[position : position + len(data)]
        data[:] = bytes(data).translate(swap)

    def part():
        kind, size = chance.randrange(4), chance.choice([0, 1, 57, 16_384, 16_385, 131_071, 131_072, 147_457, 400_000])
        if kind == 0:
            start = chance.randrange(len(content) - size)
            if chance.random() < 0.5:
                return FileRange(Opened, start, size, decrypt), swapped[start : start + size]
            return FileRange(Opened, start, size), content[start : start + size]
        data = chance.randbytes(size)
        return {1: bytes, 2: bytearray, 3: memoryview}[kind](data), data

    async def main():
        server, port, peers, _ = await serve(tmp_path)
        reader = await connect(port)
        writer = peers[0].transport
        await until(lambda: writer.is_established)
        sent = bytearray()

        def all_arrived():
            return len(reader.received) == len(sent)

        for _ in range(60):
            parts = [part() for _ in range(chance.randrange(1, 6))]
            if chance.random() < 0.3:
                for each, _ in parts:
                    writer.write(each)
            else:
                writer.writelines(each for each, _ in parts)
            sent += b"".join(data for _, data in parts)
            if chance.random() < 0.3:
                await until(all_arrived)
                assert writer.get_write_buffer_size() == 0
        await until(all_arrived)
        assert reader.received == sent
        writer.close()
        await until(lambda: "eof" in reader.told)
        server.close()

    run(main())
    os.close(Opened.number)


def test_what_stands_before_a_range_leaves_with_it(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1_000_000))

    class Opened:
        number = os.open(tmp_path / "file", os.O_RDONLY)

    async def main():
        server, port, peers, _ = await serve(tmp_path)
        reader = await connect(port)
        writer = peers[0].transport
        await until(lambda: writer.is_established)
        written = []
        below, writer._raw = writer._raw, Spy(writer._raw, written)
        writer.writelines([b"size", b"head", FileRange(Opened, 0, PIECE_BYTES), b"tail"])
        assert [len(data) - 22 * -(-len(data) // 16_406) for data in written] == [PIECE_BYTES + 12]
        written.clear()
        writer.writelines([b"size", FileRange(Opened, 0, 2 * PIECE_BYTES)])
        assert len(written) == 2
        writer._raw = below
        await until(lambda: len(reader.received) == 3 * PIECE_BYTES + 16)
        writer.close()
        await until(lambda: reader.told[-1:] == [None])
        server.close()

    run(main())
    os.close(Opened.number)


class Spy:
    """A transport that notes what is written."""

    def __init__(self, transport, written):
        self._transport, self._written = transport, written

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def write(self, data):
        self._written.append(data)
        self._transport.write(data)


def test_a_range_that_cannot_be_read_ends_the_connection(tmp_path):
    (tmp_path / "file").write_bytes(bytes(100_000))

    class Opened:
        number = os.open(tmp_path / "file", os.O_RDONLY)

    async def main():
        server, port, peers, _ = await serve(tmp_path)
        reader = await connect(port)
        writer = peers[0].transport
        await until(lambda: writer.is_established)
        writer.writelines([b"head", FileRange(Opened, 0, 200_000)])
        await until(lambda: reader.told and reader.told[-1] != "eof")
        assert len(reader.received) < 200_004
        server.close()

    run(main())
    os.close(Opened.number)


def test_damaged_bytes_end_the_connection_with_a_reason(tmp_path):
    async def main():
        server, port, peers, _ = await serve(tmp_path)
        reader = await connect(port)
        raw = peers[0].transport._raw  # past the encryption
        raw.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        await until(lambda: len(reader.told) == 2)
        assert reader.told[0] == "eof"
        assert str(reader.told[1]).startswith("TLS: ")
        assert not reader.received
        server.close()

    run(main())


def test_handshakes_that_fail_are_told_once_on_both_sides(tmp_path):
    async def main():
        server, port, peers, failures = await serve(tmp_path, timeout_s=0.05)
        with pytest.raises(HandshakeError, match="is not trusted: unable to get"):
            await connect(port, client_context(trusted=BROKER))
        _, writer = await asyncio.open_connection("127.0.0.1", port)  # says nothing
        await until(lambda: len(failures) == 2)
        writer.close()
        await until(lambda: all(peer.told for peer in peers))
        told = "the other side does not believe the certificate that it was shown: tlsv1 alert unknown ca"
        assert str(failures[0]) == told
        assert (failures[0].is_silent, failures[1].is_silent) == (False, True)
        assert str(failures[1]) == "it has not finished within 0.05 s"
        assert len(failures) == 2
        server.close()

    run(main())


def test_nobody_there_is_an_os_error(tmp_path):
    async def main():
        server, port, *_ = await serve(tmp_path)
        server.close()
        await server.wait_closed()
        with pytest.raises(OSError, match=r"Connect call failed|refused"):
            await connect(port)

    run(main())
