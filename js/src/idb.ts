import { memoryStore } from "./store.js";
import type { Store } from "./types.js";
export const indexedDBStore = (_name: string): Store => memoryStore();
