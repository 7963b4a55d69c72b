// A scripted edge without a network: what a test does not script, it answers as an edge would.
type Frame = any;

export interface EdgeOptions {
  session?: Record<string, unknown>;
  /** Answers an envelope of the device; true when it has dealt with it. */
  answer?: (e: Frame, socket: FakeSocket) => boolean | void;
  /** Takes the registration, instead of accepting it. */
  register?: (e: Frame, socket: FakeSocket) => boolean | void;
  /** Refuses to connect. */
  down?: boolean;
}

/** An edge: pass `edge.WebSocket` to connect(). */
export class Edge {
  sockets: FakeSocket[] = [];
  /** All envelopes of devices, but heartbeats. */
  got: Frame[] = [];
  /** All frames as text. */
  frames: string[] = [];
  heartbeats = 0;
  seq = 0;
  readonly WebSocket: any;

  constructor(public o: EdgeOptions = {}) {
    const edge = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url: string, protocols?: string[]) {
        super(edge, url, protocols);
      }
    };
  }

  get socket(): FakeSocket {
    const s = this.sockets.at(-1);
    if (!s) throw new Error("nobody has connected");
    return s;
  }

  of(type: string): Frame[] {
    return this.got.filter((e) => e.type === type);
  }

  /** Waits for a condition, also while timers are fake. */
  async until(f: () => unknown, what = String(f)): Promise<void> {
    for (const end = clock() + 60_000_000_000n; clock() < end; ) { // what runs on other threads, such as cryptography, takes a while
      if (f()) return;
      await tick();
    }
    throw new Error(`never came: ${what}`);
  }
}

const realImmediate = setImmediate;
const clock = process.hrtime.bigint;
/** Lets everything run that waits for no timer. */
export const tick = () => new Promise<void>((r) => realImmediate(r));
export const settle = async () => {
  for (let i = 0; i < 10; i++) await tick();
};

export class FakeSocket {
  readyState = 0;
  bufferedAmount = 0;
  onmessage?: (m: { data: string }) => void;
  onclose?: (c: { code: number; reason: string }) => void;
  onerror?: () => void;
  registration?: Frame;
  /** The device's side says nothing of this end any more, and hears nothing. */
  dead = false;

  constructor(
    readonly edge: Edge,
    readonly url: string,
    readonly protocols?: string[],
  ) {
    new URL(url); // throws on what is none, as a WebSocket does
    edge.sockets.push(this);
    queueMicrotask(() => {
      if (edge.o.down) return this.end(1006);
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.say({ type: "device_register", payload: { challenge: "nonce", nonce: "nonce", serverTime: new Date().toISOString() } });
    });
  }

  /** From the edge to the device. */
  say(...all: Frame[]): void {
    if (this.dead || this.readyState !== 1) return;
    this.onmessage?.({ data: JSON.stringify(all.length === 1 ? all[0] : all) });
  }
  ack(id: string, payload: object = { status: "success" }): void {
    this.say({ type: "ack", fromDeviceId: "server", payload: { originalMessageId: id, ...payload } });
  }
  refuse(id: string | undefined, code: string, more: object = {}): void {
    this.say({ type: "error", fromDeviceId: "server", payload: { code, message: code, originalMessageId: id, ...more } });
  }
  accept(e: Frame): void {
    this.ack(e.id, { status: "accepted", recipients: [{ deviceId: "desktop", seq: 1 }], duplicate: false });
  }
  /** A durable message to the device. */
  message(payload: unknown, more: Frame = {}): Frame {
    const seq = ++this.edge.seq;
    const e = { type: "note", id: `m${seq}`, fromDeviceId: "other", seq, priority: 1, timestamp: "2025-01-31T12:00:00.000Z", payload, ...more };
    this.say(e);
    return e;
  }

  /** The edge, or the network, ends the connection. */
  end(code = 1006, reason = ""): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    if (!this.dead) this.onclose?.({ code, reason });
  }

  // From the device to the edge.
  send(data: string): void {
    if (this.dead) return;
    this.edge.frames.push(data);
    const frame = JSON.parse(data);
    for (const e of Array.isArray(frame) ? frame : [frame]) {
      if (e.type === "heartbeat") this.edge.heartbeats++;
      else this.edge.got.push(e);
      queueMicrotask(() => this.answer(e));
    }
  }
  close(code = 1000): void {
    if (this.readyState >= 2) return;
    this.readyState = 2;
    queueMicrotask(() => this.end(code));
  }

  private answer(e: Frame): void {
    const { o } = this.edge;
    if (this.readyState !== 1) return;
    if (e.type === "device_register") {
      this.registration ??= e;
      if (o.register?.(e, this)) return;
      return this.ack(e.id, {
        status: "success",
        sessionId: "s",
        deviceId: "phone",
        userId: "alice",
        serverTime: new Date().toISOString(),
        resumed: false,
        pending: 0,
        heartbeatIntervalMs: 30_000,
        maxMessageBytes: 1 << 20,
        window: 256,
        ...o.session,
      });
    }
    if (o.answer?.(e, this)) return;
    switch (e.type) {
      case "heartbeat":
      case "device_status":
      case "unsubscribe":
        return this.ack(e.id);
      case "subscribe":
        return this.ack(e.id, { status: "success", topic: e.payload.topic, seq: 0 });
      case "publish":
        return this.ack(e.id, { status: "accepted", topic: e.payload.topic, seq: ++this.edge.seq, duplicate: false });
      case "device_list":
        return this.ack(e.id, { status: "success", devices: [] });
      case "history":
        return this.ack(e.id, { status: "success", messages: [] });
      case "device_unregister":
        this.ack(e.id);
        return this.end(1000);
      case "request":
      case "response":
        return;
      case "ack":
        if (e.payload?.cancel && e.id) this.ack(e.payload.cancel, { status: "success", cancelled: 1 }); // as an edge does, under that id
        return;
      default:
        this.accept(e);
    }
  }
}
