#!/usr/bin/env python3
"""The vendor's own client and ours, the same run by turns: processor time and memory.

Each registers by a derived symmetric key, connects to the hub it was assigned, sends the messages, each
once the one before is acknowledged, stays connected for some seconds and leaves.

    beside.py OURS MESSAGES SECONDS COMMAND [ARGUMENT...]

starts COMMAND, an emulator on port 8883, and runs OURS (the example `telemetry` of zerotouch-tokio)
and this script as the vendor's client. Exit code 0 if both ran to their ends and every message arrived.
"""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time

from emulator import Emulator, check

# How often a process is asked for the most memory it ever had.
LOOK = 0.02


def derive(group_key, registration_id):
    """As the vendor's documentation derives a device key."""
    mac = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def vendors_client(host, id_scope, registration_id, key, ca_file, messages, seconds):
    """The same arguments and the same run as of the example `telemetry`."""
    from azure.iot.device import IoTHubDeviceClient, ProvisioningDeviceClient

    with open(ca_file, encoding="ascii") as file:
        authority = file.read()
    registration = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=host,
        registration_id=registration_id,
        id_scope=id_scope,
        symmetric_key=key,
        server_verification_cert=authority,
    )
    state = registration.register().registration_state
    device = IoTHubDeviceClient.create_from_symmetric_key(
        symmetric_key=key,
        hostname=state.assigned_hub,
        device_id=state.device_id,
        server_verification_cert=authority,
    )
    device.connect()
    for number in range(int(messages)):
        device.send_message(json.dumps({"number": number}))
    time.sleep(int(seconds))
    device.shutdown()


def memory_of(process):
    """KiB that were ever resident, and that are its own now; 0 once it has ended. Not `ru_maxrss`, which
    begins with the memory of its parent."""
    try:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return [int(lines[name].split()[0]) for name in ("VmHWM", "RssAnon")]
    except (OSError, KeyError):
        return [0, 0]


def run(name, command, emulator, group, messages, seconds):
    """Yields seconds of processor time, and KiB of memory: resident, and its own."""
    registration_id = f"beside-{name}"
    key = derive(group["primaryKey"], registration_id)
    ready = emulator.ready
    arguments = [ready["host"], ready["idScope"], registration_id, key, ready["caFile"]]
    process = subprocess.Popen([*command, *arguments, messages, seconds])
    resident, own, ended = 0, 0, 0
    while not ended:
        now = memory_of(process)
        resident, own = max(resident, now[0]), max(own, now[1])
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        time.sleep(LOOK)
    check(status == 0, f"{name} ended with {status}")
    for _ in range(int(messages)):
        emulator.expect("telemetry", deviceId=registration_id)
    return usage.ru_utime + usage.ru_stime, resident, own


def main():
    ours, messages, seconds, *command = sys.argv[1:]
    emulator = Emulator(command)
    try:
        groups = emulator.ready["enrollmentGroups"]
        group = next(group for group in groups if group["attestation"] == "symmetricKey")
        clients = {
            "azure-iot-device": [sys.executable, "-B", __file__, "--client"],
            "zerotouch": [ours],
        }
        print(f"registered, connected, sent {messages} messages, waited {seconds} s and left:")
        results = {}
        for name, client in clients.items():
            results[name] = run(name, client, emulator, group, messages, seconds)
            cpu, resident, own = results[name]
            print(
                f"  {name:<20} {cpu:8.3f} s of processor time"
                f" {resident / 1024:8.1f} MiB resident {own / 1024:8.1f} MiB its own"
            )
        times = [theirs / mine for theirs, mine in zip(*results.values())]
        print(f"  {'times less':<20} {times[0]:8.1f} {times[1]:31.1f} {times[2]:21.1f}")
    except AssertionError as reason:
        sys.exit(f"beside.py: {reason}")
    finally:
        emulator.end()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        vendors_client(*sys.argv[2:])
    elif len(sys.argv) < 5:
        sys.exit(__doc__)
    else:
        main()
