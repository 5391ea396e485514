#!/usr/bin/env python3
"""The vendor's own service client, unchanged, against the emulator, with the vendor's device at the other end.

PyPI azure-iot-hub makes a device in the registry of the hub, changes its twin, calls a direct method of it,
counts and purges the messages that wait for it, and deletes it, over HTTPS. PyPI azure-iot-device is that
device, over MQTT. Both are given the emulator's authority and nothing else. The service client sends messages
over AMQP, which is not emulated: they are sent over HTTPS with its credentials.

    azure_iot_hub.py COMMAND [ARGUMENT…]

starts COMMAND, which prints one JSON line when it is ready and then one for each event, and ends it when done.
Exit code 0 if everything held, 1 with the reason if not.
"""

import base64
import os
import queue
import sys

from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.auth import ConnectionStringAuthentication
from azure.iot.hub.models import CloudToDeviceMethod, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from emulator import PATIENCE, Emulator, check

DEVICE = "Interop-Service_1"


def key():
    return base64.b64encode(os.urandom(32)).decode()


def refused(call, status):
    try:
        call()
    except HttpOperationError as error:
        check(error.response.status_code == status, f"{error.response.status_code}: {error}")
        return
    raise AssertionError(f"a call that had to be refused with {status} was not")


def registry(service):
    primary, secondary = key(), key()
    made = service.create_device_with_sas(DEVICE, primary, secondary, "enabled")
    check(made.authentication.symmetric_key.primary_key == primary, "another key than asked for")
    check(made.connection_state == "Disconnected", made.connection_state)
    refused(lambda: service.create_device_with_sas(DEVICE, primary, secondary, "enabled"), 409)
    check([one.device_id for one in service.get_devices()] == [DEVICE], "the list of devices")
    check(service.get_device_registry_statistics().total_device_count == 1, "the statistics")
    return secondary


def connect(emulator, device_key):
    with open(emulator.ready["caFile"], encoding="ascii") as file:
        authority = file.read()
    text = f"HostName=localhost;DeviceId={DEVICE};SharedAccessKey={device_key}"
    client = IoTHubDeviceClient.create_from_connection_string(
        text, server_verification_cert=authority
    )
    client.connect()
    emulator.expect("hubConnected", deviceId=DEVICE)
    return client


def twin(service, client):
    patches = queue.Queue()
    client.on_twin_desired_properties_patch_received = patches.put
    client.get_twin()
    before = service.get_twin(DEVICE)
    change = Twin(tags={"site": "lab"}, properties=TwinProperties(desired={"rate": 5}))
    after = service.update_twin(DEVICE, change, before.etag)
    check(after.tags == {"site": "lab"}, after.tags)
    check(after.etag != before.etag, "the etag stayed as it was")
    check(patches.get(timeout=PATIENCE)["rate"] == 5, "another patch arrived")
    refused(lambda: service.update_twin(DEVICE, change, before.etag), 412)
    client.patch_twin_reported_properties({"actual": 4})
    check(service.get_twin(DEVICE).properties.reported["actual"] == 4, "the report is not there")
    found = service.query_iot_hub(QuerySpecification(query="select * from devices"))
    check([one.device_id for one in found.items] == [DEVICE], "the query")


def method(service, client):
    def answer(request):
        check((request.name, request.payload) == ("reboot", {"in": 3}), f"{request.name}")
        client.send_method_response(
            MethodResponse.create_from_method_request(request, 200, {"at": 3})
        )

    client.on_method_request_received = answer
    call = CloudToDeviceMethod(
        method_name="reboot", payload={"in": 3}, response_timeout_in_seconds=PATIENCE
    )
    result = service.invoke_device_method(DEVICE, call)
    check((result.status, result.payload) == (200, {"at": 3}), f"{result.status} {result.payload}")


def send(emulator, data, **properties):
    text = emulator.ready["serviceConnectionString"]
    host = text.split(";")[0].removeprefix("HostName=")
    session = ConnectionStringAuthentication(text).signed_session()
    session.headers["iothub-to"] = f"/devices/{DEVICE}/messages/deviceBound"
    for name, value in properties.items():
        session.headers[f"iothub-{name.replace('_', '-')}"] = value
    url = f"https://{host}/messages/deviceBound?api-version=2021-04-12"
    answer = session.post(url, data=data, verify=emulator.ready["caFile"])
    check(answer.status_code == 204, f"{answer.status_code}: {answer.text}")


def messages(emulator, service, client):
    """The device finds what was sent to it while it was away, in order."""
    received = queue.Queue()
    # Subscribes; the session keeps that.
    client.on_message_received = received.put
    client.disconnect()
    emulator.expect("disconnected", deviceId=DEVICE)

    def count():
        return service.get_device(DEVICE).cloud_to_device_message_count

    check(count() == 0, "messages that nobody sent")
    send(emulator, b"first", messageid="m-1", correlationid="c-1", ack="full", app_colour="red & blue")
    send(emulator, b"second", contenttype="application/json", contentencoding="utf-8")
    check(count() == 2, f"{count()} messages wait")
    client.connect()
    first, second = (received.get(timeout=PATIENCE) for _ in range(2))
    check((first.data, first.message_id, first.correlation_id) == (b"first", "m-1", "c-1"), vars(first))
    check(first.custom_properties == {"colour": "red & blue"}, first.custom_properties)
    check(first.ack == "full", f"ack {first.ack}")
    kind = (second.content_type, second.content_encoding)
    check((second.data, *kind) == (b"second", "application/json", "utf-8"), vars(second))
    emulator.expect("commandSettled", deviceId=DEVICE, messageId="m-1", outcome="success")
    emulator.expect("commandSettled", deviceId=DEVICE, outcome="success")
    check(count() == 0, f"{count()} messages wait")

    client.disconnect()
    emulator.expect("disconnected", deviceId=DEVICE)
    send(emulator, b"never")
    purged = service.protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue(DEVICE)
    check((purged.device_id, purged.total_messages_purged) == (DEVICE, 1), vars(purged))
    emulator.expect("commandSettled", deviceId=DEVICE, outcome="purged")
    client.connect()
    emulator.expect("hubConnected", deviceId=DEVICE)


def end(emulator, service, client):
    service.delete_device(DEVICE)
    emulator.expect("disconnected", deviceId=DEVICE)
    client.shutdown()
    refused(lambda: service.get_device(DEVICE), 404)


def main():
    emulator = Emulator(sys.argv[1:])
    try:
        # What the SDK's HTTP client trusts.
        os.environ["REQUESTS_CA_BUNDLE"] = emulator.ready["caFile"]
        service = IoTHubRegistryManager.from_connection_string(
            emulator.ready["serviceConnectionString"]
        )
        client = connect(emulator, registry(service))
        twin(service, client)
        method(service, client)
        messages(emulator, service, client)
        end(emulator, service, client)
        stranger = emulator.ready["serviceConnectionString"].split("SharedAccessKey=")[0]
        stranger = IoTHubRegistryManager.from_connection_string(f"{stranger}SharedAccessKey={key()}")
        refused(lambda: stranger.get_device(DEVICE), 401)
    finally:
        emulator.end()
    print("azure-iot-hub: registry, twin both ways, method, messages, refusals")


main()
