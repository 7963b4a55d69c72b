/**
 * For Node: a store of files, and a WebSocket.
 * @module
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Store } from "./types.js";
import { newStamp } from "./wire.js";

let found: any = (globalThis as any).WebSocket;
if (!found) {
  try {
    found = (await import("ws")).WebSocket;
  } catch {
    // Whoever needs it is told by connect().
  }
}
/** Node's own WebSocket, or that of `ws` where Node has none: pass it to connect(). */
export const WebSocket: new (url: string, protocols?: string[]) => WebSocket = found;
type WebSocket = globalThis.WebSocket;

/** How much of the file may be of no more use before it is written anew. */
const wasteBytes = 1 << 20;

/**
 * A store in a directory, which is made when there is none. What was set survives the end of the program and of the machine. One
 * program at a time may use a directory.
 */
export function fileStore(directory: string): Store {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, "rccs.log");
  const all = new Map<string, string>();
  let size = 0, // of the file
    live = 0; // of what is still of use in it
  const record = (key: string, value?: string) => JSON.stringify(value === undefined ? [key] : [key, value]) + "\n";
  const put = (key: string, value?: string) => {
    const old = all.get(key);
    if (old !== undefined) live -= key.length + old.length;
    if (value === undefined) all.delete(key);
    else {
      all.set(key, value);
      live += key.length + value.length;
    }
  };

  /** Replaces the file as a whole, so that it is never half a file. */
  const rewrite = () => {
    const next = openSync(`${path}.new`, "w", 0o600);
    const text = [...all].map(([key, value]) => record(key, value)).join("");
    writeSync(next, text);
    fsyncSync(next);
    closeSync(next);
    renameSync(`${path}.new`, path);
    size = Buffer.byteLength(text);
  };

  try {
    const text = readFileSync(path, "utf8");
    for (const line of text.split("\n").slice(0, -1)) {
      try {
        const [key, value] = JSON.parse(line);
        put(key, value);
      } catch {
        // The end of the program cut this record off.
      }
    }
    for (const key of all.keys()) newStamp(key); // what is sent from now on sorts behind it, also if the clock was set back
    size = Buffer.byteLength(text);
    if (!text.endsWith("\n") || size > wasteBytes + 2 * live) rewrite();
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== "ENOENT") throw e;
  }

  // What is set in one turn is written together, and waits for the disk together.
  let lines: string[] = [],
    writing: Promise<void> | undefined;
  const write = async () => {
    await Promise.resolve();
    const text = lines.join("");
    lines = [];
    writing = undefined;
    let file: FileHandle | undefined;
    try {
      file = await open(path, "a", 0o600);
      await file.appendFile(text);
      await file.datasync();
    } finally {
      await file?.close();
    }
    size += Buffer.byteLength(text);
  };
  let chain: Promise<unknown> = Promise.resolve();
  const change = (key: string, value?: string): Promise<void> => {
    put(key, value);
    lines.push(record(key, value));
    if (!writing) {
      const mine = (writing = chain.then(write));
      chain = mine
        .then(() => {
          if (size > wasteBytes + 2 * live && !lines.length) rewrite();
        })
        .catch(() => {});
    }
    return writing;
  };

  return {
    get: async (key) => all.get(key),
    set: (key, value) => change(key, value),
    delete: (key) => (all.has(key) ? change(key) : Promise.resolve()),
    list: async (prefix) => [...all].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1)),
  };
}
