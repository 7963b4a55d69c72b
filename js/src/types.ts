// The public types. What they cannot say is in the README and on each function.

/** Where the connection stands. `closed` is final. */
export type State = "connecting" | "online" | "offline" | "closed";
/** The lanes of an inbox, lowest first. */
export type Priority = "low" | "normal" | "high" | "critical";
/** What a device may say of itself; `offline` is said by the edge. */
export type Status = "online" | "away" | "busy";
/** What a device can do. One is held when its value is true, a number other than 0, or a list that is not empty. */
export type Capabilities = Record<string, boolean | number | ReadonlyArray<unknown>>;
/** Whom a message is for. Without it the message's type decides; mostly that is every other device of the user. */
export type To =
  | string
  | { device: string }
  | { deviceType: string; mode?: "all" | "any" }
  | { capability: string; mode?: "all" | "any" }
  | { mode: "all" | "any" }
  | { service: true };

/** What the client keeps: its outbox, what it has handed on, epochs. A key has one value; `list` is in key order. */
export interface Store {
  get(key: string): Promise<string | undefined>;
  set(key: string, value: string): Promise<void>;
  delete(key: string): Promise<void>;
  list(prefix: string): Promise<Array<[key: string, value: string]>>;
}

/** From enroll(); may be stored as it is (IndexedDB keeps the key, which cannot be taken out). */
export interface Credentials {
  jwt: string;
  key: CryptoKeyPair | string;
  expiresAt: string;
  renewUntil: string;
}

