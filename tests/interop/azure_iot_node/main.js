#!/usr/bin/env node
'use strict'

// The vendor's own client for Node.js, unchanged, against the emulator.
//
// npm azure-iot-provisioning-device and azure-iot-device register by symmetric key and by a certificate
// of the X.509 group's authority, connect to the hub they were assigned, send telemetry, have their
// desired properties changed, report one, and answer a direct method. Then a wrong key has to be refused.
//
// Both sides are checked: what the client was told, and what the emulator saw.
//
//     main.js COMMAND [ARGUMENT…]
//
// starts COMMAND, which prints one JSON line when it is ready and then one for each event, and ends it
// when done. Its other commands issue certificates and speak for the service. Exit code 0 if everything
// held, 1 with the reason if not.

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { createHmac } = require('node:crypto')
const { mkdtempSync, readFileSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { promisify } = require('node:util')

const { Client, Message } = require('azure-iot-device')
const { Mqtt } = require('azure-iot-device-mqtt')
const { Mqtt: ProvisioningMqtt } = require('azure-iot-provisioning-device-mqtt')
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device')
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key')
const { X509Security } = require('azure-iot-security-x509')
const { version } = require('azure-iot-device/package.json')

const { Emulator, Inbox } = require('../emulator')

const run = promisify(execFile)

// Runs a command of the tool; yields the JSON it writes, if it does.
async function command(...args) {
  const { stdout } = await run(process.argv[2], args)
  return /^[{[]/.test(stdout) ? JSON.parse(stdout) : undefined
}

function group(emulator, attestation) {
  return emulator.ready.enrollmentGroups.find((one) => one.attestation === attestation)
}

// As the vendor's documentation derives a device key.
function derive(emulator, registrationId) {
  const key = Buffer.from(group(emulator, 'symmetricKey').primaryKey, 'base64')
  return createHmac('sha256', key).update(registrationId).digest('base64')
}

function register(emulator, security) {
  const { host, idScope } = emulator.ready
  const transport = new ProvisioningMqtt()
  return ProvisioningDeviceClient.create(host, idScope, transport, security).register()
}

// What a device does at its hub.
async function live(emulator, id, connectionString, options) {
  const client = Client.fromConnectionString(connectionString, Mqtt)
  await client.setOptions(options)
  await client.open()
  await emulator.expect('hubConnected', { deviceId: id })

  await client.sendEvent(new Message('hello'))
  await emulator.expect('telemetry', { deviceId: id, payload: 'hello' })

  const twin = await client.getTwin()
  const desired = new Inbox()
  twin.on('properties.desired', (patch) => desired.put(patch))
  // The client first tells what there is.
  assert.deepEqual(await desired.get('the desired properties'), { $version: 1 })
  const patch = JSON.stringify({ properties: { desired: { speed: 3 } } })
  await command('emulator', 'call', 'PATCH', `/twins/${id}`, patch)
  assert.deepEqual(await desired.get('the patch'), { speed: 3, $version: 2 })
  await new Promise((resolve, reject) => {
    twin.properties.reported.update({ speed: 3 }, (error) => (error ? reject(error) : resolve()))
  })
  await emulator.expect('twinReported', { deviceId: id, version: 2 })

  const called = new Inbox()
  client.onDeviceMethod('open', (request, response) => {
    called.put(request.payload)
    response.send(207, { opened: true }, () => {})
  })
  const call = JSON.stringify({ methodName: 'open', payload: { valve: 4 } })
  const answered = await command('emulator', 'call', 'POST', `/twins/${id}/methods`, call)
  assert.deepEqual(answered, { status: 207, payload: { opened: true } })
  assert.deepEqual(await called.get('the call'), { valve: 4 })

  await client.close()
  await emulator.expect('disconnected', { deviceId: id })
}

const steps = {
  async 'symmetric key'(emulator) {
    const id = 'interop-node'
    const key = derive(emulator, id)
    const assigned = await register(emulator, new SymmetricKeySecurityClient(id, key))
    assert.equal(assigned.status, 'assigned')
    await emulator.expect('deviceRegistered', { registrationId: id, hub: assigned.assignedHub })
    const { assignedHub, deviceId } = assigned
    const connection = `HostName=${assignedHub};DeviceId=${deviceId};SharedAccessKey=${key}`
    await live(emulator, id, connection, {})
  },

  async 'X.509'(emulator, directory) {
    const id = 'interop-node-x509'
    const issuer = group(emulator, 'x509').caCertFile.replace(/\.cert\.pem$/, '')
    const out = join(directory, id)
    await command('pki', 'device', '--registration-id', id, '--issuer', issuer, '--out', out)
    const read = (ending) => readFileSync(`${out}.${ending}.pem`, 'ascii')
    const identity = { cert: read('cert'), key: read('key') }
    const assigned = await register(emulator, new X509Security(id, identity))
    await emulator.expect('deviceRegistered', { registrationId: id, enrollment: 'x509-group' })
    const connection = `HostName=${assigned.assignedHub};DeviceId=${assigned.deviceId};x509=true`
    await live(emulator, id, connection, identity)
  },

  async 'a wrong key'(emulator) {
    const id = 'interop-node-2'
    const key = derive(emulator, 'some other device')
    await assert.rejects(register(emulator, new SymmetricKeySecurityClient(id, key)))
    const { status, code } = await emulator.expect('registrationRefused', { registrationId: id })
    assert.deepEqual([status, code], [401, 401002])
  },
}

async function main(emulator) {
  const directory = mkdtempSync(join(tmpdir(), 'zerotouch-interop-'))
  try {
    for (const [name, step] of Object.entries(steps)) {
      const begun = Date.now()
      await step(emulator, directory)
      console.log(`azure-iot-device ${version}: ${name} ok (${(Date.now() - begun) / 1000} s)`)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
  // The client leaves timers behind.
  process.exit(0)
}

Emulator.trusted(__filename, main).catch((error) => {
  console.error(`azure-iot-device ${version}:`, error)
  process.exit(1)
})
