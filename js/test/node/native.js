// Leaves Node with the names that React Native has, and those that the language itself has.
import { WebSocket } from "ws";

const own = ["WebSocket", "console", "crypto", "fetch", "process", "queueMicrotask", "structuredClone", "URL", "URLSearchParams", "TextEncoder", "TextDecoder", "Headers", "Request", "Response", "FormData", "Blob", "atob", "btoa", "performance", "global"];
const timers = ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "setImmediate", "clearImmediate"];
const aborts = ["AbortController", "AbortSignal", "DOMException"];
const language = Object.getOwnPropertyNames(globalThis).filter((name) => /^[A-Z]/.test(name) && !/^(Event|EventTarget|Message|Broadcast|Worker|Navigator|Storage|Custom|Close|Performance|Readable|Writable|Transform|Byte|Compression|Decompression|Count|File|Crypto|Subtle)/.test(name));
globalThis.WebSocket = WebSocket;
const kept = new Set([...own, ...timers, ...aborts, ...language]);
for (const name of Object.getOwnPropertyNames(globalThis)) if (!kept.has(name) && !/^(globalThis|Infinity|NaN|undefined|eval|isFinite|isNaN|parse|decode|encode|escape|unescape)/.test(name)) delete globalThis[name];
for (const name of ["document", "window", "navigator", "localStorage", "indexedDB", "MessageChannel", "BroadcastChannel", "addEventListener"])
  if (name in globalThis) throw new Error(`${name} is still there`);
