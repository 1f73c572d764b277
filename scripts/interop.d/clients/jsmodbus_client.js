// jsmodbus against the server, over TCP and RTU in TCP.
'use strict';

const assert = require('node:assert/strict');
const net = require('node:net');
const readline = require('node:readline');
const { client } = require('jsmodbus');

const TIMEOUT_MS = 5000;
const VERSION = process.argv[2];

// As in common.py, where they are explained.
const MEMORY = 1;
const TAGS = 2;
const NOBODY = 77;
const COILS = 2000;
const REGISTERS = 1000;
const ORDERS = { abcd: 0, cdab: 2, badc: 4, dcba: 6 };
// Over TCP the client sends no more than 240 bytes of registers, though it says that it does.
const MOST_WRITTEN_REGISTERS = { tcp: 120, rtu: 123 };
const FLOATS = [81.5, -12.375, 0.1, 21.7, 3.4028235e38, 1e-45, 16777216];

function address(name) {
  const [host, port] = process.env[`INTEROP_${name.toUpperCase()}`].split(':');
  return { host, port: Number(port) };
}

async function connect(name) {
  const socket = net.connect(address(name));
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socket;
}

// The line protocol.
class Line {
  static async open() {
    const line = new Line();
    line.socket = await connect('line');
    line.replies = readline.createInterface({ input: line.socket })[Symbol.asyncIterator]();
    return line;
  }

  async ask(request) {
    this.socket.write(`${request}\n`);
    const { value } = await this.replies.next();
    assert.match(String(value), /^OK/, `reply to ${request}`);
    return value.split(' ');
  }

  async set(tag, value) {
    await this.ask(`SET ${tag} ${value}`);
  }

  async get(tag) {
    const [, value, quality] = await this.ask(`GET ${tag}`);
    assert.equal(quality, 'good', `quality of ${tag}`);
    return JSON.parse(value);
  }
}

// The bytes of a float in one of the orders, and back: each order undoes itself.
function arranged(order, bytes) {
  const swapped = Buffer.from(bytes);
  if (order === 'badc' || order === 'dcba') swapped.swap16();
  if (order === 'cdab' || order === 'dcba') return Buffer.concat([swapped.subarray(2), swapped.subarray(0, 2)]);
  return swapped;
}

function bytesOf(order, value) {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatBE(value);
  return arranged(order, bytes);
}

const floatOf = (order, bytes) => arranged(order, bytes).readFloatBE();
const on = (bits) => bits.map(Boolean);

async function refused(promise, code, what) {
  const fault = await promise.then(
    () => assert.fail(`${what}: answered, wanted exception ${code}`),
    (rejected) => rejected,
  );
  assert.equal(fault.err, 'ModbusException', `${what}: ${fault.message}`);
  assert.equal(fault.response.body.code, code, what);
}

// A client for each unit, by the transport.
async function clients(transport) {
  const made = {};
  for (const unit of [MEMORY, TAGS, NOBODY]) {
    const socket = await connect(transport);
    if (transport === 'tcp') {
      made[unit] = new client.TCP(socket, unit, TIMEOUT_MS);
      // It waits for the event, which has been.
      socket.emit('connect');
    } else {
      // It expects a serial port, which says that it is open.
      socket.isOpen = true;
      made[unit] = new client.RTU(socket, unit, TIMEOUT_MS);
    }
  }
  return made;
}

const bodyOf = async (promise) => (await promise).response.body;

