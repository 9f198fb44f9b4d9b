"""Drives a client as the conformance runner says. What it hears and tells is in ``proto-docs/clients.md``."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

# It drives what stands beside it, installed or not.
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from doorstep import (
    Accepted,
    CaughtUp,
    Client,
    Closed,
    Connected,
    Disconnected,
    DoorstepError,
    Ephemeral,
    Event,
    FileStorage,
    Message,
    Presence,
    PresenceChanged,
    Refused,
    SendError,
    Settled,
    new_id,
)

#: What the runner waits for at most is longer; a handler that is held must not hold up the end for longer.
_CLOSE_TIMEOUT_S = 1.0
#: Options of the client that are lengths of time.
_LENGTHS = ("send_timeout", "connect_timeout", "backoff_min", "backoff_max")

Line = dict[str, Any]


def tell(event: str, **fields: object) -> None:
    """Says a line. What is `None` does not exist, but for a body: there it is a value like any other."""
    told = {name: value for name, value in fields.items() if value is not None or name == "body"}
    print(json.dumps({"event": event} | told), flush=True)


class Driven:
    """One client, from ``connect`` on."""

    def __init__(self, driver: "Driver", line: Line) -> None:
        self._driver = driver
        #: What it is told under. It counts for a message of an earlier client too, when that was kept.
        self._refs = driver.refs
        self._sent: set[tuple[str, str]] = set()
        self._silent = False
        self._client = Client(
            line["url"],
            user=line.get("user"),
            device=line.get("device"),
            on_message=self._on_message,
            on_poison=self._on_poison,
            on_event=self._on_event,
            close_timeout_s=_CLOSE_TIMEOUT_S,
            **self._options(line.get("options", {})),
        )

    async def start(self) -> None:
        await self._client.start()

    async def send(self, line: Line) -> None:
        message_id = line.get("id") or new_id()
        name = (message_id, line["to"])
        self._sent.add(name)
        self._refs[name] = line["ref"]
        outcome: Accepted | SendError
        try:
            outcome = await self._client.send(line["to"], line["body"], id=message_id, ttl_ms=line.get("ttl_ms"))
        except SendError as error:
            outcome = error
        self._tell_outcome(name, outcome)

    def do(self, line: Line) -> None:
        client = self._client
        match line["do"]:
            case "ephemeral":
                client.ephemeral(line["to"], line["body"])
            case "watch":
                client.watch(line["users"])
            case "unwatch":
                client.unwatch(line["users"])
            case "status":
                client.set_status(line["state"], line.get("text"))

    async def close(self) -> None:
        await self._client.close()

    async def forget(self) -> None:
        try:
            await self._client.forget()
        except DoorstepError as error:
            print(f"forget: {error}", file=sys.stderr)

    async def abandon(self) -> None:
        self._silent = True
        await self._client.abort()

    def _options(self, given: Line) -> Line:
        options: Line = {name: given[name] for name in ("window", "status", "handler_attempts") if name in given}
        options |= {f"{name}_s": given[f"{name}_ms"] / 1000 for name in _LENGTHS if f"{name}_ms" in given}
        if "tokens" in given:
            options["token"] = _provider(given["tokens"])
        if "storage" in given:
            options["storage"] = FileStorage(self._driver.directory / f"{given['storage']}.db")
        return options

    async def _on_message(self, message: Message) -> None:
        if self._silent:
            return
        tell("message", seq=message.seq, id=message.id, **{"from": message.sender, "body": message.body})
        left = self._driver.failures.get(message.id, 0)
        if left > 0:
            self._driver.failures[message.id] = left - 1
            raise RuntimeError("told to fail")
        await self._driver.released.wait()

    def _on_poison(self, message: Message, error: Exception) -> None:
        if not self._silent:
            tell("poison", id=message.id, **{"from": message.sender})

    def _on_event(self, event: Event) -> None:
        if self._silent:
            return
        match event:
            case Connected():
                tell("connected", user=event.user, device=event.device, gap=event.gap)
            case CaughtUp():
                tell("caught_up", seq=event.seq)
            case Ephemeral():
                tell("ephemeral", **{"from": event.sender, "body": event.body})
            case PresenceChanged():
                tell("presence", users=[_presence(entry) for entry in event.users])
            case Refused():
                tell("refused", code=event.code)
            case Disconnected():
                tell("disconnected", close_code=event.close_code)
            case Closed():
                tell("closed", reason=event.reason, close_code=event.close_code)
            case Settled() if (event.id, event.to) not in self._sent:
                # One of an earlier process. The others are told by who waits for them.
                self._tell_outcome((event.id, event.to), event.outcome)

    def _tell_outcome(self, name: tuple[str, str], outcome: Accepted | SendError) -> None:
        if self._silent or (isinstance(outcome, SendError) and outcome.kept):
            return
        ref = self._refs.pop(name, None)
        if isinstance(outcome, SendError):
            tell("failed", ref=ref, code=outcome.code, maybe_taken=outcome.maybe_taken)
        else:
            tell("accepted", ref=ref, id=outcome.id, seq=outcome.seq, stored=outcome.stored)


class Driver:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: By message id, how often the handler is still to fail.
        self.failures: dict[str, int] = {}
        self.released = asyncio.Event()
        self.released.set()
        self.refs: dict[tuple[str, str], str] = {}
        self._driven: Driven | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        tell("ready", features=["storage", "poison", "http_status"])
        lines = await _standard_input()
        while text := await lines.readline():
            await self._obey(json.loads(text))
        self.released.set()
        if self._driven is not None:
            await self._driven.abandon()
        await asyncio.gather(*self._tasks)

    async def _obey(self, line: Line) -> None:
        match line["do"]:
            case "connect":
                self._driven = Driven(self, line)
                await self._driven.start()
            case "fail":
                self.failures[line["id"]] = line["times"]
            case "hold":
                self.released.clear()
            case "release":
                self.released.set()
            case _ if self._driven is None:
                raise ValueError(f"{line['do']} before connect")
            case "send":
                self._spawn(self._driven.send(line))
            case "close":
                self._spawn(self._driven.close())
            case "forget":
                self._spawn(self._driven.forget())
            case "abandon":
                await self._driven.abandon()
            case _:
                self._driven.do(line)
        # What was spawned begins before the next line is read: the order of the lines is that of the calls.
        await asyncio.sleep(0)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _provider(tokens: list[str]) -> Callable[[], Coroutine[Any, Any, str]]:
    left = list(tokens)

    async def provide() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return provide


def _presence(entry: Presence) -> Line:
    fields = {
        "user": entry.user,
        "state": entry.state,
        "text": entry.text,
        "last_seen_ms": entry.last_seen_ms,
        "version": entry.version,
    }
    return {name: value for name, value in fields.items() if value is not None}


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="doorstep-conformance-") as directory:
        asyncio.run(Driver(Path(directory)).run())


if __name__ == "__main__":
    main()
