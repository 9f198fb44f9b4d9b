"""A bot that sends back what it is sent: ``python echo_bot.py [URL [FILE]]``."""

import asyncio
import logging
import signal
import sys

from doorstep import Client, Connected, Disconnected, Event, FileStorage, Message


def on_event(event: Event) -> None:
    match event:
        case Connected():
            print(f"connected as {event.user}, {event.pending} messages wait")
        case Disconnected():
            print(f"disconnected: {event.reason}; back in {event.retry_in_s:.1f} s")


async def main(url: str, path: str) -> None:
    async def echo(message: Message) -> None:
        # The id makes the answer the same message, should the bot die between sending it and noting that it did.
        await client.send(message.sender, message.body, id=f"echo-{message.id}"[:64], repeat=message.redelivered)

    client = Client(url, user="echo", storage=FileStorage(path), on_message=echo, on_event=on_event)
    async with client:
        loop = asyncio.get_running_loop()
        closing = []
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: closing.append(loop.create_task(client.close())))
        closed = await client.wait_closed()
        print(f"the end: {closed.message}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    arguments = sys.argv[1:] + ["ws://127.0.0.1:7400/v1/connect", "echo.db"][len(sys.argv) - 1 :]
    asyncio.run(main(arguments[0], arguments[1]))
