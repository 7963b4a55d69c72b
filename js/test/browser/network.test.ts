// A slow line, no line, and a page that nobody looks at.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CDPSession, Page } from "playwright-core";
import { connect, type Client } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { Proxy, Server, until } from "../server.js";
import { bundle, Site } from "./page.js";

let server: Server, site: Site, proxy: Proxy, desktop: Client, page: Page, cdp: CDPSession;
const arrived: number[] = [];

// It waits half a minute before it tries again by itself: what comes back earlier was told to by the browser.
const app = `
import { connect, indexedDBStore } from "@rccs/client";
const q = new URLSearchParams(location.search);
window.got = []; window.errors = [];
window.c = connect(q.get("url"), { token: q.get("token"), type: "mobile", store: indexedDBStore("network"), backoff: { minMs: 300_000, maxMs: 600_000 } });
c.on("n", (p) => void got.push(p));
c.onError((e) => errors.push(\`\${e.code}: \${e.message}\`));
window.send = (n) => void c.send("n", n, { to: "desktop" });
window.ready = true;`;

beforeAll(async () => {
  server = await Server.start();
  proxy = await Proxy.start(server.port);
  site = await Site.open(await bundle(app));
  desktop = connect(server.url, { token: server.token("net/desktop"), type: "desktop", WebSocket });
  desktop.on("n", (p) => void arrived.push(p));
  desktop.handle("echo", (p) => p);
  await desktop.ready();
  page = await site.page(`/?url=${encodeURIComponent(proxy.url)}&token=${server.token("net/phone")}`);
  cdp = await site.context.newCDPSession(page);
  await cdp.send("Network.enable");
  await page.evaluate("c.ready()");
});
afterAll(async () => {
  await desktop?.close();
  await site?.close();
  proxy?.close();
  await server?.stop();
});

const got = () => page.evaluate("got") as Promise<number[]>;
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);
let sent = 0;
/** Sends so many more each way. */
const send = async (n: number) => {
  for (const end = sent + n; sent < end; sent++) {
    await page.evaluate(`send(${sent})`);
    desktop.send("n", sent, { to: "phone" }).catch(() => {});
  }
};
const all = async () => {
  await until(async () => (await got()).length >= sent && arrived.length >= sent, "all arrive, both ways");
  expect(await got()).toEqual(upTo(sent));
  expect(arrived).toEqual(upTo(sent));
};
const line = (o: object) => cdp.send("Network.emulateNetworkConditions", { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1, ...o });

test("over a slow line everything arrives once and in order", async () => {
  await line({ latency: 300, downloadThroughput: 8_000, uploadThroughput: 4_000, connectionType: "cellular2g" });
  await send(150);
  await all();
  await line({});
});

test("without a line it is offline, keeps what is sent, and is back as soon as the browser is", async () => {
  await line({ offline: true });
  proxy.cut();
  await until(async () => (await page.evaluate("c.state")) !== "online", "it is offline");
  expect(await page.evaluate("navigator.onLine")).toBe(false);
  await send(50);
  // A try fails while there is no line, and the next one is minutes away.
  await until(async () => (await page.evaluate("c.state")) === "offline", "it waits");
  const began = Date.now();
  await line({});
  await page.evaluate("c.ready()");
  expect(Date.now() - began).toBeLessThan(120_000); // not after the minutes that it would have waited
  await all();
  expect(await page.evaluate("errors")).toEqual([]);
});

test("a page in the background goes on, and one that was frozen there has all when it is back", async () => {
  // Chromium without a screen shows every page: the page is told that it is hidden as a browser would tell it, and frozen for real.
  const look = (hidden: boolean) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
      Object.defineProperty(document, "visibilityState", { configurable: true, value: hidden ? "hidden" : "visible" });
      document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
    }, hidden);
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: 10 });
  await look(true);
  await send(50);
  await all();
  await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
  for (const end = sent + 50; sent < end; sent++) await desktop.send("n", sent, { to: "phone" });
  await cdp.send("Page.setWebLifecycleState", { state: "active" });
  await look(false);
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: 1 });
  await until(async () => (await got()).length >= sent, "it has all");
  expect(await got()).toEqual(upTo(sent));
  await until(async () => (await page.evaluate("c.state")) === "online", "it is online");
});
