"""What calls of a client raise."""


class DoorstepError(Exception):
    """The base of everything that this library raises on its own account."""


class SendError(DoorstepError):
    """A message is not known to be safe.

    ``code`` is one of the protocol (``forbidden``, ``too_large``, …), or

    - ``timeout``: its time was over; ``last_code`` is what the router said last, if anything,
    - ``closed``: the client ended,
    - ``already_pending``: a message with this id to this recipient is being sent already.

    ``maybe_taken`` false: it was certainly not taken. True: it may still arrive; to be sure, send it again with
    the same ``id`` and ``repeat=True``, which cannot make it two messages.

    ``kept`` true (only with ``closed``, only with a storage): nothing failed. The message stays in the storage, and
    the next client that opens it goes on sending.
    """

    def __init__(
        self,
        message_id: str,
        to: str,
        code: str,
        reason: str,
        *,
        maybe_taken: bool,
        kept: bool = False,
        last_code: str | None = None,
    ) -> None:
        super().__init__(message_id, to, code, reason)
        self.id = message_id
        self.to = to
        self.code = code
        self.reason = reason
        self.maybe_taken = maybe_taken
        self.kept = kept
        self.last_code = last_code

    def __str__(self) -> str:
        notes = [f", last answer {self.last_code}"] if self.last_code else []
        if self.kept:
            notes.append(" (it is kept and will be sent)")
        elif self.maybe_taken:
            notes.append(" (it may have been taken)")
        return f"message {self.id} to {self.to} was not accepted: {self.reason} ({self.code}){''.join(notes)}"


class ClosedError(DoorstepError):
    """The client has ended. ``reason`` and ``close_code`` are those of `Closed`."""

    def __init__(self, message: str, reason: str, close_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.close_code = close_code


class NotConnectedError(DoorstepError):
    """There is no connection at the moment, or it was lost before the answer."""


class StorageError(DoorstepError):
    """The storage cannot be opened, or belongs to someone else."""


class UnreadableBodyError(DoorstepError):
    """The body of a message is not JSON that Python can read. ``raw`` is what it looks like."""

    def __init__(self, message: str, raw: str) -> None:
        super().__init__(message)
        self.raw = raw
