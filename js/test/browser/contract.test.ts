// What the contract promises to pages and is not shown elsewhere, as a page sees it.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { connect, type Client } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { sealing } from "@rccs/client/seal";
import { Proxy, Server, until } from "../server.js";
import { bundle, Site } from "./page.js";

let server: Server, site: Site, proxy: Proxy;
let user = 0;
const open: Client[] = [];

const app = `
import { connect, enroll, indexedDBStore } from "@rccs/client";
import { sealing } from "@rccs/client/seal";
Object.assign(window, { connect, enroll, indexedDBStore, sealing });
window.start = (o, store = "app") => {
  window.got = []; window.errors = []; window.states = []; window.outcomes = [];
  window.c = connect(o.url, { type: "mobile", store: indexedDBStore(store), backoff: { minMs: 50, maxMs: 500 }, ...o });
  c.onError((e) => errors.push(e.code)); c.onState((s) => states.push(s)); c.onOutcome((o) => outcomes.push(o.status));
  c.on("n", (p) => void got.push(p));
};
window.ready = true;`;

beforeAll(async () => {
  server = await Server.start("--enroll-life", "20s");
  proxy = await Proxy.start(server.port);
  site = await Site.open(await bundle(app));
});
afterAll(async () => {
  await Promise.all(open.map((c) => c.close()));
  await site?.close();
  proxy?.close();
  await server?.stop();
});

/** So many pages that share a store, and a desktop in Node, of a user of their own. */
async function begin(pages: number, more: object = {}) {
  const name = `u${++user}`;
  const desktop = connect(server.url, { token: server.token(`${name}/desktop`), type: "desktop", WebSocket });
  open.push(desktop);
  const got: unknown[] = [];
  desktop.on("n", (p) => void got.push(p));
  await desktop.ready();
  const o = { url: proxy.url, token: server.token(`${name}/phone`), ...more };
  const all: Page[] = [];
  for (let i = 0; i < pages; i++) {
    const p = await site.page();
    await p.evaluate(([o, name]) => (window as any).start(o, name), [o, name] as const);
    await p.evaluate("c.ready()");
    all.push(p);
  }
  return { name, desktop, got, pages: all, o, close: () => Promise.all(all.map((p) => p.close())) };
}
const errors = (pages: Page[]) => Promise.all(pages.map((p) => p.evaluate("errors")));

test("what fails in one page is told to that page alone", async () => {
  const s = await begin(3);
  for (const p of s.pages)
    expect(await p.evaluate(`c.send("n", 1, { to: "nobody" }).catch((e) => e.code)`)).toBe("DEVICE_NOT_FOUND");
  expect(await s.pages[1]!.evaluate(`c.request("x", null, { to: "desktop" }).catch((e) => e.code)`)).toBe("METHOD_NOT_FOUND");
  await s.desktop.send("n", "last", { to: "phone" });
  for (const p of s.pages) await until(async () => ((await p.evaluate("got")) as unknown[]).length, "the page has what came after it");
  expect(await errors(s.pages)).toEqual([[], [], []]);
  await s.close();
});

test("a page that does not hold the connection can all that one can that does", async () => {
  const s = await begin(3);
  const [, second, third] = s.pages as [Page, Page, Page];
  s.desktop.handle("parts", async function* () { yield 1; yield 2; });
  await second.evaluate(`c.handle("who", () => "second"); c.handle("twice", async function* (n) { yield n; yield 2 * n; })`);
  await until(async () => (await s.desktop.request("who", null, { to: "phone" }).catch(() => 0)) === "second", "its handler is known");
  const twice: unknown[] = [];
  for await (const v of s.desktop.requestStream("twice", 4, { to: "phone" })) twice.push(v);
  expect(twice).toEqual([4, 8]);
  const said: any = await third.evaluate(async () => {
    const { c } = window as any;
    const parts = [];
    for await (const v of c.requestStream("parts", null, { to: "desktop" })) parts.push(v);
    const stop = new AbortController();
    const asked = c.request("slow", null, { to: "desktop", signal: stop.signal }).catch((e: any) => e.code);
    stop.abort();
    const later = await c.send("n", "later", { to: "desktop", deliverAt: new Date(Date.now() + 3_600_000) });
    const cancelled = await c.cancel(later.id);
    await c.publish("news", "a");
    const history = [];
    for await (const m of c.history({ topic: "news" })) history.push(m.payload);
    for await (const item of c.subscribe("news", { since: 0 })) { history.push(item.data); break; }
    await c.send("n", "soon", { to: "desktop", ephemeral: true });
    await c.send("n", "tracked", { to: "desktop", track: true });
    await c.setStatus("busy", { note: "here" });
    const me = (await c.devices()).find((d: any) => d.id === "phone");
    return { parts, asked: await asked, cancelled, history, status: me.status, session: c.session.deviceId };
  });
  expect(said).toEqual({ parts: [1, 2], asked: "ABORTED", cancelled: 1, history: ["a", "a"], status: "busy", session: "phone" });
  await until(async () => ((await third.evaluate("outcomes")) as unknown[]).length, "the outcome");
  expect(await Promise.all(s.pages.map((p) => p.evaluate("outcomes")))).toEqual([[], [], ["delivered"]]);
  expect(s.got).toEqual(["soon", "tracked"]);
  expect(await errors(s.pages)).toEqual([[], [], []]);
  await s.close();
});

