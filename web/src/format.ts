// How values are written for people. All of it is text: Preact escapes it, and
// `visible` keeps control and bidirectional characters of names and payloads
// from playing tricks with a line.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });

export function number(n: number | undefined | null): string {
  if (n === undefined || n === null || Number.isNaN(n)) return "–";
  return Math.abs(n) < 10 && !Number.isInteger(n) ? tenths.format(n) : whole.format(n);
}

export function bytes(n: number | undefined | null): string {
  if (n === undefined || n === null || Number.isNaN(n)) return "–";
  let unit = 0;
  while (n >= 1024 && unit < 5) {
    n /= 1024;
    unit++;
  }
  return `${unit > 0 && n < 100 ? tenths.format(n) : whole.format(n)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}

/** Milliseconds, with a unit that fits. */
export function duration(ms: number | undefined | null): string {
  if (ms === undefined || ms === null || Number.isNaN(ms)) return "–";
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return ago(ms);
}

/** An age in its largest unit or two: "3 d", "2 h 5 min". */
export function ago(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 48) return min % 60 && h < 10 ? `${h} h ${min % 60} min` : `${h} h`;
  return `${Math.floor(h / 24)} d`;
}

export function relative(at: string, now: number): string {
  const ms = now - Date.parse(at);
  if (Number.isNaN(ms)) return "–";
  if (Math.abs(ms) < 1500) return "now";
  return ms >= 0 ? `${ago(ms)} ago` : `in ${ago(-ms)}`;
}

/** The exact time, with its zone. */
export function exact(at: string): string {
  const t = new Date(at);
  if (Number.isNaN(t.getTime())) return at;
  return t.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) + " " + zone(t);
}

function zone(t: Date): string {
  const part = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(t);
  return part.find((p) => p.type === "timeZoneName")?.value ?? "";
}

/** The time of day with milliseconds, for lines that follow each other. */
export function clock(at: string): string {
  const t = new Date(at);
  if (Number.isNaN(t.getTime())) return "";
  return t.toLocaleTimeString("en-GB") + "." + String(t.getMilliseconds()).padStart(3, "0");
}

// eslint-disable-next-line no-control-regex
const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Text in which what cannot be seen is written as an escape. */
export function visible(text: string): string {
  return text.replace(hidden, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

export interface Shown {
  kind: "json" | "text" | "bytes" | "sealed" | "none";
  text: string;
}

const maxShown = 64 * 1024;

/** How a payload is shown: JSON, text, bytes as hex, or that it is sealed. */
export function payload(value: unknown, encoding?: string): Shown {
  if (value === undefined) return { kind: "none", text: "" };
  if (encoding === "base64" && typeof value === "string") return decoded(value);
  if (typeof value === "object" && value !== null && "sealed" in value && Object.keys(value).length === 1) {
    return { kind: "sealed", text: "Sealed by the sending device: only the recipient can read it." };
  }
  if (typeof value === "string") return { kind: "text", text: cut(visible(value)) };
  return { kind: "json", text: cut(visible(JSON.stringify(value, null, 2))) };
}

function decoded(base64: string): Shown {
  let raw: Uint8Array;
  try {
    raw = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  } catch {
    return { kind: "text", text: cut(base64) };
  }
  try {
    return { kind: "text", text: cut(visible(new TextDecoder("utf-8", { fatal: true }).decode(raw))) };
  } catch {
    return { kind: "bytes", text: hex(raw) };
  }
}

function hex(raw: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < raw.length && at < 4096; at += 16) {
    const part = [...raw.subarray(at, at + 16)];
    const digits = part.map((b) => b.toString(16).padStart(2, "0")).join(" ");
    const text = part.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(47)}  ${text}`);
  }
  if (raw.length > 4096) lines.push(`… ${whole.format(raw.length - 4096)} bytes more`);
  return lines.join("\n");
}

function cut(text: string): string {
  return text.length <= maxShown ? text : text.slice(0, maxShown) + `\n… ${whole.format(text.length - maxShown)} characters more`;
}