/** The options that every way of signing in has. */
export interface Common {
  type?: string;
  platform?: string;
  version?: string;
  capabilities?: Capabilities;
  /** Default: memoryStore(), which lasts as long as the program. */
  store?: Store;
  /** How many messages may be handed on and not acknowledged; default 256, at most 4,096. */
  window?: number;
  heartbeatMs?: number;
  /** How long the edge holds `offline` back after a lost connection. */
  offlineDelayMs?: number;
  maxFrameBytes?: number;
  /** Bounds of the wait between two tries; default 500 ms and 20 s. */
  backoff?: { minMs?: number; maxMs?: number };
  /** Bounds of what waits to be accepted; default 10,000 messages and 16 MiB. Past them `send` fails with OUTBOX_FULL. */
  outbox?: { maxMessages?: number; maxBytes?: number };
  /** Where there is no global one (Node 20): pass that of `ws`. Without any, connect throws NO_WEBSOCKET and says so. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocket;
}

/** Options of connect(). */
export type Options = Common &
  (
    | { token: string | (() => string | Promise<string>) }
    /** A .creds text, or what enroll returned; onRenewed is called with what to keep from then on. */
    | { credentials: string | Credentials; onRenewed?: (c: Credentials) => void | Promise<void> }
  );

/** What the edge answered to the registration. */
export interface Session {
  sessionId: string;
  deviceId: string;
  userId: string;
  resumed: boolean;
  pending: number;
  window: number;
  maxMessageBytes: number;
  maxFrameBytes?: number;
  expiresAt?: string;
  epoch?: string;
}
/** Another device came, went or changed its status. */
export interface Presence {
  deviceId: string;
  status: string;
  type?: string;
  lastSeen?: string;
  [more: string]: unknown;
}
/** Messages that are gone: how many, of which lane or topic, and why. */
export interface Gap {
  from: number;
  to: number;
  count: number;
  reason?: string;
  lane?: string;
  topic?: string;
  atLeast?: number;
}
/** What became of a message at one recipient. */
export interface Outcome {
  id: string;
  status: "delivered" | "expired" | "replaced" | "rejected" | "undeliverable";
  deviceId: string;
  reason?: string;
}
/** A message as a handler gets it. `seq` is absent for an ephemeral one. */
export interface Message {
  id: string;
  type: string;
  fromDeviceId: string;
  seq?: number;
  priority: Priority;
  timestamp: string;
  payload: any;
  correlationId?: string;
  redelivered?: boolean;
  replay?: boolean;
  encoding?: "base64";
}
/** The edge has stored the message for these recipients. */
export interface Sent {
  id: string;
  duplicate: boolean;
  recipients: Array<{ deviceId: string; seq?: number }>;
}
/** How a message is sent. */
export interface SendOptions {
  to?: To;
  /** Unique for this device; made when absent. */
  id?: string;
  priority?: Priority;
  /** Not delivered after this age. */
  ttlMs?: number;
  deliverAt?: Date | string;
  /** Replaces an earlier message with this key that was not sent yet. */
  collapseKey?: string;
  correlationId?: string;
  /** Never stored: reaches devices connected now. */
  ephemeral?: boolean;
  /** Have onOutcome hear what becomes of it at each recipient. */
  track?: boolean;
  signal?: AbortSignal;
}
/** How a request is asked. `timeoutMs` is 10 s by default. */
export interface RequestOptions {
  to: string;
  timeoutMs?: number;
  signal?: AbortSignal;
}
/** Of a request that is handled: who asks, and when to stop. */
export interface Handling {
  from: string;
  signal: AbortSignal;
}
/** A message of a topic, or that some are gone. */
export type TopicItem = { seq: number; data: any; from: string; timestamp: string; gap?: undefined } | { gap: Gap };
/** A device of the user, this one among them. */
export interface Device {
  id: string;
  type: string;
  status: string;
  platform?: string;
  version?: string;
  capabilities?: Capabilities;
  lastSeen?: string;
  [more: string]: unknown;
}

/** One device of a user. Each `on…` returns a function that ends it. */
export interface Client {
  readonly state: State;
  /** What the registration answered, or undefined. */
  readonly session: Session | undefined;
  /** Resolves when online; rejects when it never will be. */
  ready(o?: { signal?: AbortSignal }): Promise<void>;
  onState(f: (s: State) => void): () => void;
  onPresence(f: (p: Presence) => void): () => void;
  onGap(f: (g: Gap) => void): () => void;
  onError(f: (e: RccsError) => void): () => void;
  onOutcome(f: (o: Outcome) => void): () => void;
  /** Puts a message into the store at once, and sends it under one id until the edge has accepted it. */
  send(type: string, payload: unknown, o?: SendOptions): Promise<Sent>;
  /** Takes back a delayed message: at how many recipients. */
  cancel(id: string): Promise<number>;
  /** Hands on messages of a type, or of all ("*"). Acknowledged when the handler's promise resolves. */
  on(type: string, f: (payload: any, message: Message) => unknown): () => void;
  request(method: string, params: unknown, o: RequestOptions): Promise<any>;
  /** A response in parts; leaving the loop cancels the request. */
  requestStream(method: string, params: unknown, o: RequestOptions): AsyncGenerator<any>;
  /** Answers requests. An async generator answers in parts. */
  handle(method: string, f: (params: any, ctx: Handling) => unknown): () => void;
  /** A topic's messages, in order, through lost connections. */
  subscribe(topic: string, o?: { since?: number | string | Date; signal?: AbortSignal }): AsyncGenerator<TopicItem>;
  publish(topic: string, data: unknown, o?: { id?: string }): Promise<{ seq: number; duplicate: boolean }>;
  /** What is stored, without acknowledging anything. */
  history(o: { inbox: true; from?: number } | { topic: string; from?: number }): AsyncGenerator<Message>;
  devices(): Promise<Device[]>;
  setStatus(s: Status, more?: Record<string, unknown>): Promise<void>;
  /** Removes this device and its inbox from the edge, and closes. */
  forget(): Promise<void>;
  /** Ends the connection. What was stored is sent by the next client on that store. */
  close(): Promise<void>;
}

/**
 * Why something failed. `code` is one of the protocol's, or NO_WEBSOCKET, CLOSED, ABORTED, CONNECTION_LOST, OUTBOX_FULL,
 * METHOD_NOT_FOUND, or the other device's own.
 */
export class RccsError extends Error {
  declare readonly code: string;
  declare readonly retryAfterMs?: number;
  constructor(code: string, message?: string, options?: { retryAfterMs?: number; cause?: unknown }) {
    super(message || code, options);
    this.name = "RccsError";
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }
}

/** Thrown by a handler: the message is refused and not sent again. */
export class Reject extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = "Reject";
  }
}
