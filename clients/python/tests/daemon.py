"""A real router: the daemon, on a port and in a directory of its own."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from waiting import until

_REPOSITORY = Path(__file__).parents[3]


def daemon_path() -> Path:
    """The daemon. Skips the test when there is none, except in CI: there that is a failure."""
    given = os.environ.get("DOORSTEP_BIN")
    places = [Path(given)] if given else [_REPOSITORY / "target" / kind / "doorstep" for kind in ("release", "debug")]
    for place in places:
        if place.is_file():
            return place.resolve()
    missing = f"no daemon at {' or '.join(map(str, places))}; build one with cargo, or name one with DOORSTEP_BIN"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


class Daemon:
    def __init__(self, directory: Path) -> None:
        self._binary = daemon_path()
        self._directory = directory
        self._port = _free_port()
        self._process: asyncio.subprocess.Process | None = None
        settings = {
            "gateway": {"listen": f"127.0.0.1:{self._port}"},
            "store": {"path": str(directory / "data")},
            "admin": {"socket": str(directory / "doorstep.sock")},
            "presence": {"linger": "100ms"},
        }
        lines = [
            f"[{section}]\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items())
            for section, values in settings.items()
        ]
        (directory / "router.toml").write_text("\n".join(lines))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/v1/connect"

    async def start(self) -> None:
        with (self._directory / "daemon.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                "--config",
                self._directory / "router.toml",
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        await until(self._is_listening)

    async def kill(self) -> None:
        """In the hardest way."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(by)
            await asyncio.wait_for(process.wait(), 60)

    def _is_listening(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self._directory / "daemon.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def _free_port() -> int:
    """The daemon has to come back at the same address after a kill, so that it cannot choose one by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port
