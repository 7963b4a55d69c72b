// A page that stays open for long, and a client that is closed in it.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { Proxy, Server, until } from "../server.js";
import { bundle, Site } from "./page.js";

let server: Server, site: Site, proxy: Proxy;

const app = `
import { connect, indexedDBStore } from "@rccs/client";
import { bursts } from "./test/traffic.ts";
Object.assign(window, { connect, indexedDBStore, bursts });
window.ready = true;`;

// What a client might leave to the page it lives in: timers, listeners, sockets, channels.
const watch = () => {
  const w = window as any;
  const left: Record<string, Set<unknown>> = (w.left = { timers: new Set(), listeners: new Set(), sockets: new Set(), channels: new Set() });
  for (const kind of ["Timeout", "Interval"]) {
    const [set, clear] = [w[`set${kind}`], w[`clear${kind}`]];
    w[`set${kind}`] = (f: (...a: unknown[]) => void, ms: number, ...a: unknown[]) => {
      const id = set(() => {
        if (kind === "Timeout") left["timers"]!.delete(id);
        f(...a);
      }, ms);
      left["timers"]!.add(id);
      return id;
    };
    w[`clear${kind}`] = (id: unknown) => (left["timers"]!.delete(id), clear(id));
  }
  for (const target of [window, document]) {
    const [add, remove] = [target.addEventListener.bind(target), target.removeEventListener.bind(target)] as [any, any];
    const ids = new WeakMap<object, number>();
    let made = 0;
    const key = (name: string, f: object) => `${target === window ? "window" : "document"} ${name} ${ids.get(f) ?? ids.set(f, ++made).get(f)}`;
    target.addEventListener = (name: string, f: object, o?: unknown) => (left["listeners"]!.add(key(name, f)), add(name, f, o));
    target.removeEventListener = (name: string, f: object, o?: unknown) => (left["listeners"]!.delete(key(name, f)), remove(name, f, o));
  }
  w.WebSocket = class extends WebSocket {
    constructor(url: string, protocols?: string[]) {
      super(url, protocols);
      left["sockets"]!.add(this);
      this.addEventListener("close", () => left["sockets"]!.delete(this));
    }
  };
  w.BroadcastChannel = class extends BroadcastChannel {
    constructor(name: string) {
      super(name);
      left["channels"]!.add(this);
    }
    override close() {
      left["channels"]!.delete(this);
      super.close();
    }
  };
};

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

const gc = async (page: Page): Promise<number> => {
  const cdp = await site.context.newCDPSession(page);
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize } = await cdp.send("Runtime.getHeapUsage");
  await cdp.detach();
  return usedSize;
};

// 100,000 messages take two minutes on a busy machine: with RCCS_LONG=1. Fewer show the same.
const scale = process.env["RCCS_LONG"] ? 1 : 0.25;
test(`in a page, memory stays flat over ${(100_000 * scale).toLocaleString("en")} messages`, async () => {
  const page = await site.page();
  await page.evaluate(
    async ([url, phone, desktop]) => {
      const w = window as any;
      const [a, b] = [[phone, "phone"], [desktop, "desktop"]].map(([token, name]) => w.connect(url, { token, store: w.indexedDBStore(`memory/${name}`), window: 4096 }));
      await Promise.all([a.ready(), b.ready()]);
      w.burst = w.bursts(a, b, "desktop");
    },
    [server.url, server.token("memory/phone"), server.token("memory/desktop")],
  );
  const round = async (n: number) => {
    await page.evaluate(`burst(${n})`);
    return gc(page);
  };
  await round(20_000 * scale);
  const before = await round(20_000 * scale);
  let after = await round(60_000 * scale);
  const perMessage = () => (after - before) / 60_000 / scale;
  // One message takes over 300 bytes. What was set last may still wait for the disk.
  await until(async () => perMessage() < 170 || ((after = await gc(page)), false), "no more memory than before").catch((e) => {
    throw new Error(`${e.message}: ${perMessage()} bytes a message`);
  });
  await page.close();
});

for (const when of ["it holds the connection", "another page holds the connection", "there is no line"] as const)
  test(`in a page, close leaves nothing behind: ${when}`, async () => {
    await site.context.addInitScript(watch);
    proxy.down = when === "there is no line";
    const pages = [await site.page()];
    if (when === "another page holds the connection") pages.unshift(await site.page());
    const url = [proxy.url, server.token(`close${when.length}/phone`)] as const;
    for (const page of pages)
      await page.evaluate(
        async ([url, token, online]) => {
          const w = window as any;
          const { connect, indexedDBStore } = w;
          const before = JSON.stringify([w.left.timers.size, [...w.left.listeners]]);
          let client = connect(url, { token, type: "mobile", store: indexedDBStore("close"), backoff: { minMs: 100, maxMs: 500 } });
          w.weak = new WeakRef(client);
          client.on("n", () => {});
          client.handle("n", () => {});
          const stop = new AbortController();
          w.loop = (async (c) => {
            for await (const item of c.subscribe("t", { signal: stop.signal })) void item;
          })(client).catch((e: any) => e.code);
          if (online) await client.ready();
          else client.send("n", 1, { to: "desktop" }).catch(() => {});
          await new Promise((r) => setTimeout(r, 200));
          w.close = async () => {
            await client.close();
            client = undefined;
            return [before, JSON.stringify([w.left.timers.size, [...w.left.listeners]]), w.left.sockets.size, w.left.channels.size, await w.loop];
          };
        },
        [...url, !proxy.down] as const,
      );
    const page = pages.at(-1)!;
    const [before, after, ...rest] = (await page.evaluate("window.close()")) as unknown[];
    expect(after).toBe(before);
    expect(rest).toEqual([0, 0, "CLOSED"]);
    await page.evaluate("window.close = undefined");
    await until(async () => (await gc(page), await page.evaluate("weak.deref() === undefined")), "nothing in the page holds the client");
    if (pages.length > 1) expect(await pages[0]!.evaluate("weak.deref().state")).toBe("online");
    await Promise.all(pages.slice(0, -1).map((p) => p.evaluate("window.close()")));
    const locks: any = await page.evaluate("navigator.locks.query()");
    expect([locks.held, locks.pending]).toEqual([[], []]);
    await Promise.all(pages.map((p) => p.close()));
  });
