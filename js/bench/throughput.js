// How many messages a second one connection sends and receives in Node: against an edge that costs next to nothing, which shows
// the client alone, and against `rccs serve` of this tree.
//   npm run bench            RCCS_BIN names another program
import { execFileSync, fork, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "../dist/index.js";
import { WebSocket } from "../dist/node.js";

const n = Number(process.env.N ?? 40_000);
const payload = { text: "x".repeat(100) };
const report = (what, ms, cpu) => console.log(`${what}: ${Math.round((n / ms) * 1000)} messages/s, ${((cpu.user + cpu.system) / n).toFixed(1)} µs of this process each`);
const timed = async (what, f) => {
  const cpu = process.cpuUsage();
  const began = performance.now();
  await f();
  report(what, performance.now() - began, process.cpuUsage(cpu));
};
const start = async (url, token, o) => {
  const c = connect(url, { token, WebSocket, ...o });
  await c.ready();
  return c;
};
const send = async (c, most = 4000) => {
  const all = [];
  for (let i = 0; i < n; i++) {
    all.push(c.send("n", payload, { to: "desktop" }));
    if (i >= most) await all[i - most];
  }
  await Promise.all(all);
};
const receive = async (url, token) => {
  const c = await start(url, token, { window: 4096, version: String(n) });
  let got = 0;
  await new Promise((r) => c.on("n", () => ++got === n && r()));
  await c.close();
};

console.log(`${n} messages of 128 bytes, Node ${process.version}, ${cpus().length} cores`);

const edge = fork(new URL("edge.js", import.meta.url).pathname);
const alone = `ws://127.0.0.1:${await new Promise((r) => edge.once("message", r))}`;
for (let round = 0; round < 3; round++) {
  const c = await start(alone, "t", { version: "0" });
  await timed("the client alone sends", () => send(c));
  await c.close();
  await timed("the client alone receives", () => receive(alone, "t"));
}
edge.disconnect();
if (process.env.ALONE) process.exit();

const program = process.env.RCCS_BIN ?? new URL("../.build/rccs", import.meta.url).pathname;
if (!process.env.RCCS_BIN) execFileSync("go", ["build", "-o", program, "./cmd/rccs"], { cwd: new URL("../..", import.meta.url).pathname });
const data = mkdtempSync(join(tmpdir(), "rccs-bench-"));
const port = () => new Promise((r) => { const s = createServer().listen(0, "127.0.0.1", () => { const { port } = s.address(); s.close(() => r(port)); }); });
const [listen, nats, admin] = [await port(), await port(), await port()];
const url = `ws://127.0.0.1:${listen}`;
const server = spawn(program, ["serve", "--data", data, "--listen", `127.0.0.1:${listen}`, "--nats-listen", `127.0.0.1:${nats}`, "--admin-listen", `127.0.0.1:${admin}`, "--inbox-limit", "50000"], { stdio: "ignore" });
try {
  while (server.exitCode === null && !(await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => undefined))?.ok) await new Promise((r) => setTimeout(r, 50));
  const token = (name) => execFileSync(program, ["creds", "device", name, "--bearer", "--data", data], { encoding: "utf8" });
  const desktop = await start(url, token("bench/desktop"));
  await desktop.close(); // registered, and away: only the sender works
  const phone = await start(url, token("bench/phone"));
  await timed("sent to rccs serve", () => send(phone));
  await phone.close();
  await timed("received from rccs serve", () => receive(url, token("bench/desktop")));
} finally {
  server.kill();
  await new Promise((r) => server.once("exit", r));
  rmSync(data, { recursive: true, force: true });
}
