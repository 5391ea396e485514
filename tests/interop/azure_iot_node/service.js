#!/usr/bin/env node
'use strict'

// The vendor's service SDK for Node.js, unchanged, against the emulator, with the vendor's device at the
// other end.
//
// npm azure-iot-provisioning-service makes enrolments, reads, changes, queries and deletes them over HTTPS.
// npm azure-iot-provisioning-device registers by them, over MQTT. What each is told is held against what
// the emulator tells.
//
//     service.js COMMAND [ARGUMENT…]
//
// starts COMMAND, which prints one JSON line when it is ready and then one for each event, and ends it when
// done. Exit code 0 if everything held, 1 with the reason if not.

const assert = require('node:assert/strict')
const { createHmac } = require('node:crypto')
const https = require('node:https')

const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device')
const { Mqtt } = require('azure-iot-provisioning-device-mqtt')
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service')
const { version } = require('azure-iot-provisioning-service/package.json')
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key')

const { Emulator } = require('../emulator')

const DEVICE = 'Interop-Service_2'
const GROUP = 'interop-group'

class Cloud {
  constructor(emulator) {
    this.emulator = emulator
    const { serviceConnectionString } = emulator.ready
    // The SDK takes all that a connection string names for the host, and knows one port: whoever makes its
    // connections is told where they go.
    const [host, port] = /HostName=([^;]*)/.exec(serviceConnectionString)[1].split(':')
    Object.assign(https.globalAgent.options, { host, port })
    this.service = ProvisioningServiceClient.fromConnectionString(serviceConnectionString)
  }

  register(registrationId, key) {
    const { host, idScope } = this.emulator.ready
    const security = new SymmetricKeySecurityClient(registrationId, key)
    return ProvisioningDeviceClient.create(host, idScope, new Mqtt(), security).register()
  }

  // The items of a query, and how many came at once.
  async all(query) {
    const [items, pages] = [[], []]
    while (query.hasMoreResults) {
      const { responseBody } = await query.next(query.continuationToken)
      items.push(...responseBody)
      pages.push(responseBody.length)
    }
    return { items, pages }
  }
}

// Yields what a call resolves to, without the response around it.
const body = async (call) => (await call).responseBody

async function refused(call, name) {
  await assert.rejects(call, (error) => error.name === name || assert.fail(`${error.name}: ${error}`))
}

const keys = { type: 'symmetricKey' }

async function individual(cloud) {
  const { service } = cloud
  const wanted = {
    registrationId: DEVICE,
    deviceId: 'the-device',
    attestation: keys,
    provisioningStatus: 'enabled',
    reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData: false },
    initialTwin: { tags: { site: 'a' }, properties: { desired: { rate: 5 } } },
    allocationPolicy: 'static',
    iotHubs: ['localhost'],
  }
  const made = await body(service.createOrUpdateIndividualEnrollment(wanted))
  for (const [name, value] of Object.entries(wanted)) {
    if (name !== 'attestation') assert.deepEqual(made[name], value, name)
  }
  await refused(service.createOrUpdateIndividualEnrollment(wanted), 'DeviceAlreadyExistsError')
  const read = await body(service.getIndividualEnrollment(DEVICE))
  assert.equal(read.etag, made.etag)
  assert.equal(read.attestation.symmetricKey, undefined, 'keys are told to whoever asks')
  const attestation = await body(service.getIndividualEnrollmentAttestationMechanism(DEVICE))
  assert.deepEqual(attestation, made.attestation)

  const { primaryKey, secondaryKey } = attestation.symmetricKey
  const assigned = await cloud.register(DEVICE, secondaryKey)
  assert.deepEqual([assigned.assignedHub, assigned.deviceId], ['localhost', 'the-device'])
  const told = { registrationId: DEVICE, enrollment: DEVICE, deviceId: 'the-device' }
  await cloud.emulator.expect('deviceRegistered', { ...told, substatus: 'initialAssignment' })
  const state = await body(service.getDeviceRegistrationState(DEVICE))
  assert.deepEqual([state.status, state.assignedHub], ['assigned', 'localhost'])
  assert.equal((await body(service.getIndividualEnrollment(DEVICE))).registrationState.etag, state.etag)

  await refused(
    service.createOrUpdateIndividualEnrollment({ ...read, etag: '"other"' }),
    'InvalidEtagError',
  )
  const disabled = { ...read, provisioningStatus: 'disabled' }
  const changed = await body(service.createOrUpdateIndividualEnrollment(disabled))
  assert.deepEqual([changed.provisioningStatus, changed.attestation], ['disabled', attestation])
  await assert.rejects(cloud.register(DEVICE, primaryKey), /disabled|registration failed/i)
  await cloud.emulator.expect('registrationRefused', { registrationId: DEVICE, status: 200 })

  await service.deleteDeviceRegistrationState(state)
  await refused(service.getDeviceRegistrationState(DEVICE), 'Error')
  await refused(service.deleteIndividualEnrollment(read), 'InvalidEtagError')
  await service.deleteIndividualEnrollment(changed)
  await refused(service.getIndividualEnrollment(DEVICE), 'Error')
  await assert.rejects(cloud.register(DEVICE, primaryKey))
  await cloud.emulator.expect('registrationRefused', { registrationId: DEVICE, status: 401 })
}

