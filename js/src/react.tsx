/**
 * Hooks for React 18 and later.
 * @module
 */
import { createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore, type ReactNode } from "react";
import type { Client, Device, Message, State, TopicItem } from "./types.js";

const Context = createContext<Client | undefined>(undefined);

/** Gives a client to the hooks below it. Whoever made the client closes it. */
export function RccsProvider(p: { client: Client; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: p.client }, p.children);
}

/** The client of the RccsProvider above. */
export function useRccs(): Client {
  const client = useContext(Context);
  if (!client) throw new Error("there is no RccsProvider above this component");
  return client;
}

/** Where the connection stands. */
export function useConnection(): State {
  const client = useRccs();
  return useSyncExternalStore(
    client.onState,
    () => client.state,
    () => "connecting" as const,
  );
}

/** A value that a subscription keeps; each change is a new one, so that React sees it. */
interface Live<T> {
  subscribe(changed: () => void): () => void;
  get(): T;
}
function useLive<T>(make: () => Live<T>, deps: readonly unknown[]): T {
  const live = useMemo(make, deps);
  return useSyncExternalStore(live.subscribe, live.get, live.get);
}

/** The user's devices, this one among them, as they come, go and change. */
export function useDevices(): Device[] {
  const client = useRccs();
  return useLive(() => liveDevices(client), [client]);
}

function liveDevices(client: Client): Live<Device[]> {
  let devices: Device[] = [];
  return {
    get: () => devices,
    subscribe(changed) {
      let ended = false;
      const read = async () => {
        if (client.state !== "online") return;
        try {
          const now = await client.devices();
          if (ended) return;
          devices = now;
          changed();
        } catch {
          // The next connection reads it.
        }
      };
      const offs = [
        client.onState(() => void read()),
        client.onPresence(({ deviceId, ...p }) => {
          const known = devices.find((d) => d.id === deviceId);
          if (!known) return void read(); // a device that was not there before
          devices = devices.map((d) => (d === known ? { ...d, ...p } : d));
          changed();
        }),
      ];
      void read();
      return () => {
        ended = true;
        for (const off of offs) off();
      };
    },
  };
}

/** Hands on messages of a type, or of all ("*"), to the newest handler, while the component is there. */
export function useMessages(type: string, handler: (payload: any, message: Message) => unknown): void {
  const client = useRccs();
  const newest = useRef(handler);
  useEffect(() => {
    newest.current = handler;
  });
  useEffect(() => client.on(type, (payload, message) => newest.current(payload, message)), [client, type]);
}

/** A topic's messages since the component came, or since `since`. */
export function useTopic(topic: string, o: { since?: number | string | Date } = {}): TopicItem[] {
  const client = useRccs();
  const since = o.since instanceof Date ? o.since.toISOString() : o.since;
  return useLive(() => liveTopic(client, topic, since), [client, topic, since]);
}

function liveTopic(client: Client, topic: string, since?: number | string): Live<TopicItem[]> {
  let items: TopicItem[] = [];
  return {
    get: () => items,
    subscribe(changed) {
      const stop = new AbortController();
      items = []; // who subscribes again, as StrictMode does, begins again
      void (async () => {
        try {
          for await (const item of client.subscribe(topic, { since, signal: stop.signal })) {
            if (stop.signal.aborted) return;
            items = [...items, item];
            changed();
          }
        } catch {
          // The client has ended, which useConnection tells.
        }
      })();
      return () => stop.abort();
    },
  };
}
