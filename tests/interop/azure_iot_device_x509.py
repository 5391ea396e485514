#!/usr/bin/env python3
"""The vendor's own client with a certificate, unchanged, against the emulator.

PyPI azure-iot-device registers by a certificate of the X.509 group's authority, connects to the hub it
was assigned with the same, sends telemetry, has its desired properties changed, reports one, answers a
direct method. Then it tries a certificate of another authority and has to be refused.

Both sides are checked: what the client was told, and what the emulator saw.

    azure_iot_device_x509.py COMMAND [ARGUMENT…]

starts COMMAND, which prints one JSON line when it is ready and then one for each event, and ends it
when done. Its other commands issue certificates and speak for the service. Exit code 0 if everything
held, 1 with the reason if not.
"""

import json
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse, ProvisioningDeviceClient, X509
from azure.iot.device.exceptions import ClientError, CredentialError
import azure.iot.device.constant as sdk

from emulator import Emulator, PATIENCE, check

ID = "interop-python-x509"


def command(*arguments):
    """Runs a command of the tool; yields the JSON it writes, if it does."""
    done = subprocess.run([sys.argv[1], *arguments], capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{arguments}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else None


def certificate(directory, name, issuer):
    """A device's certificate with its issuer's behind it, and its key."""
    out = str(directory / name)
    command("pki", "device", "--registration-id", ID, "--issuer", issuer, "--out", out)
    return X509(cert_file=f"{out}.cert.pem", key_file=f"{out}.key.pem")


def provisioning_client(emulator, x509, authority):
    return ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=emulator.ready["host"],
        registration_id=ID,
        id_scope=emulator.ready["idScope"],
        x509=x509,
        server_verification_cert=authority,
    )


def live(emulator, directory, issuer, authority):
    """Registration, hub, telemetry, twin both ways, method."""
    x509 = certificate(directory, "device", issuer)
    result = provisioning_client(emulator, x509, authority).register()
    check(result.status == "assigned", f"status {result.status}")
    emulator.expect("deviceRegistered", registrationId=ID, enrollment="x509-group")
    device = IoTHubDeviceClient.create_from_x509_certificate(
        x509=x509,
        hostname=result.registration_state.assigned_hub,
        device_id=result.registration_state.device_id,
        server_verification_cert=authority,
    )
    desired, called = queue.Queue(), queue.Queue()
    device.on_twin_desired_properties_patch_received = desired.put

    def answer(request):
        called.put((request.name, request.payload))
        device.send_method_response(
            MethodResponse.create_from_method_request(request, 207, {"opened": True})
        )

    device.on_method_request_received = answer
    device.connect()
    seen = emulator.expect("hubConnected", deviceId=ID)
    check(seen["thumbprint"], f"connected without a certificate: {seen}")

    device.send_message(Message("hello"))
    emulator.expect("telemetry", deviceId=ID, payload="hello")

    device.get_twin()
    patch = {"properties": {"desired": {"speed": 3}}}
    command("emulator", "call", "PATCH", f"/twins/{ID}", json.dumps(patch))
    patch = desired.get(timeout=PATIENCE)
    check(patch == {"speed": 3, "$version": 2}, f"desired {patch}")
    device.patch_twin_reported_properties({"speed": 3})
    emulator.expect("twinReported", deviceId=ID, version=2)
    twin = command("emulator", "call", "GET", f"/twins/{ID}")
    check(twin["properties"]["reported"]["speed"] == 3, f"the service reads {twin}")

    call = {"methodName": "open", "payload": {"valve": 4}, "responseTimeoutInSeconds": 30}
    answered = command("emulator", "call", "POST", f"/twins/{ID}/methods", json.dumps(call))
    check(answered == {"status": 207, "payload": {"opened": True}}, f"answer {answered}")
    name, payload = called.get(timeout=PATIENCE)
    check((name, payload) == ("open", {"valve": 4}), f"called {name} {payload}")

    device.shutdown()
    emulator.expect("disconnected", deviceId=ID)


def be_refused(emulator, directory, _issuer, authority):
    """A certificate of an authority that no group has."""
    stranger = str(directory / "stranger")
    command("pki", "root", "--out", stranger)
    x509 = certificate(directory, "strange", stranger)
    try:
        result = provisioning_client(emulator, x509, authority).register()
    except (ClientError, CredentialError) as refusal:
        check("401" in f"{refusal} {refusal.__cause__}", f"refused without saying why: {refusal}")
    else:
        raise AssertionError(f"registered with a strange certificate: {result}")
    seen = emulator.expect("registrationRefused", registrationId=ID)
    check((seen["status"], seen["code"]) == (401, 401002), f"refused with {seen}")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    emulator = Emulator(sys.argv[1:])
    try:
        groups = emulator.ready["enrollmentGroups"]
        group = next(group for group in groups if group["attestation"] == "x509")
        issuer = group["caCertFile"].removesuffix(".cert.pem")
        authority = pathlib.Path(emulator.ready["caFile"]).read_text(encoding="ascii")
        with tempfile.TemporaryDirectory() as directory:
            for step in (live, be_refused):
                begun = time.monotonic()
                step(emulator, pathlib.Path(directory), issuer, authority)
                took = time.monotonic() - begun
                print(f"azure-iot-device {sdk.VERSION}, X.509: {step.__name__} ok ({took:.1f} s)")
    except (AssertionError, ClientError, CredentialError, queue.Empty) as reason:
        sys.exit(f"azure-iot-device {sdk.VERSION}, X.509: {reason!r} {reason.__cause__!r}")
    finally:
        emulator.end()
        # The client leaves timers behind that complain when the interpreter ends under them.
        threading.excepthook = lambda _: None


if __name__ == "__main__":
    main()
