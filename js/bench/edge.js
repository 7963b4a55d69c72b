// An edge that costs next to nothing, in a process of its own: it accepts what it gets, and sends as fast as it is read.
// It shows what the client alone can do.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ port: 0, host: "127.0.0.1" }, () => process.send(server.address().port));
server.on("connection", (socket) => {
  const say = (v) => socket.send(JSON.stringify(v));
  const accepted = (id) => ({ type: "ack", payload: { originalMessageId: id, status: "accepted", recipients: [{ deviceId: "desktop", seq: 1 }] } });
  let left = 0,
    seq = 0,
    free = 0;
  const send = () => {
    while (left && free) {
      const n = Math.min(left, free, 200);
      say(Array.from({ length: n }, () => ({ type: "n", id: `m${++seq}`, fromDeviceId: "phone", userId: "bench", toDeviceId: "desktop", seq, timestamp: "2026-01-31T12:00:00.000Z", payload: { text: "x".repeat(100) } })));
      left -= n;
      free -= n;
    }
  };
  say({ type: "device_register", payload: { nonce: "n" } });
  socket.on("message", (data) => {
    const frame = JSON.parse(data);
    const answers = [];
    for (const e of Array.isArray(frame) ? frame : [frame]) {
      if (e.type === "device_register") {
        say({ type: "ack", payload: { originalMessageId: e.id, sessionId: "s", deviceId: "desktop", userId: "bench", window: e.payload.window, maxMessageBytes: 1 << 20 } });
        free = e.payload.window;
        left = Number(e.payload.version); // how many it wants
        send();
      } else if (e.type === "ack") {
        free += e.payload.seqs?.length ?? 0;
        send();
      } else answers.push(accepted(e.id));
    }
    for (let i = 0; i < answers.length; i += 200) say(answers.slice(i, i + 200));
  });
});
process.on("disconnect", () => process.exit());
