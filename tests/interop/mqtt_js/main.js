#!/usr/bin/env node
'use strict'

// npm mqtt (MQTT.js), unchanged, against the plain broker.
//
// Counts, contents and order are checked where messages arrive, acknowledgements where they were sent,
// and comings and goings in what the broker tells.
//
//     main.js COMMAND [ARGUMENT…]
//
// starts COMMAND, which prints one JSON line when it is ready and then one for each event, refuses
// subscriptions to `refused/#`, and is ended when done. Exit code 0 if everything held, 1 with the
// reason if not.

const assert = require('node:assert/strict')

const mqtt = require('mqtt')
const { version } = require('mqtt/package.json')

const { Emulator, Inbox } = require('../emulator')

const COUNT = 300

class Peer {
  #messages = new Inbox()

  constructor(emulator, clientId, options = {}) {
    const { host, port } = emulator.ready
    this.emulator = emulator
    this.client = mqtt.connect({
      ...{ host, port, clientId, protocolVersion: 4, clean: true, reconnectPeriod: 0 },
      ...options,
      manualConnect: true,
    })
    this.client.on('message', (topic, payload, { qos, retain, dup }) => {
      this.#messages.put([topic, payload.toString('latin1'), qos, retain, dup])
    })
    // A connection that ends is what some steps are about; the others miss what they wait for.
    this.client.on('error', () => {})
  }

  static async connected(emulator, clientId, filters = {}) {
    const peer = new Peer(emulator, clientId)
    assert.equal(await peer.connect(), false, 'a session where none can be')
    for (const [filter, qos] of Object.entries(filters)) {
      assert.equal(await peer.subscribe(filter, qos), qos)
    }
    await emulator.expect('connected', { clientId, sessionPresent: false })
    return peer
  }

  // Yields whether there was a session.
  connect() {
    return new Promise((resolve, reject) => {
      this.client.once('connect', (connack) => resolve(connack.sessionPresent))
      this.client.once('close', () => reject(new Error('closed')))
      this.client.connect()
    })
  }

  // Yields the return code.
  subscribe(filter, qos) {
    return new Promise((resolve) => {
      this.client.subscribe(filter, { qos }, (error, granted, packet) => {
        resolve(packet ? packet.granted[0] : error)
      })
    })
  }

  // Publishes, and waits until the broker has all of it.
  async publish(topic, payloads, qos, retain = false) {
    await Promise.all(payloads.map((p) => this.client.publishAsync(topic, `${p}`, { qos, retain })))
    if (qos === 0) await this.ask()
  }

