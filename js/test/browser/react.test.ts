// The hooks, in React 18 and 19, under StrictMode, against the real server.
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { Server, until } from "../server.js";
import { bundle, Site } from "./page.js";

let server: Server;
beforeAll(async () => void (server = await Server.start()));
afterAll(() => server?.stop());

const app = `
import { StrictMode, startTransition, useState } from "react";
import { createRoot } from "react-dom/client";
import { version } from "react";
import { connect, memoryStore } from "@rccs/client";
import { RccsProvider, useConnection, useDevices, useMessages, useTopic, useRccs } from "@rccs/client/react";
const q = new URLSearchParams(location.search);
const client = connect(q.get("url"), { token: q.get("token"), type: "mobile", store: memoryStore() });
window.got = []; window.torn = 0; window.version = version;
function Half({ id }) { const s = useConnection(); const end = performance.now() + 3; while (performance.now() < end); (window.seen ??= {})[id] = s; return <i>{s}</i>; }
function App() {
  const [n, setN] = useState(0);
  window.bump = () => startTransition(() => setN((x) => x + 1));
  const state = useConnection();
  const devices = useDevices();
  const topic = useTopic("react.news", { since: 0 });
  useMessages("note", (p) => void got.push([p, n]));
  if (useRccs() !== client) throw new Error("another client");
  return <><p id="state">{state}</p><p id="devices">{devices.map((d) => d.id + ":" + d.status).sort().join(" ")}</p>
    <p id="topic">{topic.map((i) => i.gap ? "gap" : i.data).join(",")}</p><p id="n">{n}</p>{Array.from({ length: 20 }, (_, i) => <Half key={i} id={i} />)}</>;
}
window.root = createRoot(document.getElementById("root"));
root.render(<StrictMode><RccsProvider client={client}><App /></RccsProvider></StrictMode>);
window.client = client;
window.ready = true;`;

for (const major of ["18", "19"])
  test(`hooks in React ${major}: state, devices, messages and topics, once each under StrictMode`, async () => {
    const from = createRequire(major === "18" ? fileURLToPath(new URL("../react18/package.json", import.meta.url)) : import.meta.url);
    const alias = Object.fromEntries(["react", "react-dom/client", "react/jsx-runtime"].map((n) => [n, from.resolve(n)]));
    const site = await Site.open(await bundle(app, alias));
    const desktop = connect(server.url, { token: server.token(`r${major}/desktop`), type: "desktop", WebSocket });
    try {
      await desktop.ready();
      await desktop.publish("react.news", `a${major}`);
      const page = await site.page(`/?url=${encodeURIComponent(server.url)}&token=${server.token(`r${major}/phone`)}`);
      const text = (id: string) => page.textContent(`#${id}`);
      expect(await page.evaluate("version")).toMatch(new RegExp(`^${major}\\.`));
      await until(async () => (await text("state")) === "online", "online");
      await until(async () => (await text("devices")) === "desktop:online phone:online", "both devices");
      await until(async () => (await text("topic"))!.includes(`a${major}`), "the topic");
      await desktop.send("note", "one", { to: "phone" });
      await until(async () => ((await page.evaluate("got")) as any[]).length, "a message");
      await page.evaluate("bump()");
      await until(async () => (await text("n")) === "1", "another render");
      await desktop.send("note", "two", { to: "phone" });
      await until(async () => ((await page.evaluate("got")) as any[]).length > 1, "the second message");
      expect(await page.evaluate("got")).toEqual([["one", 0], ["two", 1]]); // once each, by the newest handler
      await desktop.setStatus("busy");
      await until(async () => (await text("devices"))!.startsWith("desktop:busy"), "the status");
      await desktop.publish("react.news", "b");
      await until(async () => (await text("topic"))!.endsWith(",b"), "the next item");
      expect((await text("topic"))!.split(`a${major}`)).toHaveLength(2);
      await page.evaluate("client.close()");
      await until(async () => (await text("state")) === "closed", "closed");
      expect(await page.evaluate("new Set(Object.values(seen)).size")).toBe(1); // no part of the page shows another state
      await page.evaluate("root.unmount()");
    } finally {
      await desktop.close();
      await site.close();
    }
  });
