"""Finished frames of control calls that wait for the socket of the connection that is.

It must never hold more than a bounded number of bytes for ephemeral messages, nor drop anything else.
"""

from collections import deque

#: Ephemeral messages are dropped when so much waits already: later they would be worth nothing.
_EPHEMERAL_FRAMES_MAX = 256
_EPHEMERAL_BYTES_MAX = 1 << 20
#: The router is taken for stuck when so much waits. All that a client may watch, said at once, is far less.
_BYTES_MAX = 16 << 20
#: What a frame costs beside its text.
_FRAME_BYTES = 64


class Said:
    def __init__(self) -> None:
        self._frames: deque[tuple[str, int]] = deque()
        self._bytes = 0

    def push(self, frame: str) -> None:
        cost = len(frame.encode()) + _FRAME_BYTES
        self._frames.append((frame, cost))
        self._bytes += cost

    def pop(self) -> str | None:
        if not self._frames:
            return None
        frame, cost = self._frames.popleft()
        self._bytes -= cost
        return frame

    def has_room_for_an_ephemeral(self) -> bool:
        return len(self._frames) < _EPHEMERAL_FRAMES_MAX and self._bytes < _EPHEMERAL_BYTES_MAX

    def is_too_much(self, frame_bytes: int) -> bool:
        """An ephemeral message of any size that the router allows is no reason, hence ``frame_bytes``."""
        return self._bytes > _BYTES_MAX + frame_bytes
