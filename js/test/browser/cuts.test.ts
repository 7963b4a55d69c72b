// Two devices in Chromium, each with a store of the browser, while the line is cut, the server killed and a page reloaded.
import { afterAll, beforeAll, expect, test } from "vitest";
import { each, throughCuts } from "../cuts.js";
import { Proxy, Server } from "../server.js";
import type { Ledger } from "../traffic.js";
import { bundle, Site } from "./page.js";

let server: Server, site: Site, proxy: Proxy;

// What a page has done is handed to the page that is loaded next in its tab: the last thing that it does.
const app = `
import { connect, indexedDBStore } from "@rccs/client";
import { exchange } from "./test/traffic.ts";
const { name, to, url, token } = Object.fromEntries(new URLSearchParams(location.search));
window.ledger = JSON.parse(sessionStorage.ledger ?? '{"sent":0,"got":[],"failed":[]}');
addEventListener("pagehide", () => void (sessionStorage.ledger = JSON.stringify(ledger)));
window.errors = [];
window.c = connect(url, { token, type: name, store: indexedDBStore(name), backoff: { minMs: 50, maxMs: 500 } });
c.onError((e) => errors.push(e.code + ": " + e.message));
window.exchange = () => void exchange(c, to, ${each}, ledger);
if (ledger.sent) window.exchange();
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

test("in pages, 5,000 messages each way arrive once and in order through 20 cuts, three kills of the server and a reload", async () => {
  const names = ["phone", "desktop"];
  const pages = await Promise.all(
    names.map((name, i) => site.page(`/?${new URLSearchParams({ name, to: names[1 - i]!, url: proxy.url, token: server.token(`cuts/${name}`) })}`)),
  );
  await Promise.all(pages.map((p) => p.evaluate("c.ready()")));
  await Promise.all(pages.map((p) => p.evaluate("exchange()")));
  const read = () => Promise.all(pages.map((p) => p.evaluate("ledger") as Promise<Ledger>));
  let before = 0;
  await throughCuts(server, proxy, read, async () => {
    before = await pages[0]!.evaluate("ledger.sent") as number;
    await pages[0]!.reload();
    await pages[0]!.waitForFunction("window.ready");
  });
  expect([before > 0, before < each]).toEqual([true, true]);
  expect(await Promise.all(pages.map((p) => p.evaluate("errors")))).toEqual([[], []]);
});
