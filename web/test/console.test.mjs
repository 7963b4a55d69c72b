// The console in a real browser against a real server. Elements are found as a
// person finds them: by role and name.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { serve, until } from "./server.mjs";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser, server;

before(async () => {
  server = await serve();
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-background-networking"], timeout: 120_000 });
  // A device that was there and went, so that it has a record and an inbox.
  await register("alice/phone");
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Lets a device connect once and go. */
async function register(name, at = server) {
  await at.rccs("send", name, '"welcome"', "--type", "welcome");
  await at.rccs("connect", name, "--count", "1", "--timeout", "120s");
}

async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  page.faults = [];
  page.on("pageerror", (e) => page.faults.push(e.message));
  page.on("console", (m) => m.type() === "error" && !/status of (401|404|409|503)/.test(m.text()) && page.faults.push(m.text()));
  page.on("request", (r) => new URL(r.url()).origin !== (options.origin ?? server.admin) && !r.url().startsWith("data:") && page.faults.push("a request to " + r.url()));
  await page.goto((options.origin ?? server.admin) + path);
  return page;
}

/** Closes a page that met no fault of its own. */
async function done(page) {
  assert.deepEqual(page.faults, [], "faults of the page");
  await page.context().close();
}

const pages = {
  "/console/": ["heading", "Overview"],
  "/console/devices": ["table", "Devices"],
  "/console/devices/alice/phone": ["heading", "Messages"],
  "/console/live": ["log", "Messages"],
  "/console/edges": ["button", "Drain"],
  "/console/topics": ["searchbox", "Search topics"],
  "/console/audit": ["table", "Audit"],
  "/console/tenants": ["table", "Tenants"],
};

describe("every page", () => {
  for (const [path, [role, name]] of Object.entries(pages)) {
    test(`${path} shows ${role} "${name}", and reloads to the same`, async () => {
      const page = await open(path);
      await page.getByRole(role, { name, exact: true }).waitFor();
      await page.reload();
      await page.getByRole(role, { name, exact: true }).waitFor();
      assert.ok(await page.getByRole("navigation").getByRole("link").count(), "no link in the navigation");
      await done(page);
    });
  }

  test("the root redirects to the console, and links in the navigation lead to each page", async () => {
    const page = await open("/");
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/console/");
    for (const name of ["Devices", "Live", "Edges", "Topics", "Audit", "Tenants"]) {
      await page.getByRole("navigation").getByRole("link", { name }).click();
      await page.getByRole("heading", { name, exact: true, level: 1 }).waitFor();
    }
    await done(page);
  });

  test("responses carry a strict Content-Security-Policy and nosniff", async () => {
    const response = await fetch(server.admin + "/console/devices");
    const policy = response.headers.get("content-security-policy") ?? "";
    assert.match(policy, /frame-ancestors 'none'/);
    assert.match(policy, /default-src/);
    assert.doesNotMatch(policy, /unsafe-/);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  });
});

/** What axe finds serious in a page as it is. The policy forbids scripts in the page; the debugger may evaluate. */
async function violations(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: axe });
  const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
    expression: `axe.run(document, { resultTypes: ["violations", "passes"] }).then(({ violations, passes }) => [passes.length, ...violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => v.id + ": " + v.nodes.map((n) => n.target).join(", "))])`,
    awaitPromise: true,
    returnByValue: true,
  });
  await session.detach();
  assert.equal(exceptionDetails, undefined);
  const [passes, ...found] = result.value;
  assert.ok(passes > 5, "axe looked at nothing");
  return found;
}

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing serious on any page, ${colorScheme}`, async () => {
    const more = { "/console/nothing": ["heading", "Not found"], "/console/devices/nobody/none": ["heading", "nobody/none"] };
    for (const [path, [role, name]] of Object.entries({ ...pages, ...more })) {
      const page = await open(path, { colorScheme });
      await page.getByRole(role, { name, exact: true }).waitFor();
      await page.waitForLoadState("networkidle").catch(() => {}); // live pages never are
      assert.deepEqual(await violations(page), [], path);
      await page.context().close();
    }
  });

  test(`axe finds nothing serious on the login, before and after a wrong token, ${colorScheme}`, async () => {
    const locked = await serve({ token: "a-token-for-tests-of-24-characters" });
    try {
      const page = await open("/console/login", { colorScheme, origin: locked.admin });
      const token = page.getByRole("textbox", { name: "Admin token", exact: true });
      await token.waitFor();
      assert.deepEqual(await violations(page), [], "the login");
      await token.fill("wrong");
      await page.getByRole("button", { name: "Log in", exact: true }).click();
      await page.getByRole("alert").waitFor();
      assert.deepEqual(await violations(page), [], "after a wrong token");
      await page.context().close();
    } finally {
      await locked.stop();
    }
  });

  test(`axe finds nothing serious in any open dialog, ${colorScheme}`, async () => {
    const device = "/console/devices/alice/phone";
    for (const [path, button] of [[device, "Replay missed"], [device, "Revoke"], [device, "Forget"], ["/console/edges", "Drain"], ["/console/", "?"]]) {
      const page = await open(path, { colorScheme });
      if (button === "?") {
        await page.getByRole("heading", { name: "Overview", exact: true }).waitFor();
        await page.keyboard.press("?");
      } else await page.getByRole("button", { name: button, exact: true }).click();
      const dialog = page.getByRole("dialog");
      await dialog.waitFor();
      await dialog.getByText("…", { exact: true }).waitFor({ state: "hidden" });
      assert.deepEqual(await violations(page), [], `${path}, ${button}`);
      await page.context().close();
    }
  });
}

test("a device missed messages: find it, see what, preview, replay, watch them arrive", async () => {
  await register("bob/desktop");
  for (const n of [1, 2, 3]) await server.rccs("send", "bob/desktop", `{"n":${n}}`, "--type", "order", "--id", `order-${n}`);
  const page = await open("/console/devices");
  await page.keyboard.press("/");
  await page.keyboard.type("bob/des");
  await page.getByRole("table", { name: "Devices" }).getByRole("link", { name: "desktop" }).click();
  await page.getByRole("heading", { name: "bob/desktop" }).waitFor();
  await page.getByRole("button", { name: "order-2" }).click();
  await page.getByText('"n": 2').waitFor();
  await page.getByRole("list", { name: "Life of the message" }).getByText("stored").first().waitFor();

  const button = page.getByRole("button", { name: "Replay missed", exact: true });
  await button.click();
  const dialog = page.getByRole("dialog", { name: "Replay missed" });
  await dialog.getByText("3 messages").waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Replay missed", "the focus is not back where it was");

  await button.click();
  await dialog.getByText("3 messages").waitFor();
  await dialog.getByRole("button", { name: "Replay", exact: true }).click();
  await page.getByRole("status").getByText("Replayed 3 messages").waitFor();
  await until("the copies are in the list", async () => (await page.getByRole("table", { name: "Messages" }).getByRole("button", { name: "order-1" }).count()) === 2);
  const got = await server.rccs("connect", "bob/desktop", "--count", "6", "--timeout", "120s");
  assert.equal(got.match(/\{"n":\d\}/g)?.length, 6);
  await page.getByText("Nothing waits").waitFor();
  await done(page);
});

test("presence changes while one looks", async () => {
  await register("carol/watch");
  const page = await open("/console/devices?q=Carol");
  const row = page.getByRole("row", { name: /carol/ });
  await row.getByText("offline").waitFor();
  const device = server.start("connect", "carol/watch", "--count", "1", "--timeout", "120s");
  await row.getByText("online", { exact: true }).waitFor();
  device.kill("SIGTERM");
  await row.getByText("offline").waitFor();
  await done(page);
});

test("messages flow in the live view; it pauses, filters and opens one", async () => {
  const page = await open("/console/live");
  const log = page.getByRole("log", { name: "Messages" });
  await page.getByText("live", { exact: true }).waitFor();
  await server.rccs("send", "alice/phone", '{"first":true}', "--id", "live-1", "--type", "note");
  await log.getByText("live-1").first().waitFor();
  await page.getByRole("searchbox", { name: "Filter" }).fill("nobody/");
  await log.getByText("live-1").first().waitFor({ state: "hidden" });
  await page.getByRole("searchbox", { name: "Filter" }).fill("note");
  await log.getByRole("button", { name: /live-1/ }).first().click();
  await log.getByText('"first": true').waitFor();
  assert.deepEqual(await violations(page), [], "an open message");
  await page.getByRole("button", { name: "Pause" }).click();
  await server.rccs("send", "alice/phone", "2", "--id", "live-2", "--type", "note");
  await page.getByText(/paused, [1-9]\d* held back/).waitFor();
  assert.equal(await log.getByText("live-2").count(), 0);
  await page.getByRole("button", { name: "Resume" }).click();
  await log.getByText("live-2").first().waitFor();
  await done(page);
});

test("the live view says how many messages it had to leave out", async () => {
  const page = await open("/console/");
  const gaps = [1200, 34].map((count) => `event: gap\ndata: {"from":1,"to":9999,"count":${count}}\n\n`).join("");
  await page.route("**/v1/live?*tail=*", (route) => route.fulfill({ contentType: "text/event-stream", body: `retry: 600000\n\n${gaps}` }));
  await page.getByRole("navigation").getByRole("link", { name: "Live" }).click();
  await page.getByText("1,234 left out").waitFor();
  await done(page);
});

test("names and payloads with markup are text", async () => {
  const evil = "<img src=x onerror=window.hit=1>";
  await server.rccs("send", `${evil}/phone`, JSON.stringify({ html: "<script>window.hit=1</script>" }), "--id", "<b>id</b>", "--type", "note");
  await server.rccs("connect", `${evil}/phone`, "--count", "1", "--timeout", "120s");
  const page = await open("/console/devices?q=" + encodeURIComponent("<img"));
  await page.getByRole("link", { name: "phone" }).click();
  await page.getByRole("heading", { name: evil + "/phone" }).waitFor();
  await page.getByText("All", { exact: true }).click();
  await page.getByRole("button", { name: "<b>id</b>" }).click();
  await page.getByText("<script>window.hit=1</script>").waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
  await done(page);
});

test("a device is revoked and forgotten, each after a preview", async () => {
  await register("dave/phone");
  await server.rccs("send", "dave/phone", "1");
  const page = await open("/console/devices/dave/phone");
  await page.getByRole("button", { name: "Revoke", exact: true }).click();
  const revoke = page.getByRole("dialog", { name: "Revoke" });
  await revoke.getByText("not connected").waitFor();
  await revoke.getByRole("button", { name: "Revoke", exact: true }).click();
  await page.getByRole("status").getByText("Revoked").waitFor();
  await assert.rejects(server.rccs("connect", "dave/phone", "--creds", "/nonexistent"));

  await page.getByRole("button", { name: "Forget", exact: true }).click();
  const forget = page.getByRole("dialog", { name: "Forget" });
  await forget.getByText("1 unacknowledged message goes").waitFor();
  await forget.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Forget", exact: true }).click();
  await forget.getByRole("button", { name: "Forget", exact: true }).click();
  await page.getByRole("heading", { name: "Devices", level: 1 }).waitFor();
  await page.getByRole("searchbox", { name: "Search devices" }).fill("dave");
  await page.getByText("No device fits").waitFor();
  await done(page);
});

test("an enrolment code is made, with a picture to scan", async () => {
  const page = await open("/console/devices/alice/phone");
  await page.getByRole("button", { name: "New enrolment code" }).click();
  await page.getByRole("img", { name: /QR code/ }).waitFor();
  await done(page);
});

test("the only edge is drained after a warning, and takes devices again", async () => {
  const page = await open("/console/edges");
  await page.getByRole("button", { name: "Drain" }).click();
  const dialog = page.getByRole("dialog", { name: "Drain" });
  await dialog.getByText("only edge").waitFor();
  await dialog.getByRole("button", { name: "Drain", exact: true }).click();
  await page.getByRole("status").getByText("drains").waitFor();
  await page.getByText("draining", { exact: true }).waitFor();
  await until("the server says so too", async () => (await (await fetch(server.admin + "/v1/edges")).text()).includes('"draining":true'));
  await page.reload(); // whoever opens the page later sees it, too
  await page.getByText("draining", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Take devices again" }).click();
  await page.getByRole("status").getByText("takes devices again").waitFor();
  await page.getByRole("button", { name: "Drain", exact: true }).waitFor();
  await done(page);
});

test("a test message is published to a topic and read back", async () => {
  const page = await open("/console/topics");
  await page.getByRole("searchbox", { name: "Search topics" }).fill("builds.main");
  await page.keyboard.press("Enter");
  await page.getByRole("textbox", { name: /Test message/ }).fill('{"green":true}');
  await page.getByRole("button", { name: "Publish" }).click();
  await page.getByRole("status").getByText("Published to builds.main").waitFor();
  await page.getByText('"green": true').waitFor();
  await page.getByText("No connected device follows it.").waitFor();
  await done(page);
});

test("what was done stands in the audit", async () => {
  await server.rccs("missed", "alice/phone");
  const page = await open("/console/audit");
  const table = page.getByRole("table", { name: "Audit" });
  await table.getByText("read").first().waitFor();
  await done(page);
});

test("keys: ? lists them, g and a letter goes to a page", async () => {
  const page = await open("/console/");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  const devices = page.getByRole("heading", { name: "Devices", level: 1 });
  for (let i = 0; i < 10 && !(await devices.isVisible()); i++) { // a starved machine takes more than 1.5 s between the two
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await devices.waitFor({ timeout: 2_000 }).catch(() => {});
  }
  await devices.waitFor();
  await done(page);
});

test("where there is an admin token, one logs in with it", async () => {
  const token = "a-token-of-the-test-0123456789";
  const closed = await serve({ token });
  try {
    const page = await open("/console/devices", { origin: closed.admin });
    await page.getByRole("textbox", { name: "Admin token" }).fill("wrong-token-0123456789");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").getByText("not the admin token").waitFor();
    await page.getByRole("textbox", { name: "Admin token" }).fill(token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Devices", level: 1 }).waitFor();
    const [cookie] = await page.context().cookies();
    assert.equal(cookie?.httpOnly, true);
    assert.equal(cookie?.sameSite, "Strict");
    assert.equal(await page.evaluate((t) => JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie.includes(t), token), "{}{}false");
    await done(page);
  } finally {
    await closed.stop();
  }
});

test("it works behind a path prefix", async () => {
  const { createServer, request } = await import("node:http");
  const target = new URL(server.admin);
  const proxy = createServer((req, res) => {
    if (!req.url.startsWith("/ops/rccs/")) return void res.writeHead(404).end();
    const up = request({ host: target.hostname, port: target.port, path: req.url.slice("/ops/rccs".length), method: req.method, headers: req.headers }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    req.pipe(up);
    up.on("error", () => res.destroy());
    res.on("close", () => up.destroy());
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${proxy.address().port}`;
  try {
    const page = await open("/ops/rccs/console/devices/alice/phone", { origin });
    await page.getByRole("heading", { name: "Messages" }).waitFor();
    await page.getByRole("navigation").getByRole("link", { name: "Devices" }).click();
    await page.getByRole("table", { name: "Devices" }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/ops/rccs/console/devices");
    await done(page);
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});

test("the console is at most 60 KB gzipped in all", async () => {
  const { gzipSync } = await import("node:zlib");
  const { readdirSync, statSync } = await import("node:fs");
  const root = new URL("../dist/", import.meta.url).pathname;
  const sizes = readdirSync(root, { recursive: true })
    .map((f) => root + f)
    .filter((f) => statSync(f).isFile())
    .map((f) => gzipSync(readFileSync(f)).length);
  const total = sizes.reduce((a, b) => a + b, 0);
  assert.ok(total > 10_000 && total <= 60_000, `${total} bytes`);
});
