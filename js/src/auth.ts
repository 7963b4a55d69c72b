// What a registration is signed with, and where the next one comes from.
import { claimsOf, fromBase64, seedBytes, toBase64url } from "./nkeys.js";
import { RccsError, type Options } from "./types.js";
import { isFinal, text, toError, utf8 } from "./wire.js";

/** The members of a registration that say who the device is. */
export interface Proof {
  authToken: string;
  sig?: string;
}

export interface Auth {
  /** Has a credential at hand: the newest, or with `fresh` another one. May take as long as the application's server does. */
  load(fresh: boolean): Promise<void>;
  /** Signs a nonce with what load left. */
  prove(nonce: string): Promise<Proof>;
  /** Reports whether there can be another credential than the one that was refused. */
  readonly renewable: boolean;
}

export function authOf(url: string, o: Options): Auth {
  if ("credentials" in o) return credentialsAuth(url, o);
  const { token } = o;
  let last = "";
  return {
    renewable: typeof token !== "string",
    async load(fresh) {
      if (!last || fresh || ended(last)) last = typeof token === "string" ? token : await token();
    },
    prove: async () => ({ authToken: last.trim() }),
  };
}

/** Reports whether a JWT has less than ten seconds to go. */
const ended = (jwt: string): boolean => claimsOf(jwt).exp * 1000 < Date.now() + 10_000;

function credentialsAuth(url: string, o: Extract<Options, { credentials: unknown }>): Auth {
  let { jwt, key } = typeof o.credentials === "string" ? parseCreds(o.credentials) : o.credentials;
  let signer: Promise<CryptoKey> | undefined;
  let refused = false; // the key was not enrolled, or is not any more
  const sign = async (data: string) => signText(await (signer ??= signerOf(key)), data);
  const renew = async () => {
    const { sub: publicKey, name, nats } = claimsOf(jwt);
    const [, user, device] = /^(.*?)\/(.*)/.exec(name) ?? [];
    const tenant = /rccs-tenant:([^,]*)/.exec(nats?.tags)?.[1]; // the tags as one text
    const next = { ...(await postSigned(url, "renew", sign, { publicKey, user, device, tenant })), key };
    jwt = next.jwt;
    await o.onRenewed?.(next);
  };
  return {
    get renewable() {
      return !refused;
    },
    async load(fresh) {
      if ((fresh || ended(jwt)) && !refused)
        await renew().catch((e) => {
          // One that was handed out and not enrolled ends for good; anything else is tried again.
          if (!isFinal(e.code ?? "")) throw e;
          refused = true;
        });
    },
    async prove(nonce) {
      if (/\p{Cc}/u.test(nonce)) throw new RccsError("AUTH_ERROR", "nonce");
      return { authToken: jwt, sig: await sign(nonce) };
    },
  };
}

/** Reads a .creds file. */
export function parseCreds(creds: string): { jwt: string; key: string } {
  const [, jwt, key] = /USER JWT-+\s+(\S+)[^]*\s(SU[A-Z2-7]{56})\s/.exec(creds) ?? [];
  if (!key) throw new RccsError("AUTH_ERROR", "not a .creds text");
  return { jwt: jwt!, key };
}

/** A key to sign with: as it is, or from a seed, which may stand in a .creds text. */
export async function signerOf(key: CryptoKeyPair | string): Promise<CryptoKey> {
  if (typeof key !== "string") return key.privateKey;
  const seed = seedBytes(key);
  const head = fromBase64("MC4CAQAwBQYDK2VwBCIEIA=="); // PKCS #8 of an Ed25519 key
  return subtle().importKey("pkcs8", Uint8Array.from([...head, ...seed]), "Ed25519", false, ["sign"]);
}

export function subtle(): SubtleCrypto {
  const s = globalThis.crypto?.subtle;
  if (!s) throw new RccsError("AUTH_REQUIRED", "WebCrypto needs https");
  return s;
}

export const signText = async (key: CryptoKey, data: string): Promise<string> =>
  toBase64url(new Uint8Array(await subtle().sign("Ed25519", key, utf8(data))));

/** Asks the edge for a credential: POST /v1/enroll or /v1/renew with a signed request. */
export async function postSigned(url: string, what: "enroll" | "renew", sign: (data: string) => Promise<string>, body: object) {
  const request = toBase64url(utf8(text({ ...body, time: new Date().toISOString() })));
  const sig = await sign(`rccs ${what} v1\n${request}`);
  const base = url.replace(/^ws/, "http").replace(/(\/v1\/ws)?\/?([?#].*)?$/, "");
  const answer = await fetch(`${base}/v1/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: text({ request, sig }) });
  const told: any = await answer.json().catch(() => {});
  // A page of a network that wants a login first is an answer too.
  if (!told?.jwt) throw toError({ code: "UNAVAILABLE", message: `${base}: ${answer.status}`, ...told });
  return told as { [member in "jwt" | "expiresAt" | "renewUntil"]: string };
}
