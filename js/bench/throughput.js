// How many messages a second one connection sends and receives in Node, against `rccs serve` of this tree.
//   npm run bench            RCCS_BIN names another program
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "../dist/index.js";
import { WebSocket } from "../dist/node.js";

const n = Number(process.env.N ?? 40_000);
const program = process.env.RCCS_BIN ?? new URL("../.build/rccs", import.meta.url).pathname;
if (!process.env.RCCS_BIN) execFileSync("go", ["build", "-o", program, "./cmd/rccs"], { cwd: new URL("../..", import.meta.url).pathname });
const data = mkdtempSync(join(tmpdir(), "rccs-bench-"));
const port = () => new Promise((r) => { const s = createServer().listen(0, "127.0.0.1", () => { const { port } = s.address(); s.close(() => r(port)); }); });
const [listen, nats, admin] = [await port(), await port(), await port()];
const server = spawn(program, ["serve", "--data", data, "--listen", `127.0.0.1:${listen}`, "--nats-listen", `127.0.0.1:${nats}`, "--admin-listen", `127.0.0.1:${admin}`, "--inbox-limit", "50000"], { stdio: "ignore" });
try {
  while (server.exitCode === null && !(await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => undefined))?.ok) await new Promise((r) => setTimeout(r, 50));
  const token = (name) => execFileSync(program, ["creds", "device", name, "--bearer", "--data", data], { encoding: "utf8" });
  const start = async (name, o) => {
    const c = connect(`ws://127.0.0.1:${listen}`, { token: token(name), WebSocket, ...o });
    await c.ready();
    return c;
  };
  const payload = { text: "x".repeat(100) };
  const report = (what, ms, cpu) => console.log(`${what}: ${Math.round((n / ms) * 1000)} messages/s, ${((cpu.user + cpu.system) / n).toFixed(1)} µs of this process each`);
  const timed = async (what, f) => {
    const cpu = process.cpuUsage();
    const began = performance.now();
    await f();
    report(what, performance.now() - began, process.cpuUsage(cpu));
  };
  const pump = async (c, most = 4000) => {
    const all = [];
    for (let i = 0; i < n; i++) {
      all.push(c.send("n", payload, { to: "desktop" }));
      if (i >= most) await all[i - most];
    }
    await Promise.all(all);
  };

  console.log(`${n} messages of 128 bytes, Node ${process.version}, ${cpus().length} cores`);
  const desktop = await start("bench/desktop", { window: 4096 });
  await desktop.close(); // registered, and away: only the sender works
  const phone = await start("bench/phone");
  await timed("sent", () => pump(phone));
  await phone.close();
  await timed("received", async () => {
    const c = await start("bench/desktop", { window: 4096 });
    let got = 0;
    await new Promise((r) => c.on("n", () => ++got === n && r()));
    await c.close();
  });
} finally {
  server.kill();
  await new Promise((r) => server.once("exit", r));
  rmSync(data, { recursive: true, force: true });
}
