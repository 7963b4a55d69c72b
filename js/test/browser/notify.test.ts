// The example of a backend that notifies, with its page in Chromium.
import { spawn, type ChildProcess } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort, Server, until } from "../server.js";

const file = join(tmpdir(), `rccs-notify-${process.pid}.token`);
let server: Server, backend: ChildProcess, browser: Browser;
let said = "";
let address = "";

beforeAll(async () => {
  server = await Server.start();
  writeFileSync(file, server.run("creds", "service", "web", "--bearer", "--may-issue", "--expires", "1d", "--data", server.data), { mode: 0o600 });
  const port = await freePort();
  address = `http://localhost:${port}`;
  backend = spawn(process.execPath, [fileURLToPath(new URL("../../../examples/notify/server.js", import.meta.url))], {
    env: { ...process.env, PORT: String(port), RCCS_API: `http://127.0.0.1:${server.admin}`, RCCS_EDGE: server.url, RCCS_TOKEN_FILE: file },
  });
  for (const out of [backend.stdout!, backend.stderr!]) out.on("data", (d) => (said += d));
  await until(() => said.includes("listening"), "the backend listens").catch((e) => { throw new Error(`${e.message}\n${said}`); });
  browser = await chromium.launch({ executablePath: process.env["CHROMIUM"] || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"], timeout: 120_000 });
});
afterAll(async () => {
  await browser?.close();
  backend?.kill();
  await server?.stop();
  rmSync(file, { force: true });
});

test("notify: a backend over HTTP reaches every page of a user, also one that was away, and hears what became of it", async () => {
  const signedIn = await browser.newContext();
  await signedIn.addCookies([{ name: "user", value: "alice", url: address }]);
  const stranger = await browser.newContext();
  const page = await signedIn.newPage();
  await page.goto(address);
  await page.getByText("online", { exact: true }).waitFor();
  const second = await signedIn.newPage();
  await second.goto(address);
  await second.getByText("online", { exact: true }).waitFor();

  await page.getByRole("button", { name: "Order something" }).click();
  for (const p of [page, second]) await p.getByText("Your order is on its way").waitFor();
  await until(() => /delivered: .*"device":"browser-/.test(said), "the backend hears that it was delivered").catch((e) => { throw new Error(`${e.message}\n${said}`); });

  // Nobody is there; the next page has it, and not what was shown before.
  await Promise.all([page.close(), second.close()]);
  await until(async () => (await (await fetch(`http://127.0.0.1:${server.admin}/v1/users/alice/devices?status=online`)).json() as any).items.length === 0, "no page is connected");
  expect((await fetch(`${address}/order`, { method: "POST", headers: { cookie: "user=alice" } })).status).toBe(202);
  const later = await signedIn.newPage();
  await later.goto(address);
  await later.getByText("Your order is on its way").waitFor();
  expect(await later.getByRole("listitem").count()).toBe(1);

  // Without the app's own session there is no token.
  const outside = await stranger.newPage();
  await outside.goto(address);
  await outside.getByText("offline", { exact: true }).waitFor();
  expect((await fetch(`${address}/order`, { method: "POST" })).status).toBe(403);
});
