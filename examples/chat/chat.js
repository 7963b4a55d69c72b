// A chat between the devices of a user, in the terminal. What you type goes to all other devices, also to those that are away.
//   node chat.js ws://127.0.0.1:8080 phone.creds
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { connect } from "@rccs/client";
import { fileStore, WebSocket } from "@rccs/client/node";

const [url, creds] = process.argv.slice(2);
if (!creds) {
  console.error("usage: node chat.js URL FILE.creds");
  process.exit(2);
}
const rccs = connect(url, {
  credentials: readFileSync(creds, "utf8"),
  type: "desktop",
  store: fileStore(`${creds}.state`), // what was typed offline is sent later, also by the next start
  WebSocket,
});

rccs.onState((state) => console.log(`* ${state}`));
rccs.onError((error) => console.log(`* ${error.code}: ${error.message}`));
rccs.on("chat", ({ text }, { fromDeviceId, timestamp }) => {
  console.log(`${timestamp.slice(11, 16)} ${fromDeviceId}: ${text}`);
});

// Which line a message was, so that its delivery can be shown.
const lines = new Map();
rccs.onOutcome(({ id, status, deviceId }) => console.log(`* ${status} to ${deviceId}: ${lines.get(id) ?? "an earlier line"}`));

const say = (text) => {
  const id = crypto.randomUUID();
  lines.set(id, text);
  rccs.send("chat", { text }, { id, track: true }).catch((error) => {
    if (error.code !== "CLOSED") console.log(`* not sent: ${error.message}`);
  });
};

for await (const line of createInterface({ input: process.stdin })) if (line.trim()) say(line.trim());
await rccs.close(); // the end of the input, Ctrl-D
