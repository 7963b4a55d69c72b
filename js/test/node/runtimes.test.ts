// The same program in Node, Deno and Bun, against the real server; and without the names that only a browser has.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Server } from "../server.js";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const run = promisify(execFile);
let server: Server;
beforeAll(async () => void (server = await Server.start()));
afterAll(() => server?.stop());

const program = async (file: string, ...args: string[]) => {
  const name = `${file.split("/").at(-1)}-${args.length}`;
  const device = [server.url, server.token(`${name}/phone`), server.creds(`${name}/desktop`)];
  const { stdout } = await run(file, [...args, path("runtime.js"), ...device], { timeout: 120_000 });
  return stdout.trim();
};
const all = "desktop: welcome, phone: hello, 1, 2, 3, topic";

test("the client runs in Node with the WebSocket that Node has", async () => {
  expect(await program(process.execPath, ...(globalThis.WebSocket ? [] : ["--experimental-websocket"]))).toBe(all);
});

for (const [name, args] of [
  ["deno", ["run", "--no-config", "--allow-net", "--allow-read", "--allow-env"]],
  ["bun", ["run"]],
] as const) {
  const file = path(`../runtimes/node_modules/.bin/${name}`);
  // scripts/test.sh names what is not installed.
  test.skipIf(!existsSync(file))(`the client runs in ${name}`, async () => {
    expect(await program(file, ...args)).toBe(all);
  });
}

test("the client runs where there is no DOM, no BroadcastChannel and no storage, as in React Native", async () => {
  // What React Native has: timers, setImmediate, fetch, TextEncoder, WebSocket, AbortController. Anything else is taken away.
  expect(await program(process.execPath, "--import", path("native.js"))).toBe(all);
});
