// A tab behind another one. Playwright has every page believe that it is seen, so this browser is steered without it.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import type http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { connect, type Client } from "@rccs/client";
import { Proxy, Server, until } from "../server.js";
import { pause } from "../traffic.js";
import { bundle, executablePath, portOf, serve } from "./page.js";

let server: Server, proxy: Proxy, site: http.Server, browser: ChildProcess, ws: WebSocket, desktop: Client;
const dir = mkdtempSync(join(tmpdir(), "rccs-hidden-"));

const app = `
import { connect, indexedDBStore } from "@rccs/client";
const { url, token } = Object.fromEntries(new URLSearchParams(location.search));
window.beats = 0;
window.got = [];
class Counting extends WebSocket {
  send(frame) {
    if (frame.includes('"heartbeat"')) beats++;
    super.send(frame);
  }
}
window.c = connect(url, { token, store: indexedDBStore("app"), heartbeatMs: 5000, backoff: { minMs: 120_000, maxMs: 120_000 }, WebSocket: Counting });
c.on("n", (p) => void got.push(p));`;

/** What waits for an answer of the browser. */
const waiting = new Map<number, (m: any) => void>();
let calls = 0;
const cdp = async (method: string, params: object = {}, sessionId?: string): Promise<any> => {
  const answer = new Promise<any>((r) => waiting.set(++calls, r));
  ws.send(JSON.stringify({ id: calls, method, params, sessionId }));
  const { result, error } = await answer;
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
};
const tab = async (url: string) => {
  const { targetId } = await cdp("Target.createTarget", { url });
  const { sessionId } = await cdp("Target.attachToTarget", { targetId, flatten: true });
  return {
    toFront: () => cdp("Target.activateTarget", { targetId }),
    evaluate: async (expression: string) => (await cdp("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, sessionId)).result.value,
  };
};

beforeAll(async () => {
  server = await Server.start();
  proxy = await Proxy.start(server.port);
  site = await serve(await bundle(app));
  browser = spawn(executablePath, ["--no-sandbox", "--headless=new", "--disable-background-networking", "--remote-debugging-port=0", `--user-data-dir=${dir}`, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  browser.stderr!.on("data", (d) => (said += d));
  await until(() => /ws:\S+/.test(said), "the browser can be steered");
  ws = new WebSocket(/ws:\S+/.exec(said)![0]);
  ws.on("message", (d) => {
    const m = JSON.parse(String(d));
    waiting.get(m.id)?.(m);
    waiting.delete(m.id);
  });
  await new Promise((r) => ws.once("open", r));
  desktop = connect(server.url, { token: server.token("hidden/desktop"), WebSocket: WebSocket as any });
});
afterAll(async () => {
  await desktop?.close();
  ws?.close();
  if (browser?.kill("SIGKILL")) await new Promise((r) => browser.once("exit", r));
  site?.close();
  proxy?.close();
  await server?.stop();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

test("a tab behind another one says less, still gets what comes, and is back at once when it is seen", async () => {
  const page = await tab(`http://localhost:${portOf(site)}/?${new URLSearchParams({ url: proxy.url, token: server.token("hidden/phone") })}`);
  const seen = () => page.evaluate("document.visibilityState");
  const state = () => page.evaluate("globalThis.c?.state");
  await page.toFront();
  await until(async () => (await state()) === "online", "it is online");
  expect(await seen()).toBe("visible");
  const beats = (): Promise<number> => page.evaluate("beats");
  await until(async () => (await beats()) >= 2, "it asks the edge every five seconds, the least there is");

  const other = await tab("about:blank");
  await other.toFront();
  await until(async () => (await seen()) === "hidden", "it is hidden");
  const before = await beats();
  await pause(16_000);
  expect((await beats()) - before).toBeLessThanOrEqual(1); // the one that was due already; three if it were seen
  await desktop.send("n", 1, { to: "phone" });
  await until(async () => (await page.evaluate("got.join()")) === "1", "it gets what comes");

  proxy.down = true;
  proxy.cut();
  await until(async () => (await state()) === "offline", "it waits before it tries again");
  proxy.down = false;
  await desktop.send("n", 2, { to: "phone" });
  await pause(1000);
  expect(await state()).toBe("offline");
  await page.toFront();
  await until(async () => (await page.evaluate("got.join()")) === "1,2", "it is back, long before it would have tried again");
  expect(await state()).toBe("online");
});
