"""A few connections to an SMTP server, used again while they are fresh."""

import asyncio
import contextlib
import ssl
import time
from typing import Final

import aiosmtplib

from services.providers.smtp_config import SmtpConfig

# Many servers end a connection after a number of messages; ours ends sooner, between two of them.
_MAX_MESSAGES: Final = 100
_QUIT_SECONDS: Final = 2.0


class Connection:
    """One connection, logged in. `used` counts the messages it has carried."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self.client = client
        self.used = 0
        self.idle_since = time.monotonic()


class SmtpPool:
    """Gives each user a connection of its own. How many there are at once is for the users to bound."""

    def __init__(self, config: SmtpConfig) -> None:
        self._config = config
        # The one used last is used next, so that those too many grow stale.
        self._idle: list[Connection] = []
        # Found out once: both take a while.
        self._tls_context = config.tls_context
        self._local_hostname = config.local_hostname

    async def take(self, *, fresh: bool) -> Connection:
        """Return a connection, a new one when there is no usable one or `fresh` asks for it.

        Raises aiosmtplib.SMTPException, OSError or ValueError when it cannot be opened.
        """
        while self._idle and not fresh:
            connection = self._idle.pop()
            idle = time.monotonic() - connection.idle_since
            if connection.client.is_connected and idle < self._config.idle_timeout:
                return connection
            await self._end(connection)
        return await self._open()

    async def give_back(self, connection: Connection) -> None:
        """Keep a connection whose last message is over, or end it when it has carried enough."""
        connection.idle_since = time.monotonic()
        if connection.used < _MAX_MESSAGES and len(self._idle) < self._config.connections:
            self._idle.append(connection)
        else:
            await self._end(connection)

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(self._end(connection) for connection in idle))

    async def _open(self) -> Connection:
        config = self._config
        if self._tls_context is None and config.tls != "none":
            self._tls_context = await asyncio.to_thread(ssl.create_default_context)
        client = aiosmtplib.SMTP(
            hostname=config.host,
            port=config.port,
            username=config.username or None,
            password=config.password or None,
            use_tls=config.tls == "tls",
            # Never None: that would go on in the clear when somebody on the way hides the offer.
            start_tls=config.tls == "starttls",
            tls_context=self._tls_context,
            local_hostname=self._local_hostname,
            timeout=config.command_timeout,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        self._local_hostname = client.local_hostname
        return Connection(client)

    async def _end(self, connection: Connection) -> None:
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await connection.client.quit(timeout=_QUIT_SECONDS)
        connection.client.close()
