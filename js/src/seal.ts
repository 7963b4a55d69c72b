/**
 * Sealed payloads: what the servers cannot read. See docs/protocol.md, "Sealed payloads"; the Go SDK does the same.
 * @module
 */
import nacl from "tweetnacl";
import { parseCreds, signerOf, signText } from "./auth.js";
import { claimsOf, crc16, fromBase32, toBase32, toBase64url, toNkey } from "./nkeys.js";
import { RccsError, Reject, type Capabilities, type Client, type Credentials, type Device, type Message, type SendOptions, type Sent, type Store } from "./types.js";
import { newId, utf8 } from "./wire.js";

export interface Sealing {
  /** What to register with, so that others can seal to this device. */
  capabilities: Capabilities;
  /** Seals the payload to one device, and sends it. */
  sendSealed(c: Client, type: string, payload: unknown, o: SendOptions & { to: string }): Promise<Sent>;
  /**
   * The payload of a sealed message; of one that is not sealed, its payload as it is. Throws a Reject for one that can never be
   * believed, and an RccsError SEAL_CHANGED when the sender has another key than the one that is pinned.
   */
  open(c: Client, message: Message): Promise<any>;
  /** Pins the key that a device has now, after its owner has compared it. */
  accept(c: Client, device: string): Promise<void>;
}

interface Box {
  from: string;
  to: string;
  box: string;
}

const statement = (name: string, key: string) => `rccs seal key 1\n${name}\n${key}`;
const fromBase64url = (s: string): Uint8Array => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const publicBytes = (key: string): Uint8Array => fromBase32(key).slice(1, 33);
const curvePublic = (key: unknown): key is string => typeof key === "string" && /^X[A-Z2-7]{55}$/.test(key) && toNkey("X", publicBytes(key)) === key;

/** The seed of a curve key as text (SX…), as nkeys has it. */
function curveSeed(secret: Uint8Array): string {
  const S = 18 << 3,
    X = 23 << 3;
  const body = [S | (X >> 5), (X & 31) << 3, ...secret];
  return toBase32(Uint8Array.from([...body, ...crc16(body)]));
}
const curveSecret = (seed: string): Uint8Array => fromBase32(seed).slice(2, 34);

/** Keeps a curve key and the keys of others in the store, under `seal/`. */
export async function sealing(o: { store: Store; credentials: Credentials | string }): Promise<Sealing> {
  const { store } = o;
  const { jwt, key } = parseCreds(o.credentials);
  const { name: own, iss: issuer, nats } = claimsOf(jwt);
  if (!own || nats?.bearer_token) throw new RccsError("AUTH_REQUIRED", "sealing needs a credential with a key that signs, not a bearer token");
  const [user, self] = [own.slice(0, own.indexOf("/")), own.slice(own.indexOf("/") + 1)];

  // Another name or issuer than the first could be an edge's own: its issuer would be trusted.
  for (const [what, value] of [
    ["name", own],
    ["issuer", issuer],
  ])
    if ((await pinFirst(store, what, value)) !== value) throw new RccsError("IDENTITY_MISMATCH", `this store was begun with another ${what} of the credential`);

  const stored = (await store.get("seal/key")) ?? curveSeed(nacl.randomBytes(32));
  await store.set("seal/key", stored);
  const secret = curveSecret(stored);
  const mine = toNkey("X", nacl.scalarMult.base(secret));
  const sig = await signText(await signerOf(key), statement(own, mine));

  /** The key that a device publishes, if its credential proves that it is the device's. */
  const published = async (c: Client, device: string): Promise<string> => {
    const found = (await c.devices()).find((d) => d.id === device);
    if (!found) throw new RccsError("DEVICE_NOT_FOUND", `there is no device "${device}"`);
    return provedKey(found, `${user}/${device}`, issuer);
  };
  const pinned = (device: string) => store.get(`seal/pin/${device}`);
  const trusted = async (c: Client, device: string): Promise<string> => {
    const now = await published(c, device);
    const before = await pinFirst(store, `pin/${device}`, now);
    if (before !== now) throw new RccsError("SEAL_CHANGED", `device ${device} had the key ${before} and now has ${now}: compare it with the device, then accept it`);
    return now;
  };

  return {
    capabilities: { sealKey: [mine, sig, jwt] },

    async sendSealed(c, type, payload, so) {
      if (type === "device_handoff") throw new RccsError("BAD_MESSAGE", "a device_handoff cannot be sealed: its copy for the sender could not be opened");
      const to = await trusted(c, so.to);
      const id = so.id ?? newId();
      return c.send(type, sealPayload(secret, mine, to, { id, type, from: self, to: so.to, payload: payload ?? null }), { ...so, id });
    },

    async open(c, message) {
      const box: Box | undefined = message.payload?.sealed;
      if (!box?.box) return message.payload;
      const content = openBox(secret, mine, box);
      if (content.from !== message.fromDeviceId || content.to !== self || content.id !== message.id || content.type !== message.type)
        throw new Reject("it was sealed as another message");
      if ((await pinned(message.fromDeviceId)) !== box.from) {
        let now: string;
        try {
          now = await trusted(c, message.fromDeviceId);
        } catch (e) {
          if ((e as RccsError).code !== "SEAL_UNPROVED" && (e as RccsError).code !== "DEVICE_NOT_FOUND") throw e;
          throw new Reject((e as Error).message);
        }
        if (now !== box.from) throw new Reject(`it was sealed by ${box.from}, and device ${message.fromDeviceId} has ${now}`);
      }
      return content.payload;
    },

    async accept(c, device) {
      await store.set(`seal/pin/${device}`, await published(c, device));
    },
  };
}