for (const [one, which] of ["the page that holds the connection", "another page"].entries())
  test(`forget in ${which} removes the device, and ends the others`, async () => {
    const s = await begin(3);
    await s.pages[one]!.evaluate("c.forget()");
    for (const p of s.pages) await until(async () => (await p.evaluate("c.state")) === "closed", "each page is closed");
    await new Promise((r) => setTimeout(r, 1500)); // one that came back would do so by now
    expect((await s.desktop.devices()).map((d) => d.id)).toEqual(["desktop"]);
    expect(await errors(s.pages)).toEqual([0, 1, 2].map((n) => (n === one ? [] : ["CLOSED"])));
    await s.close();
  });

test("two pages with stores of their own that are one device end in one that is closed, with the reason", async () => {
  const s = await begin(1);
  const other = await site.page();
  await other.evaluate(([o, name]) => (window as any).start(o, `${name}/2`), [s.o, s.name] as const);
  await until(async () => (await s.pages[0]!.evaluate("c.state")) === "closed", "the first is closed");
  await new Promise((r) => setTimeout(r, 2000)); // they would fight by now
  expect(await errors([s.pages[0]!, other])).toEqual([["SESSION_REPLACED"], []]);
  expect(await other.evaluate("states.join()")).toBe("online");
  await other.close();
  await s.close();
});

test("a message is in the store when send has returned, and one that was handled when its handler has, whatever becomes of the page", async () => {
  const s = await begin(1);
  const page = s.pages[0]!;
  for (let round = 0; round < 5; round++) {
    proxy.down = true;
    proxy.cut();
    await page.evaluate((round) => {
      const { c } = window as any;
      for (let i = 0; i < 20; i++) c.send("n", round * 20 + i, { to: "desktop" }).catch(() => {});
      location.reload(); // in the same turn
    }, round).catch(() => {});
    await page.waitForFunction("window.ready && !window.c");
    proxy.down = false;
    await page.evaluate(([o, name]) => (window as any).start(o, name), [s.o, s.name] as const);
    await page.evaluate("c.ready()");
    await until(() => s.got.length >= 20 * (round + 1), `round ${round}: all arrive`);
  }
  expect(s.got).toEqual(Array.from({ length: 100 }, (_, i) => i));

  for (let round = 0; round < 5; round++) {
    await page.evaluate(() => void (window as any).c.on("last", () => location.reload())); // the last thing that this page does
    await page.evaluate("got.length = 0; onpagehide = () => { sessionStorage.got = JSON.stringify(got); }");
    await Promise.all([...Array.from({ length: 20 }, (_, i) => s.desktop.send("n", i, { to: "phone" })), s.desktop.send("last", null, { to: "phone" })]);
    await page.waitForFunction("window.ready && !window.c");
    await page.evaluate(([o, name]) => (window as any).start(o, name), [s.o, s.name] as const);
    await page.evaluate("c.ready()");
    await s.desktop.send("n", "new", { to: "phone" });
    await until(async () => ((await page.evaluate("got")) as unknown[]).includes("new"), "a new message");
    const all = ((await page.evaluate("[...JSON.parse(sessionStorage.got), ...got]")) as unknown[]).filter((p) => p !== "new");
    expect(all).toEqual(Array.from({ length: 20 }, (_, i) => i));
  }
  await s.close();
});

test("what a page has sent is sent by the next one when it crashed before the disk had it", async () => {
  const s = await begin(1);
  const page = s.pages[0]!;
  proxy.down = true;
  proxy.cut();
  await page.evaluate(
    (name) =>
      new Promise<void>((sent) => {
        const opened = indexedDB.open(`rccs:${name}`);
        opened.onsuccess = () => {
          const kv = opened.result.transaction("kv", "readwrite").objectStore("kv");
          const busy = () => void (kv.get("").onsuccess = busy); // nobody else can write
          busy();
          for (let i = 0; i < 20; i++) (window as any).c.send("n", i, { to: "desktop" }).catch(() => {});
          sent();
        };
      }),
    s.name,
  );
  const cdp = await site.context.newCDPSession(page);
  const crashed = page.waitForEvent("crash");
  void cdp.send("Page.crash").catch(() => {});
  await crashed;
  await page.close();
  proxy.down = false;
  const next = await site.page();
  await next.evaluate(([o, name]) => (window as any).start(o, name), [s.o, s.name] as const);
  await until(() => s.got.length >= 20, "the next page has sent it");
  expect(s.got).toEqual(Array.from({ length: 20 }, (_, i) => i));
  // Of another test's store there may be one: its page was closed before the disk had it.
  await until(async () => (await next.evaluate(`Object.keys(localStorage).filter((key) => key.startsWith("rccs:${s.name}:left:")).length`)) === 0, "no copy is left");
  await next.close();
});

