// The page and the agent of docs/sdk.md, as they stand there.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort, Server, until } from "../server.js";

const js = fileURLToPath(new URL("../..", import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "rccs-hello-"));
const programs: ChildProcess[] = [];
let server: Server, browser: Browser, page: number;
let said = "";

const start = (file: string) => {
  const p = spawn(process.execPath, [file], { cwd: dir });
  for (const out of [p.stdout, p.stderr]) out.on("data", (d) => (said += d));
  programs.push(p);
  return p;
};

beforeAll(async () => {
  server = await Server.start();
  page = await freePort();
  const blocks = [...readFileSync(join(js, "../docs/sdk.md"), "utf8").matchAll(/^```\w+ (\S+)\n([^]*?)^```$/gm)];
  expect(blocks.map((b) => b[1])).toEqual(["agent.mjs", "page.html", "page.mjs"]);
  // The ports are those of a first start.
  for (const [, file, text] of blocks) writeFileSync(join(dir, file!), text!.replaceAll("127.0.0.1:8080", `127.0.0.1:${server.port}`).replace("listen(3000,", `listen(${page},`));
  writeFileSync(join(dir, "desktop.creds"), server.creds("alice/desktop"), { mode: 0o600 });
  mkdirSync(join(dir, "node_modules/@rccs"), { recursive: true });
  symlinkSync(js, join(dir, "node_modules/@rccs/client"));
  browser = await chromium.launch({ executablePath: process.env["CHROMIUM"] || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"], timeout: 120_000 });
});
afterAll(async () => {
  await browser?.close();
  for (const p of programs) p.kill();
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

test("the page and the agent of docs/sdk.md: signed in by a code, tasks are answered, also over reloads and restarts", async () => {
  const agent = start("agent.mjs");
  start("page.mjs");
  await until(() => said.includes("online"), "the agent is online").catch((e) => { throw new Error(`${e.message}\n${said}`); });
  const phone = await browser.newPage();
  const faults: string[] = [];
  phone.on("pageerror", (e) => faults.push(e.message));
  await until(async () => (await phone.goto(`http://localhost:${page}`).catch(() => undefined))?.ok(), "the page is served");
  await phone.getByLabel("Code").fill(server.code("alice", "--device", "phone"));
  await phone.getByRole("button", { name: "Sign in" }).click();
  await phone.getByText("online", { exact: true }).waitFor();
  const send = async (text: string) => {
    await phone.getByLabel("Task").fill(text);
    await phone.getByRole("button", { name: "Send" }).click();
  };
  await send("hello");
  await phone.getByText("HELLO", { exact: true }).waitFor();

  // The agent is away, the page is reloaded: it is still signed in, and the answer comes when the agent is back.
  const gone = new Promise((r) => agent.once("exit", r));
  agent.kill("SIGKILL");
  await gone;
  await send("are you there");
  await phone.reload();
  await phone.getByText("online", { exact: true }).waitFor();
  start("agent.mjs");
  await phone.getByText("ARE YOU THERE", { exact: true }).waitFor();
  expect(await phone.getByRole("listitem").allTextContents()).toEqual(["ARE YOU THERE"]);
  expect(faults).toEqual([]);
});
