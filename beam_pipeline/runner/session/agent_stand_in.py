"""What the raylet starts in place of its agents: waits until one is asked for, if ever, and then becomes it.

Run by path with `python -I -S`: `agent_stand_in.py PORT COMMAND...` listens at PORT of the loopback and, with the first
connection, becomes COMMAND, which listens there in its place; the raylet tries again until it does. PORT 0 waits for
nobody. Ends with the raylet, whose end of the pipe at standard input closes.
"""

import _socket
import os
import select
import sys


def wait(port: int) -> bool:
    """Whether somebody connected; False once the raylet is gone."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    listener = _socket.socket()
    if port:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
        poll.register(listener.fileno(), select.POLLIN)
    ready = [fd for fd, _ in poll.poll()]
    listener.close()
    return 0 not in ready


if __name__ == "__main__":
    if wait(int(sys.argv[1])):
        os.execv(sys.argv[2], sys.argv[2:])
