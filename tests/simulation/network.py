"""``ports.Links`` over simulated TCP: one connection per direction, dialed by who speaks, as ``TcpLinks`` does it.

What TCP does, and nothing it does not, so that what a run finds can happen:

- bytes of one connection arrive in order, without gaps; several messages may arrive at once;
- a cut holds what was sent; when it heals, that arrives after a retransmission time;
- a cut of one direction stops the bytes of that direction only, but nobody can dial across it;
- a broken connection delivers some of what was on its way, possibly after the next connection is up;
- a killed process's sent bytes still arrive; a machine without power sends nothing more;
- a sender whose bytes are not taken for ``stall_s`` gives the connection up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from artemis.consensus import wire
from artemis.consensus.ports import LinkEvents
from tests.simulation.process import Process
from tests.simulation.world import Event, World

MESSAGES_PER_SECOND_MAX = 5_000
"""On one link. The engine sends a few per entry and heartbeat; more is a storm (hazard N3)."""


@dataclass(slots=True, kw_only=True)
class NetworkSettings:
    """Times in seconds. Changed while running to make a network slow."""

    latency_min: float = 0.0002
    latency_max: float = 0.003
    retransmission_max: float = 0.4
    stall: float = 5.0
    redial_max: float = 1.0
    grid: float = 0.0
    """Arrivals are rounded up to multiples of this, so that several messages arrive in one turn. 0: each alone."""
    old_bytes_linger: bool = True
    """Bytes of a broken connection may arrive late; else they are gone once the next connection is up."""


class Network:
    def __init__(self, world: World, members: tuple[str, ...], settings: NetworkSettings) -> None:
        self.world = world
        self.members = members
        self.settings = settings
        self.rng = world.stream("network")
        self.messages = 0
        self.on_send: Callable[[str], None] | None = None
        """Told the sender of each message just before it leaves; may end the process (``Crashed``)."""
        self.lives: dict[str, SimLinks] = {}
        """The links of each member's running process."""
        self._cut: set[tuple[str, str]] = set()
        self._connections: list[Connection] = []

    # faults

    def cut(self, source: str, target: str) -> None:
        """Packets from ``source`` to ``target`` get lost from now on."""
        if (source, target) in self._cut:
            return
        self._cut.add((source, target))
        for connection in self._live(source, target):
            connection.on_cut(lose_in_flight=self.rng.random() < 0.5)
        for connection in self._live(target, source):
            connection.on_deaf()

    def heal(self, source: str, target: str) -> None:
        if (source, target) not in self._cut:
            return
        self._cut.discard((source, target))
        for connection in self._live(source, target):
            connection.on_heal()

    def heal_all(self) -> None:
        for pair in sorted(self._cut):
            self.heal(*pair)

    def reset(self, source: str, target: str) -> None:
        """Something in between breaks the connection."""
        for connection in self._live(source, target):
            connection.break_()

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cut

    @property
    def cuts(self) -> int:
        return len(self._cut)

    # processes

    def process_ended(self, name: str, *, power: bool) -> None:
        """Its peers notice when packets reach them; what it sent is still under way unless the power went."""
        self.lives.pop(name, None)
        for connection in list(self._connections):
            if connection.source == name:
                connection.on_source_ended(power)
            elif connection.target == name:
                connection.on_target_ended()

    def latency(self) -> float:
        return self.rng.uniform(self.settings.latency_min, self.settings.latency_max)

    def opened(self, connection: Connection) -> None:
        self._connections = [other for other in self._connections if not other.finished]
        if not self.settings.old_bytes_linger:
            for older in self._connections:
                if (older.source, older.target) == (connection.source, connection.target):
                    older.drop()
        self._connections.append(connection)

    def _live(self, source: str, target: str) -> list[Connection]:
        return [c for c in self._connections if (c.source, c.target) == (source, target) and not c.finished]