async function pinFirst(store: Store, what: string, value: string): Promise<string> {
  const known = await store.get(`seal/${what}`);
  if (known === undefined) await store.set(`seal/${what}`, value);
  return known ?? value;
}

/** The curve key in a device's record, if `issuer` signed its credential, and that credential's key the curve key. */
function provedKey(device: Device, name: string, issuer: string): string {
  const unproved = (why: string) => new RccsError("SEAL_UNPROVED", `the key of device ${device.id} is not proved to be its own: ${why}`);
  const proof = device.capabilities?.["sealKey"];
  if (!Array.isArray(proof) || proof.length !== 3) throw unproved("it has published none");
  const [key, sig, jwt] = proof as string[];
  if (!curvePublic(key)) throw unproved("it is no curve key");
  const claims = claimsOf(jwt!);
  if (claims.name !== name) throw unproved("its credential is another device's");
  if (claims.iss !== issuer) throw unproved("its credential was issued by another account");
  const verify = (data: string, s: string, by: string) => {
    try {
      return nacl.sign.detached.verify(utf8(data), fromBase64url(s), publicBytes(by));
    } catch {
      return false;
    }
  };
  const [head, body, signature] = jwt!.split(".");
  if (!verify(`${head}.${body}`, signature ?? "", issuer)) throw unproved("its credential is not signed");
  if (!verify(statement(name, key), sig!, claims.sub)) throw unproved("the device did not sign it");
  return key;
}

/** What a sealed message carries. */
interface Content {
  id: string;
  type: string;
  from: string;
  to: string;
  payload: unknown;
}

function sealPayload(secret: Uint8Array, from: string, to: string, content: Content): { sealed: Box } {
  const nonce = nacl.randomBytes(24);
  const sealed = nacl.box(utf8(JSON.stringify(content)), nonce, publicBytes(to), secret);
  const bytes = Uint8Array.from([...utf8("xkv1"), ...nonce, ...sealed]);
  let box = "";
  for (let at = 0; at < bytes.length; at += 3072) box += toBase64url(bytes.subarray(at, at + 3072)); // a multiple of three has no end
  return { sealed: { from, to, box } };
}

function openBox(secret: Uint8Array, mine: string, box: Box): Content {
  if (box.to !== mine) throw new Reject(`it was sealed to ${box.to}, which this device does not have`);
  let plain: Uint8Array | null = null;
  try {
    const raw = fromBase64url(box.box);
    if (new TextDecoder().decode(raw.slice(0, 4)) === "xkv1" && curvePublic(box.from)) plain = nacl.box.open(raw.slice(28), raw.slice(4, 28), publicBytes(box.from), secret);
  } catch {
    // as one that does not open
  }
  if (!plain) throw new Reject("it cannot be opened");
  const content = JSON.parse(new TextDecoder().decode(plain));
  if (content?.payload === undefined) throw new Reject("what it holds cannot be read");
  return content;
}
