import { SHARE, type SharedStore } from "./client.js";
import { shared } from "./share.js";
import type { Store } from "./types.js";
import { newId } from "./wire.js";

const request = <T>(r: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error);
  });

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
      return request(r).then((db) => {
        db.onversionchange = db.onclose = () => {
          db.close();
          opened = undefined;
        };
        return db;
      });
    })());

  // What is set in one turn is one transaction: they are what takes time.
  let changes: Array<[key: string, value?: string]> = [],
    writing: Promise<void> | undefined;
  const change = (...c: [key: string, value?: string]) => {
    changes.push(c);
    if (leaving) save();
    else if (!watching) watch();
    return (writing ??= write());
  };

  // A page that ends takes with it the transactions that wait for others: what is in them is left in localStorage, which is written
  // at once, for whoever reads the store next. A worker has none.
  const unwritten = new Set<typeof changes>();
  const left = `rccs:${name}:left:`;
  const mine = left + newId();
  let leaving = false,
    watching = false, // for the page's end, while there is something to lose
    saved = false;
  const save = () => {
    const all = [...unwritten, changes].flat();
    if (!all.length) return;
    try {
      localStorage.setItem(mine, JSON.stringify(all));
      saved = true;
    } catch {
      // Full, or not allowed: then only what the database has is kept.
    }
  };
  const watch = () => {
    watching = true;
    globalThis.addEventListener?.("pagehide", leave, { once: true });
  };
  const leave = () => {
    leaving = true;
    watching = false;
    globalThis.addEventListener("pageshow", () => void (leaving = false), { once: true });
    save();
  };
  const takeLeft = async () => {
    if (typeof localStorage !== "object") return;
    for (const key of Object.keys(localStorage))
      if (key.startsWith(left) && key !== mine) {
        await Promise.all(JSON.parse(localStorage.getItem(key) ?? "[]").map((c: [string, string?]) => change(...c)));
        localStorage.removeItem(key);
      }
  };
  const write = async () => {
    const db = await database();
    await Promise.resolve();
    writing = undefined;
    const batch = changes;
    changes = [];
    unwritten.add(batch);
    const tx = db.transaction("kv", "readwrite", { durability: "strict" });
    const kv = tx.objectStore("kv");
    for (const [key, value] of batch) value === undefined ? kv.delete(key) : kv.put(value, key);
    tx.commit?.(); // without it, a page that is reloaded or closed now takes the transaction with it
    await new Promise<void>((resolve, reject) => {
      tx.oncomplete = () => resolve();
      tx.onabort = () => reject(tx.error);
    }).finally(() => unwritten.delete(batch));
    if (leaving || unwritten.size || changes.length) return;
    if (saved) localStorage.removeItem(mine); // it did not end
    globalThis.removeEventListener?.("pagehide", leave);
    watching = false;
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
      await takeLeft();
      const store = await kv("readonly");
      const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
      const [keys, values] = await Promise.all([request(store.getAllKeys(range)), request(store.getAll(range))]);
      return keys.map((key, i) => [key as string, values[i] as string]);
    },
    [SHARE]: (open) => shared(`rccs:${name}`, open, claim),
  };
  return store;
}
