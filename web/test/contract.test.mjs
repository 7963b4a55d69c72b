// What others find in the console by role and accessible name, line by line, and
// that each page fits a phone.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { serve } from "./server.mjs";

let browser, server;

before(async () => {
  server = await serve();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"], timeout: 120_000 });
  await server.rccs("send", "alice/phone", '{"text":"welcome"}', "--type", "a_type_with_quite_a_long_name");
  await server.rccs("connect", "alice/phone", "--count", "1", "--timeout", "120s");
  for (const priority of ["low", "normal", "high", "critical"]) await server.rccs("send", "alice/phone", '{"text":"it waits"}', "--priority", priority);
  const token = (await server.rccs("creds", "service", "billing", "--bearer")).trim();
  const refused = await fetch(server.admin + "/v1/users/alice/devices/phone/inbox", { headers: { Authorization: `Bearer ${token}` } });
  assert.equal(refused.status, 403); // which stands in the audit
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  await page.goto(server.admin + path);
  return page;
}

const navigation = ["Overview", "Devices", "Live", "Edges", "Topics", "Audit", "Tenants"];

// Path, then roles and names.
const pages = [
  ["/console/", ["heading", "Overview"]],
  ["/console/devices", ["searchbox", "Search devices"], ["table", "Devices"]],
  ["/console/devices/alice/phone", ["heading", "Messages"], ["heading", "Credentials"], ["button", "Replay missed"], ["button", "Revoke"], ["button", "Forget"]],
  ["/console/live", ["searchbox", "Filter"], ["log", "Messages"], ["button", "Pause"]],
  ["/console/edges", ["heading", "Edges"], ["button", "Drain"]],
  ["/console/topics", ["heading", "Topics"], ["searchbox", "Search topics"]],
  ["/console/audit", ["heading", "Audit"], ["table", "Audit"]],
  ["/console/tenants", ["heading", "Tenants"], ["table", "Tenants"]],
];

describe("by role and name", () => {
  for (const [path, ...parts] of pages) {
    test(`${path} has ${parts.map((p) => p.join(" ")).join(", ")}, each once`, async () => {
      const page = await open(path);
      for (const [role, name] of parts) {
        await page.getByRole(role, { name, exact: true }).waitFor();
        assert.equal(await page.getByRole(role, { name, exact: true }).count(), 1, `${role} ${name}`);
      }
      for (const name of navigation) assert.equal(await page.getByRole("navigation").getByRole("link", { name, exact: true }).count(), 1, name);
      await page.context().close();
    });
  }

  test("/console/login has textbox Admin token and button Log in", async () => {
    const page = await open("/console/login");
    await page.getByRole("textbox", { name: "Admin token", exact: true }).waitFor();
    await page.getByRole("button", { name: "Log in", exact: true }).waitFor();
    await page.context().close();
  });
});

describe("what acts asks in a dialog of its button's name", () => {
  for (const [path, button, confirm, preview] of [
    ["/console/devices/alice/phone", "Replay missed", "Replay", "4 messages"],
    ["/console/devices/alice/phone", "Revoke", "Revoke", "not connected"],
    ["/console/devices/alice/phone", "Forget", "Forget", "4 unacknowledged messages go"],
    ["/console/edges", "Drain", "Drain", "only edge"],
  ]) {
    test(`${button}: a preview, a button ${confirm}, left by Cancel and by Escape, the focus back`, async () => {
      const page = await open(path);
      for (const leave of ["Cancel", "Escape"]) {
        const opener = page.getByRole("button", { name: button, exact: true });
        await opener.focus();
        await page.keyboard.press("Enter");
        const dialog = page.getByRole("dialog", { name: button, exact: true });
        await dialog.getByText(preview).waitFor();
        await dialog.getByRole("button", { name: confirm, exact: true }).waitFor();
        if (leave === "Escape") await page.keyboard.press("Escape");
        else await dialog.getByRole("button", { name: "Cancel", exact: true }).click();
        await dialog.waitFor({ state: "hidden" });
        assert.equal(await opener.evaluate((e) => e === document.activeElement), true, `the focus after ${leave}`);
      }
      assert.equal(await page.getByRole("status").innerText(), "", "something was done");
      await page.context().close();
    });
  }
});

test("the root redirects to /console/, and every answer has the headers", async () => {
  const root = await fetch(server.admin + "/", { redirect: "manual" });
  assert.ok(root.status >= 300 && root.status < 400, `status ${root.status}`);
  assert.equal(new URL(root.headers.get("location"), server.admin + "/").pathname, "/console/");
  const html = await (await fetch(server.admin + "/console/")).text();
  const assets = [...html.matchAll(/(?:src|href)="([^"]+\.(?:js|css|svg))"/g)].map((m) => new URL(m[1], server.admin + "/console/").pathname);
  assert.ok(assets.length >= 2, html);
  for (const path of [...pages.map(([p]) => p), "/console/login", "/console/assets/none.js", ...assets]) {
    const answer = await fetch(server.admin + path);
    const policy = answer.headers.get("content-security-policy") ?? "";
    assert.match(policy, /frame-ancestors 'none'/, path);
    assert.doesNotMatch(policy, /unsafe-/, path);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff", path);
  }
});

test("at 390 px no page, table or row of choices is wider than the screen", async () => {
  for (const [path, [role, name]] of pages) {
    const page = await open(path, { viewport: { width: 390, height: 844 } });
    await page.getByRole(role, { name, exact: true }).waitFor();
    if (path.endsWith("/audit")) await page.getByText("service:billing").first().waitFor();
    if (path.endsWith("/phone")) await page.getByText("a_type_with").or(page.getByText("critical")).first().waitFor();
    const wide = await page.evaluate(() => {
      const over = (e) => e.scrollWidth - e.clientWidth;
      const parts = [document.documentElement, ...document.querySelectorAll(".scroll, .choice, nav")];
      return parts.filter((e) => over(e) > 0).map((e) => `${e.tagName} ${e.className} is ${over(e)} px too wide: ${e.textContent.slice(0, 60)}`);
    });
    assert.deepEqual(wide, [], path);
    await page.context().close();
  }
});

test("at 390 px the longest names, and what a device says of itself, break into lines", async () => {
  const [user, device, long] = ["u".repeat(128), "d".repeat(128), "v".repeat(60)];
  const token = (await server.rccs("creds", "device", `${user}/${device}`, "--bearer")).trim();
  const page = await open("/console/", { viewport: { width: 390, height: 844 }, bypassCSP: true });
  await page.goto(server.devices.replace("ws:", "http:").replace("/v1/ws", "/healthz")); // whose own pages may connect
  await page.evaluate(
    ([url, authToken, long]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url, ["rccs.v1"]);
        socket.onmessage = ({ data }) => {
          const { type } = JSON.parse(data);
          if (type === "device_register") socket.send(JSON.stringify({ type, id: "r", payload: { authToken, platform: long, version: long } }));
          else resolve(socket.close());
        };
      }),
    [server.devices, token, long],
  );
  await page.goto(`${server.admin}/console/devices/${user}/${device}`);
  await page.getByText(long).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
  await page.context().close();
});

test("a tenant's limits stand beside what it uses", async () => {
  const limits = { devices: 1000, storageBytes: 100 << 20, consumers: 500 };
  const made = await fetch(server.admin + "/v1/tenants", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name: "acme", limits }) });
  assert.equal(made.status, 201);
  const page = await open("/console/tenants");
  const row = page.getByRole("table", { name: "Tenants", exact: true }).getByRole("row", { name: "acme" });
  for (const limit of ["of 1,000", "of 100 MiB", "of 500"]) await row.getByText(limit, { exact: true }).waitFor();
  await page.context().close();
});

test("a device that there is not is told once, and nothing can be replayed", async () => {
  const page = await open("/console/devices/nobody/none");
  await page.getByText("No device of this name is registered.").waitFor();
  await page.getByText("Nothing is stored for this device.").waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);
  assert.equal(await page.getByRole("button", { name: "Replay missed", exact: true }).isDisabled(), true);
  await page.context().close();
});
