"""A test double of adbd, the phone's side of the adb protocol. Not Android: commands run in this machine's shell.

It speaks the wire protocol of Android's packages/modules/adb (protocol.txt, SYNC.TXT, shell_protocol.h): CNXN, AUTH,
OPEN, OKAY, WRTE, CLSE; services `shell` with the shell protocol, and `sync` (STAT, SEND). Like adbd it hangs up on
(SIGHUP) a command whose stream or connection breaks.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path
from queue import Queue

VERSION, MAX_DATA = 0x01000000, 256 * 1024
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
TOKEN, PUBLIC_KEY = 1, 3


class AdbdDouble:
    """Listens on a free port of the loopback.

    Args:
        commands: folder put before PATH: the phone's own commands, such as getprop.
        state: `device`; `unauthorized` never accepts a key; `offline` never answers.
        disk_bytes: files beyond this many bytes in all do not fit.
    """

    def __init__(self, commands: Path, state="device", disk_bytes=None):
        self.commands, self.state, self.disk_left = commands, state, disk_bytes
        self.pushed: list[str] = []
        self._links: list[Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            link = Link(self, connection)
            self._links.append(link)
            threading.Thread(target=link.serve, daemon=True).start()

    def vanish(self):
        """The cable is pulled: every connection breaks, none is accepted any more."""
        self._listener.close()
        for link in self._links:
            link.close()


class Link:
    """One connection of an adb server."""

    def __init__(self, phone: AdbdDouble, connection: socket.socket):
        self.phone, self._connection = phone, connection
        self._sending, self.streams, self._next = threading.Lock(), {}, 1

    def serve(self):
        try:
            while True:
                command, first, second, length, _, _ = struct.unpack("<4s5I", self._read(24))
                self._handle(command.decode(), first, second, self._read(length))
        except (EOFError, OSError):
            pass
        finally:
            self.close()

    def send(self, command, first, second, data=b""):
        number = int.from_bytes(command.encode(), "little")
        header = struct.pack("<6I", number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        with self._sending:
            self._connection.sendall(header + data)

    def close(self):
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        for stream in list(self.streams.values()):
            stream.hang_up()

    def _handle(self, command, first, second, data):
        state = self.phone.state
        if state == "offline":
            return
        if state == "unauthorized":
            if command == "CNXN" or (command == "AUTH" and first != PUBLIC_KEY):
                self.send("AUTH", TOKEN, 0, bytes(20))
            return
        if command == "CNXN":
            banner = "device::ro.product.name=double;ro.product.model=TEST_DOUBLE;ro.product.device=double;"
            self.send("CNXN", VERSION, MAX_DATA, (banner + "features=shell_v2,cmd").encode())
        elif command == "OPEN":
            stream = Stream(self, self._next, first)
            self.streams[self._next] = stream
            self._next += 1
            self.send("OKAY", stream.local, first)
            threading.Thread(target=stream.serve, args=(data.rstrip(b"\0").decode(),), daemon=True).start()
        elif command == "WRTE" and second in self.streams:
            self.streams[second].received.put(data)
            self.send("OKAY", second, first)
        elif command == "OKAY" and second in self.streams:
            self.streams[second].ready.release()
        elif command == "CLSE" and second in self.streams:
            self.streams.pop(second).hang_up()

    def _read(self, length):
        data = b""
        while len(data) < length:
            part = self._connection.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data


class Stream:
    """One service that the adb client opened."""

    def __init__(self, link: Link, local, remote):
        self.link, self.local, self.remote = link, local, remote
        self.received, self.ready, self._buffer = Queue(), threading.Semaphore(0), b""
        self._process = None

    def serve(self, service):
        kind, _, argument = service.partition(":")
        try:
            if kind == "sync":
                self._sync()
            elif kind.startswith("shell,v2"):
                self._shell(argument)
        except (EOFError, OSError):
            pass
        finally:
            self.link.streams.pop(self.local, None)
            with contextlib.suppress(OSError):
                self.link.send("CLSE", self.local, self.remote)

    def hang_up(self):
        """What adbd does when the other side is gone."""
        self.received.put(None)
        self.ready.release()
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)

    def _write(self, data):
        for start in range(0, len(data), MAX_DATA // 4):
            self.link.send("WRTE", self.local, self.remote, data[start : start + MAX_DATA // 4])
            self.ready.acquire()

    def _take(self, length):
        while len(self._buffer) < length:
            data = self.received.get()
            if data is None:
                raise EOFError
            self._buffer += data
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _shell(self, command):
        environment = {**os.environ, "PATH": f"{self.link.phone.commands}:{os.environ['PATH']}"}
        self._process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        threading.Thread(target=self._feed, args=(self._process.stdin,), daemon=True).start()
        pumps = [
            threading.Thread(target=self._pump, args=(pipe, name), daemon=True)
            for pipe, name in ((self._process.stdout, STDOUT), (self._process.stderr, STDERR))
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        code = self._process.wait()
        self._write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))

    def _pump(self, pipe, name):
        try:
            while data := pipe.read1(32768):
                self._write(struct.pack("<BI", name, len(data)) + data)
        except OSError:
            pass  # the connection broke; the process has been hung up on

    def _feed(self, pipe):
        try:
            while True:
                name, length = struct.unpack("<BI", self._take(5))
                data = self._take(length)
                if name == STDIN:
                    pipe.write(data)
                    pipe.flush()
                elif name == CLOSE_STDIN:
                    break
        except (EOFError, BrokenPipeError):
            pass
        pipe.close()

    def _sync(self):
        while True:
            request, length = struct.unpack("<4sI", self._take(8))
            if request == b"QUIT":
                return
            argument = self._take(length).decode()
            if request == b"STAT":
                try:
                    found = Path(argument).stat()
                    answer = found.st_mode, found.st_size, int(found.st_mtime)
                except OSError:
                    answer = 0, 0, 0
                self._write(b"STAT" + struct.pack("<3I", *answer))
            elif request == b"SEND":
                self._receive(*argument.rsplit(",", 1))

    def _receive(self, path, mode):
        content = b""
        while True:
            part, length = struct.unpack("<4sI", self._take(8))
            if part == b"DONE":
                break
            content += self._take(length)
        phone, reason = self.link.phone, ""
        if phone.disk_left is not None:
            phone.disk_left -= len(content)
            reason = "write failed: No space left on device" if phone.disk_left < 0 else ""
        if not reason:
            Path(path).parent.mkdir(parents=True, exist_ok=True)  # as adbd does
            Path(path).write_bytes(content)
            Path(path).chmod(int(mode) & 0o777)
            phone.pushed.append(path)
        message = reason.encode()
        self._write((b"FAIL" if reason else b"OKAY") + struct.pack("<I", len(message)) + message)