  // Waits for so many messages: topic, payload, QoS, retain, dup of each.
  async take(count) {
    const taken = []
    while (taken.length < count) taken.push(await this.#messages.get(`message ${taken.length}`))
    return taken
  }

  // Whatever was sent before has arrived when this is answered, and what is due has come.
  async ask() {
    await this.client.unsubscribeAsync('nothing')
  }

  async rest() {
    await this.ask()
    return this.#messages.drain()
  }

  async disconnect() {
    await this.client.endAsync()
  }

  // The socket is gone without a DISCONNECT.
  cut() {
    this.client.stream.destroy()
  }
}

const range = (count) => [...Array(count).keys()]
const numbered = (topic, count, qos, dup = false) =>
  range(count).map((number) => [topic, `${number}`, qos, false, dup])

async function onceAndInOrder(emulator) {
  for (const qos of [0, 1, 2]) {
    const subscriber = await Peer.connected(emulator, 'subscriber', { 't/+': qos })
    const publisher = await Peer.connected(emulator, 'publisher')
    await publisher.publish('t/1', range(COUNT), qos)
    assert.deepEqual(await subscriber.take(COUNT), numbered('t/1', COUNT, qos))
    assert.deepEqual(await subscriber.rest(), [])
    for (const peer of [subscriber, publisher]) {
      await peer.disconnect()
      await emulator.expect('closed', { reason: 'disconnected' })
    }
  }
}

async function large(emulator) {
  const peer = await Peer.connected(emulator, 'large', { t: 2 })
  const payload = 'well water '.repeat(200_000)
  await peer.publish('t', [payload, payload, payload], 2)
  const arrived = await peer.take(3)
  assert.ok(arrived.every(([, got, qos]) => got === payload && qos === 2))
  await peer.disconnect()
}

async function retained(emulator) {
  const publisher = await Peer.connected(emulator, 'publisher')
  for (const qos of [0, 1, 2]) {
    await publisher.publish('r/kept', ['old', 'new'], qos, true)
    await publisher.publish('r/gone', ['x', ''], qos, true)
    const late = await Peer.connected(emulator, 'late', { 'r/#': 2 })
    assert.deepEqual(await late.take(1), [['r/kept', 'new', qos, true, false]])
    await publisher.publish('r/kept', ['live'], qos, true)
    assert.deepEqual(await late.take(1), [['r/kept', 'live', qos, false, false]])
    assert.deepEqual(await late.rest(), [])
    await late.disconnect()
  }
  await publisher.publish('r/kept', [''], 1, true)
  await publisher.disconnect()
}

async function will(emulator) {
  const heir = await Peer.connected(emulator, 'heir', { will: 2 })
  const options = { will: { topic: 'will', payload: Buffer.from('farewell'), qos: 2 } }
  const polite = new Peer(emulator, 'polite', options)
  await polite.connect()
  await polite.disconnect()
  await emulator.expect('closed', { clientId: 'polite', reason: 'disconnected' })
  assert.deepEqual(await heir.rest(), [])
  const testator = new Peer(emulator, 'testator', options)
  await testator.connect()
  testator.cut()
  await emulator.expect('closed', { clientId: 'testator', reason: 'connection ended by the peer' })
  assert.deepEqual(await heir.take(1), [['will', 'farewell', 2, false, false]])
  await heir.disconnect()
}

async function session(emulator) {
  const publisher = await Peer.connected(emulator, 'publisher')
  const options = { clean: false, resubscribe: false }
  const before = new Peer(emulator, 'sleeper', options)
  assert.equal(await before.connect(), false, 'a session before the first')
  assert.equal(await before.subscribe('one', 1), 1)
  assert.equal(await before.subscribe('two', 2), 2)
  await before.disconnect()
  await emulator.expect('closed', { clientId: 'sleeper' })
  await publisher.publish('one', range(COUNT), 1)
  await publisher.publish('two', range(COUNT), 2)
  await publisher.publish('one', ['at most once'], 0)
  const after = new Peer(emulator, 'sleeper', options)
  assert.equal(await after.connect(), true, 'no session')
  await emulator.expect('connected', { clientId: 'sleeper', sessionPresent: true })
  const expected = [...numbered('one', COUNT, 1), ...numbered('two', COUNT, 2)]
  assert.deepEqual(await after.take(2 * COUNT), expected)
  assert.deepEqual(await after.rest(), [])
  await after.disconnect()
  const clean = await Peer.connected(emulator, 'sleeper')
  await publisher.publish('one', ['nobody'], 1)
  assert.deepEqual(await clean.rest(), [])
  await clean.disconnect()
  await publisher.disconnect()
}

// What was received and not acknowledged comes again, marked and in order.
async function redelivery(emulator) {
  const publisher = await Peer.connected(emulator, 'publisher')
  const options = { clean: false, resubscribe: false }
  const before = new Peer(emulator, 'forgetful', options)
  before.client.handleMessage = () => {} // never says that it is done
  await before.connect()
  await before.subscribe('t', 1)
  await publisher.publish('t', range(10), 1)
  await publisher.ask()
  before.cut()
  await emulator.expect('closed', { clientId: 'forgetful' })
  const after = new Peer(emulator, 'forgetful', options)
  assert.equal(await after.connect(), true, 'no session')
  assert.deepEqual(await after.take(10), numbered('t', 10, 1, true))
  await after.disconnect()
  await publisher.disconnect()
}

// Overlapping subscriptions bring one copy; wildcards leave `$` alone; unsubscribing helps.
async function filters(emulator) {
  const chosen = { 'a/+': 1, 'a/#': 2, '#': 0, '+/b': 0 }
  const peer = await Peer.connected(emulator, 'filters', chosen)
  const topics = ['a/b', 'a', 'x', '$x/b', '$x', '/b']
  const seen = (messages) => messages.map(([topic, , qos]) => [topic, qos])
  for (const topic of topics) await peer.publish(topic, [topic], 2)
  const expected = [['a/b', 2], ['a', 2], ['x', 0], ['/b', 0]]
  assert.deepEqual(seen(await peer.rest()), expected)
  await peer.client.unsubscribeAsync(['#', 'a/#'])
  for (const topic of topics) await peer.publish(topic, [topic], 2)
  assert.deepEqual(seen(await peer.rest()), [['a/b', 1], ['/b', 0]])
  assert.equal(await peer.subscribe('$x/+', 1), 1)
  assert.equal(await peer.subscribe('refused/#', 2), 0x80)
  await peer.publish('$x/b', ['asked for'], 1)
  await peer.publish('refused/y', ['refused'], 1)
  assert.deepEqual(await peer.rest(), [['$x/b', 'asked for', 1, false, false]])
  await peer.disconnect()
}

async function takeover(emulator) {
  const first = await Peer.connected(emulator, 'twin')
  const closed = new Promise((resolve) => first.client.once('close', resolve))
  const second = new Peer(emulator, 'twin')
  await second.connect()
  await closed
  await emulator.expect('closed', { clientId: 'twin', reason: 'the client has connected again' })
  await emulator.expect('connected', { clientId: 'twin', sessionPresent: false })
  await second.disconnect()
}

async function main() {
  const emulator = await Emulator.start(process.argv.slice(2))
  const steps =
    [onceAndInOrder, large, retained, will, session, redelivery, filters, takeover]
  try {
    for (const step of steps) {
      const begun = performance.now()
      await step(emulator).catch((reason) => {
        throw new Error(`${step.name}: ${reason.stack}`)
      })
      const seconds = ((performance.now() - begun) / 1000).toFixed(1)
      console.log(`mqtt.js ${version}: ${step.name} ok (${seconds} s)`)
    }
  } finally {
    emulator.end()
  }
}

main().then(
  () => process.exit(0),
  (reason) => {
    console.error(`mqtt.js ${version}: ${reason.message}`)
    process.exit(1)
  },
)
