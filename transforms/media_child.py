"""The child process that decodes media: its limits, its pipes, its end."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from transforms.media_worker import Limits, Reply

_REPLY = msgspec.json.Decoder(Reply)


@dataclass(frozen=True)
class MediaParams:
    """Limits of the decoding child: `timeout_s` is its longest silence, `memory_bytes` its address space."""

    timeout_s: float = 60.0
    memory_bytes: int = 4 << 30
    thread_count: int = 1
    max_pixels: int = 1 << 26

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 3600:
            raise ValueError(f"media timeout_s is {self.timeout_s}; need 0 < timeout_s <= 3600")
        if self.memory_bytes < 1 << 29:
            raise ValueError(f"media memory_bytes is {self.memory_bytes}; a decoder needs at least {1 << 29}")
        if not 1 <= self.thread_count <= 64:
            raise ValueError(f"media thread_count is {self.thread_count}; need 1 to 64")
        if self.max_pixels < 1:
            raise ValueError(f"media max_pixels is {self.max_pixels}; need at least 1")


class MediaChild:
    """One running media worker and the pipes to it."""

    def __init__(self, params: MediaParams) -> None:
        self._params = params
        limits = Limits(params.timeout_s, params.memory_bytes, params.thread_count, params.max_pixels)
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        # BLAS threads would each reserve address space that the limit counts
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "transforms.media_worker", msgspec.json.encode(limits).decode()]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._readable, self._writable = selectors.DefaultSelector(), selectors.DefaultSelector()
        self._readable.register(self._out, selectors.EVENT_READ)
        self._writable.register(self._in, selectors.EVENT_WRITE)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> int:
        """End the child now; its exit status."""
        self._process.kill()
        return self.reap()

    def reap(self) -> int:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._readable.close()
        self._writable.close()
        try:
            return self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Write within the time limit; TimeoutError or BrokenPipeError otherwise."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                if not self._writable.select(self._params.timeout_s):
                    raise TimeoutError
                view = view[os.write(self._in, view[: 1 << 20]) :]

    def receive(self) -> tuple[Reply, dict[str, NDArray[np.generic]]]:
        """The next message; TimeoutError after the limit of silence, EOFError where the child has died."""
        size = int.from_bytes(self._exactly(8), "little")
        reply = _REPLY.decode(self._exactly(size))
        arrays = {}
        for head in reply.arrays:
            dtype = np.dtype(head.dtype)
            data = self._exactly(int(np.prod(head.shape, dtype=np.int64)) * dtype.itemsize)
            arrays[head.name] = np.frombuffer(data, dtype).reshape(head.shape)
        return reply, arrays

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view, deadline = memoryview(data), time.monotonic() + self._params.timeout_s
        while view:
            if not self._readable.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            got = os.readv(self._out, [view])
            if got == 0:
                raise EOFError
            view = view[got:]
        return data