test("what a page sends goes behind what an earlier one has left, also if the clock was set back meanwhile", async () => {
  const s = await begin(1);
  const page = s.pages[0]!;
  proxy.down = true;
  proxy.cut();
  const hour = 3_600_000;
  for (const [n, ahead] of [[1, 2 * hour], [2, hour], [3, 0]] as const) {
    await page.reload();
    await page.waitForFunction("window.ready");
    await page.evaluate(([o, name, n, ahead]) => {
      const { now } = Date;
      Date.now = () => now() + ahead;
      (window as any).start(o, name);
      (window as any).c.send("n", n, { to: "desktop" }).catch(() => {}); // before the store has been read
    }, [s.o, s.name, n, ahead] as const);
  }
  proxy.down = false;
  await page.reload();
  await page.waitForFunction("window.ready");
  await page.evaluate(([o, name]) => (window as any).start(o, name), [s.o, s.name] as const);
  await until(() => s.got.length === 3, "all arrive");
  expect(s.got).toEqual([1, 2, 3]);
  await s.close();
});

test("what a page gives up is not sent by another one that takes over what a third has left", async () => {
  const s = await begin(3);
  const [first, second, third] = s.pages as [Page, Page, Page];
  proxy.down = true;
  proxy.cut();
  await second.evaluate(`stop = new AbortController(); c.send("n", "given up", { to: "desktop", signal: stop.signal }).catch(() => {}); 0`);
  await third.evaluate(`c.send("n", "left", { to: "desktop" }).catch(() => {}); 0`);
  await third.close();
  await new Promise((r) => setTimeout(r, 1000)); // the first has heard of it by now
  await second.evaluate("stop.abort()");
  proxy.down = false;
  await until(() => s.got.includes("left"), "what the third has left");
  await first.evaluate(`c.send("n", "last", { to: "desktop" })`);
  await until(() => s.got.includes("last"), "what was sent last");
  expect(s.got).toEqual(["left", "last"]);
  await Promise.all([first.close(), second.close()]);
});

test("what a client gives up is not sent by another one of its page, which sends what it has left when it is closed", async () => {
  const s = await begin(1);
  const page = s.pages[0]!;
  proxy.down = true;
  proxy.cut();
  await page.evaluate(([o, name]) => {
    const w = window as any;
    w.stop = new AbortController();
    w.c.send("n", "given up", { to: "desktop", signal: w.stop.signal }).catch(() => {});
    w.c.send("n", "left", { to: "desktop" }).catch(() => {});
    w.second = w.connect(o.url, { type: "mobile", store: w.indexedDBStore(name), backoff: { minMs: 50, maxMs: 500 }, ...o });
  }, [s.o, s.name] as const);
  await new Promise((r) => setTimeout(r, 1000)); // the second has read the store by now
  await page.evaluate("stop.abort()");
  await page.evaluate("c.close()");
  proxy.down = false;
  await until(() => s.got.includes("left"), "what the first has left");
  await page.evaluate(`second.send("n", "last", { to: "desktop" })`);
  await until(() => s.got.includes("last"), "what was sent last");
  expect(s.got).toEqual(["left", "last"]);
  await page.evaluate("second.close()");
  await s.close();
});

test("a worker is a page like any other", async () => {
  const s = await begin(0);
  const page = await site.page();
  const said = await page.evaluate(([o, name]) => {
    const code = `self.window = self;
      await import("${location.origin}/app.js");
      start(${JSON.stringify(o)}, ${JSON.stringify(name)});
      c.on("n", async (p) => { await c.send("n", p + 1, { to: "desktop" }); postMessage([p, c.state]); });
      c.onState((s) => { if (s === "online") postMessage("online"); });`;
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
    return new Promise((resolve) => {
      worker.onerror = (e) => resolve(`error: ${e.message}`);
      worker.onmessage = (m) => resolve(m.data);
      (window as any).said = new Promise((r) => worker.addEventListener("message", (m) => Array.isArray(m.data) && r(m.data)));
    });
  }, [s.o, s.name] as const);
  expect(said).toBe("online");
  await s.desktop.send("n", 1, { to: "phone" });
  expect(await page.evaluate("said")).toEqual([1, "online"]);
  expect(s.got).toEqual([2]);
  await page.close();
});

