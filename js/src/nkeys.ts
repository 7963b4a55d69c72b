// The text form of NATS keys: base32 of a prefix, 32 bytes and a CRC-16.
import { RccsError } from "./types.js";

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** The bytes of what is known to be base32. */
export function fromBase32(s: string): Uint8Array {
  const out: number[] = [];
  let bits = 0,
    n = 0;
  for (const c of s) {
    const v = parseInt(c, 36); // letters are 10 and more, and 0 to 25 here; 2 to 7 come behind them
    n = ((n << 5) | (v > 9 ? v - 10 : v + 24)) & 0xfff;
    if ((bits += 5) >= 8) out.push((n >> (bits -= 8)) & 0xff);
  }
  return Uint8Array.from(out);
}

export function toBase32(bytes: Uint8Array): string {
  let out = "",
    bits = 0,
    n = 0;
  for (const b of bytes) {
    n = ((n << 8) | b) & 0xfff;
    for (bits += 8; bits >= 5; ) out += alphabet[(n >> (bits -= 5)) & 31];
  }
  return bits ? out + alphabet[(n << (5 - bits)) & 31] : out;
}

/** CRC-16 (XMODEM), low byte first, as it ends a key. */
export function crc16(bytes: Iterable<number>): [number, number] {
  let crc = 0;
  for (const b of bytes) {
    crc ^= b << 8;
    for (let i = 0; i < 8; i++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return [crc & 0xff, crc >> 8];
}

/** A public key as text: U for a user, X for a curve key. */
export function toNkey(kind: "U" | "X" | "A", key: Uint8Array): string {
  const body = [alphabet.indexOf(kind) << 3, ...key];
  return toBase32(Uint8Array.from([...body, ...crc16(body)]));
}

/** The 32 bytes of the user's seed (SU…) in a text. */
export function seedBytes(text: string): Uint8Array {
  const [seed] = /\bSU[A-Z2-7]{56}\b/.exec(text) ?? [];
  if (!seed) throw new RccsError("AUTH_ERROR", "not a .creds text");
  return fromBase32(seed).slice(2, 34);
}

/** The claims of a JWT, which are not checked here. */
export function claimsOf(jwt: string): any {
  try {
    return JSON.parse(new TextDecoder().decode(fromBase64(jwt.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))));
  } catch {
    return {};
  }
}

export const fromBase64 = (s: string): Uint8Array => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));

/** Of a few kilobytes at most: each byte is an argument of a call. */
export const toBase64url = (b: Uint8Array): string =>
  btoa(String.fromCharCode(...b))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=/g, "");
