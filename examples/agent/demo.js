// make demo: a server, two desktops with an agent, and the page for the phone. Prints the page's address as a QR code that
// signs a phone in.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync, existsSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { renderUnicodeCompact } from "uqr";
import { agent } from "./agent.js";

const here = fileURLToPath(new URL(".", import.meta.url));
const program = process.env.RCCS_BIN ?? join(here, "../../bin/rccs");
const data = process.env.DEMO_DATA ?? join(here, ".data");
const [page, edge, nats, admin] = (process.env.DEMO_PORTS ?? "8088,8089,8090,8091").split(",").map(Number);
const host = process.env.DEMO_HOST ?? "localhost"; // WebCrypto and Web Locks need https or localhost
mkdirSync(data, { recursive: true });

/** Serves until the process ends; starts the server again when it is killed, as a supervisor would. */
let ending = false;
export let server;
const serve = () => {
  server = spawn(program, ["serve", "--data", join(data, "server"), "--listen", `127.0.0.1:${edge}`, "--nats-listen", `127.0.0.1:${nats}`, "--admin-listen", `127.0.0.1:${admin}`, "--allow-origin", `http://${host}:${page}`, "--log-level", "warn"], { stdio: ["ignore", "ignore", "inherit"] });
  server.once("exit", () => ending || setTimeout(serve, 500));
};
serve();
while (!(await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => undefined))?.ok) await new Promise((r) => setTimeout(r, 100));

const run = (...args) => execFileSync(program, args, { encoding: "utf8" });
const agents = ["laptop", "workstation"].map((name) => {
  const file = join(data, `${name}.creds`);
  if (!existsSync(file)) writeFileSync(file, run("creds", "device", `demo/${name}`, "--type", "desktop", "--data", join(data, "server")), { mode: 0o600 });
  return agent({ url: `ws://127.0.0.1:${edge}`, credentials: readFileSync(file, "utf8"), directory: join(data, name), log: (l) => console.log(`${name}: ${l}`) });
});

const app = await build({ entryPoints: [join(here, "app.jsx")], bundle: true, format: "esm", write: false, jsx: "automatic", minify: true, define: { "process.env.NODE_ENV": '"production"' }, alias: { react: join(here, "../node_modules/react"), "react-dom": join(here, "../node_modules/react-dom") } });
const html = readFileSync(join(here, "index.html"), "utf8").replace("PORT", String(edge));
const site = http.createServer((q, r) => (q.url === "/app.js" ? r.setHeader("content-type", "text/javascript").end(app.outputFiles[0].text) : r.setHeader("content-type", "text/html; charset=utf-8").end(html)));
await new Promise((r) => site.listen(page, "127.0.0.1", r));

export const invite = (device) => {
  const code = /[A-Z0-9]{4}-[A-Z0-9]{4}/.exec(run("enroll", "code", "--user", "demo", "--device", device, "--data", join(data, "server"), "--server", `nats://127.0.0.1:${nats}`))[0];
  return `http://${host}:${page}/#code=${code}`;
};
const n = Date.now() % 10_000;
const address = invite(`phone-${n}`);
console.log(`\n${renderUnicodeCompact(address)}\n\nOpen ${address}\nA second phone: ${invite(`phone-${n + 1}`)}\nBoth are good for ten minutes. Ctrl-C ends it.`);

for (const signal of ["SIGINT", "SIGTERM"])
  process.once(signal, async () => {
    ending = true;
    site.close();
    await Promise.all(agents.map((a) => a.close()));
    server.kill();
    server.once("exit", () => process.exit());
  });
