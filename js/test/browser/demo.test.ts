// The demo: a phone steers an agent, through a kill of the server and a page that is closed; a second phone sees the same.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort, rccs, until } from "../server.js";

const demo = fileURLToPath(new URL("../../../examples/agent/demo.js", import.meta.url));
const data = mkdtempSync(join(tmpdir(), "rccs-demo-"));
const pictures = process.env["RCCS_PICTURES"];
let process_: ChildProcess, browser: Browser, log = "", admin = 0;

let ports: number[];
const startDemo = async () => {
  log = "";
  process_ = spawn(process.execPath, [demo], { env: { ...process.env, RCCS_BIN: rccs(), DEMO_DATA: data, DEMO_PORTS: ports.join() }, stdio: ["ignore", "pipe", "pipe"] });
  for (const out of [process_.stdout!, process_.stderr!]) out.on("data", (d) => (log += d));
  await until(() => log.includes("Ctrl-C"), "the demo has started").catch((e) => { throw new Error(`${e.message}\n${log}`); });
};
const endDemo = async (signal: NodeJS.Signals) => {
  if (!process_ || process_.exitCode !== null || process_.signalCode) return;
  const gone = new Promise((r) => process_.once("exit", r));
  process_.kill(signal);
  await gone;
};
const pidOfServer = () => Number(execFileSync("pgrep", ["-f", `admin-listen 127.0.0.1:${admin}`], { encoding: "utf8" }).trim().split("\n")[0]);

beforeAll(async () => {
  ports = await Promise.all([0, 1, 2, 3].map(freePort));
  admin = ports[3]!;
  await startDemo();
  browser = await chromium.launch({ executablePath: process.env["CHROMIUM"] || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"], timeout: 120_000 });
});
afterAll(async () => {
  await browser?.close();
  await endDemo("SIGTERM");
  rmSync(data, { recursive: true, force: true, maxRetries: 5 });
});

const address = (which: string) => new RegExp(`${which} (http\\S+)`).exec(log)![1]!;
const phone = async (url: string, o: object = {}): Promise<[Page, BrowserContext]> => {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, ...o });
  const page = await context.newPage();
  await page.goto(url);
  await page.getByText("Online", { exact: true }).waitFor();
  return [page, context];
};
const shot = async (page: Page, name: string) => {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`) });
};

test("a phone starts a task, approves, refuses, moves and cancels; a kill of the server loses nothing; a second phone sees the same", async () => {
  const [page, context] = await phone(address("Open"), { colorScheme: "light" });
  await page.getByRole("button", { name: "laptop" }).click();
  await page.getByLabel("Task").fill("Add a changelog");
  await shot(page, "start");
  await page.getByRole("button", { name: "Start" }).click();
  const task = page.getByRole("article", { name: "Add a changelog" });
  await task.getByText("mkdir -p add-a-changelog").waitFor();
  await shot(page, "ask");
  await task.getByRole("button", { name: "Approve" }).click();
  await task.getByText("total").waitFor(); // what ls said
  await task.getByText("README.md").first().waitFor();

  // The server is killed; what is tapped meanwhile is kept, also over a reload of the page.
  process.kill(pidOfServer(), "SIGKILL");
  await page.getByText("Offline, keeps what you tap").waitFor();
  await task.getByRole("button", { name: "Approve" }).click();
  await page.reload();
  await page.getByText("Online", { exact: true }).waitFor();
  await task.getByText("for i in 1 2 3 4 5").first().waitFor();
  await shot(page, "after-kill");

  const [second] = await phone(address("A second phone:"), { colorScheme: "dark" });
  const same = second.getByRole("article", { name: "Add a changelog" });
  await same.getByText("for i in 1 2 3 4 5").first().waitFor();
  await shot(second, "second-dark");
  await same.getByRole("button", { name: "Approve" }).click();
  await task.getByText("test 5: ok").waitFor();
  await task.getByText("Done", { exact: true }).waitFor();
  await same.getByText("Done", { exact: true }).waitFor();
  await shot(page, "done");

  // Refused commands do not run; a task moves to the other desktop; a cancelled one ends.
  await page.getByLabel("Task").fill("$ touch refused\n$ touch moved\n$ sleep 60");
  await page.getByRole("button", { name: "Start" }).click();
  const other = page.getByRole("article", { name: "$ touch refused" });
  await other.getByRole("button", { name: "Refuse" }).click();
  await other.locator(".ask code", { hasText: "touch moved" }).waitFor();
  await other.getByRole("button", { name: "Move to workstation" }).click();
  await other.getByText("on workstation").waitFor();
  await other.locator(".ask code", { hasText: "touch moved" }).waitFor();
  await other.getByRole("button", { name: "Approve" }).click();
  await other.locator(".ask code", { hasText: "sleep 60" }).waitFor();
  await context.close(); // the page is closed in the middle
  const third = second.getByRole("article", { name: "$ touch refused" });
  await third.getByRole("button", { name: "Approve" }).click();
  await third.getByText("Working").waitFor();
  await third.getByRole("button", { name: "Cancel" }).click();
  await third.getByText("Cancelled").waitFor();

  // All of the desktop's programs are killed while the agent waits for an answer, which is given meanwhile.
  await second.getByLabel("Task").fill("$ touch later\n$ touch last");
  await second.getByRole("button", { name: "workstation", exact: true }).click();
  await second.getByRole("button", { name: "Start" }).click();
  const fourth = second.getByRole("article", { name: "$ touch later" });
  await fourth.getByText("May it run this?").waitFor();
  await endDemo("SIGKILL");
  process.kill(pidOfServer(), "SIGKILL");
  await second.getByText("Offline, keeps what you tap").waitFor();
  await fourth.getByRole("button", { name: "Approve" }).click();
  await startDemo();
  await fourth.locator(".ask code", { hasText: "touch last" }).waitFor();
  await fourth.getByRole("button", { name: "Approve" }).click();
  await fourth.getByText("Done", { exact: true }).waitFor();
  expect(readdirSync(join(data, "workstation/scratch")).sort()).toEqual(["last", "later", "moved"]);
  expect(readdirSync(join(data, "laptop/scratch"))).toEqual(["add-a-changelog"]);
  await second.setViewportSize({ width: 1280, height: 800 });
  await shot(second, "desktop-dark");
});
