"""What Avahi does on each BMC: it answers for `turingpi.local`, `turingpi-2.local`, ... in the LAN (RFC 6762).

Firmware 2.0 and later announces its host name and no service; 1.x announces nothing. A simulated board whose API is
not on port 443 also tells the port, as `_https._tcp` (RFC 6763): a real one has no need to.

Nothing leaves loopback: the socket hears only the group on the loopback device, answers only to 127.x, and sends with
a lifetime of zero hops. Other twins on this machine are heard, as other boards in a LAN would be, and their names kept.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from twin.bmc import dns
from twin.bmc.dns import ANY, PTR, SRV, TXT, A, Question, Record
from twin.board import Board

log = logging.getLogger("twin")
GROUP, PORT = "224.0.0.251", 5353
WEB = "_https._tcp.local"
_HOST = "turingpi"
_TTL_S = 120
_PROBE_S = 0.25  # RFC 6762, 8.1: real seconds, three times
_IP_MULTICAST_ALL = 49  # linux/in.h; Python has no name for it


@dataclass
class Host:
    """One BMC in the LAN; its number makes its name unique."""

    address: IPv4Address
    port: int
    number: int = 0

    @property
    def name(self) -> str:
        """Its host name; "" until it has found one that nobody has."""
        plain = _HOST if self.number == 1 else f"{_HOST}-{self.number}"
        return f"{plain}.local" if self.number else ""

    @property
    def records(self) -> Iterator[Record]:
        """All that it announces."""
        if not self.number:
            return
        yield Record(self.name, A, self.address.packed, _TTL_S)
        if self.port != 443:
            service = f"{self.name.removesuffix('.local')}.{WEB}"
            yield Record(WEB, PTR, dns.name(service), _TTL_S)
            yield Record(service, SRV, dns.service(self.port, self.name), _TTL_S)
            yield Record(service, TXT, b"\0", _TTL_S)


class Responder(asyncio.DatagramProtocol):
    """The Avahis of all boards of one twin behind one socket."""

    def __init__(self, boards: Iterable[Board]) -> None:
        specs = [board.spec for board in boards]
        self.hosts = [Host(spec.address, spec.port) for spec in specs if spec.version >= (2, 0)]
        self._transport: asyncio.DatagramTransport | None = None
        self._probing: Host | None = None
        self._names: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, then find names. A machine without multicast on loopback has a twin that is not announced."""
        if not self.hosts:
            return
        try:
            listening = _socket()
        except OSError as error:
            log.warning("no mDNS: %s", error)
            return
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=listening)
        self._names = asyncio.create_task(self._find_names(self.hosts), name="mdns")

    async def close(self) -> None:
        """Say nothing any more."""
        if self._names is not None:
            self._names.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._names
        if self._transport is not None:
            self._transport.abort()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A question to answer, or what another host says of itself."""
        if not IPv4Address(addr[0]).is_loopback:
            return
        try:
            message = dns.parse(data)
        except dns.Malformed:
            return
        if message.answers:
            self._heard(message.answers)
        else:
            self._asked(message.questions, None if addr[1] == PORT else addr, message.id)

    def _asked(self, questions: list[Question], asker: tuple[str, int] | None, message_id: int) -> None:
        """Answer to all; one who asks from another port is no mDNS host and is answered himself (RFC 6762, 6.7)."""
        for host in self.hosts:
            records = list(host.records) if host is not self._probing else []
            wanted = [record for record in records if any(_asks(question, record) for question in questions)]
            if wanted and asker is None:
                self._send(host, dns.response([*wanted, *(r for r in records if r not in wanted)]))
            elif wanted and asker is not None:
                legacy = [question for question in questions if any(_asks(question, record) for record in wanted)]
                self._send(host, dns.response(wanted, message_id, legacy), asker)

    def _heard(self, records: list[Record]) -> None:
        """A name that somebody else has is left to him: at once while probing, else if his address is higher."""
        for record in records:
            host = next((host for host in self.hosts if host.name.lower() == record.name.lower()), None)
            if host is None or record.kind != A or record.data in [other.address.packed for other in self.hosts]:
                continue
            if host is self._probing:
                self._probing = None
            elif record.data > host.address.packed and self._names is not None and self._names.done():
                host.number = 0
                self._names = asyncio.create_task(self._find_names([host]), name="mdns")

    async def _find_names(self, hosts: list[Host]) -> None:
        for host in hosts:
            number = 1
            while not await self._is_free(host, number):
                number += 1
            self._send(host, dns.response(list(host.records)))
            log.info("%s is %s", host.address, host.name)

    async def _is_free(self, host: Host, number: int) -> bool:
        if number in [other.number for other in self.hosts]:
            return False
        host.number, self._probing = number, host
        for _ in range(3):
            self._send(host, dns.query(Question(host.name, ANY)))
            await asyncio.sleep(_PROBE_S)
            if self._probing is not host:
                host.number = 0
                return False
        self._probing = None
        return True

    def _send(self, host: Host, message: bytes, to: tuple[str, int] = (GROUP, PORT)) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, host.address.packed)
        self._transport.sendto(message, to)


def _asks(question: Question, record: Record) -> bool:
    return question.name.lower() == record.name.lower() and question.kind in (record.kind, ANY)


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # only the membership of the next line
        member = IPv4Address(GROUP).packed + IPv4Address("127.0.0.1").packed
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
        made.bind((GROUP, PORT))  # nothing but the group's messages
    except OSError:
        made.close()
        raise
    return made
