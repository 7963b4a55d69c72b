// A page that is reloaded while it sends, on a disk that is slow.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { connect } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { Proxy, Server, until } from "../server.js";
import { bundle, Site } from "./page.js";

let server: Server, site: Site, proxy: Proxy;

// The number of the next message outlives the page, as the last thing that it does. The database is busy all the time: each of its
// transactions waits for one of somebody else.
const app = `
import { connect, indexedDBStore } from "@rccs/client";
import { pause } from "./test/traffic.ts";
const { name, url, token, sends, late } = Object.fromEntries(new URLSearchParams(location.search));
if (late) { // the lock of the page before is not free yet when this page looks, and others hear late that it is
  const { locks } = navigator, [request, query] = [locks.request.bind(locks), locks.query.bind(locks)], before = sessionStorage.lock;
  locks.query = async () => {
    const { held } = await query();
    await pause(1000); // a page may have been loaded meanwhile
    return { held: [...held, ...(before ? [{ name: before, mode: "exclusive" }] : [])] };
  };
  locks.request = (lock, ...how) => {
    const got = how.pop();
    if (how[0]?.mode === "shared") return request(lock, ...how, () => pause(3000).then(got));
    if (lock.startsWith("rccs:" + name + ":")) sessionStorage.lock = lock;
    return request(lock, ...how, got);
  };
}
const r = indexedDB.open("rccs:" + name, 1);
r.onupgradeneeded = () => r.result.createObjectStore("kv");
r.onsuccess = () => {
  const kv = r.result.transaction("kv", "readwrite").objectStore("kv");
  const end = performance.now() + 150;
  const again = () => (performance.now() < end ? (kv.get("x").onsuccess = again) : queueMicrotask(r.onsuccess));
  again();
};
window.errors = [];
window.c = connect(url, { token, type: "mobile", store: indexedDBStore(name), backoff: { minMs: 50, maxMs: 500 } });
c.onError((e) => errors.push(e.code + ": " + e.message));
window.next = +(sessionStorage.next ?? 0);
addEventListener("pagehide", () => void (sessionStorage.next = next));
let waiting = 0; // few enough for the outbox, however slow it all is
if (sends) void (async () => {
  for (;;) {
    for (let i = 0; i < 10 && waiting < 500; i++) {
      waiting++;
      c.send("n", next++, { to: "desktop" }).then(() => waiting--, (e) => errors.push(e.code));
    }
    await pause(20);
  }
})();
window.ready = true;`;

beforeAll(async () => {
  server = await Server.start();
  proxy = await Proxy.start(server.port);
  site = await Site.open(await bundle(app));
});
afterAll(async () => {
  await site?.close();
  proxy?.close();
  await server?.stop();
});

for (const [others, late, how] of [
  [0, "", "which is alone"],
  [1, "", "through another that holds the connection"],
  [1, "1", "through another, though its lock is free late"],
] as const)
  test(`messages keep their order over reloads of the page that sends them, ${how}`, async () => {
    const user = `reload${others}${late}`;
    const desktop = connect(server.url, { token: server.token(`${user}/desktop`), type: "desktop", WebSocket });
    const got: number[] = [];
    desktop.on("n", (p) => void got.push(p as number));
    await desktop.ready();
    const at = { name: user, url: proxy.url, token: server.token(`${user}/phone`) };
    const open = async (more = {}) => site.page(`/?${new URLSearchParams({ ...at, ...more })}`);
    const pages: Page[] = [];
    for (let i = 0; i < others; i++) pages.push(await open({ late }));
    for (const p of pages) await p.evaluate("c.ready()");
    const page = await open({ sends: "1", late });
    pages.push(page);
    for (let round = 0; round < 4; round++) {
      const had = got.length;
      await until(() => got.length > had + 100, "more arrives");
      if (round % 2) proxy.cut();
      await page.reload();
      await page.waitForFunction("window.ready");
    }
    const sent = await page.evaluate("next");
    await until(() => got.at(-1)! >= (sent as number), "what the last page has sent");
    const wrong = got.map((n, i) => (n === i ? "" : `${i}: ${n}`)).filter(Boolean);
    expect(wrong.slice(0, 20)).toEqual([]);
    expect(await Promise.all(pages.map((p) => p.evaluate("errors")))).toEqual(pages.map(() => []));
    await Promise.all(pages.map((p) => p.close()));
    await desktop.close();
  });