test("a line that hangs is noticed by the heartbeat, and nothing is lost", async () => {
  const s = await begin(1, { heartbeatMs: 5000 });
  const page = s.pages[0]!;
  proxy.hang();
  await page.evaluate(`void c.send("n", 1, { to: "desktop" })`);
  await until(async () => ((await page.evaluate("states")) as string[]).includes("connecting"), "it is noticed");
  await until(() => s.got.length, "what was sent arrives");
  await s.desktop.send("n", 2, { to: "phone" });
  await until(async () => ((await page.evaluate("got")) as unknown[]).length, "what is sent to it arrives");
  expect([s.got, await page.evaluate("got")]).toEqual([[1], [2]]);
  await s.close();
});

test("a key of this page is kept by IndexedDB over a reload, and its credential renewed on the live connection", async () => {
  const page = await site.page();
  const keys = `
    window.db = (use) => new Promise((resolve) => {
      const q = indexedDB.open("keys");
      q.onupgradeneeded = () => q.result.createObjectStore("k");
      q.onsuccess = () => { const r = use(q.result.transaction("k", "readwrite").objectStore("k")); r.onsuccess = () => { q.result.close(); resolve(r.result); }; };
    });
    window.renewed = 0;
    window.begin = async (url) => {
      const credentials = await db((k) => k.get("me"));
      start({ url, credentials, onRenewed: (c) => db((k) => k.put(c, "me")).then(() => renewed++) }, "keys");
      await c.ready();
      return [credentials.key.privateKey.extractable, c.session.deviceId];
    };`;
  await page.evaluate(keys);
  await page.evaluate(async ([url, code]) => {
    const w = window as any;
    const made = await w.enroll(url, { code, device: "tablet", type: "tablet" });
    await w.db((k: any) => k.put(made, "me"));
  }, [server.url, server.code("zoe")] as const);
  await page.reload();
  await page.waitForFunction("window.ready");
  await page.evaluate(keys);
  expect(await page.evaluate((url) => (window as any).begin(url), proxy.url)).toEqual([false, "tablet"]);
  const ends = Date.parse((await page.evaluate("c.session.expiresAt")) as string);
  await until(async () => (await page.evaluate("renewed")) as number, "it is renewed");
  await until(async () => Date.parse((await page.evaluate("c.session.expiresAt")) as string) > ends, "the connection lasts longer");
  expect(await page.evaluate("states")).toEqual(["online"]); // it never ended
  await page.close();
});

test("a token is fetched anew before its end, and the connection stays", async () => {
  const s = await begin(0);
  const page = await site.page();
  let asked = 0;
  await page.exposeFunction("token", () => (asked++, server.token(`${s.name}/phone`, "--expires", "30s")));
  await page.evaluate(([url, name]) => (window as any).start({ url, token: (window as any).token }, name), [proxy.url, s.name] as const);
  await page.evaluate("c.ready()");
  await until(() => asked > 1, "another token is asked for");
  expect(await page.evaluate("states")).toEqual(["online"]);
  await page.close();
});

test("what a page seals its desktop reads, and the other way round, also after a reload", async () => {
  const name = `u${++user}`;
  const credentials = server.creds(`${name}/desktop`);
  const { memoryStore } = await import("@rccs/client");
  const store = memoryStore();
  const seal = await sealing({ store, credentials });
  const desktop = connect(server.url, { credentials, store, capabilities: seal.capabilities, WebSocket });
  open.push(desktop);
  const read: unknown[] = [];
  desktop.on("secret", async (_, m) => {
    read.push(await seal.open(desktop, m));
    await seal.sendSealed(desktop, "answer", { of: m.id }, { to: "phone" });
  });
  await desktop.ready();
  const page = await site.page();
  const creds = server.creds(`${name}/phone`);
  for (const text of ["before", "x".repeat(100_000)]) {
    const answer: any = await page.evaluate(async ([url, credentials, name, text]) => {
      const w = window as any;
      const store = w.indexedDBStore(name);
      const seal = await w.sealing({ store, credentials });
      const c = w.connect(url, { credentials, store, capabilities: seal.capabilities });
      const came = new Promise((resolve) => c.on("answer", async (_: unknown, m: any) => resolve([!!m.payload.sealed, await seal.open(c, m)])));
      await c.ready();
      const { id } = await seal.sendSealed(c, "secret", { text }, { to: "desktop" });
      const [sealed, opened] = (await came) as any;
      return [sealed, opened.of === id];
    }, [proxy.url, creds, name, text] as const);
    expect(answer).toEqual([true, true]);
    await page.reload();
    await page.waitForFunction("window.ready");
  }
  expect(read).toEqual([{ text: "before" }, { text: "x".repeat(100_000) }]);
  await page.close();
});
