'use strict'

// The emulator's process, for scripts that run a client against it.

const assert = require('node:assert/strict')
const { fork, spawn } = require('node:child_process')
const { createInterface } = require('node:readline')

// Long enough for a busy machine, short enough to see a client hang.
const PATIENCE = 30_000

// What comes from elsewhere, and is waited for one after the other.
class Inbox {
  #items = []
  #waiting = []

  put(item) {
    const waiting = this.#waiting.shift()
    if (waiting) waiting(item)
    else this.#items.push(item)
  }

  get(what) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift())
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${what} does not come`)), PATIENCE)
      this.#waiting.push((item) => {
        clearTimeout(timer)
        resolve(item)
      })
    })
  }

  drain() {
    return this.#items.splice(0)
  }
}

class Emulator {
  #lines = new Inbox()

  static async start([command, ...args]) {
    const emulator = new Emulator()
    emulator.process = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface({ input: emulator.process.stdout })
    lines.on('line', (line) => emulator.#lines.put(JSON.parse(line)))
    lines.on('close', () => emulator.#lines.put({ event: 'the emulator ended' }))
    await emulator.#getReady()
    return emulator
  }

  // Runs a script's `main` with an emulator that its process trusts. Node.js learns of further roots when
  // it starts, so the script is started again once there is one; that run gets the lines from this one.
  static async trusted(script, main) {
    const emulator = new Emulator()
    if (process.send) {
      process.on('message', (line) => emulator.#lines.put(line))
      await emulator.#getReady()
      return main(emulator)
    }
    const first = await Emulator.start(process.argv.slice(2))
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: first.ready.caFile }
    const child = fork(script, process.argv.slice(2), { env })
    const ended = new Promise((resolve) => child.on('exit', resolve))
    const forward = (line) => child.connected && child.send(line)
    ;[first.ready, ...first.#lines.drain()].forEach(forward)
    first.#lines = { put: forward }
    process.exitCode = (await ended) ?? 1
    first.end()
  }

  async #getReady() {
    this.ready = await this.#lines.get('the ready line')
    assert.equal(this.ready.ready, true)
  }

  // Waits for an event of that name with those members; others are passed over.
  async expect(event, members = {}) {
    for (;;) {
      const line = await this.#lines.get(`${event} ${JSON.stringify(members)}`)
      assert.notEqual(line.event, 'the emulator ended')
      const fits = Object.entries(members).every(([name, value]) => line[name] === value)
      if (line.event === event && fits) return line
    }
  }

  end() {
    this.process.kill()
  }
}

module.exports = { Emulator, Inbox }
