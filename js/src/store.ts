import type { Store } from "./types.js";

/** A store that lasts as long as the program. Two clients, one after the other, may use the same one. */
export function memoryStore(): Store {
  const all = new Map<string, string>();
  return {
    async get(key) {
      return all.get(key);
    },
    async set(key, value) {
      all.set(key, value);
    },
    async delete(key) {
      all.delete(key);
    },
    async list(prefix) {
      return [...all].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
    },
  };
}

/** How the parts of a client write to a store: they need not wait, and failures are told in one place. */
export interface Keeper {
  set(key: string, value: string): Promise<boolean>;
  delete(key: string): void;
  /** Resolves when all has been written. */
  idle(): Promise<void>;
}

export function keeper(store: Store, failed: (e: unknown) => void): Keeper {
  let busy = 0,
    wake: (() => void) | undefined;
  const track = async (p: Promise<void>) => {
    busy++;
    try {
      await p;
      return true;
    } catch (e) {
      failed(e);
      return false;
    } finally {
      if (!--busy) wake?.();
    }
  };
  return {
    set: (key, value) => track(store.set(key, value)),
    delete: (key) => track(store.delete(key)),
    idle: async () => {
      if (busy) await new Promise<void>((r) => (wake = r));
    },
  };
}
