// What the real server says of itself, and the client heeds: how large a frame may be, and that sequences begin anew.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { connect, type Client, type Gap, type Options, type Outcome } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { Server, until } from "../server.js";

const open: Client[] = [];
const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((c) => c.close()));
  for (const s of servers.splice(0)) await s.stop();
});
const serve = async () => {
  const s = await Server.start();
  servers.push(s);
  return s;
};
const start = (url: string, o: Partial<Options>) => {
  const c = connect(url, { WebSocket, backoff: { minMs: 50, maxMs: 500 }, ...o } as Options);
  open.push(c);
  return c;
};

test("no frame is larger than the device takes, and what does not fit is a gap", async () => {
  const server = await serve();
  let largest = 0;
  class Counting extends WebSocket {
    override set onmessage(f: any) {
      super.onmessage = (m: MessageEvent) => {
        largest = Math.max(largest, Buffer.byteLength(m.data));
        f(m);
      };
    }
  }
  const phone = start(server.url, { token: server.token("frames/phone"), type: "mobile" });
  const editor = start(server.url, { token: server.token("frames/editor"), type: "editor", maxFrameBytes: 4096, WebSocket: Counting });
  const got: number[] = [];
  const gaps: Gap[] = [];
  editor.on("n", ({ i }) => void got.push(i));
  editor.onGap((g) => gaps.push(g));
  const outcomes: Outcome[] = [];
  phone.onOutcome((o) => outcomes.push(o));
  await Promise.all([phone.ready(), editor.ready()]);
  expect(editor.session!.maxFrameBytes).toBe(4096);
  await editor.close();
  const n = 200;
  await Promise.all(Array.from({ length: n }, (_, i) => phone.send("n", { i, text: "x".repeat(300) }, { to: "editor" })));
  const large = await phone.send("large", "x".repeat(8192), { to: "editor", track: true });
  await phone.send("n", { i: n }, { to: "editor" });
  const back = start(server.url, { token: server.token("frames/editor"), type: "editor", maxFrameBytes: 4096, WebSocket: Counting });
  back.on("n", ({ i }) => void got.push(i));
  back.onGap((g) => gaps.push(g));
  await until(() => got.length > n, "all that fits arrives");
  expect(got).toEqual(Array.from({ length: n + 1 }, (_, i) => i));
  await until(() => gaps.length, "the device is told");
  const { seq } = large.recipients[0]!;
  expect(gaps).toMatchObject([{ from: seq, to: seq, count: 1, reason: "tooLarge" }]);
  await until(() => outcomes.length, "the sender is told");
  expect(outcomes).toEqual([{ id: large.id, status: "undeliverable", deviceId: "editor", reason: "tooLarge" }]);
  for await (const m of back.history({ inbox: true })) if (m.id === large.id) expect(m.payload).toBeUndefined();
  expect(largest).toBeLessThanOrEqual(4096);
});

test("a server that was restored gives sequences out anew: the client forgets the old ones, and topics begin again", async () => {
  const dir = mkdtempSync(join(tmpdir(), "rccs-restore-"));
  const server = await serve();
  const phone = start(server.url, { token: server.token("epochs/phone"), type: "mobile" });
  const desktop = start(server.url, { token: server.token("epochs/desktop"), type: "desktop" });
  const got: unknown[] = [];
  const heard: unknown[] = [];
  desktop.on("n", (p) => void got.push(p));
  await Promise.all([phone.ready(), desktop.ready()]);
  const stop = new AbortController();
  const loop = (async () => {
    for await (const i of desktop.subscribe("epochs", { since: 0, signal: stop.signal })) heard.push(i.gap ? i.gap.reason : i.data);
  })();
  const both = async (v: string) => {
    await phone.send("n", v, { to: "desktop" });
    await phone.publish("epochs", v);
    await until(() => got.at(-1) === v && heard.at(-1) === v, v);
  };
  await both("kept");
  const { epoch } = desktop.session!;
  expect(epoch).toMatch(/./);
  await server.kill();
  await server.start();
  await both("after a kill");
  expect(desktop.session!.epoch).toBe(epoch);

  const file = join(dir, "backup.tar");
  server.run("backup", "--out", file, "--data", server.data, "--server", `nats://127.0.0.1:${server.nats}`);
  await both("lost by the restore");
  await server.kill();
  rmSync(server.data, { recursive: true });
  server.data = join(dir, "data");
  server.run("restore", file, "--data", server.data);
  await server.start();
  await both("of a seq that was there before");
  expect(desktop.session!.epoch).not.toBe(epoch);
  expect(got).toEqual(["kept", "after a kill", "lost by the restore", "of a seq that was there before"]);
  expect(heard).toEqual(["kept", "after a kill", "lost by the restore", "reset", "kept", "after a kill", "of a seq that was there before"]);
  stop.abort();
  await loop;
  await Promise.all(open.splice(0).map((c) => c.close()));
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});
