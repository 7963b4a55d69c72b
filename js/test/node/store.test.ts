// The store of files, whatever ends the program.
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { connect } from "@rccs/client";
import { fileStore, WebSocket } from "@rccs/client/node";

let dir: string;
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), "rccs-store-"))));
afterEach(() => rmSync(dir, { recursive: true }));
const file = () => join(dir, "rccs.log");

test("what was set is there for the next program, in key order", async () => {
  const a = fileStore(dir);
  await Promise.all([a.set("b/2", "two"), a.set("b/1", "öne\n"), a.set("c", "x"), a.set("d", "gone")]);
  await a.delete("d");
  await a.delete("never");
  const b = fileStore(dir);
  expect(await b.list("b/")).toEqual([["b/1", "öne\n"], ["b/2", "two"]]);
  expect([await b.get("c"), await b.get("d")]).toEqual(["x", undefined]);
  expect(statSync(file()).mode & 0o077).toBe(0);
});

test("a file that is cut at any byte keeps every whole record before it", async () => {
  const a = fileStore(dir);
  await a.set("a", "1");
  await a.set("b", "2");
  const whole = readFileSync(file());
  for (let n = 0; n <= whole.length; n++) {
    writeFileSync(file(), whole.subarray(0, n));
    const b = fileStore(dir);
    const lines = whole.subarray(0, n).toString().split("\n").length - 1;
    expect(await b.list("")).toHaveLength(lines);
    await b.set("c", "3"); // and goes on behind it
    expect(await fileStore(dir).get("c")).toBe("3");
  }
});

test("what is sent sorts behind what an earlier program left, also if the clock was set back meanwhile", async () => {
  const later = `out/${String((Date.now() + 3_600_000) * 1000).padStart(17, "0")}abcd`;
  await fileStore(dir).set(later, JSON.stringify({ id: "left", type: "n", payload: 1 }));
  const client = connect("ws://127.0.0.1:1", { token: "x", store: fileStore(dir), WebSocket });
  client.send("n", 2).catch(() => {});
  await client.close();
  expect((await fileStore(dir).list("out/")).map(([, frame]) => JSON.parse(frame).payload)).toEqual([1, 2]);
});

test("a record that is no JSON is passed over", async () => {
  await fileStore(dir).set("a", "1");
  appendFileSync(file(), "garbage\n");
  appendFileSync(file(), '["b","2"]\n');
  expect(await fileStore(dir).list("")).toEqual([["a", "1"], ["b", "2"]]);
});

test("the file is written anew when it is mostly waste", async () => {
  const a = fileStore(dir);
  for (let i = 0; i < 40; i++) await a.set("k", `${i}`.padEnd(100_000, "x"));
  await a.set("last", "1");
  expect(statSync(file()).size).toBeLessThan(1_500_000);
  expect((await fileStore(dir).get("k"))!.startsWith("39")).toBe(true);
});
