// The page of `rccs dev`: a device in a browser, which finds what was sent to it while it was closed.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { chromium, type Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rccs, until } from "../server.js";

let dev: ChildProcess, browser: Browser, log = "";

beforeAll(async () => {
  dev = spawn(rccs(), ["dev", "--host", "127.0.0.1"], { stdio: ["ignore", "pipe", "pipe"] });
  for (const out of [dev.stdout!, dev.stderr!]) out.on("data", (d) => (log += d));
  await until(() => log.includes("What alice/phone receives"), "rccs dev has started").catch((e) => { throw new Error(`${e.message}\n${log}`); });
  browser = await chromium.launch({ executablePath: process.env["CHROMIUM"] || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"], timeout: 120_000 });
});
afterAll(async () => {
  await browser?.close();
  if (dev && dev.exitCode === null) {
    const gone = new Promise((r) => dev.once("exit", r));
    dev.kill("SIGTERM");
    await gone;
  }
});

test("the page sends and receives, and what is sent while it is closed waits for it", async () => {
  const address = /demo page +(http\S+)/.exec(log)![1]!;
  const data = / send alice\/phone hello --data (\S+)/.exec(log)![1]!;
  const context = await browser.newContext({ viewport: { width: 390, height: 844 } });
  const problems: string[] = [];
  let page = await context.newPage();
  page.on("pageerror", (e) => problems.push(e.message));
  page.on("console", (m) => m.type() === "error" && problems.push(m.text()));
  await page.goto(address);
  await page.getByText("Online", { exact: true }).waitFor();
  const name = (await page.locator("#me").textContent())!;
  expect(name).toMatch(/^alice\/page-[0-9a-f]{4}$/);

  await page.getByRole("textbox", { name: "Message" }).fill("from the page");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("to phone: delivered by phone").waitFor();
  await until(() => log.includes(`"from the page"`), "the phone prints it");

  await page.close();
  execFileSync(rccs(), ["send", name, "while you were away", "--data", data]);
  page = await context.newPage();
  page.on("pageerror", (e) => problems.push(e.message));
  await page.goto(address);
  await page.getByText("while you were away").waitFor();
  if (process.env["RCCS_PICTURES"]) await page.screenshot({ path: `${process.env["RCCS_PICTURES"]}/dev.png` });

  await page.goto(address.replace(/#.*/, "#ANOTHERKEY"));
  await page.reload();
  await page.getByText("This address is of an earlier run").waitFor();
  expect(problems.filter((p) => !p.includes("403"))).toEqual([]);
});
