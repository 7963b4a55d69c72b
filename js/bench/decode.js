// What the client adds to JSON.parse, in memory and time, for frames that it reads and nobody listens to.
//   npm run bench:decode
import { connect, memoryStore } from "../dist/index.js";

const frames = 300,
  each = 100;
const message = { type: "topic", topic: "builds.main", seq: 1, id: "0123456789abcdef", fromDeviceId: "desktop", userId: "alice", timestamp: "2026-01-31T12:00:00.000Z", payload: { text: "x".repeat(60), n: 1 } };
const frame = JSON.stringify(Array.from({ length: each }, (_, i) => ({ ...message, seq: i + 1, id: message.id + i })));

let socket;
class Nowhere {
  readyState = 1;
  constructor() {
    socket = this;
    queueMicrotask(() => this.say({ type: "device_register", payload: { nonce: "n" } }));
  }
  say(envelope) {
    this.onmessage({ data: JSON.stringify(envelope) });
  }
  send(text) {
    if (text.includes('"register"')) this.say({ type: "ack", payload: { originalMessageId: "register", sessionId: "s", deviceId: "d", userId: "u", window: 256, maxMessageBytes: 1 << 20 } });
  }
  close() {
    queueMicrotask(() => this.onclose({ code: 1000, reason: "" }));
  }
}
const client = connect("ws://nowhere", { token: "t", WebSocket: Nowhere, store: memoryStore() });
await client.ready();

/** Bytes and nanoseconds a message; the young generation is large enough that nothing is collected meanwhile. */
const measured = (read) => {
  for (let i = 0; i < frames; i++) read();
  gc();
  const before = process.memoryUsage().heapUsed;
  const began = process.hrtime.bigint();
  for (let i = 0; i < frames; i++) read();
  const ns = Number(process.hrtime.bigint() - began) / frames / each;
  return { bytes: (process.memoryUsage().heapUsed - before) / frames / each, ns };
};
const parse = measured(() => JSON.parse(frame));
const read = measured(() => socket.onmessage({ data: frame }));
console.log(`JSON.parse: ${parse.bytes.toFixed(0)} bytes, ${parse.ns.toFixed(0)} ns a message`);
console.log(`the client: ${read.bytes.toFixed(0)} bytes, ${read.ns.toFixed(0)} ns a message`);
await client.close();
