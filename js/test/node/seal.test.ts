// Sealed payloads, with the Go SDK at the other end.
import { spawn, execFileSync, type ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, memoryStore, Reject, type Client } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { sealing } from "@rccs/client/seal";
import { Server, until } from "../server.js";

let server: Server;
const open: Client[] = [];
const peers: ChildProcess[] = [];
beforeAll(async () => void (server = await Server.start()));
afterAll(async () => {
  for (const p of peers) p.kill();
  await Promise.all(open.map((c) => c.close()));
  await server?.stop();
});

async function device(name: string, store = memoryStore(), credentials = server.creds(name)) {
  const seal = await sealing({ store, credentials });
  const client = connect(server.url, { credentials, WebSocket, capabilities: seal.capabilities, store });
  open.push(client);
  await client.ready();
  return { seal, client, store, credentials };
}

test("what JavaScript seals Go reads, and the other way round", async () => {
  const peer = join(server.data, "gopeer");
  execFileSync("go", ["build", "-o", peer, "./js/test/testdata/gopeer"], { cwd: fileURLToPath(new URL("../../..", import.meta.url)), stdio: "inherit" });
  const creds = join(server.data, "desktop.creds");
  writeFileSync(creds, server.creds("alice/desktop"), { mode: 0o600 });
  const go = spawn(peer, [server.url, creds, join(server.data, "seal.key")], { stdio: ["ignore", "pipe", "inherit"] });
  peers.push(go);
  await new Promise((r) => go.stdout.once("data", r));

  const phone = await device("alice/phone");
  const got: any[] = [];
  phone.client.on("answer", async (_, m) => void got.push([m.payload.sealed && Object.keys(m.payload.sealed).sort(), await phone.seal.open(phone.client, m)]));
  const secret = { text: "héllo \u{1f642}", n: [1, 2.5, null] };
  await phone.seal.sendSealed(phone.client, "secret", secret, { to: "desktop" });
  await until(() => got.length, "the answer");
  expect(got).toEqual([[["box", "from", "to"], { sealed: true, read: secret }]]);
});

test("what was changed, or is another message, is refused for good", async () => {
  const a = await device("bob/a");
  const b = await device("bob/b");
  const got: any[] = [];
  b.client.on("secret", (_, m) => void got.push(m));
  await a.seal.sendSealed(a.client, "secret", 1, { to: "b" });
  await until(() => got.length, "the message");
  const m = got[0];
  expect(await b.seal.open(b.client, m)).toBe(1);
  const { sealed } = m.payload;
  const flipped = sealed.box.slice(0, -3) + (sealed.box.at(-3) === "A" ? "B" : "A") + sealed.box.slice(-2);
  for (const bad of [{ ...m, id: "other" }, { ...m, type: "other" }, { ...m, fromDeviceId: "c" }, { ...m, payload: { sealed: { ...sealed, box: flipped } } }, { ...m, payload: { sealed: { ...sealed, to: sealed.from } } }])
    await expect(b.seal.open(b.client, bad)).rejects.toBeInstanceOf(Reject);
  expect(await b.seal.open(b.client, { ...m, payload: "plain" })).toBe("plain");
});

test("a key that has changed is refused until it is accepted", async () => {
  const a = await device("carl/a");
  const first = await device("carl/b");
  await a.seal.sendSealed(a.client, "secret", 1, { to: "b" });
  await first.client.close();
  await device("carl/b", memoryStore(), first.credentials); // set up anew
  await expect(a.seal.sendSealed(a.client, "secret", 2, { to: "b" })).rejects.toMatchObject({ code: "SEAL_CHANGED" });
  await a.seal.accept(a.client, "b");
  await a.seal.sendSealed(a.client, "secret", 3, { to: "b" });
  await expect(a.seal.sendSealed(a.client, "secret", 4, { to: "a" })).resolves.toBeTruthy();
});

test("sealing needs a key that signs, and a store of the same device", async () => {
  await expect(sealing({ store: memoryStore(), credentials: server.token("dora/a") })).rejects.toMatchObject({ code: "AUTH_ERROR" });
  const store = memoryStore();
  await sealing({ store, credentials: server.creds("dora/a") });
  await expect(sealing({ store, credentials: server.creds("dora/b") })).rejects.toMatchObject({ code: "IDENTITY_MISMATCH" });
});
