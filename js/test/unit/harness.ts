import { afterEach, beforeEach, expect, vi } from "vitest";
import { connect, type Client, type Options, type RccsError } from "@rccs/client";
import { Edge, type EdgeOptions } from "../edge.js";

/** Closed after the test. */
export const open: Client[] = [];
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"] }));
afterEach(async () => {
  const all = open.splice(0).map((c) => c.close());
  await vi.advanceTimersByTimeAsync(2000);
  await Promise.all(all);
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

export function start(o: EdgeOptions = {}, { url = "ws://edge.test/v1/ws", ...more }: Partial<Options> & { url?: string } = {}, edge = new Edge(o)) {
  const errors: RccsError[] = [];
  const states: string[] = [];
  const client = connect(url, { token: () => "token", WebSocket: edge.WebSocket, ...more } as Options);
  client.onError((e) => errors.push(e));
  client.onState((s) => states.push(s));
  open.push(client);
  return { edge, client, errors, states };
}
export type Started = ReturnType<typeof start>;

/** Has the connection last, so that the next one is tried at once. */
export const last = (ms = 6000) => vi.advanceTimersByTimeAsync(ms);
export async function online(o: EdgeOptions = {}, more: Partial<Options> = {}, edge?: Edge) {
  const s = start(o, more, edge);
  await s.client.ready();
  await last();
  return s;
}
