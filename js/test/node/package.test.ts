// What npm pack makes is a package that a program can install and use.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

test("the tarball installs into an empty project without anything else, and each entry point loads", () => {
  const dir = mkdtempSync(join(tmpdir(), "rccs-pack-"));
  try {
    execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", dir], { cwd: fileURLToPath(new URL("../..", import.meta.url)) });
    const [tarball] = readdirSync(dir);
    writeFileSync(join(dir, "package.json"), '{"private":true,"type":"module"}');
    execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", "--silent", "--omit=peer", `./${tarball}`], { cwd: dir });
    writeFileSync(
      join(dir, "use.js"),
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
    const said = execFileSync(process.execPath, ["use.js"], { cwd: dir, encoding: "utf8" });
    expect(said.trim().split("\n")).toEqual(["true CLOSED", "1 true", ...(globalThis.WebSocket ? [] : ["NO_WEBSOCKET"])]);
    expect(readdirSync(join(dir, "node_modules"))).toEqual([".package-lock.json", "@rccs"]);
    const files = readdirSync(join(dir, "node_modules/@rccs/client"));
    for (const f of ["README.md", "CHANGELOG.md", "dist", "src", "package.json"]) expect(files).toContain(f);
    expect(files).not.toContain("test");
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
