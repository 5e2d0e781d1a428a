"""Clients of aiocometd-ng that do what lines of JSON on standard input ask of them.

What comes of it is said on standard output; `interop/lib/driven.mjs` has the other end. The program ends with
its input.
"""

import asyncio
import json
import logging
import sys

from aiocometd_ng import Client, ConnectionType, Extension
from aiocometd_ng.constants import TransportState
from aiocometd_ng.exceptions import AiocometdException, ServerError

# How often the state is looked at when nothing else happens, in seconds.
GLANCE = 0.02

# How long a client that is closed may take to say goodbye, in seconds.
GOODBYE = 2

META = "/meta/"


def matches(pattern, channel):
    """Whether messages on the channel are for a listener of the pattern."""
    if pattern.endswith("/**"):
        return channel.startswith(pattern[:-2])
    if pattern.endswith("/*"):
        return channel.rpartition("/")[0] == pattern[:-2]
    return pattern == channel


class Ear(Extension):
    """Hears the replies, which the library keeps to itself."""

    def __init__(self, hear):
        self._hear = hear

    async def outgoing(self, payload, headers):
        """Nothing is changed."""

    async def incoming(self, payload, headers=None):
        for message in payload:
            if "successful" in message:
                self._hear(message)


class Driver:
    """One client."""

    def __init__(self, emit):
        self._emit_line = emit
        self._state = None
        self._client = None
        self._opening = None
        self._tasks = set()
        self._listeners = {}
        self._id = None
        # The last reply by channel and subscription.
        self._replies = {}

    async def perform(self, number, name, argument):
        """Carries out a command."""
        try:
            result = await getattr(self, "do_" + name)(argument)
            self.emit({"what": "done", "number": number, "result": result})
        except Exception as error:  # pylint: disable=broad-except
            self.emit({"what": "failed", "number": number, "reason": repr(error)})

    async def do_open(self, options):
        kinds = [ConnectionType(name) for name in options["transports"]]
        # With a limit the library waits in a way that Python 3.10 took away.
        self._client = Client(
            options["url"], kinds, connection_timeout=None, max_pending_count=0, extensions=[Ear(self._hear)]
        )
        self._spawn(self._glance())

    async def do_handshake(self, _props):
        self._opening = asyncio.ensure_future(self._client.open())
        self._spawn(self._consume())
        return await self._reply(self._opening, META + "handshake")

    async def do_listen(self, argument):
        self._listeners[argument["to"]] = argument["channel"]

    async def do_subscribe(self, argument):
        channel = argument["channel"]
        self._listeners[argument["to"]] = channel
        return await self._reply(self._opened(self._client.subscribe, channel), META + "subscribe", channel)

    async def do_unsubscribe(self, listener):
        channel = self._listeners.pop(listener)
        return await self._reply(self._opened(self._client.unsubscribe, channel), META + "unsubscribe", channel)

    async def do_publish(self, argument):
        channel = argument["channel"]
        return await self._reply(self._opened(self._client.publish, channel, argument["data"]), channel)

    async def do_disconnect(self, _argument):
        return await self._reply(self._client.close(), META + "disconnect")

    async def do_close(self, _argument):
        try:
            await asyncio.wait_for(self._client.close(), GOODBYE)
        except (asyncio.TimeoutError, AiocometdException):
            pass
        for task in self._tasks:
            task.cancel()

    async def _opened(self, method, *arguments):
        await self._opening
        return await method(*arguments)

    async def _reply(self, action, channel, subscription=None):
        """The reply to an action, which is its result, or has been heard, or is the library's own failure."""
        try:
            return await action or self._replies[channel, subscription]
        except ServerError as error:
            return error.response
        except AiocometdException as error:
            return {"channel": channel, "successful": False, "failure": {"exception": repr(error)}}

    def _hear(self, reply):
        channel = reply["channel"]
        if not channel.startswith(META):
            return
        self._replies[channel, reply.get("subscription")] = reply
        if channel == META + "handshake" and reply["successful"]:
            self._id = reply["clientId"]
        self._hand_out(reply)

    async def _consume(self):
        await self._opening
        while not self._client.closed:
            self._hand_out(await self._client.receive())

    def _hand_out(self, message):
        for listener, pattern in list(self._listeners.items()):
            if matches(pattern, message["channel"]):
                self.emit({"what": "heard", "to": listener, "message": message})

    async def _glance(self):
        while True:
            self.emit()
            await asyncio.sleep(GLANCE)

    def _spawn(self, action):
        task = asyncio.ensure_future(action)
        # A task that nobody holds may be collected; an error in one is found by the test that waits in vain.
        self._tasks.add(task)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def emit(self, event=None):
        """Says what happened, and before it the state if that is another than last time."""
        state = {"id": self._id, "status": self._status(), "transport": self._transport()}
        if state != self._state:
            self._state = state
            self._emit_line({"what": "state", "state": state})
        if event:
            self._emit_line(event)

    def _transport(self):
        kind = self._client and self._client.connection_type
        return kind.value if kind else None

    def _status(self):
        if self._opening and not self._opening.done():
            return "handshaking"
        if not self._client or self._client.closed:
            return "disconnected"
        return {
            TransportState.CONNECTED: "connected",
            TransportState.CONNECTING: "connecting",
            TransportState.DISCONNECTING: "disconnecting",
        }.get(self._client._transport.state, "disconnected")  # pylint: disable=protected-access


async def main():
    """Reads commands until there are no more."""
    loop = asyncio.get_running_loop()
    if sys.argv[1:] != ["debug"]:
        # When a client closes, the library's callbacks trip over what it cancelled.
        loop.set_exception_handler(lambda loop, context: None)
        logging.disable()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    write({"what": "ready"})
    drivers = {}
    tasks = set()
    async for line in reader:
        command = json.loads(line)
        client = command["client"]
        if client not in drivers:
            drivers[client] = Driver(lambda event, client=client: write({"client": client, **event}))
        # Commands begin in order.
        task = asyncio.ensure_future(
            drivers[client].perform(command["number"], command["name"], command.get("argument"))
        )
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def write(event):
    """Writes a line."""
    print(json.dumps(event), flush=True)


asyncio.run(main())
