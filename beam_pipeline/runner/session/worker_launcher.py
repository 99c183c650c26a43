"""What the raylet starts as a worker: asks the zygote to fork the worker, and stands for it until it ends.

Run by path with `python -I -S`, from the folder that `Zygote.serve` made, with what Ray gives its `setup_worker.py`.
It imports only what is built in or loaded (no pathlib), to start in hundredths of a second. The zygote kills the worker
once this process is gone, which is the one that the raylet ends where a worker does not register in time. Without a
zygote that answers, the worker starts as Ray starts it.
"""

import _socket
import marshal
import os
import sys

SOCKET, SETUP, WORKER = "zygote", "setup_worker.py", "default_worker.py"
READY, FORKED = b"r", b"f"
# a zygote that is still importing answers within this; one that hangs is left alone
_READY_S = 15.0
_LOST = (1).to_bytes(4, sys.byteorder)


def status_of_fork(folder: str, arguments: list[str]) -> int | None:
    """The exit code of a worker that the zygote forked, once it ended; None where there is none.

    On the wire: READY from the zygote; the length of the request (4 bytes) with the three standard streams, and the
    request: marshalled (pid, arguments, environment, folder); FORKED, or the end where the worker is not to be forked;
    the exit code (4 bytes, signed).
    """
    zygote = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        zygote.settimeout(_READY_S)
        zygote.connect(f"{folder}/{SOCKET}")
        if zygote.recv(1) != READY:
            return None
        zygote.settimeout(None)
        request = marshal.dumps((os.getpid(), arguments, dict(os.environb), os.getcwd()))  # noqa: PTH109
        streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2))
        size = len(request).to_bytes(4, sys.byteorder)
        zygote.sendmsg([size], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
        while request:
            request = request[zygote.send(request) :]
        if zygote.recv(1) != FORKED:
            return None
    except OSError:
        return None
    # without a code the zygote is gone, and its workers with it
    return int.from_bytes(zygote.recv(4) or _LOST, sys.byteorder, signed=True)


def start() -> None:
    """Become the worker, or stand for it; does not return."""
    launcher, *arguments = sys.argv
    folder = os.path.dirname(launcher)  # noqa: PTH120
    status = status_of_fork(folder, arguments)
    if status is not None:
        os._exit(status if status >= 0 else 128 - status)
    # Ray passes its interpreter's own -s and -S on
    flags = sys.orig_argv[2 : sys.orig_argv.index(launcher)]
    setup, worker = (os.readlink(f"{folder}/{name}") for name in (SETUP, WORKER))  # noqa: PTH115
    os.execv(sys.executable, [sys.executable, setup, *flags, worker, *arguments])


if __name__ == "__main__":
    start()
