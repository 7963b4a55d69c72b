// Traffic that is the same in Node and in a page: nothing here needs either.
import type { Client } from "@rccs/client";

export const pause = (ms: number) => new Promise((r) => setTimeout(r, ms));

/** What a device has sent and got, in the order in which it did. It may outlive the program. */
export interface Ledger {
  sent: number;
  got: number[];
  failed: string[];
}

/** Writes down the numbers that come, and sends those below n that were not sent yet. */
export async function exchange(client: Client, to: string, n: number, ledger: Ledger): Promise<void> {
  client.on("n", (p) => void ledger.got.push(p));
  const all: Promise<unknown>[] = [];
  while (ledger.sent < n) {
    const i = ledger.sent++;
    all.push(client.send("n", i, { to }).catch((e) => ledger.failed.push(`${i}: ${e.code}: ${e.message}`)));
    if (i % 25 === 24) await pause(10);
  }
  await Promise.all(all);
}

/** Returns what sends so many messages to another device of this program, and waits until its handler has had them all. */
export function bursts(from: Client, to: Client, name: string): (n: number) => Promise<void> {
  let got = 0;
  to.on("n", () => void got++);
  return async (n) => {
    const want = got + n;
    for (let i = 0; i < n; i += 2000) await Promise.all(Array.from({ length: 2000 }, (_, j) => from.send("n", { i: i + j, text: "x".repeat(64) }, { to: name })));
    while (got < want) await pause(20);
  };
}
