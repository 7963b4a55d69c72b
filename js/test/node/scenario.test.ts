// One scenario that the Go SDK and this one play against each other, each side once: ../testdata/scenario.json.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, Reject, RccsError, type Client, type Message } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { Server, until } from "../server.js";

interface Step {
  by: "a" | "b";
  do: string;
  type?: string;
  payload?: unknown;
  method?: string;
  params?: unknown;
  parts?: unknown[];
  error?: string;
  topic?: string;
  data?: unknown;
  items?: unknown[];
  status?: string;
  reason?: string;
  count?: number;
}
const file = fileURLToPath(new URL("../testdata/scenario.json", import.meta.url));
const steps: Step[] = JSON.parse(readFileSync(file, "utf8"));

let server: Server, program: string;
const peers: ChildProcess[] = [];
const open: Client[] = [];
beforeAll(async () => {
  server = await Server.start();
  program = join(server.data, "goscenario");
  execFileSync("go", ["build", "-o", program, "./js/test/testdata/goscenario"], { cwd: fileURLToPath(new URL("../../..", import.meta.url)), stdio: "inherit" });
});
afterAll(async () => {
  for (const p of peers) p.kill();
  await Promise.all(open.map((c) => c.close()));
  await server?.stop();
});

/** What one step of this side does. */
async function play(c: Client, other: string, got: Message[], s: Step): Promise<void> {
  const expectNext = async (payload: unknown) => {
    await until(() => got.length, `${s.type}`);
    expect(got.shift()).toMatchObject({ type: s.type, fromDeviceId: other, payload });
  };
  const to = other;
  switch (s.do) {
    case "send":
      return void (await c.send(s.type!, s.payload, { to }));
    case "expect":
      return expectNext(s.payload);
    case "many":
      return void (await Promise.all(Array.from({ length: s.count! }, (_, i) => c.send(s.type!, i, { to }))));
    case "expectMany":
      for (let i = 0; i < s.count!; i++) await expectNext(i);
      return;
    case "request": {
      const parts: unknown[] = [];
      const asked = (async () => {
        for await (const p of c.requestStream(s.method!, s.params, { to })) parts.push(p);
      })();
      if (s.error) return expect(asked).rejects.toMatchObject({ code: s.error });
      await asked;
      return expect(parts).toEqual(s.parts);
    }
    case "publish":
      return void (await c.publish(s.topic!, s.data));
    case "hear": {
      const items: unknown[] = [];
      for await (const i of c.subscribe(s.topic!, { since: 0 })) if (items.push(i.gap ? i : i.data) === s.items!.length) break;
      return expect(items).toEqual(s.items);
    }
    case "track": {
      const outcome = new Promise((r) => c.onOutcome(r));
      const { id } = await c.send(s.type!, s.payload, { to, track: true });
      return expect(await outcome).toEqual({ id, status: s.status, deviceId: other, reason: s.reason });
    }
    default:
      throw new Error(`unknown step ${s.do}`);
  }
}

for (const [side, their] of [["a", "b"], ["b", "a"]] as const)
  test(`the scenario: JavaScript is ${side}, Go is ${their}`, async () => {
    const user = `scenario-${side}`;
    const c = connect(server.url, { credentials: server.creds(`${user}/javascript`), WebSocket });
    open.push(c);
    const got: Message[] = [];
    c.on("*", (_, m) => void (m.type !== "refused" && got.push(m)));
    c.on("refused", () => {
      throw new Reject("not here");
    });
    c.handle("sum", (all: number[]) => all.reduce((x, y) => x + y, 0));
    c.handle("count", async function* (n: number) {
      for (let i = 1; i <= n; i++) yield i;
    });
    c.handle("fail", (code: string) => {
      throw new RccsError(code, "as asked");
    });
    await c.ready();
    const creds = join(server.data, `${user}.creds`);
    writeFileSync(creds, server.creds(`${user}/go`), { mode: 0o600 });
    const go = spawn(program, [server.url, creds, file, their, "javascript"], { stdio: ["ignore", "pipe", "pipe"] });
    peers.push(go);
    let said = "";
    for (const out of [go.stdout, go.stderr]) out.on("data", (d) => (said += d));
    await until(() => said.includes("connected"), "the Go side is connected");
    const mine = (async () => {
      for (const [i, s] of steps.entries())
        if (s.by === side)
          await play(c, "go", got, s).catch((e) => {
            throw new Error(`step ${i}, ${s.do}: ${e.message}; Go said: ${said}`);
          });
    })();
    await mine;
    await until(() => /played|step/.test(said), "the Go side is through");
    expect(said).toContain("played");
  });