// Each case: its name, and what it does with the clients and the line protocol.
const CASES = [
  ['coils: write one (5), many (15), read (1)', async ({ [MEMORY]: modbus }, line) => {
    const bits = on([1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1]);
    await modbus.writeMultipleCoils(100, bits);
    assert.deepEqual(on((await bodyOf(modbus.readCoils(100, 11))).valuesAsArray.slice(0, 11)), bits);
    for (const state of [true, false]) {
      await modbus.writeSingleCoil(102, state);
      assert.equal(Boolean((await bodyOf(modbus.readCoils(102, 1))).valuesAsArray[0]), state);
      assert.equal(await line.get(`modbus/${MEMORY}/coil/102`), state);
    }
  }],

  ['discretes (2) and input registers (4)', async ({ [MEMORY]: modbus }, line) => {
    const bits = on([0, 1, 1, 0, 1, 0, 0, 0, 1]);
    for (const [n, state] of bits.entries()) await line.set(`modbus/${MEMORY}/discrete/${80 + n}`, state);
    const discretes = (await bodyOf(modbus.readDiscreteInputs(80, 9))).valuesAsArray;
    assert.deepEqual(on(discretes.slice(0, 9)), bits);
    for (const [n, value] of [5, 65535, 0].entries()) await line.set(`modbus/${MEMORY}/input/${80 + n}`, value);
    assert.deepEqual((await bodyOf(modbus.readInputRegisters(80, 3))).valuesAsArray, [5, 65535, 0]);
  }],

  ['holding registers: write one (6), many (16), read (3)', async ({ [MEMORY]: modbus }, line) => {
    await modbus.writeMultipleRegisters(10, [1, 2, 65535]);
    await modbus.writeSingleRegister(11, 0xbeef);
    assert.deepEqual((await bodyOf(modbus.readHoldingRegisters(10, 3))).valuesAsArray, [1, 0xbeef, 65535]);
    assert.equal(await line.get(`modbus/${MEMORY}/holding/11`), 0xbeef);
  }],

  ['the most that one request carries', async ({ [MEMORY]: modbus }, line, transport) => {
    const bits = Array.from({ length: 1968 }, (_, n) => (n * n) % 11 < 4);
    await modbus.writeMultipleCoils(32, bits);
    const coils = (await bodyOf(modbus.readCoils(0, 2000))).valuesAsArray;
    assert.deepEqual(on(coils.slice(32)), bits);
    const registers = Array.from({ length: MOST_WRITTEN_REGISTERS[transport] }, (_, n) => (n * 521) & 0xffff);
    await modbus.writeMultipleRegisters(840, registers);
    const got = (await bodyOf(modbus.readHoldingRegisters(839, registers.length + 2))).valuesAsArray;
    assert.deepEqual(got, [0, ...registers, 0]);
  }],

  ['a write that the client cuts short', async ({ [MEMORY]: modbus }, line, transport) => {
    const registers = Array(MOST_WRITTEN_REGISTERS.rtu).fill(7);
    // Its quantity and its count of bytes are fine, but six of the bytes never come.
    if (transport === 'tcp') await refused(modbus.writeMultipleRegisters(840, registers), 3, 'cut write');
  }],

  ['floats in four orders, written by the line protocol', async ({ [TAGS]: modbus }, line) => {
    for (const value of FLOATS) {
      for (const [order, first] of Object.entries(ORDERS)) {
        await line.set(`interop/f32/${order}`, value);
        const bytes = (await bodyOf(modbus.readHoldingRegisters(first, 2))).valuesAsBuffer;
        assert.equal(floatOf(order, bytes), Math.fround(value), `${value} in ${order}`);
      }
    }
  }],

  ['floats in four orders, read by the line protocol', async ({ [TAGS]: modbus }, line) => {
    for (const value of FLOATS) {
      for (const [order, first] of Object.entries(ORDERS)) {
        await modbus.writeMultipleRegisters(first, bytesOf(order, value));
        assert.equal(await line.get(`interop/f32/${order}`), value, `${value} in ${order}`);
      }
    }
  }],

  ['exceptions 2 and 10', async ({ [MEMORY]: modbus, [TAGS]: tags, [NOBODY]: nobody }) => {
    await refused(modbus.readHoldingRegisters(REGISTERS - 1, 2), 2, 'registers');
    await refused(modbus.readInputRegisters(REGISTERS, 1), 2, 'input registers');
    await refused(modbus.readCoils(COILS, 1), 2, 'coils');
    await refused(modbus.readDiscreteInputs(65535, 1), 2, 'discretes');
    await refused(modbus.writeSingleCoil(COILS, true), 2, 'coil to write');
    await refused(modbus.writeMultipleRegisters(REGISTERS - 1, [1, 2]), 2, 'registers to write');
    await refused(tags.readHoldingRegisters(8, 1), 2, 'a gap');
    await refused(nobody.readHoldingRegisters(0, 1), 10, 'a unit that is not there');
  }],

  ['identification (43/14): basic, regular, one by one', async ({ [MEMORY]: modbus }) => {
    const basic = await bodyOf(modbus.readDeviceIdentification(1, 0));
    assert.deepEqual(basic.objects.map(({ id }) => id), [0, 1, 2]);
    assert.equal(basic.objects[2].value.toString(), VERSION);
    assert.equal(basic.moreFollows, 0);
    const regular = await bodyOf(modbus.readDeviceIdentification(2, 0));
    assert.deepEqual(regular.objects.slice(0, 3), basic.objects);
    for (const object of regular.objects) {
      const one = await bodyOf(modbus.readDeviceIdentification(4, object.id));
      assert.deepEqual(one.objects, [object]);
    }
  }],

  ['a hundred requests asked for at once', async ({ [MEMORY]: modbus }) => {
    const asked = Array.from({ length: 100 }, async (_, n) => {
      await modbus.writeSingleRegister(200 + n, n * 3);
      return (await bodyOf(modbus.readHoldingRegisters(200 + n, 1))).valuesAsArray[0];
    });
    assert.deepEqual(await Promise.all(asked), Array.from({ length: 100 }, (_, n) => n * 3));
  }],
];

async function main() {
  let failed = 0;
  const line = await Line.open();
  for (const transport of ['tcp', 'rtu']) {
    const made = await clients(transport);
    for (const [what, run] of CASES) {
      try {
        await run(made, line, transport);
        console.log(`ok    jsmodbus   ${transport.padEnd(4)} ${what}`);
      } catch (fault) {
        failed += 1;
        console.log(`FAIL  jsmodbus   ${transport.padEnd(4)} ${what}`);
        console.log(`      ${String(fault.stack || fault.message || fault.err).replaceAll('\n', '\n      ')}`);
      }
    }
    for (const { socket } of Object.values(made)) socket.destroy();
  }
  line.socket.destroy();
  process.exitCode = failed > 0 ? 1 : 0;
}

main();
