# SPDX-License-Identifier: Apache-2.0
"""One TCP flow between two namespaces, a program with arguments ``FROM TO ADDRESS TOS BYTES`` (0: without end).

One process has both ends: it opens a socket in each namespace, connects them and moves bytes that nobody looks at. It
says "connected", and when it ends by itself the bytes that have arrived.
"""

import os
import socket
import sys
import threading

from commbench.emulate.namespace import enter
from commbench.live.system import die_with_parent

__all__ = ["main"]

_PIECE = 64 * 1024


def marked(tos: int) -> socket.socket:
    """A socket of the namespace that this process is in, whose packets carry the type of service."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    return made


def pour(sender: socket.socket, num_bytes: int) -> None:
    """Send so many bytes, or without end for 0, and close."""
    piece = bytes(_PIECE)
    left = num_bytes
    while left or not num_bytes:
        left -= sender.send(piece[: left or _PIECE] if num_bytes else piece)
    sender.shutdown(socket.SHUT_WR)


def main(src: str, dst: str, address: str, tos: int, num_bytes: int) -> None:
    """Run one flow."""
    die_with_parent(int(os.environ["COMMBENCH_PARENT"]))
    enter(dst)
    listener = marked(tos)
    listener.bind((address, 0))
    listener.listen(1)
    enter(src)
    sender = marked(tos)
    sender.connect(listener.getsockname())
    receiver, _ = listener.accept()
    print("connected", flush=True)
    threading.Thread(target=pour, args=(sender, num_bytes), daemon=True).start()
    arrived, room = 0, bytearray(_PIECE)
    while count := receiver.recv_into(room, _PIECE):
        arrived += count
    print(arrived, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
