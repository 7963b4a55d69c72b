// The examples that need no browser, as their READMEs start them.
import { execFileSync, spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { connect, type Client } from "@rccs/client";
import { WebSocket } from "@rccs/client/node";
import { Server, until } from "../server.js";

const examples = fileURLToPath(new URL("../../../examples/", import.meta.url));
let server: Server, dir: string;
const programs: Program[] = [];
const clients: Client[] = [];

class Program {
  said = "";
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #gone: Promise<unknown>;
  constructor(args: string[], cwd: string) {
    // Node 20, which is tested too, has a WebSocket behind a flag; the editor has Node 22.
    const flags = globalThis.WebSocket ? [] : ["--experimental-websocket", "--no-warnings"];
    this.#process = spawn(process.execPath, [...flags, ...args], { cwd });
    this.#gone = new Promise((r) => this.#process.once("exit", r));
    for (const out of [this.#process.stdout, this.#process.stderr]) out.on("data", (d) => (this.said += d));
    programs.push(this);
  }
  type(line: string) {
    this.#process.stdin.write(`${line}\n`);
  }
  async says(text: string, times = 1) {
    await until(() => this.said.split(text).length > times, text).catch((e) => { throw new Error(`${e.message}\n${this.said}`); });
  }
  /** The end of the input. */
  async end() {
    this.#process.stdin.end();
    await this.#gone;
  }
  async kill() {
    this.#process.kill("SIGKILL");
    await this.#gone;
  }
}

beforeAll(async () => void (server = await Server.start()));
afterAll(() => server?.stop());
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), "rccs-example-"))));
afterEach(async () => {
  await Promise.all(programs.splice(0).map((p) => p.kill()));
  await Promise.all(clients.splice(0).map((c) => c.close()));
  rmSync(dir, { recursive: true, force: true });
});

const credentials = (device: string) => {
  const file = join(dir, `${device.replace("/", "-")}.creds`);
  writeFileSync(file, server.creds(device), { mode: 0o600 });
  return file;
};

test("chat: what is typed reaches the other device, also one that comes later", async () => {
  const chat = (file: string) => new Program(["chat.js", server.url, file], join(examples, "chat"));
  const [phone, laptop] = ["chat/phone", "chat/laptop"].map(credentials) as [string, string];
  const a = chat(phone);
  const b = chat(laptop);
  await Promise.all([a.says("* online"), b.says("* online")]);
  a.type("hello");
  await b.says("phone: hello");
  await a.says("* delivered to laptop: hello");
  await b.end();
  a.type("are you there?");
  const again = chat(laptop);
  await again.says("phone: are you there?");
  await a.says("* delivered to laptop: are you there?");
  again.type("yes");
  await a.says("laptop: yes");
  expect(again.said).not.toContain("hello");
});

test("vscode: the extension is type-checked, built, and receives tasks in a stand-in for the extension host", async () => {
  const cwd = join(examples, "vscode");
  const bin = (name: string) => createRequire(import.meta.url).resolve(name);
  execFileSync(process.execPath, [bin("typescript/bin/tsc"), "-p", cwd], { stdio: "inherit" });
  execFileSync("npm", ["run", "--silent", "build"], { cwd, env: { ...process.env, PATH: `${join(examples, "node_modules/.bin")}:${process.env["PATH"]}` } });

  const phone = connect(server.url, { token: server.token("vscode/phone"), type: "mobile", WebSocket });
  clients.push(phone);
  const outcomes: unknown[] = [];
  phone.onOutcome(({ deviceId, status, reason }) => outcomes.push(reason ? [deviceId, status, reason] : [deviceId, status]));
  await phone.ready();
  const task = (title: string) => phone.send("task", { title, text: "It fails on a slow line." }, { to: "editor", track: true });

  const start = () => new Program(["host.js", join(dir, "editor"), credentials("vscode/editor"), server.url], cwd);
  const editor = start();
  await editor.says('{"activated":true}');
  editor.type("rccs.signIn");
  await editor.says('{"status":"$(check) RCCS"}');

  await task("Fix the login");
  await editor.says('{"message":"phone: Fix the login","choices":["Open","Refuse"]}');
  editor.type("Open");
  await editor.says('{"document":"# Fix the login\\n\\nIt fails on a slow line.\\n"}');
  await until(() => outcomes.length, "the outcome");
  expect(await phone.request("editor.open", null, { to: "editor" })).toEqual([{ file: "Untitled-1", language: "markdown" }]);

  await task("Drop the table");
  await editor.says("phone: Drop the table");
  editor.type("Refuse");
  await until(() => outcomes.length > 1, "the second outcome");
  expect(outcomes).toEqual([["editor", "delivered"], ["editor", "rejected", "refused by the user"]]);

  // Put off: it waits in the status bar, and is there again after a restart of the editor, which is still signed in.
  await task("Write a test");
  await editor.says("phone: Write a test");
  editor.type("");
  editor.type("rccs.task");
  await editor.says("phone: Write a test", 2);
  await editor.end();
  const again = start();
  await again.says('{"message":"phone: Write a test","choices":["Open","Refuse"]}');
  again.type("Open");
  await again.says('{"document":"# Write a test');
  await until(() => outcomes.length > 2, "the third outcome");
  expect(again.said).not.toContain("Drop the table");
  again.type("rccs.signOut");
  await again.says('{"status":""}');
  await expect(phone.request("editor.open", null, { to: "editor" })).rejects.toMatchObject({ code: "DEVICE_OFFLINE" });
});
