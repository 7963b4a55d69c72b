// Takes the pictures of README.md and docs/console.md: the demo and the console of one installation, in Chromium.
//
//   make build js-install && npm run build --prefix js && node site/pictures.mjs
//
// It takes two minutes, most of them so that the console's charts have something to show. Look at each before you commit it.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { chromium } = createRequire(join(root, "web/package.json"))("playwright-core");
const program = process.env.RCCS_BIN ?? join(root, "bin/rccs");
const out = process.argv[2] ?? join(root, "docs/pictures");
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const freePort = () => new Promise((done) => { const s = createServer().listen(0, "127.0.0.1", () => { const { port } = s.address(); s.close(() => done(port)); }); });

const dir = mkdtempSync(join(tmpdir(), "rccs-pictures-"));
const ports = [await freePort(), await freePort(), await freePort(), await freePort()];
const [, edge, nats, admin] = ports;
const data = join(dir, "server");
const rccs = (...args) => execFileSync(program, [...args, "--data", data, ...(args[0] === "connect" ? ["--url", `ws://127.0.0.1:${edge}`] : ["--server", `nats://127.0.0.1:${nats}`])], { encoding: "utf8" });
let log = "";
const children = [];
const start = (command, args, env = {}) => {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
  for (const s of [child.stdout, child.stderr]) s.on("data", (d) => (log += d));
  children.push(child);
  return child;
};
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
const open = async (url, options) => {
  const page = await (await browser.newContext({ colorScheme: "light", ...options })).newPage();
  await page.goto(url);
  return page;
};
const shot = (page, name, options) => page.screenshot({ path: join(out, `${name}.png`), ...options });

let traffic;
try {
  start(process.execPath, [join(root, "examples/agent/demo.js")], { RCCS_BIN: program, DEMO_DATA: dir, DEMO_PORTS: ports.join() });
  while (!log.includes("Ctrl-C")) await pause(200);

  // bob's desktop has been seen, and is away; alice's two devices are there, and other devices have been.
  for (const device of ["bob/desktop", "carol/phone", "dave/tablet", "erin/editor"]) rccs("connect", device, "--device-type", device.split("/")[1] === "desktop" ? "desktop" : "mobile", "--timeout", "1s");
  for (let i = 0; i < 6; i++) rccs("send", "bob/desktop", `{"order":${1000 + i},"total":${25 + i}}`, "--type", "order", "--id", `order-${i}`, "--priority", ["normal", "high", "low"][i % 3]);
  for (const device of ["alice/phone", "alice/desktop"]) start(program, ["connect", device, "--device-type", device.split("/")[1] === "desktop" ? "desktop" : "mobile", "--data", data, "--url", `ws://127.0.0.1:${edge}`]);
  let sent = 0;
  const send = async () => {
    const body = ["phone", "desktop"].map((device) => ({ to: { user: "alice", device }, type: ["order", "approval", "note"][sent++ % 3], payload: { number: sent } }));
    await fetch(`http://127.0.0.1:${admin}/v1/messages`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }).catch(() => {});
  };
  traffic = setInterval(() => { for (let i = 0; i <= Math.round(2 + 2 * Math.sin(Date.now() / 4000)); i++) send(); }, 500);

  const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 };
  const address = (which) => new RegExp(`${which} (http\\S+)`).exec(log)[1];
  const first = await open(address("Open"), phone);
  await first.getByText("Online", { exact: true }).waitFor();
  await first.getByRole("button", { name: "laptop" }).click();
  await first.getByLabel("Task").fill("Add a changelog");
  await first.getByRole("button", { name: "Start" }).click();
  await first.getByText("mkdir -p add-a-changelog").waitFor();
  await shot(first, "demo-approve");

  await pause(75_000); // what the charts show
  const wide = { viewport: { width: 1280, height: 800 } };
  const at = (page) => `http://127.0.0.1:${admin}/console/${page}`;
  const overview = await open(at(""), wide);
  await overview.getByText("checks found nothing wrong").waitFor();
  await pause(3_000);
  await shot(overview, "console-overview");

  const device = async (name, options) => {
    const page = await open(at("devices/bob/desktop"), options);
    await page.getByText("order-2").first().click();
    await page.getByText("stored", { exact: false }).last().waitFor();
    await pause(1_000);
    await shot(page, name);
  };
  await device("console-device", wide);
  await device("console-phone", { viewport: { width: 390, height: 844 } });
  const live = await open(at("live"), { ...wide, colorScheme: "dark" });
  await pause(6_000);
  await shot(live, "console-live");

  // README's: both side by side.
  const image = (name) => `data:image/png;base64,${readFileSync(join(out, `${name}.png`)).toString("base64")}`;
  const both = await (await browser.newContext({ viewport: { width: 1580, height: 820 } })).newPage();
  await both.setContent(`<body style="margin:0;background:#e9eaee;display:flex;align-items:center;justify-content:space-evenly;height:820px">
    <img src="${image("demo-approve")}" style="height:780px;border:5px solid #24262d">
    <img src="${image("console-overview")}" style="width:1145px;border:1px solid #c4c7ce"></body>`);
  await shot(both, "side-by-side");

  // A second phone sees what the first one does.
  await first.getByRole("button", { name: "Approve" }).click();
  await first.getByText("README.md").first().waitFor();
  await first.getByRole("button", { name: "Approve" }).click();
  const second = await open(address("A second phone:"), { ...phone, colorScheme: "dark" });
  await second.getByText("for i in 1 2 3 4 5").first().waitFor();
  await pause(500);
  await shot(second, "demo-second-phone");
} finally {
  clearInterval(traffic);
  await browser.close();
  for (const child of children) child.kill();
  await pause(2_000);
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
}