async function group(cloud) {
  const { service } = cloud
  const key = Buffer.alloc(32, 7).toString('base64')
  const attestation = { ...keys, symmetricKey: { primaryKey: key, secondaryKey: key } }
  const wanted = { enrollmentGroupId: GROUP, attestation, provisioningStatus: 'enabled' }
  const made = await body(service.createOrUpdateEnrollmentGroup(wanted))
  const mechanism = await body(service.getEnrollmentGroupAttestationMechanism(GROUP))
  assert.deepEqual(mechanism, attestation)
  const ids = ['g-1', 'g-2', 'g-3']
  for (const id of ids) {
    const derived = createHmac('sha256', Buffer.from(key, 'base64')).update(id).digest('base64')
    assert.equal((await cloud.register(id, derived)).deviceId, id)
    await cloud.emulator.expect('deviceRegistered', { registrationId: id, enrollment: GROUP })
  }
  const states = service.createEnrollmentGroupDeviceRegistrationStateQuery({ query: '*' }, GROUP, 2)
  const { items, pages } = await cloud.all(states)
  assert.deepEqual([items.map((one) => one.registrationId), pages], [ids, [2, 1]])
  const changed = await body(
    service.createOrUpdateEnrollmentGroup({ ...made, iotHubs: ['localhost'] }),
  )
  assert.deepEqual(changed.iotHubs, ['localhost'])
  assert.notEqual(changed.etag, made.etag)
  await refused(service.deleteEnrollmentGroup(GROUP, made.etag), 'InvalidEtagError')
  await service.deleteEnrollmentGroup(GROUP)
  await refused(service.getEnrollmentGroup(GROUP), 'Error')
}

async function many(cloud) {
  const { service } = cloud
  const enrollments = [...Array(5).keys()].map((n) => ({ registrationId: `m-${n}`, attestation: keys }))
  // The promise that this call yields is never settled.
  const bulk = (mode) =>
    new Promise((resolve, reject) => {
      const done = (error, result) => (error ? reject(error) : resolve(result))
      service.runBulkEnrollmentOperation({ mode, enrollments }, done)
    })
  assert.deepEqual(await bulk('create'), { isSuccessful: true, errors: [] })
  const again = await bulk('create')
  assert.deepEqual([again.isSuccessful, again.errors.length], [false, 5])
  const query = service.createIndividualEnrollmentQuery({ query: 'SELECT * FROM enrollments' }, 2)
  const { items, pages } = await cloud.all(query)
  const found = items.map((one) => one.registrationId).filter((id) => id.startsWith('m-'))
  assert.deepEqual(found, ['m-0', 'm-1', 'm-2', 'm-3', 'm-4'])
  assert.ok(pages.length > 2 && pages.every((length) => length <= 2), `${pages}`)
  const groups = service.createEnrollmentGroupQuery({ query: 'SELECT * FROM enrollmentGroups' }, 10)
  const { items: known } = await cloud.all(groups)
  assert.ok(known.some((one) => one.enrollmentGroupId === 'default-group'))
  assert.equal((await bulk('delete')).isSuccessful, true)
}

async function strangers(cloud) {
  const text = cloud.emulator.ready.serviceConnectionString
  const key = Buffer.alloc(32).toString('base64')
  const other = text.replace(/SharedAccessKey=.*/, `SharedAccessKey=${key}`)
  const stranger = ProvisioningServiceClient.fromConnectionString(other)
  await refused(stranger.getEnrollmentGroup('default-group'), 'UnauthorizedError')
}

async function main(emulator) {
  const cloud = new Cloud(emulator)
  for (const step of [individual, group, many, strangers]) {
    const begun = Date.now()
    await step(cloud)
    const seconds = (Date.now() - begun) / 1000
    console.log(`azure-iot-provisioning-service ${version}: ${step.name} ok (${seconds} s)`)
  }
  // The client leaves timers behind.
  process.exit(0)
}

Emulator.trusted(__filename, main).catch((error) => {
  console.error(`azure-iot-provisioning-service ${version}:`, error)
  process.exit(1)
})
