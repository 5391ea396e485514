#!/usr/bin/env python3
"""The vendor's own client, unchanged, against the emulator.

PyPI azure-iot-device registers through the provisioning service by symmetric key, connects to the
hub it was assigned with the same key, reads its twin, reports a property, sends telemetry, answers a
direct method if one comes, and disconnects. Then it tries a wrong key and has to be refused.

Both sides are checked: what the client was told, and what the emulator saw. The client is given the
emulator's authority and nothing else; it dials the hub it was assigned on port 8883, as it always
does, so the emulator has to listen there.

    azure_iot_device.py COMMAND [ARGUMENT…]

starts COMMAND, which prints one JSON line when it is ready and then one for each event, and ends it
when done. Exit code 0 if everything held, 1 with the reason if not.
"""

import base64
import hashlib
import hmac
import json
import sys
import threading
import time

from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError, CredentialError
import azure.iot.device.constant as sdk

from emulator import Emulator, check


def derive(group_key, registration_id):
    """As the vendor's documentation derives a device key."""
    mac = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def provisioning_client(emulator, registration_id, key):
    with open(emulator.ready["caFile"], encoding="ascii") as file:
        authority = file.read()
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=emulator.ready["host"],
        registration_id=registration_id,
        id_scope=emulator.ready["idScope"],
        symmetric_key=key,
        server_verification_cert=authority,
    )
    return client, authority


def provision_and_connect(emulator, group):
    """Registration, hub, twin, telemetry."""
    registration_id = "Interop-Python_1"
    key = derive(group["primaryKey"], registration_id)
    client, authority = provisioning_client(emulator, registration_id, key)
    result = client.register()
    check(result.status == "assigned", f"status {result.status}")
    state = result.registration_state
    check(state.device_id == registration_id, f"device id {state.device_id}")
    check(state.assigned_hub == "localhost", f"assigned hub {state.assigned_hub}")
    check(state.sub_status == "initialAssignment", f"substatus {state.sub_status}")
    check(state.created_date_time and state.etag, "no date or etag")
    emulator.expect(
        "deviceRegistered",
        registrationId=registration_id,
        deviceId=registration_id,
        hub="localhost",
        substatus="initialAssignment",
    )

    device = IoTHubDeviceClient.create_from_symmetric_key(
        symmetric_key=key,
        hostname=state.assigned_hub,
        device_id=state.device_id,
        server_verification_cert=authority,
    )
    device.connect()
    emulator.expect("hubConnected", deviceId=registration_id, thumbprint=None)

    twin = device.get_twin()
    check(twin == {"desired": {"$version": 1}, "reported": {"$version": 1}}, f"twin {twin}")
    emulator.expect("twinRead", deviceId=registration_id)
    device.patch_twin_reported_properties({"firmware": "1.2.3"})
    emulator.expect("twinReported", deviceId=registration_id, version=2)
    twin = device.get_twin()
    check(twin["reported"] == {"firmware": "1.2.3", "$version": 2}, f"twin {twin}")

    for number in range(3):
        message = Message(json.dumps({"number": number}))
        message.message_id = f"message-{number}"
        message.content_type = "application/json"
        message.custom_properties["colour of/it"] = "red & blue"
        # Returns once the hub has acknowledged it.
        device.send_message(message)
        seen = emulator.expect("telemetry", deviceId=registration_id)
        check(json.loads(seen["payload"]) == {"number": number}, f"payload {seen}")
        properties = dict(map(tuple, seen["properties"]))
        check(properties.get("$.mid") == f"message-{number}", f"properties {properties}")
        check(properties.get("$.ct") == "application/json", f"properties {properties}")
        check(properties.get("colour of/it") == "red & blue", f"properties {properties}")

    device.shutdown()
    emulator.expect("disconnected", deviceId=registration_id)

    again = provisioning_client(emulator, registration_id, key)[0].register()
    substatus = again.registration_state.sub_status
    check(substatus == "reprovisionedToInitialAssignment", f"second substatus {substatus}")
    emulator.expect("deviceRegistered", registrationId=registration_id)


def be_refused(emulator, group):
    """A key of another device."""
    registration_id = "interop-python-2"
    key = derive(group["primaryKey"], "some other device")
    client, _ = provisioning_client(emulator, registration_id, key)
    try:
        result = client.register()
    except (ClientError, CredentialError) as refusal:
        text = f"{refusal} {refusal.__cause__}"
        check("401" in text, f"refused without saying why: {text}")
    else:
        raise AssertionError(f"registered with a wrong key: {result}")
    seen = emulator.expect("registrationRefused", registrationId=registration_id)
    check((seen["status"], seen["code"]) == (401, 401002), f"refused with {seen}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    emulator = Emulator(sys.argv[1:])
    try:
        check(emulator.ready["port"] == 8883, "the client dials hubs on port 8883 only")
        groups = emulator.ready["enrollmentGroups"]
        group = next(group for group in groups if group["attestation"] == "symmetricKey")
        for step in (provision_and_connect, be_refused):
            begun = time.monotonic()
            step(emulator, group)
            print(f"azure-iot-device {sdk.VERSION}: {step.__name__} ok ({time.monotonic() - begun:.1f} s)")
    except (AssertionError, ClientError, CredentialError) as reason:
        sys.exit(f"azure-iot-device {sdk.VERSION}: {reason!r} {reason.__cause__!r}")
    finally:
        emulator.end()
        # The client leaves timers behind that complain when the interpreter ends under them.
        threading.excepthook = lambda _: None


if __name__ == "__main__":
    main()
