"""One command to one member over a plain socket.

A driver's client hides what one member thinks *now* behind pools, monitors, heartbeats and retries, and keeps
threads that a fork would break. Starting members, finding the primary and setting fail points want the
opposite: one question, one answer, no state. The members are our own and listen on the loopback without
authentication.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import bson
from pymongo.errors import OperationFailure

__all__ = ["HOST", "send"]

HOST: Final = "127.0.0.1"

# Of the wire protocol: length, request id, id answered to, operation; then the flags and the kind of the
# section.
_HEADER: Final = struct.Struct("<iiii")
_PREFIX: Final = struct.Struct("<iiiiIB")
_OP_MSG: Final = 2013


def send(port: int, command: dict[str, Any], *, timeout: float = 5.0) -> dict[str, Any]:
    """Run one command on the `admin` database of the member that listens on `port`.

    Args:
        port: The member's port on the loopback.
        command: The command, its name first.
        timeout: Seconds to wait for the connection, and again for the reply.

    Returns:
        The reply.

    Raises:
        OSError: Nobody listens, the connection was closed or no answer came in time.
        pymongo.errors.OperationFailure: The server refused the command.
    """
    body = bson.encode({**command, "$db": "admin"})
    with socket.create_connection((HOST, port), timeout=timeout) as connection:
        connection.sendall(_PREFIX.pack(_PREFIX.size + len(body), 1, 0, _OP_MSG, 0, 0) + body)
        (length, *_) = _HEADER.unpack(_receive(connection, _HEADER.size))
        message = _receive(connection, length - _HEADER.size)
    # Flags and the kind of the section come first.
    document = message[_PREFIX.size - _HEADER.size :]
    reply: dict[str, Any] = bson.decode(document)  # pyright: ignore[reportUnknownMemberType]
    if reply.get("ok") != 1:
        raise OperationFailure(str(reply.get("errmsg")), reply.get("code"), reply)
    return reply


def _receive(connection: socket.socket, size: int) -> bytes:
    """Read exactly `size` bytes."""
    received = bytearray()
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionResetError("the member closed the connection")
        received += part
    return bytes(received)
