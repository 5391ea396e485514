#!/usr/bin/env python3
"""PyPI paho-mqtt, unchanged, against the plain broker: MQTT 3.1.1 as its most used client speaks it.

Counts, contents and order are checked where messages arrive, acknowledgements where they were sent,
and comings and goings in what the broker tells.

    paho_mqtt.py COMMAND [ARGUMENT…]

starts COMMAND, which prints one JSON line when it is ready and then one for each event, refuses
subscriptions to `refused/#`, and is ended when done. Exit code 0 if everything held, 1 with the reason
if not.
"""

import queue
import socket
import sys
import time

import paho.mqtt
import paho.mqtt.client as mqtt

from emulator import PATIENCE, Emulator, check

COUNT = 300


class Peer:
    """A client and what it was told."""

    def __init__(self, client_id, clean=True, will=None, manual_ack=False):
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=clean,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        if will:
            self.client.will_set(*will)
        self.connacks, self.messages = queue.Queue(), queue.Queue()
        self.subacks, self.unsubacks = queue.Queue(), queue.Queue()
        self.client.on_connect = lambda _c, _u, flags, code, _p: self.connacks.put((flags, code))
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.subacks.put(codes)
        self.client.on_unsubscribe = lambda _c, _u, mid, _r, _p: self.unsubacks.put(mid)

    def connect(self, emulator, expected=0):
        """Yields whether there was a session."""
        self.client.connect(emulator.ready["host"], emulator.ready["port"])
        self.client.loop_start()
        flags, code = self.connacks.get(timeout=PATIENCE)
        check(code.value == expected, f"CONNACK {code}")
        return flags.session_present

    def subscribe(self, *filters):
        """Yields the return codes."""
        self.client.subscribe(list(filters))
        return [code.value for code in self.subacks.get(timeout=PATIENCE)]

    def publish(self, topic, payloads, qos, retain=False):
        """Publishes, and waits until the broker has all of it."""
        sent = [self.client.publish(topic, payload, qos, retain) for payload in payloads]
        for info in sent:
            info.wait_for_publish(PATIENCE)
            check(info.is_published(), f"a message with QoS {qos} is not acknowledged")
        if qos == 0:
            self.ask()

    def take(self, count):
        """Waits for so many messages: topic, payload, QoS, retain, dup of each."""
        taken = [self.messages.get(timeout=PATIENCE) for _ in range(count)]
        return [(m.topic, m.payload, m.qos, m.retain, m.dup) for m in taken]

    def unsubscribe(self, *filters):
        self.client.unsubscribe(list(filters))
        self.unsubacks.get(timeout=PATIENCE)

    def ask(self):
        """Whatever was sent before has arrived when this is answered, and what is due has come."""
        self.unsubscribe("nothing")

    def rest(self):
        self.ask()
        return self.take(self.messages.qsize())

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()

    def cut(self):
        """The socket is gone without a DISCONNECT, and nothing comes after it."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()


def connected(emulator, client_id, *filters):
    peer = Peer(client_id)
    check(not peer.connect(emulator), "a session where none can be")
    if filters:
        codes = peer.subscribe(*filters)
        check(codes == [qos for _, qos in filters], f"SUBACK {codes}")
    emulator.expect("connected", clientId=client_id, sessionPresent=False)
    return peer


def same(arrived, expected):
    if arrived != expected:
        pairs = enumerate(zip(arrived, expected))
        first = next((f"{i}: {a} for {e}" for i, (a, e) in pairs if a != e), "")
        raise AssertionError(f"{len(arrived)} messages for {len(expected)}; {first}"[:500])


def numbered(topic, numbers, qos, retain=False, dup=False):
    return [(topic, str(number).encode(), qos, retain, dup) for number in numbers]


def once_and_in_order(emulator):
    for qos in range(3):
        subscriber = connected(emulator, "subscriber", ("t/+", qos))
        publisher = connected(emulator, "publisher")
        publisher.publish("t/1", range(COUNT), qos)
        same(subscriber.take(COUNT), numbered("t/1", range(COUNT), qos))
        same(subscriber.rest(), [])
        for peer in (subscriber, publisher):
            peer.disconnect()
            emulator.expect("closed", reason="disconnected")


def large(emulator):
    peer = connected(emulator, "large", ("t", 2))
    payload = bytes(range(256)) * 8192
    peer.publish("t", [payload] * 3, 2)
    same(peer.take(3), [("t", payload, 2, False, False)] * 3)
    peer.disconnect()


def retained(emulator):
    publisher = connected(emulator, "publisher")
    for qos in range(3):
        publisher.publish("r/kept", ["old", "new"], qos, retain=True)
        publisher.publish("r/gone", ["x", ""], qos, retain=True)
        late = connected(emulator, "late", ("r/#", 2))
        same(late.take(1), [("r/kept", b"new", qos, True, False)])
        publisher.publish("r/kept", ["live"], qos, retain=True)
        same(late.take(1), [("r/kept", b"live", qos, False, False)])
        same(late.rest(), [])
        late.disconnect()
    publisher.publish("r/kept", [""], 1, retain=True)
    publisher.disconnect()


def will(emulator):
    heir = connected(emulator, "heir", ("will/#", 2))
    testator = Peer("testator", will=("will/1", "farewell", 2, True))
    testator.connect(emulator)
    testator.disconnect()
    emulator.expect("closed", clientId="testator", reason="disconnected")
    same(heir.rest(), [])
    testator.connect(emulator)
    testator.cut()
    emulator.expect("closed", clientId="testator", reason="connection ended by the peer")
    same(heir.take(1), [("will/1", b"farewell", 2, False, False)])
    late = connected(emulator, "late", ("will/1", 1))
    same(late.take(1), [("will/1", b"farewell", 1, True, False)])
    heir.publish("will/1", [""], 1, retain=True)
    for peer in (heir, late):
        peer.disconnect()


def session(emulator):
    publisher = connected(emulator, "publisher")
    sleeper = Peer("sleeper", clean=False)
    check(not sleeper.connect(emulator), "a session before the first")
    same(sleeper.subscribe(("one", 1), ("two", 2)), [1, 2])
    sleeper.disconnect()
    emulator.expect("closed", clientId="sleeper")
    publisher.publish("one", range(COUNT), 1)
    publisher.publish("two", range(COUNT), 2)
    publisher.publish("one", ["at most once"], 0)
    check(sleeper.connect(emulator), "no session")
    emulator.expect("connected", clientId="sleeper", sessionPresent=True)
    expected = numbered("one", range(COUNT), 1) + numbered("two", range(COUNT), 2)
    same(sleeper.take(2 * COUNT), expected)
    same(sleeper.rest(), [])
    sleeper.disconnect()
    clean = connected(emulator, "sleeper")
    publisher.publish("one", ["nobody"], 1)
    same(clean.rest(), [])
    clean.disconnect()
    publisher.disconnect()


def redelivery(emulator):
    """What was received and not acknowledged comes again, marked and in order."""
    publisher = connected(emulator, "publisher")
    peer = Peer("forgetful", clean=False, manual_ack=True)
    peer.connect(emulator)
    peer.subscribe(("t", 1))
    publisher.publish("t", range(10), 1)
    same(peer.take(10), numbered("t", range(10), 1))
    peer.cut()
    emulator.expect("closed", clientId="forgetful")
    check(peer.connect(emulator), "no session")
    same(peer.take(10), numbered("t", range(10), 1, dup=True))
    peer.disconnect()
    publisher.disconnect()


def filters(emulator):
    """Overlapping subscriptions bring one copy; wildcards leave `$` alone; unsubscribing helps."""
    peer = connected(emulator, "filters", ("a/+", 1), ("a/#", 2), ("#", 0), ("+/b", 0))
    topics = ["a/b", "a", "x", "$x/b", "$x", "/b"]
    for topic in topics:
        peer.publish(topic, [topic], 2)
    expected = [("a/b", 2), ("a", 2), ("x", 0), ("/b", 0)]
    same([(m[0], m[2]) for m in peer.take(len(expected))], expected)
    peer.unsubscribe("#", "a/#")
    for topic in topics:
        peer.publish(topic, [topic], 2)
    same([(m[0], m[2]) for m in peer.rest()], [("a/b", 1), ("/b", 0)])
    same(peer.subscribe(("$x/+", 1), ("refused/#", 2), ("refused/x", 2)), [1, 0x80, 2])
    peer.publish("$x/b", ["asked for"], 1)
    peer.publish("refused/y", ["refused"], 1)
    same(peer.rest(), [("$x/b", b"asked for", 1, False, False)])
    peer.disconnect()


def identifiers(emulator):
    """One identifier, one connection; none at all with a clean session only."""
    first = connected(emulator, "twin")
    second = Peer("twin")
    second.connect(emulator)
    emulator.expect("closed", clientId="twin", reason="the client has connected again")
    emulator.expect("connected", clientId="twin")
    second.disconnect()
    first.client.loop_stop()
    nameless = Peer("")
    nameless.connect(emulator)
    check(emulator.expect("connected")["clientId"], "no name was given")
    nameless.disconnect()
    emulator.expect("closed", reason="disconnected")
    # The client itself will not ask for this.
    with socket.create_connection((emulator.ready["host"], emulator.ready["port"])) as raw:
        raw.sendall(b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00")
        check(raw.recv(4) == b"\x20\x02\x00\x02", "not refused with 2")
        check(raw.recv(1) == b"", "not closed")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    emulator = Emulator(sys.argv[1:])
    steps = (once_and_in_order, large, retained, will, session, redelivery, filters, identifiers)
    step = None
    try:
        for step in steps:
            begun = time.monotonic()
            step(emulator)
            print(f"paho-mqtt {paho.mqtt.__version__}: {step.__name__} ok ({time.monotonic() - begun:.1f} s)")
    except (AssertionError, queue.Empty) as reason:
        sys.exit(f"paho-mqtt {paho.mqtt.__version__}: {step.__name__}: {reason!r}")
    finally:
        emulator.end()


if __name__ == "__main__":
    main()
