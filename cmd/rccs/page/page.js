// The page of 'rccs dev': a device in a browser, written without the SDK to show
// how little the protocol asks for. docs/protocol.md explains each frame.
"use strict";

const at = (id) => document.getElementById(id);
const random = () => [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");

// The name stays in this browser, so that a page that is opened again finds its inbox.
const me = localStorage.getItem("device") ?? "page-" + random().slice(0, 4);
localStorage.setItem("device", me);

const devices = new Map(); // status, by name
const unaccepted = new Map(); // envelopes that the edge has not accepted yet, by id
const lines = new Map(); // what the page shows of a message that it sent, by id
let socket;
let target = "phone";

function state(text, online = false) {
  at("state").textContent = text;
  at("state").className = online ? "online" : "";
}

async function connect() {
  let access;
  try {
    const answer = await fetch("token?device=" + me, { method: "POST", headers: { "X-Key": location.hash.slice(1) } });
    if (!answer.ok) return state(await answer.text());
    access = await answer.json();
  } catch {
    return comeBack();
  }
  at("me").textContent = `${access.user}/${me}`;
  socket = new WebSocket(`ws://${location.hostname}:${access.port}/v1/ws`, ["rccs.v1"]);
  socket.onmessage = ({ data }) => [JSON.parse(data)].flat().forEach((m) => receive(m, access.token));
  socket.onclose = ({ code }) => (code === 4002 ? state("Open in another tab") : comeBack());
}

function comeBack() {
  state("Offline, trying again");
  at("form").querySelector("button").disabled = true;
  setTimeout(connect, 1000);
}

const write = (envelope) => socket.send(JSON.stringify(envelope));

function receive(m, token) {
  const p = m.payload ?? {};
  switch (m.type) {
    case "device_register": // the challenge; a bearer token needs no signature
      return write({ type: "device_register", id: "register", payload: { type: "browser", platform: "rccs dev", authToken: token, capabilities: { supportsNotifications: true } } });
    case "ack":
      answered(p);
      break;
    case "error":
      unaccepted.delete(p.originalMessageId);
      mark(p.originalMessageId, `${p.code}: ${p.message}`, true);
      break;
    case "presence":
      devices.set(p.deviceId, p.status);
      showDevices();
      break;
    case "gap":
      show(`${p.count || "Some"} messages are gone (${p.reason})`, "", "failed");
      break;
    default:
      show(typeof p === "string" ? p : JSON.stringify(m.payload), `from ${m.fromDeviceId}${m.redelivered ? ", again" : ""}`, "received");
  }
  if (m.seq) write({ type: "ack", payload: { seq: m.seq } }); // after it is shown: what is not acknowledged comes again
}

function answered(p) {
  if (p.originalMessageId === "register") {
    state("Online", true);
    at("form").querySelector("button").disabled = false;
    write({ type: "device_list", id: "devices" });
    unaccepted.forEach(write); // under the same id: what was stored already is stored once
  } else if (p.devices) {
    p.devices.forEach((d) => devices.set(d.id, d.status));
    showDevices();
  } else if (p.originalMessageId) {
    unaccepted.delete(p.originalMessageId);
    mark(p.originalMessageId, p.status === "accepted" ? "stored" : `${p.status} by ${p.deviceId}`);
  }
}

function showDevices() {
  devices.delete(me);
  at("devices").replaceChildren(...[...devices].sort().map(([name, status]) => {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "to", value: name, checked: name === target });
    radio.onchange = () => { target = name; };
    const dot = Object.assign(document.createElement("i"), { className: status === "offline" ? "" : "online", title: status });
    label.append(radio, dot, name);
    return label;
  }));
}

function show(text, below, kind) {
  const line = Object.assign(document.createElement("li"), { className: kind });
  line.append(text, Object.assign(document.createElement("small"), { textContent: below }));
  at("messages").append(line);
  line.scrollIntoView({ block: "end" });
  return line;
}

// An acknowledgement may come before the answer that the message is stored: the
// end stands.
function mark(id, text, failed = false) {
  const line = lines.get(id);
  if (!line || line.ended && text === "stored") return;
  line.ended = text !== "stored";
  line.querySelector("small").textContent = `to ${line.to}: ${text}`;
  line.classList.toggle("failed", failed);
}

at("form").onsubmit = (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text) return;
  at("text").value = "";
  const id = random();
  const envelope = { type: "user_message", id, toDeviceId: target, requiresAck: true, payload: text };
  unaccepted.set(id, envelope);
  lines.set(id, Object.assign(show(text, `to ${target}`, "sent"), { to: target }));
  if (socket?.readyState === WebSocket.OPEN) write(envelope);
};

connect();
