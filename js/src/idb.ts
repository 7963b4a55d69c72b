import { SHARE, type SharedStore } from "./client.js";
import { shared, storage } from "./share.js";
import type { Store } from "./types.js";
import { newStamp } from "./wire.js";

const request = <T>(r: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error);
  });

const done = (tx: IDBTransaction): Promise<void> =>
  new Promise((resolve, reject) => {
    tx.oncomplete = () => resolve();
    tx.onabort = () => reject(tx.error);
  });

/** A key and what it is set to; nothing deletes it. */
type Change = [key: string, value?: string];

/**
 * A store in the browser's IndexedDB, which outlives reloads and restarts. Pages of one origin that use the same name share one
 * connection: one of them holds it, the others send and receive through it.
 */
export function indexedDBStore(name: string): Store {
  let opened: Promise<IDBDatabase> | undefined;
  const database = () =>
    (opened ??= (() => {
      const r = indexedDB.open(`rccs:${name}`, 1);
      r.onupgradeneeded = () => r.result.createObjectStore("kv");
      return request(r).then(
        (db) => {
          db.onversionchange = db.onclose = () => {
            db.close();
            opened = undefined;
          };
          return db;
        },
        (e) => {
          opened = undefined;
          throw e;
        },
      );
    })());

  // One transaction at a time writes what was set since the last one. Until then a copy is in localStorage, which is written in the turn in
  // which something was set: a page that ends, however it does, takes with it the transactions that wait. Whoever reads the store next
  // puts the copies into the database. A worker has no localStorage.
  let changes = new Map<string, string | undefined>(), // not in a transaction yet
    turn: Change[] = [], // set in this turn
    copies: string[] = [], // keys in localStorage of what is in changes
    last: Promise<void> = Promise.resolve(),
    next: Promise<void> | undefined;
  const local = storage("localStorage");
  const copyPrefix = `rccs:${name}:left:`;
  // The highest stamp of any page. What is sent before the database has been read sorts behind it, also if the clock was set back.
  const highest = `rccs:${name}:stamp`;
  newStamp(local?.getItem(highest));
  const mine = new Set<string>();
  const copy = () => {
    if (!turn.length) return;
    const stamp = newStamp(),
      key = copyPrefix + stamp;
    try {
      if (!(local?.getItem(highest)! > stamp)) local?.setItem(highest, stamp);
      local?.setItem(key, JSON.stringify(turn));
      copies.push(key);
      mine.add(key);
    } catch {
      // Full: then only what the database has is kept.
    }
    turn = [];
  };
  const removeCopy = (key: string) => {
    local?.removeItem(key);
    mine.delete(key);
  };
  const change = (...c: Change): Promise<void> => {
    changes.set(...c);
    if (turn.push(c) === 1) queueMicrotask(copy);
    return (next ??= last = last.catch(() => {}).then(write));
  };
  const put = (kv: IDBObjectStore, [key, value]: Change) => (value === undefined ? kv.delete(key) : kv.put(value, key));
  const write = async () => {
    copy();
    const batch = changes,
      copied = copies;
    changes = new Map();
    copies = [];
    next = undefined;
    try {
      const tx = (await database()).transaction("kv", "readwrite", { durability: "strict" });
      for (const c of batch) put(tx.objectStore("kv"), c);
      tx.commit?.(); // without it, a page that is reloaded or closed now takes the transaction with it
      await done(tx);
    } finally {
      copied.forEach(removeCopy);
    }
  };
  /** Puts into the database what pages that are gone had not put there. */
  const takeCopies = async () => {
    const find = () =>
      Object.keys(local ?? {})
        .filter((key) => key.startsWith(copyPrefix) && !mine.has(key))
        .sort();
    if (!find().length) return;
    const all = await kv("readwrite");
    await request(all.get("")); // what a living page puts there itself, before it may delete it, is there now, and its copy gone
    const found = find();
    for (const key of found) for (const c of JSON.parse(local!.getItem(key) ?? "[]")) put(all, c);
    await done(all.transaction);
    found.forEach(removeCopy);
  };
  const kv = async (mode: IDBTransactionMode) => (await database()).transaction("kv", mode).objectStore("kv");

  /** Takes a lease unless another page has one that has not ended: for browsers without Web Locks. */
  const claim = async (page: string, ms: number): Promise<boolean> => {
    const store = await kv("readwrite");
    const now = Date.now();
    const held = JSON.parse((await request(store.get("lease"))) ?? "{}");
    if (held.page !== page && held.until > now && held.until < now + 2 * ms) return false;
    if (ms) await request(store.put(JSON.stringify({ page, until: now + ms }), "lease"));
    else await request(store.delete("lease"));
    return true;
  };

  const store: SharedStore = {
    async get(key) {
      return request((await kv("readonly")).get(key));
    },
    set: (key, value) => change(key, value),
    delete: (key) => change(key),
    async list(prefix) {
      await takeCopies();
      const store = await kv("readonly");
      const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
      const [keys, values] = await Promise.all([request(store.getAllKeys(range)), request(store.getAll(range))]);
      return keys.map((key, i) => [key as string, values[i] as string]);
    },
    [SHARE]: (open) => shared(`rccs:${name}`, store, open, claim),
  };
  return store;
}
