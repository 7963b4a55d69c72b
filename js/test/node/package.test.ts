// What npm pack makes is a package that a program can install and use.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Server } from "../server.js";

const js = fileURLToPath(new URL("../..", import.meta.url));
let dir: string;

/** A project that has the tarball and nothing else. */
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "rccs-pack-"));
  execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", dir], { cwd: js });
  const [tarball] = readdirSync(dir);
  writeFileSync(join(dir, "package.json"), '{"private":true,"type":"module"}');
  execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", "--silent", "--omit=peer", `./${tarball}`], { cwd: dir });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const run = (file: string, text: string, ...args: string[]) => {
  writeFileSync(join(dir, file), text);
  return execFileSync(process.execPath, [file, ...args], { cwd: dir, encoding: "utf8" }).trim().split("\n");
};

/** Adds packages that this one has itself. */
const add = (...names: string[]) => {
  for (const name of names) {
    const to = join(dir, "node_modules", name);
    mkdirSync(dirname(to), { recursive: true });
    symlinkSync(join(js, "node_modules", name), to);
  }
};

test("the tarball installs into an empty project without anything else, and each entry point loads", () => {
  const said = run(
    "use.js",
    `import { connect, enroll, indexedDBStore, memoryStore, RccsError, Reject } from "@rccs/client";
     import { fileStore } from "@rccs/client/node";
     const store = fileStore("./state");
     class Nowhere { constructor() { queueMicrotask(() => this.onclose?.({ code: 1006, reason: "" })); } close() {} }
     const c = connect("ws://nowhere", { token: "t", store, WebSocket: Nowhere });
     c.send("note", 1).catch((e) => console.log(e instanceof RccsError, e.code));
     await c.close();
     console.log((await fileStore("./state").list("out/")).length, [enroll, indexedDBStore, memoryStore, Reject].every((f) => typeof f === "function"));
     try { connect("ws://nowhere", { token: "t" }); } catch (e) { console.log(e.code); }`,
  );
  expect(said).toEqual(["true CLOSED", "1 true", ...(globalThis.WebSocket ? [] : ["NO_WEBSOCKET"])]);
  expect(readdirSync(join(dir, "node_modules"))).toEqual([".package-lock.json", "@rccs"]);
  const files = readdirSync(join(dir, "node_modules/@rccs/client"));
  for (const f of ["README.md", "CHANGELOG.md", "dist", "src", "package.json"]) expect(files).toContain(f);
  expect(files).not.toContain("test");
  // What needs a peer names it.
  for (const [entry, peer] of [["react", "react"], ["seal", "tweetnacl"]]) {
    const { stderr } = spawnSync(process.execPath, ["-e", `import("@rccs/client/${entry}")`], { cwd: dir, encoding: "utf8" });
    expect(stderr).toContain(`Cannot find package '${peer}'`);
  }
});

test("each entry point of the tarball does what it is for", async () => {
  const server = await Server.start();
  try {
    add("react", "react-dom", "scheduler", "tweetnacl", "ws");
    for (const device of ["phone", "desktop"]) writeFileSync(join(dir, device), server.creds(`pack/${device}`));
    const said = run(
      "use.js",
      `import { readFileSync } from "node:fs";
       import { createElement } from "react";
       import { renderToString } from "react-dom/server";
       import { connect, enroll } from "@rccs/client";
       import { fileStore, WebSocket } from "@rccs/client/node";
       import { RccsProvider, useConnection, useDevices, useMessages, useRccs, useTopic } from "@rccs/client/react";
       import { sealing } from "@rccs/client/seal";
       const [url, code] = process.argv.slice(2);
       const device = async (name) => {
         const credentials = readFileSync(name, "utf8"), store = fileStore(name + ".state");
         const seal = await sealing({ store, credentials });
         const client = connect(url, { credentials, store, WebSocket, capabilities: seal.capabilities });
         await client.ready();
         return { seal, client };
       };
       const phone = await device("phone"), desktop = await device("desktop");
       const heard = new Promise((done) => desktop.client.on("note", async (_, m) => done(await desktop.seal.open(desktop.client, m))));
       await phone.seal.sendSealed(phone.client, "note", { secret: 1 }, { to: "desktop" });
       console.log(JSON.stringify(await heard));
       const App = () => (useMessages("note", () => {}), [useConnection(), useDevices().length, useTopic("t").length, useRccs() === phone.client].join());
       console.log(renderToString(createElement(RccsProvider, { client: phone.client }, createElement(App))));
       const tablet = connect(url, { credentials: await enroll(url, { code }), WebSocket });
       await tablet.ready();
       console.log(tablet.session.deviceId);
       await Promise.all([phone.client, desktop.client, tablet].map((c) => c.close()));`,
      server.url,
      server.code("pack", "--device", "tablet"),
    );
    expect(said).toEqual(['{"secret":1}', "connecting,0,0,true", "tablet"]);
  } finally {
    await server.stop();
  }
});

test("the first message of the README arrives", async () => {
  const server = await Server.start();
  try {
    add("ws");
    for (const device of ["phone", "desktop"]) writeFileSync(join(dir, `${device}.token`), `${server.token(`alice/${device}`)}\n`);
    const [, program] = /```js first.mjs\n([^]*?)```/.exec(readFileSync(join(js, "README.md"), "utf8"))!;
    const said = run("first.mjs", program!.replace("ws://127.0.0.1:8080", server.url)).join("");
    expect(said).toMatch(/deviceId: 'desktop'.*\{ text: 'hi' \}$/);
  } finally {
    await server.stop();
  }
});

test("the types of the tarball need no newer TypeScript than 5.1", () => {
  const dist = join(dir, "node_modules/@rccs/client/dist");
  for (const file of readdirSync(dist).filter((f) => f.endsWith(".d.ts"))) {
    const types = readFileSync(join(dist, file), "utf8");
    expect(types, file).not.toMatch(/\b(Uint8Array|ArrayBufferView)</); // generic since 5.7
    expect(types, file).not.toMatch(/\bNoInfer</); // since 5.4
  }
});

test("the types of the tarball are found by programs that are resolved as Node does and as bundlers do", () => {
  add("react", "@types/react", "csstype", "tweetnacl", "@types/ws", "@types/node", "ws");
  writeFileSync(
    join(dir, "use.tsx"),
    `import { connect, memoryStore, type Client } from "@rccs/client";
     import { fileStore, WebSocket } from "@rccs/client/node";
     import { RccsProvider, useTopic } from "@rccs/client/react";
     import { sealing, type Sealing } from "@rccs/client/seal";
     const client: Client = connect("ws://nowhere", { token: "t", store: fileStore("."), WebSocket });
     export const seal: Promise<Sealing> = sealing({ store: memoryStore(), credentials: "" });
     export const App = () => <RccsProvider client={client}>{useTopic("t").map((i) => (i.gap ? "" : i.seq))}</RccsProvider>;
     // @ts-expect-error: there is no such lane
     void client.send("note", 1, { priority: "urgent" });
     // @ts-expect-error: neither a token nor credentials
     connect("ws://nowhere", {});`,
  );
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  for (const [module, resolution] of [["nodenext", "nodenext"], ["esnext", "bundler"]])
    execFileSync(process.execPath, [tsc, "--strict", "--noEmit", "--target", "es2022", "--lib", "es2023,dom", "--jsx", "react-jsx", "--module", module!, "--moduleResolution", resolution!, "use.tsx"], { cwd: dir, stdio: "pipe" });
});