class Connection:
    """One direction of talk between two processes."""

    def __init__(self, network: Network, links: SimLinks, target: str) -> None:
        self.source = links.name
        self.target = target
        self.up = True
        """Its sender may still use it."""
        self._network = network
        self._world = network.world
        self._links = links
        self._receiver: SimLinks | None = network.lives[target]
        self._in_flight: deque[tuple[float, bytes]] = deque()
        self._held: list[bytes] = []
        self._last_arrival = 0.0
        self._label = f"{self.source}>{target}"
        self._window = (0.0, 0)

    @property
    def finished(self) -> bool:
        return not (self.up or self._in_flight or self._held)

    def push(self, data: bytes) -> None:
        self._count()
        if self._network.is_cut(self.source, self.target):
            self._held.append(data)
        else:
            self._fly(data, self._network.latency())

    def _count(self) -> None:
        self._network.messages += 1
        since, count = self._window
        if self._world.now - since >= 1.0:
            self._window = (self._world.now, 1)
        elif count >= MESSAGES_PER_SECOND_MAX:
            self._world.violate(f"message storm: {count} messages in a second on {self._label}")
        else:
            self._window = (since, count + 1)

    def _fly(self, data: bytes, latency: float) -> None:
        world = self._world
        arrival = max(self._last_arrival, world.now + latency)
        grid = self._network.settings.grid
        if grid:
            arrival = (arrival // grid + 1) * grid
        if not (self._in_flight and arrival == self._last_arrival):
            world.after(arrival - world.now, self._arrive)
        self._last_arrival = arrival
        self._in_flight.append((arrival, data))

    def _arrive(self) -> None:
        receiver = self._receiver
        if receiver is not None:
            receiver.process.run(self._deliver)

    def _deliver(self) -> None:
        receiver, now = self._receiver, self._world.now
        if receiver is None:
            return
        while self._in_flight and self._in_flight[0][0] <= now + 1e-9:
            _, data = self._in_flight.popleft()
            self._world.trace.bytes_moved(now, self._label, data)
            receiver.received(self.source, data)

    # what happens to it

    def on_cut(self, *, lose_in_flight: bool) -> None:
        if lose_in_flight:
            # Lost packets: their sender's kernel still has them and sends them again after the heal.
            now = self._world.now
            lost = [data for arrival, data in self._in_flight if arrival > now]
            self._in_flight = deque(item for item in self._in_flight if item[0] <= now)
            self._held = lost + self._held
        self._watch_stall()

    def on_deaf(self) -> None:
        """Its acknowledgements get lost: the bytes arrive, but the sender's kernel gives up in the end."""
        self._watch_stall()

    def on_heal(self) -> None:
        if self._receiver is None:
            self._world.after(self._network.latency(), self._on_refused)
        held, self._held = self._held, []
        delay = self._network.rng.random() * self._network.settings.retransmission_max
        for data in held:
            self._fly(data, delay)

    def _watch_stall(self) -> None:
        def look() -> None:
            network = self._network
            deaf = network.is_cut(self.source, self.target) or network.is_cut(self.target, self.source)
            if deaf or self._receiver is None:
                self.break_()

        if self.up:
            self._world.after(self._network.settings.stall, look)

    def break_(self) -> None:
        """The sender loses it. A prefix of what was on its way arrives, perhaps late."""
        if not self.up:
            return
        self.up = False
        self._held.clear()
        rng = self._network.rng
        keep = rng.randint(0, len(self._in_flight))
        while len(self._in_flight) > keep:
            self._in_flight.pop()
        if self._in_flight and self._network.settings.old_bytes_linger and rng.random() < 0.5:
            late = [data for _, data in self._in_flight]
            self._in_flight.clear()
            self._last_arrival = 0.0
            delay = rng.random() * 1.5
            for data in late:
                self._fly(data, delay)
        self._links.lost(self)

    def drop(self) -> None:
        """Its receiver reads no more of it."""
        self._in_flight.clear()
        self._held.clear()

    def on_source_ended(self, power: bool) -> None:
        self.up = False
        if power:
            self._held.clear()

    def on_target_ended(self) -> None:
        self._receiver = None
        self.drop()
        if self.up:
            self._world.after(self._network.latency(), self._on_refused)

    def _on_refused(self) -> None:
        """The reset that a dead process's kernel sends; across a cut it does not come, the stall watch does it."""
        if self.up and not self._network.is_cut(self.target, self.source):
            self.break_()
        elif self.up:
            self._watch_stall()


class SimLinks:
    """``ports.Links`` of one process."""

    def __init__(self, network: Network, process: Process, name: str) -> None:
        self.name = name
        self.process = process
        self._network = network
        self._world = network.world
        self._events: LinkEvents | None = None
        self._out: dict[str, Connection] = {}
        self._dialing: dict[str, tuple[int, Event]] = {}
        self._closed = False

    # ports.Links

    def start(self, events: LinkEvents) -> None:
        self._events = events
        self._network.lives[self.name] = self
        for peer in self._network.members:
            if peer != self.name:
                self._redial(peer, 0)

    def send(self, peer: str, message: wire.Message) -> None:
        connection = self._out.get(peer)
        if connection is not None and connection.up and not self._closed:
            if self._network.on_send is not None:
                self._network.on_send(self.name)
            connection.push(wire.encode(message))

    def connected(self, peer: str) -> bool:
        connection = self._out.get(peer)
        return connection is not None and connection.up

    def close(self) -> None:
        self._closed = True
        for connection in self._out.values():
            connection.up = False

    # the network

    def received(self, peer: str, data: bytes) -> None:
        if not self._closed and self.process.alive and self._events is not None:
            self._events.on_message(peer, wire.decode(data))

    def lost(self, connection: Connection) -> None:
        if self._out.get(connection.target) is connection:
            del self._out[connection.target]
            self.process.run(partial(self._tell_lost, connection.target))

    def _tell_lost(self, peer: str) -> None:
        if not self._closed and self._events is not None:
            self._events.on_disconnected(peer)
            self._redial(peer, 0)

    def _redial(self, peer: str, attempt: int) -> None:
        rng = self._network.rng
        pause = rng.random() * min(self._network.settings.redial_max, 0.05 * 2**attempt)
        self._dial_in(peer, pause + 3 * self._network.latency(), attempt)

    def _dial_in(self, peer: str, delay: float, attempt: int) -> None:
        if peer in self._dialing:
            self._dialing[peer][1].cancel()
        event = self._world.after(delay, partial(self.process.run, partial(self._dial, peer)))
        self._dialing[peer] = (attempt, event)

    def _dial(self, peer: str) -> None:
        network = self._network
        if self._closed or peer not in self._dialing:
            return
        listener = network.lives.get(peer)
        reachable = not network.is_cut(self.name, peer) and not network.is_cut(peer, self.name)
        if listener is None or not reachable or listener.process.paused or not listener.process.alive:
            self._redial(peer, min(self._dialing[peer][0] + 1, 5))
            return
        del self._dialing[peer]
        connection = Connection(network, self, peer)
        self._out[peer] = connection
        network.opened(connection)
        listener.hinted(self.name)
        if self._events is not None:
            self._events.on_connected(peer)

    def hinted(self, peer: str) -> None:
        """That peer has just dialed us, so it is there: dial it without waiting out the pause."""
        if peer in self._dialing and not self._closed:
            self._dial_in(peer, self._network.latency(), self._dialing[peer][0])
