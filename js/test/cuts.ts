// Messages both ways while the line is cut and the server killed, wherever the two devices run.
import { expect } from "vitest";
import { until, type Proxy, type Server } from "./server.js";
import { pause, type Ledger } from "./traffic.js";

/** How many messages go each way. */
export const each = 5000;

/**
 * Cuts all connections 20 times and kills the server three times while two devices exchange numbers, and checks that each has got
 * all of the other's, once and in order. `middle` is called between two faults, while they are at it.
 */
export async function throughCuts(server: Server, proxy: Proxy, read: () => Promise<Ledger[]>, middle = async () => {}): Promise<void> {
  for (let fault = 1; fault <= 23; fault++) {
    await pause(Math.random() * 150);
    if (fault % 7 === 0) {
      await server.kill();
      await server.start();
    } else proxy.cut();
    if (fault === 4) {
      expect((await read()).map((l) => l.got.length < each)).toEqual([true, true]);
      await middle();
    }
  }
  await until(async () => (await read()).every((l) => l.failed.length || l.got.length >= each), "everything has arrived", 300_000).catch(async (e) => {
    const brief = (await read()).map(({ sent, got, failed }) => ({ sent, got: got.length, first: got.findIndex((n, i) => n !== i), last: got.at(-1), failed }));
    throw new Error(`${e.message}: ${JSON.stringify(brief)}`);
  });
  await pause(500); // what comes twice may come late
  const want = { sent: each, got: Array.from({ length: each }, (_, i) => i), failed: [] };
  for (const l of await read()) expect(l).toEqual(want);
}
