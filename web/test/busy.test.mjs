// The console beside 10,000 connected devices that exchange 200 messages a
// second.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { serve, until } from "./server.mjs";

const devices = Number(process.env.RCCS_BUSY_DEVICES ?? 10_000);

let browser, server, load;

before(async () => {
  server = await serve("--max-address-connections", "20000", "--address-attempts", "100000");
  load = server.start("bench", "latency", "--data", server.data, "--devices", String(devices), "--rate", "200", "--duration", "20m");
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"], timeout: 120_000 });
  const online = async () => {
    if (load.exitCode !== null || load.signalCode !== null) throw new Error(`the load has ended: ${load.exitCode} ${load.signalCode} ${load.said}`);
    const { items } = await (await fetch(server.admin + "/v1/edges")).json();
    return items.reduce((n, e) => n + e.devices, 0) >= devices;
  };
  await until("all devices are connected", online, 600_000);
});

after(async () => {
  load?.kill("SIGKILL");
  await browser?.close();
  await server?.stop();
});

/** Watches a page for a while: how often it draws, and its longest task. */
async function watch(page, ms) {
  return page.evaluate(
    (ms) =>
      new Promise((resolve) => {
        let longest = 0;
        const tasks = new PerformanceObserver((list) => list.getEntries().forEach((e) => (longest = Math.max(longest, e.duration))));
        tasks.observe({ entryTypes: ["longtask"] });
        const from = performance.now();
        let frames = 0;
        const draw = () => {
          frames++;
          if (performance.now() - from < ms) requestAnimationFrame(draw);
          else {
            tasks.disconnect();
            resolve({ frames, longest: Math.round(longest) });
          }
        };
        requestAnimationFrame(draw);
      }),
    ms,
  );
}

test("no page freezes beside 10,000 devices and 200 messages a second", async (t) => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(120_000);
  const seconds = 8;
  const checked = async (name) => {
    const { frames, longest } = await watch(page, seconds * 1000);
    t.diagnostic(`${name}: ${Math.round(frames / seconds)} frames a second, longest task ${longest} ms, ${await page.locator("*").count()} elements`);
    // 60 a second on an idle machine; a page that stands still draws none.
    assert.ok(frames >= seconds, `${name} has drawn ${frames} frames in ${seconds} s`);
    assert.ok((await page.locator("*").count()) < 10_000, `${name} has no bound on its elements`);
  };

  await page.goto(server.admin + "/console/");
  await page.getByRole("link", { name: /Devices online/ }).getByText(devices.toLocaleString("en")).waitFor();
  await checked("the overview");

  // The live view has no more lines than it says, and answers what is typed.
  await page.goto(server.admin + "/console/live");
  const lines = page.getByRole("log", { name: "Messages" }).getByRole("button");
  await until("lines fill the log", async () => (await lines.count()) === 200);
  await checked("the live view");
  await page.getByRole("searchbox", { name: "Filter" }).fill("nobody-has-this-name");
  await page.getByText("Nothing of what came fits the filter.").waitFor();
  await page.getByRole("searchbox", { name: "Filter" }).fill("");
  await until("lines are back", async () => (await lines.count()) === 200);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText(/paused, [1-9]/).waitFor();

  // Devices come page by page, and a search finds the last of them.
  await page.goto(server.admin + "/console/devices");
  const rows = page.getByRole("table", { name: "Devices" }).getByRole("row");
  await until("a page of devices", async () => (await rows.count()) > 50);
  await checked("the devices");
  assert.ok((await rows.count()) <= 501, "all devices are in the page");
  const { items } = await (await fetch(server.admin + "/v1/devices?limit=1000")).json();
  const wanted = items.at(-1);
  await page.getByRole("searchbox", { name: "Search devices" }).fill(`${wanted.user}/${wanted.device}`);
  await until("it alone is found", async () => (await rows.count()) === 2 && (await rows.nth(1).innerText()).includes(wanted.user));

  // Somebody has a thousand devices in view, and all of them go.
  await page.getByRole("searchbox", { name: "Search devices" }).fill("");
  await until("a thousand devices are in view", async () => {
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    return (await rows.count()) > 1000;
  });
  const [edge] = (await (await fetch(server.admin + "/v1/edges")).json()).items;
  const drain = { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"force":true}' };
  assert.equal((await fetch(`${server.admin}/v1/edges/${encodeURIComponent(edge.name)}/drain`, drain)).status, 202);
  const { frames, longest } = await watch(page, seconds * 1000);
  t.diagnostic(`a thousand devices that go: ${Math.round(frames / seconds)} frames a second, longest task ${longest} ms`);
  assert.ok(frames >= seconds, `the page has drawn ${frames} frames in ${seconds} s while all devices went`);
  await until("all are seen to be offline", async () => (await page.locator("tbody .is-online").count()) === 0);
  await page.context().close();
});
