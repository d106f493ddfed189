"""Where worker processes start: a small process that has imported what they need and forks one on request.

A fork of a process that has everything imported starts in milliseconds, so a worker that died is replaced at once.
The fork server itself never sees an input: it has one thread and does nothing but fork, kill and wait. When its owner
ends, for whatever reason, the socket closes, the fork server ends, and the kernel ends its children (PR_SET_PDEATHSIG).

This module holds the child's side and the wire; `imaging.workers` holds the owner's side. Standard library only.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pickle
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any

if sys.platform != "win32":
    import resource

_HEAD = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CHUNK_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1
# Of one message: more is a damaged worker talking, not an answer.
MESSAGE_BYTES = 2 << 30
_BUFFERS = 65536


class Channel:
    """A pair of pipes that carries Python objects; arrays travel as raw buffers (pickle protocol 5), not copied first.

    With a `deadline` (time.monotonic), send and receive raise TimeoutError once it has passed. EOFError means that the
    other side is gone, or that it sends nonsense.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing

    def send(self, value: Any, deadline: float | None = None) -> None:
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        head = _HEAD.pack(len(body), len(raw)) + b"".join(_LENGTH.pack(view.nbytes) for view in raw)
        try:
            self._write(memoryview(head + body), deadline)
            for view in raw:
                self._write(view, deadline)
        except BrokenPipeError as error:
            raise EOFError("the reader is gone") from error

    def receive(self, deadline: float | None = None) -> Any:
        size, count = _HEAD.unpack(self._read(_HEAD.size, deadline))
        if size > MESSAGE_BYTES or count > _BUFFERS:
            raise EOFError("not a message")
        lengths = [_LENGTH.unpack(self._read(_LENGTH.size, deadline))[0] for _ in range(count)]
        if size + sum(lengths) > MESSAGE_BYTES:
            raise EOFError("not a message")
        body = self._read(size, deadline)
        return pickle.loads(body, buffers=[self._read(length, deadline) for length in lengths])  # noqa: S301

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)

    def _write(self, view: memoryview, deadline: float | None) -> None:
        while view.nbytes:
            _wait(self.writing, select.POLLOUT, deadline)
            view = view[os.write(self.writing, view) :]

    def _read(self, size: int, deadline: float | None) -> bytearray:
        whole = bytearray(size)
        view = memoryview(whole)
        while view.nbytes:
            _wait(self.reading, select.POLLIN, deadline)
            got = os.readv(self.reading, [view[:_CHUNK_BYTES]])
            if not got:
                raise EOFError("the writer is gone")
            view = view[got:]
        return whole


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    if deadline is None:
        return
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def fork_on_request(owner: socket.socket, preload: list[str]) -> None:
    """Fork a worker, or end one, for each request of the owner, until the owner is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner alone decides.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A core file would hold patient data.
    for name in preload:
        importlib.import_module(name)
    gc.freeze()  # What is imported stays: no worker need look through it again.
    children: set[int] = set()
    owner.sendall(b"ready\n")
    while True:
        request, descriptors, _, _ = socket.recv_fds(owner, 4096, 2)
        if not request:
            break
        order = json.loads(request)
        if "end" in order:
            answer = _end(order["end"])
            children.discard(order["end"])
        else:
            answer = _fork(owner, descriptors, order["memory_bytes"])
            children.add(answer)
        owner.sendall(f"{answer}\n".encode())
    for child in children:
        _end(child)


def _end(child: int) -> int:
    """Kill and reap; the exit status as a shell would tell it (negative: the signal). Nobody else reaps, so the
    number cannot have passed to another process."""
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fork(owner: socket.socket, descriptors: list[int], memory_bytes: int | None) -> int:
    fork_server = os.getpid()
    child = os.fork()
    if child:
        for descriptor in descriptors:
            os.close(descriptor)
        return child
    try:
        owner.close()
        _die_with(fork_server)
        if memory_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        serve(Channel(*descriptors))
    finally:
        os._exit(0)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def serve(channel: Channel) -> None:
    """Answer batches of tasks until the owner is gone. One message per result, so that a death names its task."""
    while True:
        try:
            function, tasks = channel.receive()
        except EOFError:
            return
        for number, args in tasks:
            for kind, value in _answers(function, args):
                channel.send((number, kind, value))


def _answers(function: Any, args: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """What one call gives, as (kind, value): `last` for a plain result; `part`s and one `end` for an iterator."""
    try:
        result = function(*args)
        if isinstance(result, Iterator):
            for part in result:
                yield "part", part
            yield "end", None
        else:
            yield "last", result
    except MemoryError:
        yield "memory", None
    except Exception as error:  # noqa: BLE001 - whatever a task raises is its result; the owner judges it
        yield "error", _portable(error)


def _portable(error: Exception) -> Exception | str:
    """The toolkit's own errors as they are; of any other only the type: its message may quote the input."""
    return error if hasattr(error, "reason") and hasattr(error, "__reduce_ex__") else type(error).__name__


def main() -> None:
    """The entry of a fork server process: argv is (import path, socket, modules to import)."""
    fork_on_request(socket.socket(fileno=int(sys.argv[2])), sys.argv[3:])
