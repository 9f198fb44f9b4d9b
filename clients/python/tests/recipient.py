"""A recipient in a process of its own, that is made to be killed: notes what it handles in a file."""

import asyncio
import os
import sys

from doorstep import Client, FileStorage, Message


async def main(url: str, storage: str, notes: str) -> None:
    with open(notes, "a", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - a line at a time

        def note(message: Message) -> None:
            file.write(f"{message.body}\n")
            file.flush()
            os.fsync(file.fileno())

        async with Client(
            url,
            user="bob",
            storage=FileStorage(storage),
            on_message=note,
            backoff_min_s=0.02,
            backoff_max_s=0.2,
        ) as client:
            await client.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
